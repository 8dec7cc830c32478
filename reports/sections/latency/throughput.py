"""How many decisions a second all lanes make together, against their number, and ratios of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lram.harness.latency.records import OK
from lram.reports import forms, text
from lram.reports.sections.latency.model import ContextLatency, Crossing, LatencyMedian, LatencyResult
from lram.reports.sections.latency.wording import lanes_cell, peak_words, rows_words
from lram.reports.table import EMPTY, Column, Table, TableCell, hidden, words

FEWEST_BATCHES = 3
"""Numbers of lanes from which on the throughput is shown."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Decisions a second of all lanes together; an interval where the time of a decision has one."""

    value: float
    low: float | None
    high: float | None


def throughput_of(spot: ContextLatency) -> Throughput | None:
    """Return the throughput at a point, lanes over the median time of a decision; None without one."""
    if spot.agent is None:
        return None
    middle = spot.agent.median
    slow, fast = middle.high, middle.low

    def rate(milliseconds: float) -> float:
        return 1000 * spot.batch / milliseconds

    return Throughput(
        rate(middle.value), None if slow is None else rate(slow), None if fast is None else rate(fast)
    )


def throughput(result: LatencyResult) -> list[Table[Any]]:
    """Return decisions a second and memory by lanes, for programs, and for people where lanes are many."""

    def name(row: ContextLatency) -> str:
        return result.subjects[row.subject].name

    columns: list[Column[ContextLatency]] = [
        Column("Agent", "", name, flag=warning, numeric=False),
        hidden("agent", lambda row: result.subjects[row.subject].label),
        hidden("step", lambda row: result.subjects[row.subject].step),
        hidden("folder", lambda row: result.subjects[row.subject].folder),
        Column("Context", "context", lambda row: row.context),
        Column("Lanes", "", lambda row: row, lanes_cell),
        hidden("batch", lambda row: row.batch),
        hidden("outcome", lambda row: row.outcome),
        Column(
            "Decisions/s",
            "decisions_per_second",
            throughput_of,
            _rate,
            parts=(
                ("", lambda one: None if one is None else one.value),
                ("_low", lambda one: None if one is None else one.low),
                ("_high", lambda one: None if one is None else one.high),
            ),
        ),
        Column(
            "Of one lane",
            "gain",
            lambda row: _gain(result, row),
            forms.numbers(lambda value: f"{text.figures(value)} x"),
        ),
        Column("State or cache", "state_bytes", lambda row: row.agent and row.state_bytes, _bytes),
        Column("Peak memory", "peak_bytes", lambda row: row.agent and row.peak_bytes, _bytes),
        hidden("input_audit", lambda row: row.audit),
        hidden("rows", lambda row: row.rows),
    ]
    rows = sorted(result.spots, key=lambda row: (row.subject, row.context, row.batch))
    whole = Table("", "", columns, rows, "latency_throughput")
    if len(result.batches) < FEWEST_BATCHES:
        return [whole]
    caption = (
        "Decisions a second of all lanes together: lanes over the median time of a decision, with the "
        "interval of that time. Of one lane: over the throughput of one lane at the same context. What did "
        "not fit into memory is named; so is an agent that is faster on inputs that it has seen, which has "
        f"no gain. The simulators' own time comes on top. Peak memory: {peak_words(result)}."
    )
    if padded := rows_words(result):
        caption += f" {padded}"
    return [Table("latency-throughput", caption, columns, rows), whole]


def warning(row: ContextLatency) -> str:
    """Return what warns about a point: an input audit that it failed, or why it was not measured."""
    if row.audit == "failed":
        return "faster on inputs that it has seen"
    return "" if row.outcome == OK else row.outcome


def _gain(result: LatencyResult, row: ContextLatency) -> float | None:
    """Return the throughput over that of one lane; None where one of the two is missing, or failed the
    audit of inputs.
    """
    alone = next(
        (s for s in result.spots if (s.subject, s.context, s.batch) == (row.subject, row.context, 1)), None
    )
    if alone is None or "failed" in (row.audit, alone.audit):
        return None
    mine, one = throughput_of(row), throughput_of(alone)
    return None if mine is None or one is None else mine.value / one.value


@dataclass(frozen=True, slots=True)
class _Ratio:
    crossing: Crossing
    context: int
    ratio: LatencyMedian


def ratios(result: LatencyResult) -> list[Table[Any]]:
    """Return the ratio of the times of two agents at each context, for people and for programs."""

    def name(place: int) -> str:
        return result.subjects[place].name

    programs: list[Column[_Ratio]] = [
        hidden("first", lambda one: name(one.crossing.first)),
        hidden("second", lambda one: name(one.crossing.second)),
        hidden("batch", lambda one: one.crossing.batch),
        hidden("context", lambda one: one.context),
        hidden("ratio", lambda one: one.ratio.value),
        hidden("low", lambda one: one.ratio.low),
        hidden("high", lambda one: one.ratio.high),
    ]
    rows = [
        _Ratio(one, context, ratio)
        for one in result.crossings
        for context, ratio in zip(one.contexts, one.ratios, strict=True)
    ]
    whole = Table("", "", programs, rows, "latency_ratios")
    shown = [one for one in result.crossings if one.kinds_differ]
    if not shown or len(result.contexts) < 2:
        return [whole]
    columns: list[Column[Crossing]] = [
        words("First", "", lambda one: name(one.first)),
        words("Second", "", lambda one: name(one.second)),
        Column("Lanes", "", lambda one: one.batch),
        *(_at(context) for context in result.contexts),
    ]
    caption = (
        "Time of the first agent's step over that of the second at each context, pairs of a Transformer with "
        "another agent: above 1 the second is faster. The median over rounds of processes, and its interval."
    )
    return [Table("latency-ratios", caption, columns, shown), whole]


def _at(context: int) -> Column[Crossing]:
    def of(one: Crossing) -> TableCell:
        found = dict(zip(one.contexts, one.ratios, strict=True)).get(context)
        if found is None:
            return EMPTY
        return TableCell(text.figures(found.value), span(found), value=found.value)

    return Column(str(context), "", of, lambda cell: cell)


def _rate(found: Throughput | None) -> TableCell:
    if found is None:
        return EMPTY
    middle = LatencyMedian(found.value, found.low, found.high, 0.0)
    return TableCell(text.figures(found.value), span(middle), value=found.value)


def _bytes(value: int | None) -> TableCell:
    return EMPTY if not value else TableCell(size(value), value=value)


def span(middle: LatencyMedian) -> str:
    """Return a median's interval, in words."""
    if middle.low is None or middle.high is None:
        return "no interval"
    return f"[{text.figures(middle.low)}, {text.figures(middle.high)}]"


def size(value: int) -> str:
    """Return a number of bytes in the largest unit that it has one of."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= length:
            return f"{value / length:.{0 if value >= 100 * length else 1}f} {unit}"
    return f"{value} B"
