"""How people read published numbers in tables."""

from __future__ import annotations

from lram.reports import forms, text
from lram.reports.literature.cells import PublishedCell
from lram.reports.table import TableCell


def published_number(cell: PublishedCell) -> TableCell:
    """Return a number, and below it the interval that is published with it."""
    form = text.figures if cell.metric == "return" else forms.two
    ends = "" if cell.low is None or cell.high is None else f"[{form(cell.low)}, {form(cell.high)}]"
    return TableCell(form(cell.value), ends, value=cell.value)
