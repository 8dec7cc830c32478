"""Learning curves: the score of a training's checkpoints over its updates."""

from __future__ import annotations

from lram.reports.sections.learning.section import SPEC

__all__ = ["SPEC"]
