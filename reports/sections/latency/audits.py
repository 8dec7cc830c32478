"""The tables of what the times of latencies rest on: fairness, audits, single processes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import LatencyPoint
from lram.reports import forms, text
from lram.reports.sections.latency.model import (
    Clock,
    ContextLatency,
    LatencyMedian,
    LatencyResult,
    MeasuredAgent,
)
from lram.reports.table import EMPTY, Column, Part, Table, TableCell, hidden, words

_KEY = "latency"


def fairness(result: LatencyResult) -> Table[MeasuredAgent]:
    """Return what every agent reads and how it is computed."""

    def fact(heading: str, name: str, without: str = text.NONE) -> Column[MeasuredAgent]:
        return words(heading, "", lambda one: one.facts.get(name, without))

    columns: list[Column[MeasuredAgent]] = [
        words(
            "Agent",
            "",
            lambda one: one,
            lambda one: TableCell(one.name, one.spec if one.spec != one.label else ""),
        ),
        words("Parameters", "", lambda one: one.parameters, forms.parameters),
        words("Weights", "", lambda one: one, _weights),
        words("Tokens a decision", "", lambda one: one, _tokens),
        fact("Passes", "passes"),
        fact("Precision", "precision"),
        fact("Keeps", "past", "not known: a black box"),
        fact("Attention", "attention"),
        fact("Step", "step"),
    ]
    caption = (
        "What a decision is made of, for each lane. A full cache and a ring attend to every key and value "
        "that they keep; a window that is read anew passes all of its tokens through all layers at every "
        "decision, as the reference implementation does by default."
    )
    return Table(f"{_KEY}-fairness", caption, columns, result.subjects)


def _weights(one: MeasuredAgent) -> TableCell:
    weights = "untrained" if one.trained is False else "trained" if one.trained else text.NONE
    return TableCell(weights, one.digest[:12])


def _tokens(one: MeasuredAgent) -> TableCell:
    if one.facts.get("cache") == "recompute":
        return TableCell(one.facts["tokens"], "and the window anew")
    return TableCell(one.facts.get("tokens", text.NONE))


@dataclass(frozen=True, slots=True)
class _Audited:
    """A subject with one batch, at all contexts where it was measured."""

    name: str
    batch: int
    contexts: tuple[ContextLatency, ...]

    @property
    def clocks(self) -> list[Clock]:
        return [row.agent for row in self.contexts if row.agent]

    @property
    def warm(self) -> str:
        return f"{sum(row.warm for row in self.contexts)} of {sum(clock.processes for clock in self.clocks)}"

    @property
    def repeated(self) -> LatencyMedian | None:
        ratios = (row.repeated for row in self.contexts if row.repeated)
        return min(ratios, key=lambda found: found.value, default=None)

    @property
    def marked(self) -> str:
        marked = sum(row.audit == "failed" for row in self.contexts)
        return f"{marked} of {len(self.contexts)} contexts marked" if marked else ""

    @property
    def agree(self) -> str:
        verdicts = [row.agree for row in self.contexts if row.agree is not None]
        return text.NONE if not verdicts else "yes" if all(verdicts) else "no"

    @property
    def load(self) -> float | None:
        loads = [row.other_cores for row in self.contexts if row.other_cores is not None]
        return max(loads, default=None)


def audits(result: LatencyResult) -> Table[_Audited]:
    """Return what speaks for or against the times: stability, equal actions, repeated inputs, load."""
    rows = []
    for place, one in enumerate(result.subjects):
        for batch in result.batches:
            mine = tuple(s for s in result.spots if (s.subject, s.batch) == (place, batch) and s.agent)
            if mine:
                rows.append(_Audited(one.name, batch, mine))

    def audited(row: _Audited) -> TableCell:
        number = sum(spot.repeated is not None for spot in row.contexts)
        return TableCell(f"{number} of {len(row.contexts)}", value=number)

    columns: list[Column[_Audited]] = [
        words("Agent", "", lambda row: row.name),
        Column("Lanes", "", lambda row: row.batch),
        Column("Processes warm", "", lambda row: row.warm),
        Column(
            "Largest / smallest median",
            "",
            lambda row: max(clock.spread for clock in row.clocks),
            forms.numbers(forms.two),
        ),
        Column("Repeated / distinct inputs", "", lambda row: row.repeated, _ratio, lambda row: row.marked),
        Column("Contexts with that audit", "", lambda row: row, audited),
        Column("Same first actions", "", lambda row: row.agree),
        Column("Others' load, cores", "", lambda row: row.load, forms.numbers(forms.two)),
    ]
    caption = (
        "Processes warm: of all contexts' processes, those whose last three warm-up decisions were within a "
        "tenth of each other. Largest / smallest median: of the processes at one context, the worst context. "
        "Repeated inputs: decisions on one and the same observation against others on new ones, made in "
        "turns, at the context where the ratio is least; 1 is no difference. A context at which an agent "
        "decides faster on what it has seen is marked, and enters no crossover, no control rate and no "
        "figure of times. Same first actions: all processes gave the same first actions at every "
        "context. Load: cores that other processes kept busy, at the worst context."
    )
    return Table(f"{_KEY}-audits", caption, columns, rows)


@dataclass(frozen=True, slots=True)
class _Process:
    """What one process measured at one context."""

    folder: int
    point: LatencyPoint


def processes(runs: Sequence[LatencyRun]) -> Table[_Process]:
    """Return one row a process and context, for programs."""

    def rows() -> Iterator[_Process]:
        for folder, run in enumerate(runs):
            for point in run.points():
                yield _Process(folder, point)

    parts: tuple[Part, ...] = (
        ("_decisions", len),
        ("_least_ms", lambda taken: min(taken) / 1e6 if taken else None),
        ("_median_ms", lambda taken: statistics.median(taken) / 1e6 if taken else None),
        ("_most_ms", lambda taken: max(taken) / 1e6 if taken else None),
    )
    columns: list[Column[_Process]] = [
        hidden("folder", lambda row: row.folder),
        hidden("agent", lambda row: row.point.job.agent),
        hidden("step", lambda row: row.point.job.step),
        hidden("batch", lambda row: row.point.job.batch),
        hidden("process", lambda row: row.point.job.repeat),
        hidden("context", lambda row: row.point.context),
        hidden("outcome", lambda row: row.point.outcome),
        hidden("read", lambda row: row.point.read),
        hidden("warm", lambda row: row.point.warm),
        hidden("other_cores", lambda row: None if row.point.load is None else row.point.load.other_cores),
        hidden("agent", lambda row: row.point.agent_ns, parts),
        hidden("model", lambda row: row.point.model_ns, parts),
        hidden("loop", lambda row: row.point.loop_ns, parts),
    ]
    return Table("", "", columns, rows(), "latency_processes")


def _ratio(middle: LatencyMedian | None) -> TableCell:
    if middle is None:
        return EMPTY
    span = "" if middle.low is None or middle.high is None else f"[{middle.low:.2f}, {middle.high:.2f}]"
    return TableCell(text.number(middle.value, 2), span, value=middle.value)
