"""Which states are taken: trajectories of each task, and timesteps of each trajectory, drawn by the seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lram.agents.api import TaskSpec
from lram.agents.model.encoders import fits_model
from lram.agents.patterns import fits
from lram.agents.shown import few
from lram.agents.training.sampling import chances
from lram.agents.trajectories import TrajectoryStore
from lram.harness.distinct_stores import check_distinct
from lram.harness.errors import LramError
from lram.harness.words import count


@dataclass(frozen=True, slots=True)
class StatesWanted:
    """Which states are asked for.

    Attributes:
        tasks, policies: Patterns of task ids and of the names of those that acted.
        trajectories: Of each task, at most.
        states: Of each trajectory, at most.
        seed: Of the drawing.
        state_width: The widest vector observation that all models read.
    """

    tasks: tuple[str, ...] = ("*",)
    policies: tuple[str, ...] = ("*",)
    trajectories: int = 10
    states: int = 5
    seed: int = 0
    state_width: int = 204


@dataclass(frozen=True, slots=True)
class DrawnTrajectory:
    """A trajectory of which states are taken.

    Attributes:
        store: Which of the stores.
        number: Of the episode there.
        task: Its task.
        timesteps: Of the states, rising.
        starts: Where the agent's context began, of each of them.
    """

    store: int
    number: int
    task: TaskSpec
    timesteps: tuple[int, ...]
    starts: tuple[int, ...]


def draw(
    stores: Sequence[TrajectoryStore], wanted: StatesWanted, say: Callable[[str], None] = lambda _: None
) -> list[DrawnTrajectory]:
    """Return the trajectories by task; what is drawn of a task does not depend on which others are there.

    No two of them are equal: their states would be each other's nearest neighbours.

    Args:
        stores: Where they are.
        wanted: Which.
        say: Told in a sentence how many equal ones are left out.

    Raises:
        LramError: Nothing is left, there is one task with one trajectory only, or a store is given twice.
    """
    check_distinct(stores)
    by_task: dict[str, list[tuple[int, int]]] = {}
    for place, store in enumerate(stores):
        for episode in store.episodes:
            if _named(episode.task, wanted.tasks) and _named(episode.policy, wanted.policies):
                by_task.setdefault(episode.task, []).append((place, episode.number))
    there = sorted({episode.task for store in stores for episode in store.episodes})
    if not by_task:
        raise LramError(
            "the stores hold no trajectory of the tasks and policies that are asked for; their tasks are "
            f"{few(there)}"
        )
    found, copies = [], 0
    for task, episodes in sorted(by_task.items()):
        spec = stores[episodes[0][0]].tasks[task]
        if not fits_model(spec, wanted.state_width):
            raise LramError(f"{task} cannot be read by these models; leave it out: --tasks '*,!{task}'")
        lots = chances((wanted.seed, zlib.crc32(task.encode())), len(episodes))
        order = sorted(range(len(episodes)), key=lambda place: lots[place])
        taken: dict[str, int] = {}
        for place in order:
            if len(taken) == wanted.trajectories:
                break
            at, number = episodes[place]
            [digest] = stores[at].trajectory_digests([number])
            copies += digest in taken
            taken.setdefault(digest, place)
        found += [_drawn(stores, *episodes[place], spec, wanted) for place in sorted(taken.values())]
    if copies:
        say(f"lram: {count(copies, 'trajectory', 'trajectories')} equal to others that were drawn: left out")
    if len(found) < 2:
        raise LramError("neighbours need two trajectories or more, and there is one; give more data")
    return found


def _drawn(
    stores: Sequence[TrajectoryStore], store: int, number: int, task: TaskSpec, wanted: StatesWanted
) -> DrawnTrajectory:
    episode = stores[store].episodes[number]
    key = (wanted.seed, 1, zlib.crc32(task.id.encode()), store, number)
    generator = np.random.default_rng(np.random.SeedSequence(key))
    count = min(wanted.states, episode.length)
    timesteps = np.sort(generator.choice(episode.length, count, replace=False)).tolist()
    starts = np.array(episode.context_starts)
    begun = starts[np.searchsorted(starts, timesteps, side="right") - 1].tolist()
    return DrawnTrajectory(store, number, task, tuple(timesteps), tuple(begun))


def _named(name: str, patterns: Sequence[str]) -> bool:
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    return any(fits(name, one) for one in wanted) and not any(
        fits(name, one[1:]) for one in patterns if one.startswith("!")
    )
