"""A report's forms: page, Markdown, CSV and LaTeX."""
