"""The time that moving a decision's bytes alone would take, on this machine, at this moment.

Two streams over a float32 array are timed beside the candidates, in the same rounds: ``read`` sums it,
``update`` negates it in place. They are done for several sizes, because an array that fits into a cache
streams faster. A decision that moves ``b`` bytes in all is held to the speed of an array of ``b`` bytes,
interpolated between the sizes; weights and cached keys count as read, recurrent state as updated.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

from lram.harness.timing.rounds import PreparedDecision, TimedCandidate, TimedRounds

SIZES_MIB = (2, 8, 32, 64, 128, 512)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Speed of the two streams over an array.

    Attributes:
        bytes: Size of the array.
        read_gb_s: Bytes read a second, in 10^9.
        update_gb_s: Bytes read plus bytes written a second, in 10^9.
    """

    bytes: int
    read_gb_s: float
    update_gb_s: float


def stream_candidates(device: str, sizes_mib: Sequence[int] = SIZES_MIB) -> list[TimedCandidate]:
    """Return the streams of all sizes, to be measured beside other candidates."""
    import torch

    @cache
    def array() -> torch.Tensor:
        return torch.ones(max(sizes_mib) * 2**18, device=device)

    def prepare(stream: str, size: int) -> PreparedDecision:
        part = array()[: size // 4]
        if stream == "read":
            return PreparedDecision(part.sum, read_bytes=size)
        return PreparedDecision(part.neg_, update_bytes=size)

    return [
        TimedCandidate(_name(stream, mib * 2**20), partial(prepare, stream, mib * 2**20))
        for mib in sizes_mib
        for stream in ("read", "update")
    ]


def bandwidths(samples: Mapping[str, TimedRounds], sizes_mib: Sequence[int] = SIZES_MIB) -> list[Bandwidth]:
    """Return what the streams reached (medians over the rounds), by size."""
    result = []
    for size in (mib * 2**20 for mib in sizes_mib):
        read, update = (
            statistics.median(samples[_name(stream, size)].medians) for stream in ("read", "update")
        )
        result.append(Bandwidth(size, size / read, 2 * size / update))
    return result


def limit_ms(prepared: PreparedDecision, measured: Sequence[Bandwidth]) -> float:
    """Return the milliseconds that the bytes of a decision need at the measured speeds."""
    touched = prepared.read_bytes + prepared.update_bytes
    read = _at(touched, [(point.bytes, point.read_gb_s) for point in measured])
    update = _at(touched, [(point.bytes, point.update_gb_s) for point in measured])
    return 1e-6 * (prepared.read_bytes / read + 2 * prepared.update_bytes / update)


def _at(size: float, points: Sequence[tuple[int, float]]) -> float:
    """Interpolate the time of an array of ``size`` bytes; return its speed. Beyond the ends: as there."""
    if size <= points[0][0]:
        return points[0][1]
    for (small, fast), (large, slow) in pairwise(points):
        if size <= large:
            share = (size - small) / (large - small)
            return size / ((1 - share) * small / fast + share * large / slow)
    return points[-1][1]


def _name(stream: str, size: int) -> str:
    return f"memory {stream} {size // 2**20} MiB"
