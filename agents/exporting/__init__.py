"""Models out: one decision of an action model as a folder that runs without this package."""

from __future__ import annotations

from lram.agents.exporting.agreement import TOLERANCE, Agreement
from lram.agents.exporting.folder import export_policy
from lram.agents.exporting.graphs import FORMATS, Format

__all__ = ["FORMATS", "TOLERANCE", "Agreement", "Format", "export_policy"]
