"""A record beside the one that its replay gave: what is the same, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lram.harness.storage.records import EpisodeRecord

_COMPARED = {
    "trajectory": "trajectory checksum",
    "episode_return": "return",
    "length": "length",
    "success_any": "success at any step",
    "success_last": "success at the last step",
    "terminated": "terminated",
    "truncated": "truncated",
    "parts": "returns of inner episodes",
    "seed": "seed",
    "protocol": "protocol",
}


@dataclass(frozen=True, slots=True)
class Replayed:
    """An episode that was played again.

    Attributes:
        record: As it is in the run.
        again: What the replay gave.
        differences: What is not equal, each in words; empty where all is.
        conditions: What else is not as it was when the record was made, each in words, and may be why.
    """

    record: EpisodeRecord
    again: EpisodeRecord
    differences: tuple[str, ...]
    conditions: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["same", "differs", "not judged"]:
        """``same``: every compared field is equal, bit for bit, which no condition can take back.

        ``differs``: something is not, under the conditions of the record. ``not judged``: something is not,
        and other conditions, or a simulator or agent that failed now, may be why.
        """
        if not self.differences:
            return "same"
        return "not judged" if self.conditions or self.again.failure is not None else "differs"


def differences(record: EpisodeRecord, again: EpisodeRecord) -> tuple[str, ...]:
    """Return what is not equal in two records of one episode, such as ``length 30, replayed 29``.

    All that an episode gave is compared, returns bit for bit; times and machines are not. What an older
    record does not tell (``repeated``) is not compared.
    """
    if again.failure is not None:
        return (f"the replay failed: {again.failure.message}",)
    found = [
        f"{words} {_shown(before)}, replayed {_shown(now)}"
        for name, words in _COMPARED.items()
        if (before := getattr(record, name)) != (now := getattr(again, name))
    ]
    if record.repeated is not None and record.repeated != again.repeated:
        found.append(f"repeated actions {record.repeated}, replayed {again.repeated}")
    return tuple(found)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return repr(value) if isinstance(value, float) else str(value)
