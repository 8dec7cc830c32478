"""Extrapolation: scores and losses beyond the trained context."""

from __future__ import annotations

from lram.reports.sections.extrapolation.section import SPEC

__all__ = ["SPEC"]
