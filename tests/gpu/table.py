"""The short table at the end of ``run.sh``, and the ratios that it and the page draw from a record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpu.record import GpuRecord, LatencyRow, StepRow
from lram.harness.cli.printing.output import print_table, three_digits

XLSTM, FULL = "xlstm[7:1]", "transformer[full]"
RATIO_CONTEXTS, RATIO_BATCHES = (1600, 25600), (1, 16)
AIM = 2.0
"""How many times the time of its bytes a decision of one row is meant to take at most."""


@dataclass(frozen=True, slots=True)
class ContextRatio:
    """xLSTM beside the Transformer with a full cache, at one context.

    Attributes:
        size, batch, context: Of both.
        xlstm, full: Their rows; None where there is none.
    """

    size: str
    batch: int
    context: int
    xlstm: LatencyRow | None
    full: LatencyRow | None

    @property
    def times(self) -> float | None:
        """How many times as long the Transformer takes; None where one of them has no time."""
        ours, theirs = self._ms(self.xlstm), self._ms(self.full)
        return theirs / ours if ours and theirs else None

    @property
    def why_not(self) -> str:
        """Why there is no ratio; empty where there is one."""
        if self.times is not None:
            return ""
        lacking = [
            f"{kind}: {'not measured' if row is None else row.outcome}"
            for kind, row in ((XLSTM, self.xlstm), (FULL, self.full))
            if self._ms(row) is None
        ]
        return "; ".join(lacking)

    @staticmethod
    def _ms(row: LatencyRow | None) -> float | None:
        return None if row is None else row.agent_ms


def ratios(
    record: GpuRecord,
    size: str,
    contexts: tuple[int, ...] = RATIO_CONTEXTS,
    batches: tuple[int, ...] = RATIO_BATCHES,
) -> list[ContextRatio]:
    """Return xLSTM beside the full-cache Transformer of ``size``, at each context and batch."""
    found: dict[tuple[str, int, int], LatencyRow] = {}
    for row in record.latency:  # of several forms, the fastest
        key = row.agent, row.batch, row.context
        if key not in found or (row.agent_ms or math.inf) < (found[key].agent_ms or math.inf):
            found[key] = row
    return [
        ContextRatio(
            size,
            batch,
            context,
            found.get((f"{XLSTM}-{size}", batch, context)),
            found.get((f"{FULL}-{size}", batch, context)),
        )
        for batch in batches
        for context in contexts
    ]


def nearest_to_floor(record: GpuRecord) -> list[StepRow]:
    """Return, for each model and number of rows, the form that is nearest to the time of its bytes."""
    nearest: dict[tuple[str, int, int | None], StepRow] = {}
    for row in record.bench:
        if row.limit_ms and row.source.startswith("bench-"):
            key = row.model, row.rows, row.context
            if key not in nearest or row.ms / row.limit_ms < above_floor(nearest[key]):
                nearest[key] = row
    return list(nearest.values())


def above_floor(row: StepRow) -> float:
    """Return how many times the time of its bytes a decision takes."""
    assert row.limit_ms
    return row.ms / row.limit_ms


def print_table_of(record: GpuRecord, size: str) -> None:
    """Print what became of the steps, then what was most wanted."""
    facts = record.device
    print(f"\n{facts.name}, driver {facts.driver or 'none'}, PyTorch {facts.versions.get('torch', '?')}")
    if record.dry:
        print("a dry run, on the processor and with tiny sizes: no number means anything")
    print()
    print_table(
        ("step", "result", "s", "why"),
        [(one.name, one.status, round(one.seconds), one.reason[:100]) for one in record.steps],
    )
    print()
    if record.dry:
        print(
            f"rows: {len(record.checks)} gates, {len(record.latency)} latencies, {len(record.bench)} steps, "
            f"{len(record.training)} trainings, {len(record.evaluation)} evaluations"
        )
        return
    rows: list[tuple[object, ...]] = []
    for one in ratios(record, size):
        value = one.why_not if one.times is None else f"{one.times:.2f} times as long"
        rows.append((f"{FULL} beside {XLSTM}, {size}, batch {one.batch}, context {one.context}", value))
    for row in nearest_to_floor(record):
        if row.rows == 1:
            name = f"{row.model}, {row.form}, 1 row" + (f", context {row.context}" if row.context else "")
            rows.append((name, f"{three_digits(row.ms)} ms, {above_floor(row):.2f} times its bytes' time"))
    rows += [
        (f"training {one.model}", f"{one.times:.2f} times {one.baseline}")
        for one in record.training
        if one.times is not None
    ]
    rows += [
        (f"{one.agent} on {one.tasks}", f"{one.decisions_per_s:.0f} decisions/s") for one in record.evaluation
    ]
    print_table(("what", "measured"), rows)
