"""What a store of trajectories has of a source already, so that an import adds nothing twice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories import TrajectoryStore
from lram.agents.trajectories.trajectory import Trajectory


class FiledEpisodes:
    """What a store has already: where its trajectories came from, and as what they were filed.

    An origin is ``KEY@DIGEST``: the place within the source that was named, and what the arrays became. A
    file that is named alone has a shorter key than in its folder, and it is the same file. Read with other
    options, an episode has another digest at the same place; its arrays tell that it is the same one.

    Args:
        store: Folder of the store; what it has now counts, and what is added by :meth:`add`.
    """

    def __init__(self, store: Path) -> None:
        self._store = TrajectoryStore(store)
        self._by_digest: dict[str, list[tuple[str, str, str]]] = {}
        self._by_place: defaultdict[str, list[int]] = defaultdict(list)
        for episode in self._store.episodes:
            self.add(episode.origin, episode.task, episode.policy)
            key = episode.origin.rpartition("@")[0]
            if key:
                self._by_place[_last(key)].append(episode.number)

    def add(self, origin: str, task: str, policy: str) -> None:
        """Take note of a trajectory."""
        key, _, digest = origin.rpartition("@")
        self._by_digest.setdefault(digest, []).append((key, task, policy))

    def find(self, origin: str) -> tuple[str, str] | None:
        """Return the task and policy of the trajectory that came from there; None where there is none."""
        key, _, digest = origin.rpartition("@")
        for known, task, policy in self._by_digest.get(digest, ()):
            if _same_place(known, key):
                return task, policy
        return None

    def otherwise(self, trajectory: Trajectory) -> str:
        """Return what of ``trajectory`` the store has with other values, such as ``"actions"``.

        Empty where the store has no trajectory from that place that shares its observations, or two of its
        three arrays: equal rewards alone say little, since many episodes have 0 ... 0, 1.

        Raises:
            AgentError: A trajectory from that place cannot be read.
        """
        key = trajectory.origin.rpartition("@")[0]
        for number in self._by_place.get(_last(key), ()) if key else ():
            episode = self._store.episodes[number]
            known = episode.origin.rpartition("@")[0]
            if episode.length != trajectory.length or not _same_place(known, key):
                continue
            filed = self._store.trajectory(number)
            arrays = {
                "observations": (filed.observations, trajectory.observations),
                "actions": (filed.actions, trajectory.actions),
                "rewards": (filed.rewards, trajectory.rewards),
            }
            other = [name for name, (one, two) in arrays.items() if not np.array_equal(one, two)]
            if len(other) < 2 or ("observations" not in other and _varies(filed.observations)):
                return " and ".join(other) or "padding"
        return ""


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _same_place(one: str, other: str) -> bool:
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def _varies(values: npt.NDArray[Any]) -> bool:
    return bool((values != values[:1]).any())
