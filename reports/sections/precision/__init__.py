"""Studies of precisions: the same checkpoints with weights in more and in fewer bytes."""

from __future__ import annotations

from lram.reports.sections.precision.section import SPEC

__all__ = ["SPEC"]
