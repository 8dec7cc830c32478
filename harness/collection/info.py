"""What a trajectory store holds, with the scores that its returns stand for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lram.agents.trajectories.digests import repeats
from lram.agents.trajectories.statistics import Copying, Facts, copying, facts, part_bytes
from lram.agents.trajectories.store import EpisodeSummary, TrajectoryStore
from lram.envs import registry
from lram.envs.scores import normalise


@dataclass(frozen=True, slots=True)
class Group:
    """Some episodes of a store.

    Attributes:
        name: A domain, a task id, or a policy.
        facts: Their numbers.
        score: Normalised score of the mean return; of a domain, the mean over its tasks that have one.
            None without a reference, and for Atari data that does not say whether rewards are clipped.
        bytes: On disk; None for a policy, whose episodes share files with others'.
        copying: How alike consecutive actions are; None where that was not asked for.
    """

    name: str
    facts: Facts
    score: float | None
    bytes: int | None = None
    copying: Copying | None = None


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store: its card, and its episodes by domain, by task and by task and policy.

    ``unsigned`` is what carries no checksum, because an earlier version wrote it. ``repeats`` names the
    tasks that have a trajectory more than once (None: not looked for), ``shared`` tells by path of another
    store how many episodes of this one are there, too.
    """

    path: str
    digest: str
    card: dict[str, Any]
    episodes: int
    steps: int
    bytes: int
    unsigned: tuple[str, ...]
    domains: list[Group]
    tasks: list[Group]
    policies: dict[str, list[Group]]
    repeats: list[Repeats] | None = None
    shared: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repeats:
    """A task of which a store has a trajectory more than once."""

    task: str
    episodes: int
    different: int


def describe_stores(paths: Sequence[Path], *, quick: bool = False) -> list[StoreInfo]:
    """Return what each store holds, and how many of its trajectories are in another, too.

    Args:
        paths: Folders of the stores.
        quick: Read the indexes only: leaves out ``copying``, and trajectories that an index does not name.
    """
    described = [describe_store(path, quick=quick) for path in paths]
    if len(paths) < 2:
        return described
    known = [_trajectories(TrajectoryStore(path), quick=quick) for path in paths]
    found = []
    for place, info in enumerate(described):
        mine = known[place]
        shared: dict[str, int] = {}
        for other, theirs in enumerate(known):
            if other != place and mine is not None and theirs is not None:
                there = {digest for digests in theirs.values() for digest in digests}
                count = sum(digest in there for digests in mine.values() for digest in digests)
                shared |= {described[other].path: count} if count else {}
        found.append(replace(info, shared=shared))
    return found


def _trajectories(store: TrajectoryStore, *, quick: bool) -> dict[str, list[str]] | None:
    """Return the digests of the trajectories by task; None where the index has none and is all to be read."""
    if quick and store.without_digests:
        return None
    by_task: dict[str, list[int]] = defaultdict(list)
    for episode in store.episodes:
        by_task[episode.task].append(episode.number)
    return {task: store.trajectory_digests(numbers) for task, numbers in sorted(by_task.items())}


def describe_store(path: Path, *, quick: bool = False) -> StoreInfo:
    """Return what the store in ``path`` holds; AgentError where it is none or is damaged.

    Args:
        path: Folder of the store.
        quick: Read the index only, and leave ``copying`` out.
    """
    store = TrajectoryStore(path)
    by_task: dict[str, list[EpisodeSummary]] = defaultdict(list)
    for episode in store.episodes:
        by_task[episode.task].append(episode)
    alike_tasks, alike_domains = ({}, {}) if quick else copying(store)
    sizes = part_bytes(store)
    tasks = [
        Group(task, facts(episodes), _score(episodes), sizes[task], alike_tasks.get(task))
        for task, episodes in sorted(by_task.items())
    ]
    by_domain: dict[str, list[Group]] = defaultdict(list)
    for group in tasks:
        by_domain[store.tasks[group.name].domain].append(group)
    domains = [
        Group(
            domain,
            facts([episode for group in groups for episode in by_task[group.name]]),
            _mean([group.score for group in groups]),
            sum(sizes[group.name] for group in groups),
            alike_domains.get(domain),
        )
        for domain, groups in by_domain.items()
    ]
    known = _trajectories(store, quick=quick)
    return StoreInfo(
        path=str(path),
        digest=store.digest,
        card=store.card,
        episodes=len(store.episodes),
        steps=store.steps,
        bytes=store.bytes,
        unsigned=store.unsigned,
        domains=domains,
        tasks=tasks,
        policies={task: _policies(episodes) for task, episodes in sorted(by_task.items())},
        repeats=None if known is None else [Repeats(*one) for one in repeats(known)],
    )


def _policies(episodes: Sequence[EpisodeSummary]) -> list[Group]:
    found: dict[str, list[EpisodeSummary]] = defaultdict(list)
    for episode in episodes:
        found[episode.policy].append(episode)
    return [Group(policy, facts(theirs), _score(theirs)) for policy, theirs in sorted(found.items())]


def _score(episodes: Sequence[EpisodeSummary]) -> float | None:
    task = registry.all_tasks().get(episodes[0].task)
    if task is None:
        return None
    # Data of others that hold clipped rewards: their sum is no game's score.
    if registry.load_domain(task.domain).clipped_data and any(not episode.protocol for episode in episodes):
        return None
    return normalise(task, facts(episodes).return_mean)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
