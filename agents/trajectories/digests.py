"""What names a trajectory by its content, so that one that is there twice is seen to be.

Two episodes of different seeds, runs or stores are one trajectory where a model would read the same numbers:
the observations on which actions were taken, the actions, and the rewards as agents are shown them, of the
same task. Deterministic agents in simulators with few starts give many such (Atari without sticky actions has
30 starts, and a game may forget them at once).

The index of a store holds the digest of each episode. Indexes of earlier versions do not; there it is
computed from the part, once for each opened store, and ``lram data rebuild`` puts it into the index.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lram.agents.trajectories.trajectory import Trajectory

BYTES = 8
"""Of a digest: among a million trajectories, two different ones share it once in 40 million such sets."""

_PACKED = 6
"""Bytes of it that are kept in a list."""

MOST_PACKED = 1_000_000
"""Digests that a list may have: 8 MB of text."""


def trajectory_digest(trajectory: Trajectory) -> str:
    """Return 16 hex digits over the task's id and what a model reads of ``trajectory``.

    The observation after the last action, which some sources lack, is not read, and neither are the task's
    own rewards where agents are shown others, names, seeds and records.
    """
    digest = hashlib.blake2b(trajectory.task.id.encode(), digest_size=BYTES)
    read = (trajectory.observations[: trajectory.length], trajectory.actions, trajectory.signals)
    for array in read:
        digest.update(f"|{array.dtype.name}{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def pack(digests: Iterable[str]) -> str:
    """Return a set of digests as text of 8 characters each; empty for more than ``MOST_PACKED``."""
    rows = sorted({bytes.fromhex(digest)[:_PACKED] for digest in digests})
    return "" if len(rows) > MOST_PACKED else base64.b64encode(b"".join(rows)).decode()


def united(*texts: str) -> str:
    """Return the union of sets that :func:`pack` wrote; empty for more than ``MOST_PACKED``.

    ValueError where a text is none of them.
    """
    rows = sorted(set().union(*(Packed(text).rows for text in texts)))
    return "" if len(rows) > MOST_PACKED else base64.b64encode(b"".join(rows)).decode()


class Packed:
    """A set of digests as :func:`pack` wrote it; ``digest in packed``.

    It may take a trajectory for one of n others by chance: n times in 2.8e14.

    Attributes:
        rows: The digests, cut, as bytes.
    """

    def __init__(self, text: str) -> None:
        """Read ``text``; ValueError where it is none."""
        try:
            content = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"they are no list of digests ({error})") from None
        if len(content) % _PACKED:
            raise ValueError("they are no list of digests")
        self.rows = frozenset(content[at : at + _PACKED] for at in range(0, len(content), _PACKED))

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and bytes.fromhex(digest)[:_PACKED] in self.rows

    def __len__(self) -> int:
        return len(self.rows)


def repeats(by_task: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, int, int]]:
    """Yield task, episodes and different trajectories of each task that has a trajectory twice."""
    for task, digests in by_task.items():
        counts = Counter(digests)
        episodes = counts.total()
        if len(counts) < episodes:
            yield task, episodes, len(counts)


def repeats_words(task: str, episodes: int, different: int) -> str:
    """Return the sentence on a task that has a trajectory twice."""
    what = "trajectory" if different == 1 else "trajectories"
    return f"{task}: {episodes} episodes are {different} different {what}"
