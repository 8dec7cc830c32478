"""How many times faster than a baseline: of rows that were timed in the same rounds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

from lram.harness.bench.record import Ratio, Row
from lram.harness.bench.train import TrainRow
from lram.harness.cli.printing.output import print_table
from lram.harness.timing.backbones import BenchCase, TimedBackbone
from lram.harness.timing.intervals import median_interval
from lram.harness.timing.rounds import TimedCandidate, TimingSummary

TOKEN_BY_TOKEN = "torch, token by token"
"""The baseline of recurrent models: plain PyTorch, as many passes as tokens."""

AnyRow = TypeVar("AnyRow", Row, TrainRow)


def token_by_token(model: TimedBackbone, context: int) -> dict[BenchCase, TimedCandidate]:
    """Return the baseline of a recurrent model."""
    case = model.case(TOKEN_BY_TOKEN, context)
    return {case: TimedCandidate(case.name, partial(model.prepare, "torch", context, 1))}


def compare(timings: Mapping[str, TimingSummary], name: str, baselines: Sequence[str]) -> Ratio | None:
    """Compare ``name`` with the fastest (by its median) of ``baselines``; None without any.

    A ratio is formed within each round, where both met the same machine.
    """
    if not baselines:
        return None
    fastest = min(baselines, key=lambda baseline: statistics.median(timings[baseline].rounds))
    theirs, ours = timings[fastest], timings[name]
    times = [slow / fast for slow, fast in zip(theirs.rounds, ours.rounds, strict=True)]
    return Ratio(fastest, median_interval(times), theirs.minimum / ours.minimum)


def with_ratios(rows: Sequence[AnyRow], baselines: Mapping[str, Sequence[str]]) -> list[AnyRow]:
    """Return ``rows`` with their ratios.

    Args:
        rows: Timed in the same rounds.
        baselines: Of a row by its name; it is compared with the fastest of them.
    """
    timings = {row.name: row.timing for row in rows}
    return [
        dataclasses.replace(row, ratio=compare(timings, row.name, baselines.get(row.name, ())))
        for row in rows
    ]


def print_ratios(rows: Sequence[Row | TrainRow]) -> None:
    """Print what was compared with what.

    ``x faster`` is the median over rounds, with its interval; ``x at best`` compares the fastest of each.
    """
    cells = []
    for row in rows:
        if row.ratio is not None:
            times = row.ratio.times
            faster = f"{times.median:.2f} [{times.low:.2f}, {times.high:.2f}]"
            cells.append((row.name, row.ratio.baseline, faster, float(f"{row.ratio.fastest:.3g}")))
    print()
    print_table(("row", "baseline", "x faster", "x at best"), cells)
