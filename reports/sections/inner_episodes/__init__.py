"""Scores by inner episode: adaptation within a context."""

from __future__ import annotations

from lram.reports.sections.inner_episodes.section import SPEC

__all__ = ["SPEC"]
