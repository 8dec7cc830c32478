"""Whether what is validated on was also trained on, and what a checkpoint's card tells of it.

::

    "data": {"trajectories": {
        "unit": "trajectory",            what the validation share is a share of
        "training": 40, "different": 31, episodes trained on, and how many different trajectories they are
        "validation": 1,                 episodes validated on
        "validation_in_training": 0,     of them, those that are also trained on
        "digests": "..."                 of those trained on (lram.agents.trajectories.digests)
        "validation_in_earlier": 0,      where training began from a checkpoint: of the episodes validated on,
                                         those that the trainings before were trained on,
        "earlier_complete": true         and whether all is known that these were trained on
    }},
    "earlier_trajectories": {"digests": "...", "complete": true}    what these were trained on


Trainings of earlier versions tell nothing of it, and one of them that is continued tells only the unit where
the indexes of its stores have no digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import section
from lram.agents.trajectories.digests import Packed, pack, united

if TYPE_CHECKING:
    from lram.agents.training.selection import Selection, Split
    from lram.agents.trajectories.store import TrajectoryStore

KEY = "trajectories"
"""Of the card's ``data``."""
EARLIER_KEY = "earlier_trajectories"
"""Of the card, where training began from a checkpoint."""
_EARLIER = ("validation_in_earlier", "earlier_complete")


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """Both sides of a split; the module's text tells the fields."""

    training: int
    different: int
    validation: int
    validation_in_training: int
    digests: str = ""
    validation_in_earlier: int = 0
    earlier_complete: bool = True

    def words(self) -> str:
        """Return them as a sentence without its full stop."""
        found = f"{self.training} training episodes are {self.different} different trajectories"
        if self.validation_in_earlier:
            found = (
                f"{self.validation_in_earlier} were trained on before, by the checkpoint that training began "
                f"from; {found}"
            )
        elif not self.earlier_complete and self.validation:
            found = (
                "whether the checkpoint that training began from was trained on them is not known, or not of "
                f"all; {found}"
            )
        if self.validation_in_training:
            return (
                f"{self.validation_in_training} of {self.validation} validation trajectories are also "
                f"training trajectories; {found}"
            )
        return f"none of {self.validation} validation trajectories is a training trajectory; {found}"


def split_facts(
    stores: Sequence[TrajectoryStore], selection: Selection, *, state_width: int
) -> SplitFacts | None:
    """Return what is on both sides of ``selection``'s split; None as :func:`split_digests` gives it."""
    sides = split_digests(stores, selection, state_width=state_width)
    return None if sides is None else facts_of(*sides)


def facts_of(trained: Sequence[str], held_out: Sequence[str]) -> SplitFacts:
    """Return what is on both sides of a split, by the digests of its episodes."""
    known = set(trained)
    both = sum(digest in known for digest in held_out)
    return SplitFacts(len(trained), len(known), len(held_out), both, pack(known))


def split_digests(
    stores: Sequence[TrajectoryStore], selection: Selection, *, state_width: int
) -> tuple[list[str], list[str]] | None:
    """Return the digests of the episodes that are trained on, and of those that are validated on.

    None where that would take long: for splits by episode over stores whose index tells no digests.
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
    return trained, held_out


def card_facts(selection: Selection, facts: SplitFacts | None) -> dict[str, Any]:
    """Return what the card says under :data:`KEY`."""
    told: dict[str, Any] = {"unit": selection.unit}
    if facts is not None:
        told |= asdict(facts)
        for name in _EARLIER:  # they are of trainings that began from a checkpoint (compared_with_earlier)
            del told[name]
    return told


def compared_with_earlier(
    told: Mapping[str, Any], held_out: Iterable[str], earlier: str, complete: bool
) -> dict[str, Any]:
    """Return what the card says under :data:`KEY` where training began from a checkpoint.

    Args:
        told: What :func:`card_facts` gave.
        held_out: Digests of the episodes that are validated on.
        earlier: Packed digests of what the trainings before were trained on, as far as they are known.
        complete: Whether they are all.
    """
    if "validation" not in told:  # it is not known what is held out
        return dict(told)
    known = Packed(earlier)
    values = (sum(digest in known for digest in held_out), complete)
    return {**told, **dict(zip(_EARLIER, values, strict=True))}


def all_trajectories(card: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the packed digests of what a checkpoint, and those it began from, were trained on.

    And whether they are all: cards of earlier versions do not tell, and long lists are left out.
    """
    own, before = recorded_facts(card), section(card, EARLIER_KEY)
    texts = (own.digests if own else "", str(before.get("digests", "")))
    complete = own is not None and len(own.digests) > 0
    if card.get("init_from"):
        complete = complete and before.get("complete") is True
    try:
        found = united(*texts)
    except ValueError:
        return "", False
    return found, complete and len(found) > 0


def recorded_facts(card: Mapping[str, Any]) -> SplitFacts | None:
    """Return what a checkpoint's card tells; None where it tells nothing that can be read."""
    facts = section(section(card, "data"), KEY)
    names = ("training", "different", "validation", "validation_in_training")
    counts = [facts.get(name) for name in names]
    digests = facts.get("digests", "")
    if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(digests, str):
        return None
    training, different, validation, both = (int(count or 0) for count in counts)
    again, complete = (facts.get(name) for name in _EARLIER)
    return SplitFacts(
        training,
        different,
        validation,
        both,
        digests,
        again if type(again) is int and again >= 0 else 0,
        complete is True or not card.get("init_from"),
    )


def trained_trajectories(card: Mapping[str, Any]) -> Packed | None:
    """Return the trajectories that a checkpoint was trained on; None where its card does not tell.

    Of one that began from another checkpoint, those that are known of the trainings before are among them.
    """
    facts = recorded_facts(card)
    if facts is None or not facts.digests:
        return None
    text = all_trajectories(card)[0] or facts.digests
    try:
        return Packed(text)
    except ValueError:
        return None
