"""Random play as it was measured here: a second reference for scores, beside the paper's.

What a source calls a random policy's return need not be one: some are 0 by convention, and some were measured
on other versions of a task. ``data/random_play.csv`` holds what uniform actions earned in episodes of the
tasks as they are played here, by task and protocol. A protocol is another law of starts and ends, so a
measurement under one says nothing of another. ``tests/benchmarks/random_play.py`` makes the file from runs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import load_domain

FILE = "random_play.csv"


@dataclass(frozen=True, slots=True)
class RandomPlay:
    """What uniform actions earn on one task under one protocol.

    Attributes:
        task: ``domain/name``.
        protocol: Protocol id, such as ``procgen:lram@1``.
        episodes: Episodes that were played.
        seed: Of the run that played them.
        mean: Mean unclipped return.
        deviation: Standard deviation of the returns between episodes (divisor n - 1).
        low, high: Ends of the 95% interval of the mean; None where all returns were equal.
        source: Command and versions that made it.
    """

    task: str
    protocol: str
    episodes: int
    seed: int
    mean: float
    deviation: float
    low: float | None
    high: float | None
    source: str

    @property
    def span(self) -> str:
        """The mean with its interval, as text."""
        if self.low is None or self.high is None:
            return f"{self.mean:.4g} in every episode"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


@cache
def measurements() -> Mapping[tuple[str, str], RandomPlay]:
    """Return every measurement by task id and protocol id, in the order of the file."""
    text = files("lram.envs").joinpath("data", FILE).read_text(encoding="utf-8")
    return MappingProxyType(parse(text))


def parse(text: str) -> dict[tuple[str, str], RandomPlay]:
    """Return the measurements in the text of such a file."""
    found = [_read(row) for row in csv.DictReader(text.splitlines())]
    return {(one.task, one.protocol): one for one in found}


def random_play(task: str, protocol: str) -> RandomPlay | None:
    """Return what random play earned on the task of that id; None where it was not measured so.

    Under a protocol that perturbs another it is that one's: uniform actions look at nothing.
    """
    return measurements().get((task, protocol)) or measurements().get((task, _unperturbed(protocol)))


def _unperturbed(protocol: str) -> str:
    """Return the id of the protocol that ``protocol`` perturbs; itself where it perturbs none."""
    try:
        asked = ProtocolId.parse(protocol)
        domain = load_domain(asked.domain)
        one = domain.protocol(asked.name)
    except SelectionError:  # of an old run, or of a domain that is not there any more
        return protocol
    return domain.protocol(one.perturbs).id(domain.name) if one.perturbs else protocol


def _read(row: Mapping[str, str]) -> RandomPlay:
    return RandomPlay(
        task=row["task"],
        protocol=row["protocol"],
        episodes=int(row["episodes"]),
        seed=int(row["seed"]),
        mean=float(row["mean_return"]),
        deviation=float(row["standard_deviation"]),
        low=float(row["low"]) if row["low"] else None,
        high=float(row["high"]) if row["high"] else None,
        source=row["source"],
    )
