"""Published numbers of the tasks that are played here, and which of them a report may show beside its own."""

from __future__ import annotations

from lram.reports.literature.cells import COLUMNS, FILE, PublishedCell, parse, published
from lram.reports.literature.matching import (
    Literature,
    PublishedMean,
    PublishedScore,
    ReportTask,
    Unmatched,
    beside,
    beside_summary,
)

__all__ = [
    "COLUMNS",
    "FILE",
    "Literature",
    "PublishedCell",
    "PublishedMean",
    "PublishedScore",
    "ReportTask",
    "Unmatched",
    "beside",
    "beside_summary",
    "parse",
    "published",
]
