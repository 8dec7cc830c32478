"""Whether what is validated on was also trained on, and what a checkpoint's card tells of it.

::

    "data": {"trajectories": {
        "unit": "trajectory",            what the validation share is a share of
        "training": 40, "different": 31, episodes trained on, and how many different trajectories they are
        "validation": 1,                 episodes validated on
        "validation_in_training": 0,     of them, those that are also trained on
        "digests": "..."                 of those trained on (lram.agents.trajectories.digests)
    }}

Trainings of earlier versions tell nothing of it, and one of them that is continued tells only the unit where
the indexes of its stores have no digests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lram.agents.api import AgentError
from lram.agents.trajectories.digests import Packed, pack

if TYPE_CHECKING:
    from lram.agents.training.selection import Selection, Split
    from lram.agents.trajectories.store import TrajectoryStore

KEY = "trajectories"
"""Of the card's ``data``."""


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """Both sides of a split; the module's text tells the fields."""

    training: int
    different: int
    validation: int
    validation_in_training: int
    digests: str = ""

    def words(self) -> str:
        """Return them as a sentence without its full stop."""
        found = f"{self.training} training episodes are {self.different} different trajectories"
        if self.validation_in_training:
            return (
                f"{self.validation_in_training} of {self.validation} validation trajectories are also "
                f"training trajectories; {found}"
            )
        return f"none of {self.validation} validation trajectories is a training trajectory; {found}"


def split_facts(
    stores: Sequence[TrajectoryStore], selection: Selection, *, state_width: int
) -> SplitFacts | None:
    """Return what is on both sides of ``selection``'s split; None where that would take long to find out.

    That is so for splits by episode over stores whose index tells no digests.
    """
    # It imports torch, which those who read cards do not need.
    from lram.agents.training.selection import digests_of, select

    def digests(split: Split) -> list[str]:
        found = []
        for domain in select(stores, selection, split, state_width=state_width).domains.values():
            found += digests_of(stores, domain.stores, domain.numbers)
        return found

    if selection.unit == "episode" and any(store.without_digests for store in stores):
        return None
    trained = digests("train")
    try:
        held_out = digests("valid")
    except AgentError:  # nothing is held out
        held_out = []
    known = set(trained)
    both = sum(digest in known for digest in held_out)
    return SplitFacts(len(trained), len(known), len(held_out), both, pack(known))


def card_facts(selection: Selection, facts: SplitFacts | None) -> dict[str, Any]:
    """Return what the card says under :data:`KEY`."""
    section: dict[str, Any] = {"unit": selection.unit}
    if facts is not None:
        section |= asdict(facts)
    return section


def recorded_facts(card: Mapping[str, Any]) -> SplitFacts | None:
    """Return what a checkpoint's card tells; None where it tells nothing that can be read."""
    data = card.get("data")
    section = data.get(KEY) if isinstance(data, Mapping) else None
    if not isinstance(section, Mapping):
        return None
    names = ("training", "different", "validation", "validation_in_training")
    counts = [section.get(name) for name in names]
    digests = section.get("digests", "")
    if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(digests, str):
        return None
    training, different, validation, both = (int(count or 0) for count in counts)
    return SplitFacts(training, different, validation, both, digests)


def trained_trajectories(card: Mapping[str, Any]) -> Packed | None:
    """Return the trajectories that a checkpoint was trained on; None where its card does not tell."""
    facts = recorded_facts(card)
    if facts is None or not facts.digests:
        return None
    try:
        return Packed(facts.digests)
    except ValueError:
        return None
