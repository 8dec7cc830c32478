"""The tables of latencies: times, crossovers, control rates, fairness, audits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lram.harness.latency.folder import LatencyRun
from lram.reports import forms, text
from lram.reports.sections.latency.analysis import ENOUGH, FEWEST, RATES
from lram.reports.sections.latency.audits import audits, fairness, processes
from lram.reports.sections.latency.model import (
    Clock,
    ContextLatency,
    Crossing,
    Fit,
    LatencyResult,
    MeasuredAgent,
)
from lram.reports.sections.latency.readiness import LEVEL, SHARE, decisions_needed, processes_like_these
from lram.reports.sections.latency.throughput import ratios, size, span, throughput, warning
from lram.reports.sections.latency.wording import lanes_cell, peak_words, rows_words
from lram.reports.table import EMPTY, Column, Part, Table, TableCell, hidden, words

_KEY = "latency"


def tables(runs: Sequence[LatencyRun], result: LatencyResult) -> list[Table[Any]]:
    """Return every table, in the order of the page."""
    return [
        curves(result),
        *throughput(result),
        *crossovers(result),
        *ratios(result),
        *rates(result),
        fairness(result),
        audits(result),
        processes(runs),
    ]


def _part(end: str, of: Callable[[Clock], float | None]) -> Part:
    return end, lambda clock: None if clock is None else of(clock)


_CLOCK: tuple[Part, ...] = (
    _part("_ms", lambda clock: clock.median.value),
    _part("_ms_low", lambda clock: clock.median.low),
    _part("_ms_high", lambda clock: clock.median.high),
    _part("_p90_ms", lambda clock: clock.p90),
    _part("_p99_ms", lambda clock: clock.p99),
    _part("_decisions", lambda clock: clock.decisions),
    _part("_processes", lambda clock: clock.processes),
)
"""A clock for programs; its name begins the keys."""


def curves(result: LatencyResult) -> Table[ContextLatency]:
    """Return the times and the memory of every agent, batch and context."""

    def of(row: ContextLatency) -> MeasuredAgent:
        return result.subjects[row.subject]

    def measured(value: Callable[[ContextLatency], int]) -> Callable[[ContextLatency], int | None]:
        return lambda row: None if row.agent is None else value(row)

    def percentile(clock: Callable[[Clock], float | None]) -> Callable[[ContextLatency], float | None]:
        return lambda row: None if row.agent is None else clock(row.agent)

    figures, bytes_ = forms.numbers(text.figures), forms.numbers(lambda value: size(int(value)))
    columns: list[Column[ContextLatency]] = [
        Column("Agent", "", lambda row: of(row).name, flag=warning, numeric=False),
        hidden("agent", lambda row: of(row).label),
        hidden("step", lambda row: of(row).step),
        hidden("form", lambda row: of(row).facts.get("form")),
        hidden("folder", lambda row: of(row).folder),
        Column("Lanes", "", lambda row: row, lanes_cell),
        hidden("batch", lambda row: row.batch),
        Column("Context", "context", lambda row: row.context),
        hidden("outcome", lambda row: row.outcome),
        hidden("input_audit", lambda row: row.audit),
        hidden("repeated_over_distinct", lambda row: None if row.repeated is None else row.repeated.value),
        hidden("distinct_inputs", lambda row: of(row).distinct),
        hidden("held", lambda row: row.held),
        hidden("state_bytes", lambda row: row.state_bytes),
        hidden("peak_bytes", lambda row: row.peak_bytes),
        Column("Decisions", "", lambda row: row.agent, _decisions),
        Column("Agent step, ms", "agent", lambda row: row.agent, _median, parts=_CLOCK),
        Column("p90", "", percentile(lambda clock: clock.p90), figures),
        Column("p99", "", percentile(lambda clock: clock.p99), figures),
        Column("Model step, ms", "model", lambda row: row.model, _median, parts=_CLOCK),
        Column("Loop, ms", "loop", lambda row: row.loop, _median, parts=_CLOCK),
        Column("State or cache", "", measured(lambda row: row.state_bytes), bytes_),
        Column("Peak memory", "", measured(lambda row: row.peak_bytes), bytes_),
    ]
    caption = (
        "Time of one decision of all lanes: median over processes of the process medians, and its interval; "
        f"p90 and p99 of the decisions of all processes, of which each weighs the same, given from "
        f"{ENOUGH[0.9]} and {ENOUGH[0.99]} decisions on (more where processes made very unequal numbers). "
        f"State or cache: what all lanes keep between decisions. Peak memory: {peak_words(result)}."
    )
    if any(row.energy_mj is not None for row in result.spots):
        columns.append(
            Column("Energy, mJ", "energy_mj", lambda row: row.energy_mj, forms.numbers(text.figures))
        )
        caption += (
            " Energy: what the whole GPU took while decisions were timed, idle power included, over the "
            "number of decisions of all lanes (NVML's counter; median over processes)."
        )
    columns.append(hidden("rows", lambda row: row.rows))
    if padded := rows_words(result):
        caption += f" {padded}"
    return Table(f"{_KEY}-curves", caption, columns, result.spots, "latency_points")


def _decisions(clock: Clock | None) -> TableCell:
    if clock is None:
        return EMPTY
    return TableCell(str(clock.decisions), f"{clock.processes} proc.", value=clock.decisions)


def _spaced(contexts: Sequence[int]) -> str:
    return " ".join(map(str, contexts))


def crossovers(result: LatencyResult) -> list[Table[Crossing]]:
    """Return where one agent becomes faster than another, for people and for programs; people see pairs of an
    agent that keeps the tokens it has read with one that does not, where there are any.
    """

    def name(place: int) -> str:
        return result.subjects[place].name

    columns: list[Column[Crossing]] = [
        words("First", "first", lambda one: name(one.first)),
        words("Second", "second", lambda one: name(one.second)),
        Column("Lanes", "batch", lambda one: one.batch),
        Column("First faster from", "", lambda one: one, _crossing),
        hidden("where", lambda one: "cannot tell" if one.at is None else one.at.where),
        hidden("context", lambda one: None if one.at is None else one.at.context),
        Column("Interval", "", lambda one: one.interval_text),
        hidden("low", lambda one: None if one.low is None else str(one.low)),
        hidden("high", lambda one: None if one.high is None else str(one.high)),
        Column("First faster at", "", lambda one: one.first_faster, _contexts),
        Column("Second faster at", "", lambda one: one.second_faster, _contexts),
        Column("Cannot tell at", "", lambda one: one.unclear, _contexts),
        hidden("first_faster_at", lambda one: _spaced(one.first_faster)),
        hidden("second_faster_at", lambda one: _spaced(one.second_faster)),
        hidden("cannot_tell_at", lambda one: _spaced(one.unclear)),
        hidden("without", lambda one: _spaced(one.left_out)),
    ]
    whole = Table("", "", columns, result.crossings, "latency_crossovers")
    shown = [one for one in result.crossings if one.kinds_differ] or list(result.crossings)
    if not shown:
        return [whole]
    caption = (
        "The context from which on the first agent's step takes less time than the second's, up to the "
        "longest measured; times between two contexts are taken to lie on a line. The first is the one "
        "whose time grows less. 'Faster at': contexts at which the interval of the ratio leaves out 1; "
        f"with fewer than {FEWEST} processes neither these nor the crossover are given. It is the median of "
        "the crossovers of each round of processes, and stands with the interval of that median."
    )
    if any(one.left_out for one in shown):
        caption += (
            f" Without: contexts at which fewer than {FEWEST} rounds measured both agents (memory ran out, "
            "or a decision took too long to be measured again); the crossover is that of the other contexts."
        )
    if len(shown) < len(result.crossings):
        caption += (
            f" Pairs of a Transformer with another agent; latency_crossovers.csv has all "
            f"{len(result.crossings)}."
        )
    return [Table(f"{_KEY}-crossovers", caption, columns, shown), whole]


def _crossing(one: Crossing) -> TableCell:
    small = f"without {_contexts(one.left_out)}" if one.left_out else ""
    return TableCell(one.text, small, value=None if one.at is None else one.at.context)


@dataclass(frozen=True, slots=True)
class _Rates:
    """What a subject with one batch holds, by control rate."""

    subject: int
    batch: int
    fits: tuple[Fit, ...]


def rates(result: LatencyResult) -> list[Table[Any]]:
    """Return which control rates each agent holds, for people and for programs."""

    def name(subject: int) -> str:
        return result.subjects[subject].name

    programs: list[Column[Fit]] = [
        hidden("agent", lambda fit: name(fit.subject)),
        hidden("batch", lambda fit: fit.batch),
        hidden("hz", lambda fit: fit.hz),
        hidden("fits_at", lambda fit: _spaced(fit.fits)),
        hidden("late_at", lambda fit: _spaced(fit.misses)),
        hidden("unknown_at", lambda fit: _spaced(fit.unknown)),
    ]
    whole = Table("", "", programs, result.fits, "latency_rates")
    if not result.fits:
        return [whole]
    by_row: dict[tuple[int, int], list[Fit]] = {}
    for fit in result.fits:
        by_row.setdefault((fit.subject, fit.batch), []).append(fit)
    processes = {(s.subject, s.batch, s.context): s.agent.processes for s in result.spots if s.agent}
    planned = Counter((spot.subject, spot.batch) for spot in result.spots)

    def at(place: int) -> Callable[[_Rates], tuple[Fit, int]]:
        return lambda row: (row.fits[place], planned[row.subject, row.batch])

    columns: list[Column[_Rates]] = [
        words("Agent", "", lambda row: name(row.subject)),
        words("Lanes", "", lambda row: row.batch, forms.whole),
        *(words(f"{hz} Hz ({1000 / hz:g} ms)", "", at(place), _fit) for place, hz in enumerate(RATES)),
    ]
    caption = (
        "Contexts at which 99 of 100 decisions are ready within the period of a control rate: where the "
        f"exact one-sided {LEVEL:.0%} bound of the share of late ones is at most {1 - SHARE:.0%}; late: "
        f"where even the lower bound is above it. That takes {decisions_needed()} decisions without a late "
        "one, more with any; otherwise it cannot be decided. Late decisions that come together in some "
        "processes count for fewer. The bounds are for processes like those measured"
    )
    fewest = min(processes.values(), default=0)
    if fewest:
        caption += (
            f" (where all {fewest} are in time, {processes_like_these(fewest):.0%} and more of all processes "
            f"are, with {LEVEL:.0%} confidence)"
        )
    caption += (
        ", and not corrected for the number of contexts and rates. A context where nothing was measured is "
        "not listed. The simulator's own time, sensors and actuators come on top."
    )
    rows = [_Rates(subject, batch, tuple(fits)) for (subject, batch), fits in by_row.items()]
    return [Table(f"{_KEY}-rates", caption, columns, rows), whole]


def _median(clock: Clock | None) -> TableCell:
    if clock is None:
        return EMPTY
    return TableCell(text.figures(clock.median.value), span(clock.median), value=clock.median.value)


def _contexts(contexts: Sequence[int]) -> str:
    return ", ".join(map(str, contexts)) or text.NONE


def _fit(found: tuple[Fit, int]) -> TableCell:
    fit, planned = found
    if len(fit.fits) == planned:
        return TableCell("all", value=max(fit.fits))
    unknown = "cannot tell at " if fit.fits or fit.misses else "at "  # the cell itself says the rest
    parts = [("late at ", fit.misses), (unknown, fit.unknown)] if fit.fits or fit.unknown else []
    small = "; ".join(words + ", ".join(map(str, contexts)) for words, contexts in parts if contexts)
    return TableCell(
        ", ".join(map(str, fit.fits)) or ("cannot tell" if fit.unknown else "none"),
        small,
        value=max(fit.fits, default=0),
    )
