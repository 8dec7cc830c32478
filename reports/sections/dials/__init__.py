"""Scores against the dial: tasks that differ in one number, such as how long something is to be kept."""

from __future__ import annotations

from lram.reports.sections.dials.section import SPEC

__all__ = ["SPEC"]
