"""Which episodes of the stores are used: by task, policy, return and chance, and in which split.

Nothing depends on the order of asking: what is drawn for a task is keyed by the task's id, so that it
stays the same when other tasks are added or left out.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError, TaskSpec
from lram.agents.model.encoders import IMAGE_SHAPE
from lram.agents.model.tokens import ACTION_DIMS, DISCRETE_ACTIONS
from lram.agents.patterns import fits
from lram.agents.shown import few
from lram.agents.training.sampling import DomainEpisodes, Integers, chances, in_order, in_use, weightless

if TYPE_CHECKING:
    from lram.agents.training.recipe import Recipe
    from lram.agents.trajectories.store import TrajectoryStore

Split = Literal["train", "valid"]
Unit = Literal["trajectory", "episode"]

_VALIDATION, _FRACTION = 1, 2  # what a random number is for


@dataclass(frozen=True, slots=True)
class Selection:
    """Which episodes of the stores are used.

    Attributes:
        tasks: Patterns of task ids (``metaworld/*``); an episode of any of them is used.
        policies: Patterns of the names of the policies that played.
        top_fraction: Part of a task's episodes of the highest returns that is trained on.
        episode_fraction: Part of a task's episodes, drawn at random, that is trained on; the
            ``top_fraction`` is taken of what this leaves.
        validation_share: Part of a task's episodes that is validated on and never trained on: at least
            one where there are two or more, drawn with probability proportional to length. It is drawn
            before the fractions are taken, which hold for training only; so runs that differ in
            them are validated on the same episodes.
        seed: Of the fraction and of the validation share; not the training's, so that runs of different
            seeds are trained and validated on the same episodes.
        unit: What the validation share is a share of. ``trajectory``: of the different trajectories
            (:mod:`lram.agents.trajectories.digests`) of all stores, so that none is on both sides; of those
            that are held out, the first episode is validated on and the others are not used. ``episode``: of
            the episodes, as earlier versions drew it; copies of a trajectory can be on both sides. Where no
            trajectory is there twice, both are the same.
        left_out: Domains that have the weight 0: nothing of them is used, whatever the patterns say.
    """

    tasks: tuple[str, ...] = ("*",)
    policies: tuple[str, ...] = ("*",)
    top_fraction: float = 1.0
    episode_fraction: float = 1.0
    validation_share: float = 0.025
    seed: int = 1
    unit: Unit = "trajectory"
    left_out: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("top_fraction", "episode_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise AgentError(f"{name} must be above 0 and at most 1, not {getattr(self, name)}")
        if not 0 <= self.validation_share < 1:
            raise AgentError(f"validation_share must be 0 or more and below 1, not {self.validation_share}")
        if self.seed < 0:
            raise AgentError(f"the selection's seed must be 0 or more, not {self.seed}")


def selection_of(recipe: Recipe) -> Selection:
    """Return which episodes a recipe uses: by its section ``data`` and the domains of weight 0."""
    data = recipe.data
    return Selection(
        tasks=data.tasks,
        policies=data.policies,
        top_fraction=data.top_fraction,
        episode_fraction=data.episode_fraction,
        validation_share=data.validation_share,
        seed=data.seed,
        unit=data.validation_unit,
        left_out=weightless(recipe.sampling.domain_weights),
    )


class Selected(NamedTuple):
    """The episodes of a split.

    Attributes:
        tasks: Every task of which any episode is used, in either split, sorted by id.
        domains: The split's episodes by domain, in the order in which domains take turns; of the split
            ``valid``, domains without such episodes are left out.
    """

    tasks: tuple[TaskSpec, ...]
    domains: dict[str, DomainEpisodes]


class _Episodes(NamedTuple):
    """Some episodes of one task: columns of equal length."""

    stores: Integers
    numbers: Integers
    lengths: Integers
    returns: npt.NDArray[np.float64]
    ordinals: Integers  # among all episodes of the task in all stores
    contexts: list[tuple[int, ...]]

    def take(self, rows: npt.NDArray[np.intp]) -> _Episodes:
        return _Episodes(
            self.stores[rows],
            self.numbers[rows],
            self.lengths[rows],
            self.returns[rows],
            self.ordinals[rows],
            [self.contexts[row] for row in rows],
        )


def select(
    stores: Sequence[TrajectoryStore],
    selection: Selection,
    split: Split,
    *,
    state_width: int,
) -> Selected:
    """Return the episodes of ``split``; episodes of a task come in the order of stores and numbers.

    Args:
        stores: Where they are; a task may be in several.
        selection: Which are used.
        split: ``train`` or ``valid``.
        state_width: The widest vector observation that the model reads.

    Raises:
        AgentError: A pattern matches nothing, nothing is left of a domain (of all of them, for
            ``valid``), or a task cannot be trained on beside the others.
    """
    if not any(store.episodes for store in stores):
        raise AgentError("the trajectory stores hold no episode; collect some first, or name other stores")
    specs = _matching_tasks(stores, selection.tasks)
    found = _episodes(stores, specs, selection.policies)
    for domain in in_order(spec.domain for spec in specs.values()):
        if not any(specs[task].domain == domain for task in found):
            raise AgentError(
                f"no episode of {domain} is left by the policies {few(map(repr, selection.policies))}; name "
                f"others, or leave {domain} out of the tasks"
            )
    used = in_use((specs[task].domain for task in found), selection.left_out)
    tasks = tuple(specs[task] for task in sorted(found) if specs[task].domain in used)
    _check_together(tasks, state_width)
    chosen: dict[str, list[tuple[int, _Episodes]]] = {}
    for index, spec in enumerate(tasks):
        episodes = _of_split(stores, found[spec.id], spec.id, selection, split)
        if len(episodes.numbers):
            chosen.setdefault(spec.domain, []).append((index, episodes))
    if not chosen:
        raise AgentError(
            "there are no validation episodes: no task has two or more different ones, or validation_share "
            "is 0; collect more, or train without validation (validation.windows = 0)"
        )
    return Selected(tasks, {domain: _lined_up(domain, chosen[domain]) for domain in in_order(chosen)})


def _matching_tasks(stores: Sequence[TrajectoryStore], patterns: Sequence[str]) -> dict[str, TaskSpec]:
    """Return the specifications of the tasks that match, as the last store that has them tells."""
    specs: dict[str, TaskSpec] = {}
    for store in stores:
        for task, spec in store.tasks.items():
            known = specs.setdefault(task, spec)
            if replace(known, target_return=None, reward_scale=1.0) != replace(
                spec, target_return=None, reward_scale=1.0
            ):
                raise AgentError(
                    f"{store.path} has {task} in another form than the stores before it; use one of them"
                )
            specs[task] = spec
    _check_patterns("task", patterns, specs)
    return {task: spec for task, spec in specs.items() if _matches(task, patterns)}


def _episodes(
    stores: Sequence[TrajectoryStore], specs: dict[str, TaskSpec], patterns: Sequence[str]
) -> dict[str, _Episodes]:
    """Return the episodes of these tasks, as far as their policies match, by task."""
    policies = {episode.policy for store in stores for episode in store.episodes if episode.task in specs}
    _check_patterns("policy", patterns, policies)
    wanted = {policy for policy in policies if _matches(policy, patterns)}
    rows: dict[str, list[tuple[int, int, int, float, int]]] = {}
    contexts: dict[str, list[tuple[int, ...]]] = {}
    seen = dict.fromkeys(specs, 0)
    for index, store in enumerate(stores):
        for episode in store.episodes:
            task = episode.task
            if task not in specs:
                continue
            seen[task] += 1
            if episode.policy in wanted:
                rows.setdefault(task, []).append(
                    (index, episode.number, episode.length, episode.episode_return, seen[task] - 1)
                )
                contexts.setdefault(task, []).append(episode.context_starts)
    found = {}
    for task, of_task in rows.items():
        place, number, length, earned, ordinal = map(np.array, zip(*of_task, strict=True))
        found[task] = _Episodes(place, number, length, earned, ordinal, contexts[task])
    return found


def _of_split(
    stores: Sequence[TrajectoryStore], episodes: _Episodes, task: str, selection: Selection, split: Split
) -> _Episodes:
    key = selection.seed, zlib.crc32(task.encode())
    # firsts: the first episode of each trajectory; copies: of each episode, which of these it repeats.
    if selection.validation_share and selection.unit == "trajectory":
        digests = digests_of(stores, episodes.stores, episodes.numbers)
        _, firsts, copies = np.unique(digests, return_index=True, return_inverse=True)
        ranks = np.argsort(np.argsort(firsts))
        firsts, copies = np.sort(firsts), ranks[copies]
    else:
        firsts = copies = np.arange(len(episodes.numbers))
    count, held_out = len(firsts), 0
    if selection.validation_share and count >= 2:
        held_out = min(count - 1, max(1, round(selection.validation_share * count)))
    # The smallest of exponential times whose rates are the lengths: drawn without replacement, with
    # probabilities proportional to length (Efraimidis and Spirakis 2006).
    times = -np.log1p(-_chances_of(episodes, (*key, _VALIDATION))) / episodes.lengths
    order = np.argsort(times[firsts], kind="stable")
    if split == "valid":
        return episodes.take(np.sort(firsts[order[:held_out]]))
    trained = episodes.take(np.flatnonzero(~np.isin(copies, order[:held_out])))
    part = _part(len(trained.numbers), selection.episode_fraction)
    drawn = np.argsort(_chances_of(trained, (*key, _FRACTION)), kind="stable")[:part]
    trained = trained.take(np.sort(drawn))
    return _best(trained, _part(len(drawn), selection.top_fraction))


def digests_of(stores: Sequence[TrajectoryStore], places: Integers, numbers: Integers) -> list[str]:
    """Return what names the trajectories of episodes by their content (of store ``places[i]``)."""
    found = [""] * len(numbers)
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        for row, digest in zip(rows, stores[place].trajectory_digests(numbers[rows].tolist()), strict=True):
            found[row] = digest
    return found


def _best(episodes: _Episodes, count: int) -> _Episodes:
    """Return those of the highest returns; of equals, the first."""
    return episodes.take(np.sort(np.argsort(-episodes.returns, kind="stable")[:count]))


def _part(count: int, fraction: float) -> int:
    return math.ceil(count * fraction - 1e-9)  # 0.55 x 100 is a little more than 55


def _chances_of(episodes: _Episodes, key: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the chance of each episode, which is its own whichever others are there."""
    drawn: npt.NDArray[np.float64] = chances(key, int(episodes.ordinals.max()) + 1)[episodes.ordinals]
    return drawn


def _lined_up(domain: str, by_task: Sequence[tuple[int, _Episodes]]) -> DomainEpisodes:
    lengths = np.concatenate([episodes.lengths for _, episodes in by_task])
    ends = np.cumsum(lengths)
    starts = [context for _, episodes in by_task for context in episodes.contexts]
    counts = np.array([len(context) for context in starts])
    within = np.fromiter((start for context in starts for start in context), np.int64, counts.sum())
    return DomainEpisodes(
        domain=domain,
        stores=np.concatenate([episodes.stores for _, episodes in by_task]),
        numbers=np.concatenate([episodes.numbers for _, episodes in by_task]),
        tasks=np.concatenate([np.full(len(episodes.numbers), index) for index, episodes in by_task]),
        ends=ends,
        contexts=np.repeat(ends - lengths, counts) + within,
        task_ends=np.cumsum([episodes.lengths.sum() for _, episodes in by_task]),
    )


def _check_together(tasks: Sequence[TaskSpec], state_width: int) -> None:
    first: dict[str, TaskSpec] = {}
    for task in tasks:
        width = int(np.prod(task.observation_shape))
        if task.observation == "image" and task.observation_shape != IMAGE_SHAPE:
            raise AgentError(
                f"{task.id} shows images of {task.observation_shape}, not {IMAGE_SHAPE}; leave it out"
            )
        if task.observation == "vector" and width > state_width:
            raise AgentError(
                f"{task.id} has observations of width {width}, and the model reads {state_width}; "
                "set its state_width, or leave the task out"
            )
        most = DISCRETE_ACTIONS if task.action == "discrete" else ACTION_DIMS
        if task.action_size > most:
            raise AgentError(
                f"{task.id} has {task.action_size} {task.action} actions, and models know {most}; "
                "leave it out"
            )
        other = first.setdefault(task.domain, task)
        for kind in ("observation", "action"):
            one, two = getattr(task, kind), getattr(other, kind)
            if one != two:
                raise AgentError(
                    f"{task.domain} has {two} {kind}s in {other.id} and {one} ones in {task.id}, which do "
                    "not fit into one batch; select the tasks of one kind"
                )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fits(name, pattern) for pattern in patterns)


def _check_patterns(what: str, patterns: Sequence[str], names: Iterable[str]) -> None:
    there = sorted(names)
    for pattern in patterns:
        if not any(fits(name, pattern) for name in there):
            raise AgentError(
                f"no {what} of the trajectory stores matches {pattern!r}; there are {few(map(repr, there))}"
            )
    if not patterns:
        raise AgentError(f"no pattern of a {what} is given, so nothing is selected; give '*' for all")
