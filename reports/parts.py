"""Scores by inner episode (to come: helper D replaces this file)."""

from __future__ import annotations

from collections.abc import Sequence

from lram.harness.store import Run
from lram.reports.chapters import Chapter


def chapter(runs: Sequence[Run], *, seed: int = 0) -> Chapter | None:
    """Return nothing yet."""
    return None
