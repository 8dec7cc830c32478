"""Which episodes are filmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lram.harness.errors import LramError
from lram.harness.storage.records import EpisodeRecord

BY_RETURN = ("best", "worst", "median")
FIRST_DIVERGENCE = "first-divergence"


@dataclass(frozen=True, slots=True)
class ChosenEpisode:
    """An episode to film.

    Attributes:
        record: Its record.
        why: Such as ``best`` or ``best, median``; ``chosen`` where its number was given.
    """

    record: EpisodeRecord
    why: str


def choose(records: Sequence[EpisodeRecord], words: Sequence[str]) -> list[ChosenEpisode]:
    """Return the episodes that ``words`` name, of each agent on each task, in the order of ``records``.

    Args:
        records: Scored ones, in plan order.
        words: ``best``, ``worst`` and ``median`` by return (of equals the lowest number; of an even number
            the lower median), and episode numbers.

    Raises:
        LramError: A word is none of these, or an agent has no scored episode of a number on a task.
    """
    chosen: dict[int, list[str]] = {}
    places: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(records):
        places.setdefault((record.agent, record.task), []).append(place)
    for pair, mine in places.items():
        for word in words:
            place = _place(records, mine, word, pair)
            chosen.setdefault(place, []).append("chosen" if word.isdecimal() else word)
    return [ChosenEpisode(records[place], ", ".join(chosen[place])) for place in sorted(chosen)]


def pairs_to_compare(
    records: Sequence[EpisodeRecord], agents: Sequence[str], number: int | None
) -> list[tuple[EpisodeRecord, EpisodeRecord]]:
    """Return by task the episodes of two agents with the same number, which have the same start.

    Args:
        records: Scored ones.
        agents: Two labels.
        number: Of the episode (None: the lowest that both have).

    Raises:
        LramError: They are not two, or share no such episode on any task.
    """
    if len(set(agents)) != 2:
        raise LramError(
            f"{FIRST_DIVERGENCE} compares two agents, and {len(set(agents))} are chosen; give --agent twice"
        )
    first, second = dict.fromkeys(agents)
    found = []
    for task in dict.fromkeys(record.task for record in records):
        by_agent = {
            agent: {r.episode: r for r in records if (r.agent, r.task) == (agent, task)}
            for agent in (first, second)
        }
        shared = sorted(by_agent[first].keys() & by_agent[second].keys())
        wanted = [one for one in shared if number in (None, one)]
        # A collection's agents meet starts of their own.
        if wanted and by_agent[first][wanted[0]].seed == by_agent[second][wanted[0]].seed:
            found.append((by_agent[first][wanted[0]], by_agent[second][wanted[0]]))
    if not found:
        which = "scored episode" if number is None else f"scored episode {number}"
        raise LramError(
            f"{first} and {second} have no {which} with the same start on any of the chosen tasks; choose "
            "others"
        )
    return found


def read_words(texts: Iterable[str]) -> list[str]:
    """Return the words of ``--episodes``, each once; LramError for one that means nothing."""
    words = [word.strip() for text in texts for word in text.split(",")]
    for word in words:
        if word not in BY_RETURN and not word.isdecimal() and read_divergence(word) is None:
            raise LramError(
                f"--episodes takes {', '.join(BY_RETURN)}, {FIRST_DIVERGENCE} and episode numbers, not "
                f"{word!r}"
            )
    words = list(dict.fromkeys(str(int(word)) if word.isdecimal() else word for word in words))
    if len(words) > 1 and any(read_divergence(word) is not None for word in words):
        raise LramError(f"{FIRST_DIVERGENCE} makes films of its own kind; give it alone in --episodes")
    return words


def read_divergence(word: str) -> tuple[int | None] | None:
    """Return the episode number of ``first-divergence`` (None) or ``first-divergence:7`` in a tuple; None for
    another word.
    """
    name, colon, number = word.partition(":")
    if name != FIRST_DIVERGENCE or (colon and not number.isdecimal()):
        return None
    return (int(number) if colon else None,)


def _place(records: Sequence[EpisodeRecord], mine: Sequence[int], word: str, pair: tuple[str, str]) -> int:
    if word.isdecimal():
        for place in mine:
            if records[place].episode == int(word):
                return place
        agent, task = pair
        raise LramError(f"{agent} has no scored episode {word} on {task}; choose another, or best or median")
    ranked = sorted(mine, key=lambda place: (_return(records[place]), records[place].episode))
    if word == "median":
        return ranked[(len(ranked) - 1) // 2]
    value = _return(records[ranked[-1 if word == "best" else 0]])
    return next(place for place in ranked if _return(records[place]) == value)


def _return(record: EpisodeRecord) -> float:
    assert record.episode_return is not None  # scored
    return record.episode_return
