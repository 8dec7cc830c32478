"""Which agents of a report are trainings of one model that differ in their seed alone: ``NAME=A,B,C``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lram.agents.patterns import fits
from lram.harness.errors import LramError
from lram.harness.storage.record_checks import is_name
from lram.reports.text import listing


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """Trainings of one model.

    Attributes:
        name: Of the model.
        agents: Labels of the trainings. The first of one group is held against the first of another, and so
            on.
    """

    name: str
    agents: tuple[str, ...]


def read_seed_groups(texts: Sequence[str], labels: Sequence[str]) -> tuple[SeedGroup, ...]:
    """Return what the option ``--seeds-of`` names.

    Args:
        texts: ``NAME=LABEL,LABEL,...``; a label may be a pattern such as ``mamba-*``, for all that it
            describes, in the order of ``labels``.
        labels: Of the agents there are, each once; a label may hold commas.

    Raises:
        LramError: A text names no agents, or one that is not there; two groups have one name or one agent; or
            a name cannot be printed, or is an agent's.
    """
    known = list(dict.fromkeys(labels))
    groups: list[SeedGroup] = []
    for text in texts:
        name, sign, named = text.partition("=")
        name = name.strip()
        if not sign or not name or not named.strip():
            raise LramError(
                f"--seeds-of {text!r} is no group of trainings; write --seeds-of NAME=A,B,C with the model's "
                "name and the labels of its trainings"
            )
        if not is_name(name):
            raise LramError(
                f"--seeds-of {text!r} gives a model a name that cannot be printed; use printable characters "
                "but '|'"
            )
        agents = tuple(dict.fromkeys(_labels(text, named.split(","), known)))
        if name in known and agents != (name,):
            raise LramError(
                f"--seeds-of {text!r} calls a model as an agent of these runs is called, whose score is "
                "another one; name the model otherwise"
            )
        for other in groups:
            if other.name == name:
                raise LramError(f"--seeds-of names {name!r} twice; put its trainings into one, or rename one")
            if both := [label for label in agents if label in other.agents]:
                raise LramError(
                    f"--seeds-of counts {both[0]!r} as a training of {other.name!r} and of {name!r}; it can "
                    "be one of one model only"
                )
        groups.append(SeedGroup(name, agents))
    return tuple(groups)


def _labels(text: str, pieces: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    """Yield the labels that pieces between commas name, the longest that is known first."""
    place = 0
    while place < len(pieces):
        for end in range(len(pieces), place, -1):
            one = ",".join(pieces[place:end]).strip()
            found = [one] if one in known else [label for label in known if fits(label, one)]
            if found:
                yield from found
                place = end
                break
        else:
            raise LramError(
                f"--seeds-of {text!r}: no agent of these runs is called {pieces[place].strip()!r}; they have "
                f"{listing(known) or 'no agent'}"
            )
