"""What hidden states tell apart: projections, nearest neighbours and silhouettes by domain and task."""

from __future__ import annotations

from lram.reports.sections.embedding.section import SPEC

__all__ = ["SPEC"]
