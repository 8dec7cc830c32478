"""Trajectory stores that a user names together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lram.harness.errors import LramError

if TYPE_CHECKING:
    from lram.agents.trajectories import TrajectoryStore


def check_distinct(stores: Sequence[TrajectoryStore]) -> None:
    """Raise LramError where two of ``stores`` hold the same trajectories."""
    if len({store.digest for store in stores}) < len(stores):
        raise LramError(
            f"--data names the same trajectories twice: {', '.join(str(store.path) for store in stores)}; "
            "name each store once"
        )
