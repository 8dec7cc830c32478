"""Published numbers beside the report's own."""

from __future__ import annotations

from lram.reports.sections.literature.section import SPEC

__all__ = ["SPEC"]
