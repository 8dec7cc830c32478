"""Sweeps that come along, by name: what the paper measures, for ``lram latency --sweep NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lram.harness.errors import LramError


@dataclass(frozen=True, slots=True)
class ShippedSweep:
    """A sweep's agents, contexts and batches; all else is as usual, and everything can be set over it.

    Attributes:
        about: In a few words.
        agents: Specifications.
        contexts: Timesteps.
        batches: Lanes.
        loop: Whether decisions are timed with simulators, too.
        repeats: Fresh processes of each setting.
    """

    about: str
    agents: tuple[str, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    loop: bool = False
    repeats: int = 5


def _backbones(size: str) -> tuple[str, ...]:
    """Recurrent models, the Transformer with a cache of the whole context, and the one with a ring."""
    kinds = ("xlstm[1:0]", "xlstm[7:1]", "mamba", "transformer[full]", "transformer[ring]")
    return tuple(f"{kind}-{size}" for kind in kinds)


_LONG = (50, 200, 800, 1600, 6400, 25_600)
_LANES = (1, 2, 4, 8, 16, 32, 64)
_SMALL = ("small-xlstm[1:0]", "small-xlstm[7:1]", "small-mamba", "small-transformer")

SWEEPS: Mapping[str, ShippedSweep] = MappingProxyType(
    {
        "contexts-small": ShippedSweep("the four small models, to 25,600 timesteps", _SMALL, _LONG, (1,)),
        "contexts-16M": ShippedSweep("16M weights, to 25,600 timesteps", _backbones("16M"), _LONG, (1,)),
        "contexts-206M": ShippedSweep("206M weights, to 25,600 timesteps", _backbones("206M"), _LONG, (1,)),
        "lanes-small": ShippedSweep("the four small models, 1 to 64 lanes", _SMALL, (50, 200), _LANES),
        "lanes-16M": ShippedSweep("16M weights, 1 to 64 lanes", _backbones("16M"), (50, 800), _LANES),
        "lanes-206M": ShippedSweep("206M weights, 1 to 64 lanes", _backbones("206M"), (50, 800), _LANES),
    }
)
"""The sweeps by name; the paper (arXiv 2410.22391) measures 16M and 206M weights on a GPU."""


def shipped_sweep(name: str) -> ShippedSweep:
    """Return the sweep of that name; LramError tells those there are."""
    if name not in SWEEPS:
        raise LramError(f"there is no sweep {name!r}; choose one of {', '.join(SWEEPS)}")
    return SWEEPS[name]
