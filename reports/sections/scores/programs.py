"""The tables of an evaluation that only programs read: one row a fact, full precision.

All but ``timing.csv`` follow from the records alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lram.envs.scores import normalise
from lram.envs.task import Task
from lram.harness.storage.records import EpisodeRecord
from lram.reports import forms
from lram.reports.evidence.evidence import Evidence, TaskEpisodes
from lram.reports.model import AgentResult, Aggregate, GroupResult, Summary, TaskEntry, rounded
from lram.reports.sections.scores.comparisons import comparisons, pair_aggregates
from lram.reports.sections.scores.tables import per_task
from lram.reports.table import Column, Part, Table, hidden, normaliser_column

NAMES = (
    "per_task",
    "per_domain",
    "per_group",
    "aggregates",
    "comparisons",
    "pair_aggregates",
    "episodes",
    "audit",
    "timing",
)
"""Of all these tables' files, without their ending."""


def tables(summary: Summary, evidence: Evidence) -> list[Table[Any]]:
    """Return every table of an evaluation that programs read."""
    return [
        per_task(summary),
        per_domain(summary),
        per_group(summary),
        aggregates(summary),
        comparisons(summary),
        pair_aggregates(summary),
        episodes(summary, evidence),
        audit(summary),
        timing(evidence),
    ]


def _of_rest(of: str) -> Part:
    return of, lambda rests_on: getattr(rests_on, of)


_REST: tuple[Part, ...] = (
    _of_rest("tasks"),
    _of_rest("of_tasks"),
    _of_rest("comparable"),
    _of_rest("episodes"),
    ("domains", lambda rests_on: len(rests_on.domains)),
    ("tasks_with_borrowed_noise", lambda rests_on: rests_on.borrowed_noise),
    ("tasks_all_alike", lambda rests_on: rests_on.alike),
    ("left_out", lambda rests_on: "; ".join(f"{left.task}: {left.reason}" for left in rests_on.left_out)),
)


@dataclass(frozen=True, slots=True)
class _Measured:
    """An agent's aggregate of one measure, of a domain, a group or everything."""

    agent: AgentResult
    measure: str
    aggregate: Aggregate
    domain: str = ""
    group: GroupResult | None = None


def _head() -> list[Column[_Measured]]:
    return [
        hidden("agent", lambda row: row.agent.label),
        hidden("trained", lambda row: row.agent.trained),
    ]


def _values() -> list[Column[_Measured]]:
    def note(row: _Measured) -> str:
        return row.aggregate.estimate.note if row.aggregate.estimate else "no task has a value"

    def part(key: str, of: Any) -> Column[_Measured]:
        return hidden(key, lambda row: of(row.aggregate.rests_on))

    return [
        hidden("value", lambda row: row.aggregate.estimate, forms.INTERVAL),
        hidden("note", note),
        *(part(key, of) for key, of in _REST),
    ]


def per_domain(summary: Summary) -> Table[_Measured]:
    """Return one row an agent, domain and measure."""

    def rows() -> Iterator[_Measured]:
        for agent in summary.agents:
            for result in agent.domains:
                for measure, aggregate in (
                    ("score", result.score),
                    ("success_any", result.success_any),
                    ("success_last", result.success_last),
                ):
                    if aggregate is not None:
                        yield _Measured(agent, measure, aggregate, result.domain)

    columns: list[Column[_Measured]] = [
        *_head(),
        hidden("domain", lambda row: row.domain),
        hidden("measure", lambda row: row.measure),
        *_values(),
        normaliser_column(summary.normaliser),
    ]
    return Table("", "", columns, rows(), "per_domain")


def per_group(summary: Summary) -> Table[_Measured]:
    """Return one row an agent, group of tasks and measure."""

    def rows() -> Iterator[_Measured]:
        for agent in summary.agents:
            for group in agent.groups:
                for measure, aggregate in (("score", group.score), ("success_any", group.success_any)):
                    if aggregate is not None:
                        yield _Measured(agent, measure, aggregate, group.domain, group)

    columns: list[Column[_Measured]] = [
        *_head(),
        hidden("domain", lambda row: row.domain),
        hidden("facet", lambda row: row.group.facet if row.group else None),
        hidden("group", lambda row: row.group.value if row.group else None),
        hidden("measure", lambda row: row.measure),
        *_values(),
        normaliser_column(summary.normaliser),
    ]
    return Table("", "", columns, rows(), "per_group")


def aggregates(summary: Summary) -> Table[_Measured]:
    """Return one row an agent and aggregate over all tasks."""

    def rows() -> Iterator[_Measured]:
        for agent in summary.agents:
            for key, aggregate in agent.aggregates.items():
                yield _Measured(agent, key, aggregate)

    columns: list[Column[_Measured]] = [
        *_head(),
        hidden("aggregate", lambda row: row.measure),
        *_values(),
        hidden("planned", lambda row: row.agent.planned),
        hidden("scored", lambda row: row.agent.scored),
        hidden("errored", lambda row: row.agent.errored),
        hidden("missing", lambda row: row.agent.missing),
        normaliser_column(summary.normaliser),
    ]
    return Table("", "", columns, rows(), "aggregates")


def audit(summary: Summary) -> Table[TaskEntry]:
    """Return one row a task: its score reference, where that is from, and what is wrong with it.

    The scores of measured random play are by the task's own references, whatever the normaliser is.
    """

    def measured(end: str, of: str) -> Column[TaskEntry]:
        return hidden(
            f"measured_random{end}",
            lambda task: getattr(task.random_play, of) if task.random_play else None,
        )

    columns: list[Column[TaskEntry]] = [
        hidden("task", lambda task: task.id),
        hidden("usable", lambda task: not task.audit),
        hidden("reason", lambda task: task.audit),
        hidden("score_kind", lambda task: task.score_kind),
        hidden("score_random", lambda task: task.score_random),
        hidden("score_reference", lambda task: task.score_reference),
        hidden("source", lambda task: task.score_source),
        hidden("note", lambda task: task.note),
        measured("", "mean"),
        measured("_low", "low"),
        measured("_high", "high"),
        measured("_episodes", "episodes"),
        measured("_score", "score"),
        measured("_score_low", "score_low"),
        measured("_score_high", "score_high"),
        normaliser_column(summary.normaliser),
    ]
    return Table("", "", columns, summary.tasks, "audit")


@dataclass(frozen=True, slots=True)
class _Episode:
    run_seed: int
    task: Task
    record: EpisodeRecord

    @property
    def score(self) -> float | None:
        value = self.record.episode_return
        score = None if value is None else normalise(self.task, value)
        return None if score is None else rounded(score)


def episodes(summary: Summary, evidence: Evidence) -> Table[_Episode]:
    """Return one row a recorded episode, without anything measured in seconds."""

    def rows() -> Iterator[_Episode]:
        for planned in evidence.tasks:
            for agent in evidence.agents:
                found = evidence.cells.get((agent.label, planned.task.id))
                for (run_seed, _), record in found.records.items() if found else ():
                    yield _Episode(run_seed, planned.task, record)

    columns: list[Column[_Episode]] = [
        hidden("agent", lambda one: one.record.agent),
        hidden("task", lambda one: one.record.task),
        hidden("run_seed", lambda one: one.run_seed),
        hidden("episode", lambda one: one.record.episode),
        hidden("seed", lambda one: one.record.seed),
        hidden("protocol", lambda one: one.record.protocol),
        hidden("status", lambda one: one.record.status),
        hidden("return", lambda one: one.record.episode_return),
        hidden("score", lambda one: one.score),
        hidden("length", lambda one: one.record.length),
        hidden("success_any", lambda one: one.record.success_any),
        hidden("success_last", lambda one: one.record.success_last),
        hidden("terminated", lambda one: one.record.terminated),
        hidden("truncated", lambda one: one.record.truncated),
        hidden("trajectory", lambda one: one.record.trajectory),
        hidden("failures", lambda one: one.record.failures),
        hidden("failure_kind", lambda one: one.record.failure.kind if one.record.failure else None),
        hidden("failure_message", lambda one: one.record.failure.message if one.record.failure else None),
        hidden("failed_by_agent", lambda one: one.record.failed_by_agent),
        normaliser_column(summary.normaliser),
    ]
    return Table("", "", columns, rows(), "episodes")


@dataclass(frozen=True, slots=True)
class _Timed:
    """The scored episodes of an agent on a task, of which one at least is there."""

    agent: str
    task: str
    found: TaskEpisodes

    @property
    def records(self) -> list[EpisodeRecord]:
        return list(self.found.scored.values())

    @property
    def decisions(self) -> int:
        return sum(record.length or 0 for record in self.records)

    @property
    def agent_s(self) -> float:
        return sum(record.measured.agent_s for record in self.records)


def timing(evidence: Evidence) -> Table[_Timed]:
    """Return one row an agent and task with mean times; they depend on the machine and its load."""

    def rows() -> Iterator[_Timed]:
        for planned in evidence.tasks:
            for agent in evidence.agents:
                found = evidence.cells.get((agent.label, planned.task.id))
                if found is not None and found.scored:
                    yield _Timed(agent.label, planned.task.id, found)

    columns: list[Column[_Timed]] = [
        hidden("agent", lambda row: row.agent),
        hidden("task", lambda row: row.task),
        hidden("episodes", lambda row: len(row.records)),
        hidden("decisions", lambda row: row.decisions),
        hidden("wall_s_mean", lambda row: rounded(float(np.mean([r.measured.wall_s for r in row.records])))),
        hidden(
            "simulator_s_mean",
            lambda row: rounded(float(np.mean([r.measured.simulator_s for r in row.records]))),
        ),
        hidden("agent_s_mean", lambda row: rounded(row.agent_s / len(row.records))),
        hidden(
            "agent_ms_per_decision",
            lambda row: rounded(1000 * row.agent_s / row.decisions) if row.decisions else None,
        ),
        hidden(
            "incidents",
            lambda row: sum(len(record.measured.incidents) for record in row.found.records.values()),
        ),
    ]
    return Table("", "", columns, rows(), "timing")
