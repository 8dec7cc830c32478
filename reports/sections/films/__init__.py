"""Films of episodes: the agents at work, each film equal to the record that was scored."""

from __future__ import annotations

from lram.reports.sections.films.section import SPEC

__all__ = ["SPEC"]
