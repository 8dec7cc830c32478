"""Latency and memory of a decision against context."""

from __future__ import annotations

from lram.reports.sections.latency.section import SPEC

__all__ = ["SPEC"]
