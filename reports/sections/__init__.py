"""The sections of a report: one folder a kind of evidence."""
