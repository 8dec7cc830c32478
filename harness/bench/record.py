"""The record of a benchmark: one JSON file, written whole or not at all.

Numbers are in the units of their names (milliseconds, bytes, 10^9 bytes a second); ``crossovers`` are
computed from ``rows`` and stand there for readers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from lram.agents.durable import read_regular, write_durably
from lram.harness.bench.bandwidth import Bandwidth
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE, encode
from lram.harness.storage.records import Provenance
from lram.harness.timing.crossings import FEWEST_ROUNDS, Bound, RoundsCrossing, crossing, rounds_crossing
from lram.harness.timing.intervals import MedianInterval, median_interval
from lram.harness.timing.load import Load
from lram.harness.timing.rounds import TimingSummary

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long the baseline takes: above 1, the row is faster.

    Attributes:
        baseline: Its name.
        times: Median of the rounds' ratios, with its interval.
        fastest: The same of the fastest decision of each: what is left when others disturb neither.
    """

    baseline: str
    times: MedianInterval
    fastest: float


@dataclass(frozen=True, slots=True)
class Row:
    """One decision of one model in one form.

    Attributes:
        name: What a ratio calls it; unique in the record.
        model: Preset, or package and class.
        form: How it is computed.
        detail: The same with versions.
        rows: Rows that decide at once.
        context: Timesteps read before; None where the time does not depend on it (a recurrent state).
        cache: How a Transformer keeps the past (``full``, ``ring``, ``recompute``, see
            :class:`lram.agents.backbones.transformer.TransformerConfig`); None for a recurrent state.
        timing: Milliseconds.
        ratio: Against a baseline, in records of ``tests/benchmarks`` and of earlier versions; else None.
        limit_ms: What memory alone would need, see :mod:`lram.harness.bench.bandwidth`; None where nobody
            counted the bytes.
        read_bytes, update_bytes: What a decision must at least read, and read and write back.
        state_bytes: What all rows keep between decisions.
    """

    name: str
    model: str
    form: str
    detail: str
    rows: int
    context: int | None
    timing: TimingSummary
    ratio: Ratio | None
    limit_ms: float | None
    read_bytes: int
    update_bytes: int
    state_bytes: int
    cache: str | None = None

    @property
    def decisions_per_s(self) -> float:
        """Decisions a second, all rows together."""
        return 1000 * self.rows / self.timing.median.median


@dataclass(frozen=True, slots=True)
class Crossover:
    """The context from which on a full cache takes longer than a recurrent state, up to the longest.

    Attributes:
        model: The recurrent model.
        against: The Transformer with the full cache.
        form: How both are computed.
        rows: Rows that decide at once.
        where: ``at`` the context, ``below`` the shortest one measured, ``beyond`` the longest;
            ``cannot tell`` where there are too few rounds, or no context shows which of the two takes longer.
        context: Timesteps: the median of the rounds' crossings, each by linear interpolation between
            measured contexts; or that end. None where that cannot be told. In records of earlier versions:
            where the medians of all rounds first cross.
        low, high: Interval of that median; None in records of earlier versions, too.
    """

    model: str
    against: str
    form: str
    rows: int
    where: Literal["at", "below", "beyond", "cannot tell"]
    context: float | None
    low: Bound | None = None
    high: Bound | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for.

    Attributes:
        tokens: Tokens of a decision, for each row.
        read: Timesteps that recurrent models read before.
        threads: Of PyTorch.
        precision: Of the weights and of what flows, as ``lram.agents.compute.Compute`` has it.
        device: Where.
        seed: Of weights, inputs and the order of visits.
        rounds: Visits to each candidate, at most.
        environment: Variables that change how fast threads and memory are.
    """

    tokens: int
    read: int
    threads: int
    precision: str
    device: str
    seed: int
    rounds: int
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """A whole benchmark.

    Attributes:
        schema: Version of this layout.
        benchmark: What was timed: ``model``, or ``public`` and a package.
        settings: What was asked for.
        provenance: Where and with what.
        load: What else the machine did.
        bandwidths: The memory's speed, by number of rows as text (each was measured beside its rows).
        rows: The results.
        crossovers: Computed from them.
        notes: What was left out, and why.
    """

    schema: int
    benchmark: str
    settings: Settings
    provenance: Provenance
    load: Load
    bandwidths: dict[str, list[Bandwidth]]
    rows: list[Row]
    crossovers: list[Crossover] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_record(file: Path, record: BenchRecord) -> None:
    """Write ``record`` as JSON; LramError as :func:`check_output` tells."""
    check_output(file)
    write_durably(file, encode(record))


def check_output(file: Path) -> None:
    """LramError when ``file`` cannot be written: it is a folder, or is to go where none is."""
    if file.is_dir():
        raise LramError(
            f"{file} cannot be written: it is a folder; name a file, such as {file / 'bench.json'}"
        )
    if not file.parent.is_dir():
        raise LramError(f"{file} cannot be written: there is no folder {file.parent}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise LramError(f"{file} cannot be written: the folder {file.parent} is read-only")


def read_record(file: Path) -> BenchRecord:
    """Read what :func:`write_record` wrote; LramError for anything else."""
    try:
        record = msgspec.json.decode(read_regular(file), type=BenchRecord)
    except DAMAGE as error:
        raise LramError(f"{file} cannot be read as a benchmark: {error}") from error
    if record.schema != SCHEMA:
        raise LramError(f"{file} has layout {record.schema}; this version of lram-bench reads {SCHEMA}")
    return record


def crossovers(rows: Sequence[Row]) -> list[Crossover]:
    """Compare each recurrent model with each full cache, in the same form and with as many rows.

    A crossing is that of each round, in which both met the same machine. The time of other caches does not
    grow with the context, once they are full: they cross nothing.
    """
    found = []
    for steady in (row for row in rows if row.cache is None and row.context is None):
        growing: dict[str, list[Row]] = {}
        for row in rows:
            if row.cache == "full" and (row.form, row.rows) == (steady.form, steady.rows):
                growing.setdefault(row.model, []).append(row)
        for model, measured in growing.items():
            times = {row.context or 0: row.timing.rounds for row in measured}
            crossed = crossing_of(steady.timing.rounds, times)
            found.append(
                Crossover(
                    steady.model,
                    model,
                    steady.form,
                    steady.rows,
                    "cannot tell" if crossed is None else crossed.middle.where,
                    None if crossed is None else crossed.middle.context,
                    None if crossed is None else crossed.low,
                    None if crossed is None else crossed.high,
                )
            )
    return found


def crossing_of(steady: Sequence[float], growing: Mapping[int, Sequence[float]]) -> RoundsCrossing | None:
    """Return from which context on ``growing`` takes longer than ``steady``, up to the longest.

    Args:
        steady: Times by round.
        growing: Times by context, then by round.

    Returns:
        The median of the rounds' crossings with its interval. None where that cannot be told: there are fewer
        than ``FEWEST_ROUNDS`` rounds, or at every context the interval of the ratio of both times holds 1.
    """
    contexts = sorted(growing)
    rounds = list(zip(steady, *(growing[context] for context in contexts), strict=False))
    if len(rounds) < FEWEST_ROUNDS:
        return None
    ratios = [
        median_interval([one / others[place] for one, *others in rounds]) for place in range(len(contexts))
    ]
    if all(ratio.low <= 1 <= ratio.high for ratio in ratios):
        return None
    return rounds_crossing([crossing(contexts, [one] * len(contexts), others) for one, *others in rounds])
