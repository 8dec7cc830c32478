"""Statistics, tables, figures and pages made from records."""
