"""Protocols that perturb what agents see, beside the protocols that they perturb."""

from __future__ import annotations

from lram.reports.sections.perturbed.section import SPEC

__all__ = ["SPEC"]
