"""The tables of scores by inner episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lram.reports import forms, text
from lram.reports.evidence.evidence import Evidence, display_name
from lram.reports.model import ALL_EQUAL, Estimate
from lram.reports.sections.inner_episodes.model import (
    Difference,
    InnerEpisodeCurve,
    PartsResult,
    TaskGroup,
    trials_of,
)
from lram.reports.statistics import fewest_pairs
from lram.reports.table import Column, Table, TableCell, hidden, words


def tables(result: PartsResult, evidence: Evidence) -> list[Table[Any]]:
    """Return every table, in the order of the page."""
    apart = [_differences(result, evidence)] if result.differences else []
    return [_gains(result), *apart, _curves(result), _trials(evidence)]


def _estimate(estimate: Estimate) -> TableCell:
    return TableCell(forms.two(estimate.value), text.span(estimate, forms.two), value=estimate.value)


_number = forms.numbers(forms.two)


def _gains(result: PartsResult) -> Table[InnerEpisodeCurve]:
    def group(curve: InnerEpisodeCurve) -> TaskGroup:
        return result.groups[curve.group]

    columns: list[Column[InnerEpisodeCurve]] = [
        hidden("agent", lambda curve: curve.agent),
        words("Tasks of", "group", lambda curve: group(curve).name),
        words("Agent", "", lambda curve: curve.name),
        hidden("protocol", lambda curve: group(curve).protocol),
        Column("Tasks", "tasks", lambda curve: curve.tasks),
        Column("Trials", "trials", lambda curve: curve.trials),
        Column("First", "", lambda curve: curve.parts[0], _estimate),
        Column("Last", "", lambda curve: curve.parts[-1], _estimate),
        Column("Gain", "gain", lambda curve: curve.gain, _estimate, parts=forms.ENDS),
        hidden("gain_p", lambda curve: curve.gain_p),
        Column("p, Holm", "gain_p_holm", lambda curve: curve.gain_p_holm, forms.p_values),
        Column("Mean", "mean", lambda curve: curve.whole, _estimate, parts=forms.ENDS),
        Column("Random", "random", lambda curve: group(curve).random, _number),
        Column("Reference", "reference", lambda curve: group(curve).reference, _number),
    ]
    caption = (
        f"Mean return of the first and the last inner episode, with {result.level:.0%} intervals over tasks; "
        "the gain is the last minus the first, its p by sign flips of the tasks' gains and corrected for all "
        "gains of the table. Random and reference: what the tasks' references earn in one "
        "inner episode (Dark-Room: uniform actions, and shortest paths by one that knows the goal)."
    )
    return Table("parts-gains", caption, columns, result.curves, "parts_gains")


def _differences(result: PartsResult, evidence: Evidence) -> Table[Difference]:
    names = {agent.label: display_name(agent) for agent in evidence.agents}
    columns: list[Column[Difference]] = [
        words("Tasks of", "", lambda one: result.groups[one.group].name),
        words("Model", "", lambda one: names[one.first]),
        words("against", "", lambda one: names[one.second]),
        Column("Tasks", "", lambda one: one.tasks),
        Column("Trials", "", lambda one: one.trials),
        Column("All", "", lambda one: one.whole, _estimate),
        Column("Last", "", lambda one: one.last, _estimate),
        Column("p, Holm", "", lambda one: one.p_holm, forms.p_values),
        words("Verdict", "", lambda one: _verdict(one, result.level)),
    ]
    caption = (
        "Difference of the mean return of an inner episode (model minus the other), over all inner episodes "
        f"and in the last one, on the same trials, with {result.level:.0%} intervals over tasks. p and "
        "verdict are on all inner episodes, by sign flips of the tasks' differences and corrected for all "
        f"differences of the table; fewer than {fewest_pairs(result.level)} tasks (of one task: trials) "
        "cannot tell. They compare two checkpoints; another training seed may turn them round."
    )
    return Table("parts-differences", caption, columns, result.differences)


def _verdict(one: Difference, level: float) -> str:
    if one.whole.note == ALL_EQUAL and one.whole.value == 0:
        return "no difference seen"
    if one.p_holm is None or one.p_holm >= 1 - level:
        return "cannot tell"
    return "better" if one.whole.value > 0 else "worse"


@dataclass(frozen=True, slots=True)
class _Part:
    """One inner episode of a curve, counted from 1."""

    curve: InnerEpisodeCurve
    place: int
    estimate: Estimate


def _curves(result: PartsResult) -> Table[_Part]:
    """Return one row an agent, group and inner episode, for programs."""

    def of_group(of: Callable[[TaskGroup], str]) -> Callable[[_Part], str]:
        return lambda part: of(result.groups[part.curve.group])

    columns: list[Column[_Part]] = [
        hidden("agent", lambda part: part.curve.agent),
        hidden("group", of_group(lambda group: group.name)),
        hidden("protocol", of_group(lambda group: group.protocol)),
        hidden("tasks", lambda part: part.curve.tasks),
        hidden("trials", lambda part: part.curve.trials),
        hidden("part", lambda part: part.place),
        hidden("return", lambda part: part.estimate, forms.ENDS),
    ]
    rows = [
        _Part(curve, place, estimate)
        for curve in result.curves
        for place, estimate in enumerate(curve.parts, start=1)
    ]
    return Table("", "", columns, rows, "parts_curves")


def _trials(evidence: Evidence) -> Table[tuple[str, str, int, int, int, float]]:
    """Return one row an inner episode that was played, for programs."""

    def rows() -> Iterator[tuple[str, str, int, int, int, float]]:
        for planned in evidence.tasks:
            for agent in evidence.agents:
                found = trials_of(evidence, agent.label, planned.task)
                for (run_seed, episode), parts in found.items():
                    for place, earned in enumerate(parts, start=1):
                        yield agent.label, planned.task.id, run_seed, episode, place, earned

    columns: list[Column[tuple[str, str, int, int, int, float]]] = [
        hidden("agent", lambda row: row[0]),
        hidden("task", lambda row: row[1]),
        hidden("run_seed", lambda row: row[2]),
        hidden("episode", lambda row: row[3]),
        hidden("part", lambda row: row[4]),
        hidden("return", lambda row: row[5]),
    ]
    return Table("", "", columns, rows(), "parts_trials")
