"""Episodes of two agents that began alike, task by task: what a comparison of the two rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lram.envs.scores import normalise
from lram.envs.task import Task
from lram.reports.evidence.evidence import EpisodeKey, Evidence
from lram.reports.statistics import Array, Stakes, equal_domain_weights, shows_noise


@dataclass(frozen=True, slots=True)
class Scores:
    """One agent's scores on one task.

    Attributes:
        keys: Of the episodes that have one, sorted.
        seeds: The simulator's, by episode.
        values: The normalised scores.
        trajectories: Their checksums.
    """

    keys: list[EpisodeKey]
    seeds: npt.NDArray[np.int64]
    values: Array
    trajectories: list[str]


@dataclass(frozen=True, slots=True)
class PairedTask:
    """The pairs of one task; never none.

    Attributes:
        task: It.
        first, second: Normalised scores of the two agents, each (pairs,).
        steady: For each agent, whether its episodes, two or more, all ended alike without being one and the
            same trajectory. Where every episode is the same one step by step, chance plays no part that a
            further episode could show; where they differ and end alike, it may.
    """

    task: Task
    first: Array
    second: Array
    steady: tuple[bool, bool]

    @property
    def differences(self) -> Array:
        """First minus second, (pairs,)."""
        return self.first - self.second

    def stake(self, sign: int) -> float:
        """Return by how much an outcome that did not occur could move the mean of a pair against ``sign``.

        The range is that of the task's references (0 for random play, 1 for the reference) and of all scores
        that were seen. An agent is charged where its episodes ended alike: the one that is ahead (``sign`` 1:
        the first) with the range's lower end, the other with its upper end.
        """
        ahead, behind = (self.first, self.second) if sign > 0 else (self.second, self.first)
        steady = self.steady if sign > 0 else self.steady[::-1]
        low = min(0.0, float(self.first.min()), float(self.second.min()))
        high = max(1.0, float(self.first.max()), float(self.second.max()))
        fall = float(ahead.mean()) - low if steady[0] else 0.0
        return fall + (high - float(behind.mean()) if steady[1] else 0.0)


def scores_of(evidence: Evidence, agent: str) -> dict[str, Scores]:
    """Return the scores of ``agent`` by task."""
    found = {}
    for planned in evidence.tasks:
        cell = evidence.cells.get((agent, planned.task.id))
        known = [
            (key, record.seed, score, record.trajectory)
            for key, record in (cell.counted.items() if cell else ())
            if record.episode_return is not None
            and (score := normalise(planned.task, record.episode_return)) is not None
        ]
        if known:
            keys, seeds, values, trajectories = zip(*known, strict=True)
            found[planned.task.id] = Scores(
                list(keys), np.array(seeds, np.int64), np.array(values), list(trajectories)
            )
    return found


def pairs_of(
    evidence: Evidence, first: Mapping[str, Scores], second: Mapping[str, Scores]
) -> list[PairedTask]:
    """Return the tasks on which the two have episodes that began alike, in the order of ``evidence``."""
    found = []
    for planned in evidence.tasks:
        mine, theirs = first.get(planned.task.id), second.get(planned.task.id)
        if mine is None or theirs is None:
            continue
        at, other = _shared(mine, theirs)
        if len(at):
            steady = _steady(mine, at), _steady(theirs, other)
            found.append(PairedTask(planned.task, mine.values[at], theirs.values[other], steady))
    return found


def weights_of(tasks: Sequence[PairedTask]) -> Array:
    """Return each task's weight in the mean of domain means, (tasks,)."""
    return equal_domain_weights([one.task.domain for one in tasks])


def stakes_of(tasks: Sequence[PairedTask], weights: Array, sign: int) -> Stakes:
    """Return what unseen outcomes could take from a difference in the direction of ``sign``."""
    counts = np.array([float(len(one.first)) for one in tasks])
    return Stakes(weights, counts, np.array([one.stake(sign) for one in tasks]))


def _shared(first: Scores, second: Scores) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the places, in both, of the episodes that began alike."""
    if first.keys == second.keys:
        mine = theirs = np.arange(len(first.keys))
    else:
        places = {key: place for place, key in enumerate(second.keys)}
        both = [(at, places[key]) for at, key in enumerate(first.keys) if key in places]
        mine, theirs = np.array(both, dtype=np.intp).reshape(-1, 2).T
    alike = first.seeds[mine] == second.seeds[theirs]
    return mine[alike], theirs[alike]


def _steady(scores: Scores, places: npt.NDArray[np.intp]) -> bool:
    if len(places) < 2 or shows_noise(scores.values[places]):
        return False
    trajectories = {scores.trajectories[place] for place in places}
    return len(trajectories) > 1 or "" in trajectories
