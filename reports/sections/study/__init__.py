"""Studies: effects of the choices that were varied."""

from __future__ import annotations

from lram.reports.sections.study.section import SPEC

__all__ = ["SPEC"]
