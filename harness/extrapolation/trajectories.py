"""Which trajectories losses are measured on: long ones that no agent was trained on.

What a checkpoint was trained on, its card tells: the digests of the stores, the recipe that drew the
validation share, and the digests of the trajectories. Of such a store only that share counts, and in every
store a trajectory that an agent was trained on is left out, counted and said: one seed collected twice gives
the same trajectories under two digests of stores, and deterministic agents give them under any. Cards of
earlier versions do not name trajectories; then those of the stores that are given are compared, and of
another store it is said that nothing was.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from lram.agents.checkpoints.description import section, store_digests
from lram.agents.model.encoders import fits_model
from lram.agents.patterns import fits
from lram.agents.shown import few
from lram.agents.training.heldout import all_trajectories, trained_trajectories
from lram.agents.training.recipe_text import recipe_of_card
from lram.agents.training.sampling import chances
from lram.agents.training.selection import Selection, digests_of, select, selection_of
from lram.agents.trajectories import TrajectoryStore
from lram.harness.distinct_stores import check_distinct
from lram.harness.errors import LramError
from lram.harness.extrapolation.records import Stretch

_Episode = tuple[int, int]  # place of the store, number in it


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which trajectories are asked for.

    Attributes:
        tasks: Patterns of task ids; empty: all.
        policies: Patterns of the names of those that acted.
        per_task: So many stretches of each task, drawn at random.
        longer_than: Decisions that a stretch must exceed.
        seed: Of the drawing.
        state_width: The widest vector that all agents read.
        state_widths: The widest that each agent reads, by label, where it is another.
    """

    tasks: tuple[str, ...]
    policies: tuple[str, ...]
    per_task: int
    longer_than: int
    seed: int
    state_width: int
    state_widths: Mapping[str, int] = field(default_factory=dict)


def trained_length(card: Mapping[str, Any]) -> int | None:
    """Return the timesteps of the sequences that a checkpoint was trained on, as its card tells; or None."""
    length = section(section(card, "recipe"), "sampling").get("context")
    return length if type(length) is int and length > 0 else None


def choose(
    stores: Sequence[TrajectoryStore], cards: Mapping[str, Mapping[str, Any]], wanted: Wanted
) -> tuple[tuple[Stretch, ...], str]:
    """Return what losses are measured on, by task, and why no agent was trained on it.

    Args:
        stores: Where the trajectories are.
        cards: Of the agents' checkpoints, by label; empty where an agent has none.
        wanted: Which.

    Raises:
        LramError: Nothing is left, a store is given twice, or these stores do not show what an agent held
            out.
    """
    check_distinct(stores)
    ids = sorted({episode.task for store in stores for episode in store.episodes})
    tasks = [task for task in ids if not wanted.tasks or any(fits(task, p) for p in wanted.tasks)]
    if not tasks:
        raise LramError(
            f"the trajectory stores hold none of the tasks that are selected; they hold {few(ids)}"
        )
    chosen = set(tasks)
    usable = {
        (place, number)
        for place, number in _usable(stores, wanted)
        if stores[place].episodes[number].task in chosen
    }
    held_out, basis = _unseen(stores, cards, wanted, usable)
    stretches = []
    for task in tasks:
        found = [
            stretch
            for place, number in sorted(usable & held_out)
            if stores[place].episodes[number].task == task
            for stretch in _stretches(stores[place], place, number)
            if stretch.length > wanted.longer_than
        ]
        lots = chances((wanted.seed, zlib.crc32(task.encode())), len(found))
        drawn = sorted(sorted(range(len(found)), key=lambda i: lots[i])[: wanted.per_task])
        stretches += [found[place] for place in drawn]
    if not stretches:
        raise LramError(
            f"no trajectory that the agents were not trained on ({basis}) is longer than the "
            f"{wanted.longer_than} timesteps of their training; collect some of another seed with "
            "'lram collect', or give --trained"
        )
    return tuple(stretches), basis


def _stretches(store: TrajectoryStore, place: int, number: int) -> list[Stretch]:
    episode = store.episodes[number]
    bounds = [*episode.context_starts, episode.length]
    return [
        Stretch(place, number, episode.task, episode.policy, start, stop) for start, stop in pairwise(bounds)
    ]


def _usable(stores: Sequence[TrajectoryStore], wanted: Wanted) -> set[_Episode]:
    """Return the episodes of the policies that are asked for, as far as all agents can read them."""
    policies = sorted({episode.policy for store in stores for episode in store.episodes})
    named = {name for name in policies if any(fits(name, pattern) for pattern in wanted.policies)}
    if not named:
        raise LramError(
            f"no policy of the trajectory stores matches {', '.join(map(repr, wanted.policies))}; there are "
            f"{few(map(repr, policies))}"
        )
    return {
        (place, episode.number)
        for place, store in enumerate(stores)
        for episode in store.episodes
        if episode.policy in named and fits_model(store.tasks[episode.task], wanted.state_width)
    }


def _pairs(domains: Mapping[str, Any]) -> set[_Episode]:
    return {
        (int(store), int(number))
        for episodes in domains.values()
        for store, number in zip(episodes.stores, episodes.numbers, strict=True)
    }


def _unseen(
    stores: Sequence[TrajectoryStore],
    cards: Mapping[str, Mapping[str, Any]],
    wanted: Wanted,
    usable: set[_Episode],
) -> tuple[set[_Episode], str]:
    """Return the episodes that no agent was trained on, and why, in words; copies among the ``usable``."""
    trained: dict[str, Container[str]] = {}
    left = {(place, episode.number) for place, store in enumerate(stores) for episode in store.episodes}
    shares, silent = [], []
    for label, card in cards.items():
        digests = store_digests(card)
        if not digests:
            silent.append(label)
            continue
        if (packed := trained_trajectories(card)) is not None:
            trained[label] = packed
        _refuse_grown(stores, digests, label)
        by_digest = {store.digest: place for place, store in enumerate(stores)}
        there = [by_digest[digest] for digest in digests if digest in by_digest]
        if not there:
            continue
        if len(there) < len(digests):
            raise LramError(
                f"{label} was trained on {len(digests)} stores, of which {len(there)} are given; what it "
                "held out is drawn from all of them: give all with --data, or a store that it never saw"
            )
        selection = _selection(card, label)
        ordered = [stores[place] for place in there]
        width = wanted.state_widths.get(label, wanted.state_width)  # the split was made with its own
        held_out = _pairs(select(ordered, selection, "valid", state_width=width).domains)
        left &= {pair for pair in left if pair[0] not in there} | {
            (there[place], number) for place, number in held_out
        }
        if label not in trained:
            read = select(ordered, selection, "train", state_width=width).domains
            trained[label] = {
                digest
                for domain in read.values()
                for digest in digests_of(ordered, domain.stores, domain.numbers)
            }
        shares.append(label)
    parts = []
    if shares:
        parts.append(f"the validation share that {_names(shares)} held out, by the recipes in their cards")
    others = [label for label in cards if label not in shares and label not in silent]
    left, copies = _without_copies(stores, left, usable, trained)
    parts += copies
    if compared := [label for label in others if label in trained]:
        parts.append(
            f"stores under other digests than the card{'s' * (len(compared) != 1)} of {_names(compared)} "
            f"name{'s' * (len(compared) == 1)}, and no trajectory that {_names(compared)} was trained on"
        )
    if unknown := [label for label in others if label not in trained]:
        parts.append(
            f"stores under other digests than the card{'s' * (len(unknown) != 1)} of {_names(unknown)} "
            f"name{'s' * (len(unknown) == 1)}; that they hold other episodes is not checked"
        )
    if silent:
        parts.append(f"what {_names(silent)} were trained on, if at all, is not known")
    again = [
        label for label, card in cards.items() if card.get("init_from") and not all_trajectories(card)[1]
    ]
    if again:
        parts.append(
            f"of {_names(again)}, which continued from another checkpoint, only what the last training read, "
            "and what is known of those before, is left out"
        )
    return left, "; ".join(parts)


def _without_copies(
    stores: Sequence[TrajectoryStore],
    left: set[_Episode],
    usable: set[_Episode],
    trained: Mapping[str, Container[str]],
) -> tuple[set[_Episode], list[str]]:
    """Return ``left`` without the trajectories that an agent was trained on, and how many these were."""
    considered = sorted(left & usable)
    digests: dict[_Episode, str] = {}
    for place, store in enumerate(stores if trained else ()):
        mine = [pair for pair in considered if pair[0] == place]
        digests |= dict(zip(mine, store.trajectory_digests(number for _, number in mine), strict=True))
    said, copies = [], set()
    for label, known in trained.items():
        again = {pair for pair, digest in digests.items() if digest in known}
        copies |= again
        if again:
            said.append(
                f"{len(again)} of {len(considered)} validation trajectories are also training trajectories "
                f"of {label}, and left out"
            )
    return left - copies, said


def _refuse_grown(stores: Sequence[TrajectoryStore], digests: Sequence[str], label: str) -> None:
    """Raise LramError for a store that has more than when ``label`` was trained on it."""
    for store in stores:
        sums = [part.sha256 for part in store.parts]
        for count in range(1, len(sums)):
            if hashlib.sha256("\n".join(sums[:count]).encode()).hexdigest() in digests:
                raise LramError(
                    f"{store.path} has grown since {label} was trained on it, so what it held out is not "
                    "known; give the store as it was, or one of its own with trajectories of another seed"
                )


def _selection(card: Mapping[str, Any], label: str) -> Selection:
    read = recipe_of_card(card, label)
    if read is None:
        raise LramError(
            f"the card of {label} names its stores but no recipe, so what it held out is not known; give "
            "a store that it never saw"
        )
    if not read.data.validation_share:
        raise LramError(f"{label} held nothing out of its stores; give a store that it never saw")
    return selection_of(read)


def _names(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
