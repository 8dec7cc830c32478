"""Which agents a report compares: all pairs while these are few, then those that are asked for.

n agents have n (n - 1) / 2 pairs, each with a test of its own: of 1,000 agents that is half a million
rows that nobody reads, and a correction for as many tests in which no difference survives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from lram.harness.errors import LramError
from lram.reports.text import listing

ALL_PAIRS = 12
"""Up to so many agents, all pairs are compared unless some are asked for."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What to compare; without a request all pairs of up to ``ALL_PAIRS`` agents, and none of more.

    Attributes:
        named: Pairs of labels; the difference is the first minus the second.
        baselines: Labels that every other agent is compared with.
        every: All pairs, however many.
    """

    named: tuple[tuple[str, str], ...] = ()
    baselines: tuple[str, ...] = ()
    every: bool = False

    @property
    def requested(self) -> bool:
        """Whether something is asked for."""
        return bool(self.named or self.baselines or self.every)

    def check(self, labels: Iterable[str]) -> None:
        """Raise LramError where a label that is asked for is not among ``labels``, or a pair is one agent."""
        known = list(dict.fromkeys(labels))
        for label in (*self.baselines, *(label for pair in self.named for label in pair)):
            if label not in known:
                raise LramError(
                    f"no agent of these runs is called {label!r}, so it cannot be compared; they have "
                    f"{listing(known) or 'no agent'}"
                )
        for first, second in self.named:
            if first == second:
                raise LramError(f"{first!r} cannot be compared with itself; name two agents")

    def of(self, labels: Sequence[str]) -> list[tuple[str, str]]:
        """Return the pairs to compare among ``labels``, each once; labels that are not there make none."""
        if self.every or (not self.requested and len(labels) <= ALL_PAIRS):
            return list(combinations(labels, 2))
        present = set(labels)
        wanted = [*self.named, *((label, base) for base in self.baselines for label in labels)]
        found: dict[frozenset[str], tuple[str, str]] = {}
        for pair in wanted:
            if pair[0] != pair[1] and present.issuperset(pair):
                found.setdefault(frozenset(pair), pair)
        return list(found.values())


ALL_OR_NONE = Pairs()
"""Nothing is asked for."""


def read_pairs(compare: Sequence[str], baselines: Sequence[str], labels: Sequence[str]) -> Pairs:
    """Return what the options ``--compare`` and ``--baseline`` ask for.

    Args:
        compare: ``A,B``, or ``all`` for every pair.
        baselines: Labels.
        labels: Of the agents there are; a label may hold commas.

    Raises:
        LramError: A text is no pair of ``labels``, or a baseline is none of them.
    """
    known = set(labels)
    named = []
    for text in (text for text in compare if text != "all"):
        cuts = [place for place, sign in enumerate(text) if sign == ","]
        splits = [(text[:cut].strip(), text[cut + 1 :].strip()) for cut in cuts]
        pairs = [pair for pair in splits if known.issuperset(pair)]
        if len(pairs) != 1:
            why = "can be read as several pairs" if pairs else "is no pair"
            raise LramError(
                f"--compare {text!r} {why} of agents; write --compare A,B with two labels of these runs, "
                f"which have {listing(list(dict.fromkeys(labels))) or 'no agent'}, or --compare all"
            )
        named.append(pairs[0])
    pairs_wanted = Pairs(tuple(named), tuple(baselines), "all" in compare)
    pairs_wanted.check(labels)
    return pairs_wanted
