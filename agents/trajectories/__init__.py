"""Trajectories: what agents did, stored for training; readers of public data sets, exports to them."""

from __future__ import annotations

from lram.agents.trajectories.store import EpisodeSummary, TrajectoryStore, Window
from lram.agents.trajectories.trajectory import Trajectory, check_trajectory, returns_to_go
from lram.agents.trajectories.writer import StoreWriter

__all__ = [
    "EpisodeSummary",
    "StoreWriter",
    "Trajectory",
    "TrajectoryStore",
    "Window",
    "check_trajectory",
    "returns_to_go",
]
