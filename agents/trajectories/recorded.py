"""The checksum of an episode's record, held against the arrays of its trajectory.

A record of a played episode carries the CRC-32 that the simulator's process made of what it sent and was
sent: the first observation, then each action, reward and next observation. A trajectory that was changed
between there and the store, by an agent in whose memory it lay, has another one.
"""

from __future__ import annotations

import re
import struct
import zlib

import msgspec
import numpy as np

from lram.agents.trajectories.trajectory import Trajectory

_REWARD = struct.Struct("<d")
_CHECKSUM = re.compile(r"[0-9a-f]{8}")


class _Record(msgspec.Struct):
    trajectory: str = ""


def checksum_fault(trajectory: Trajectory) -> str | None:
    """Return how a trajectory differs from its record's checksum, a clause; empty where it does not.

    None: it has no such record, as imported ones have not, or lacks the last observation.
    """
    try:
        recorded = (
            msgspec.json.decode(trajectory.record, type=_Record).trajectory if trajectory.record else ""
        )
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    comparable = (
        len(trajectory.observations) == trajectory.length + 1 and trajectory.rewards.dtype == np.float64
    )
    if not _CHECKSUM.fullmatch(recorded) or not comparable:
        return None
    found = played_checksum(trajectory)
    return "" if found == recorded else f"has the checksum {found}, and was played with {recorded}"


def played_checksum(trajectory: Trajectory) -> str:
    """Return the CRC-32 that a simulator's process makes of such an episode: 8 hex digits."""
    discrete = trajectory.task.action == "discrete"
    checksum = zlib.crc32(trajectory.observations[0].tobytes())
    for action, reward, seen in zip(
        trajectory.actions, trajectory.rewards, trajectory.observations[1:], strict=True
    ):
        taken = int(action).to_bytes(4, "little") if discrete else action.tobytes()
        checksum = zlib.crc32(_REWARD.pack(reward), zlib.crc32(taken, checksum))
        checksum = zlib.crc32(seen.tobytes(), checksum)
    return f"{checksum:08x}"
