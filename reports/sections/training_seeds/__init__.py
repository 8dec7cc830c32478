"""Agents that are trainings of one model with different seeds, as one number with its noise."""

from __future__ import annotations

from lram.reports.sections.training_seeds.section import SPEC

__all__ = ["SPEC"]
