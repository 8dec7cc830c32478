"""Stores written in the formats of others; one folder or module a format.

===========  =================================================================
``lerobot``  LeRobot data sets of version 3: parquet files, images or videos
===========  =================================================================

A folder is written under another name beside its place and renamed when it is whole; one that is there
already is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lram.agents.trajectories.exporters import lerobot
from lram.agents.trajectories.exporters.contract import Exported, ExportOptions
from lram.agents.trajectories.exporters.folder import new_folder
from lram.agents.trajectories.store import TrajectoryStore

__all__ = ["TARGETS", "ExportOptions", "Exported", "export_store"]

TARGETS: Mapping[str, Callable[[TrajectoryStore, Sequence[int], Path, ExportOptions], Exported]] = (
    MappingProxyType({"lerobot": lerobot.export})
)


def export_store(
    store: TrajectoryStore, numbers: Sequence[int], folder: Path, target: str, options: ExportOptions
) -> Exported:
    """Write episodes of a store into a new folder.

    Args:
        store: Where they are.
        numbers: Theirs, in order; at least one.
        folder: What is made.
        target: One of ``TARGETS``.
        options: How.

    Raises:
        AgentError: The folder is there already or cannot be written, the format has no place for the
            episodes, or one of them cannot be read; nothing is left of the folder then.
    """
    with new_folder(folder) as partial:
        return TARGETS[target](store, numbers, partial, options)
