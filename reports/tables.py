"""The tables for programs: CSV files with one row a fact and full precision.

All but ``timing.csv`` follow from the records alone. Empty cells are values that do not exist.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from lram.envs.scores import Normaliser, normalise
from lram.harness.words import visible
from lram.reports.collect import Evidence
from lram.reports.model import Aggregate, Estimate, MeasuredRandom, Summary, rounded

Value = str | int | float | bool | None
Row = dict[str, Value]


def csv_files(summary: Summary, evidence: Evidence) -> dict[str, bytes]:
    """Return the content of every table by file name; those with scores tell the normaliser in each row."""
    made = {name: rows(summary, evidence) for name, rows in TABLES.items()}
    return {
        f"{name}.csv": csv_of(rows if name in _WITHOUT_SCORES else with_normaliser(rows, summary.normaliser))
        for name, rows in made.items()
    }


def with_normaliser(rows: Iterable[Row], normaliser: Normaliser) -> Iterator[Row]:
    """Yield ``rows`` with a last column that says whose references their scores have."""
    for row in rows:
        yield {**row, "normaliser": normaliser}


def per_task(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row an agent and task."""
    tasks = {task.id: task for task in summary.tasks}
    trained = {agent.label: agent.trained for agent in summary.agents}
    for result in summary.results:
        task = tasks[result.task]
        yield {
            "agent": result.agent,
            "trained": trained[result.agent],
            "task": result.task,
            "domain": task.domain,
            "split": task.split,
            "seen_in_training": result.seen,
            "protocol": task.protocol,
            "planned": result.planned,
            "scored": result.scored,
            "errored": result.errored,
            "missing": result.missing,
            "failed_by_agent": result.failed_by_agent,
            "skipped": result.skipped,
            "uncounted": result.uncounted,
            **_estimate("return", result.mean_return),
            **_estimate("score", result.score),
            **_estimate("success_any", result.success_any),
            **_estimate("success_last", result.success_last),
        }


def per_domain(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row an agent, domain and measure."""
    for agent in summary.agents:
        for result in agent.domains:
            for measure, aggregate in (
                ("score", result.score),
                ("success_any", result.success_any),
                ("success_last", result.success_last),
            ):
                if aggregate is not None:
                    head = {"agent": agent.label, "trained": agent.trained, "domain": result.domain}
                    yield {**head, "measure": measure, **_aggregate(aggregate)}


def per_group(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row an agent, group of tasks and measure."""
    for agent in summary.agents:
        for group in agent.groups:
            for measure, aggregate in (("score", group.score), ("success_any", group.success_any)):
                if aggregate is not None:
                    head = {"agent": agent.label, "trained": agent.trained, "domain": group.domain}
                    by = {"facet": group.facet, "group": group.value, "measure": measure}
                    yield {**head, **by, **_aggregate(aggregate)}


def aggregates(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row an agent and aggregate over all tasks."""
    for agent in summary.agents:
        for name, aggregate in (
            ("mean_of_domain_means", agent.mean_of_domains),
            ("iqm_of_task_means", agent.iqm_of_task_means),
        ):
            head = {"agent": agent.label, "trained": agent.trained, "aggregate": name}
            counts = {"planned": agent.planned, "scored": agent.scored, "errored": agent.errored}
            yield {**head, **_aggregate(aggregate), **counts, "missing": agent.missing}


def comparisons(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row a pair of agents."""
    for pair in summary.comparisons:
        yield {
            "first": pair.first,
            "second": pair.second,
            **_estimate("difference", pair.difference),
            "p": pair.p,
            "p_holm": pair.p_holm,
            "limit": pair.limit,
            "reason": pair.reason,
            "tasks": pair.tasks,
            "domains": len(pair.domains),
            "episode_pairs": pair.episodes,
        }


def audit(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row a task: its score reference, where that is from, and what is wrong with it.

    The scores of measured random play are by the task's own references, whatever the normaliser is.
    """
    for task in summary.tasks:
        yield {
            "task": task.id,
            "usable": not task.audit,
            "reason": task.audit,
            "score_kind": task.score_kind,
            "score_random": task.score_random,
            "score_reference": task.score_reference,
            "source": task.score_source,
            "note": task.note,
            **_measured(task.random_play),
        }


def _measured(played: MeasuredRandom | None) -> Row:
    return {
        "measured_random": played.mean if played else None,
        "measured_random_low": played.low if played else None,
        "measured_random_high": played.high if played else None,
        "measured_random_episodes": played.episodes if played else None,
        "measured_random_score": played.score if played else None,
        "measured_random_score_low": played.score_low if played else None,
        "measured_random_score_high": played.score_high if played else None,
    }


def episodes(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row a recorded episode, without anything measured in seconds."""
    for planned in evidence.tasks:
        for agent in evidence.agents:
            cell = evidence.cells.get((agent.label, planned.task.id))
            for (run_seed, _), record in cell.records.items() if cell else ():
                value = record.episode_return
                score = None if value is None else normalise(planned.task, value)
                yield {
                    "agent": record.agent,
                    "task": record.task,
                    "run_seed": run_seed,
                    "episode": record.episode,
                    "seed": record.seed,
                    "protocol": record.protocol,
                    "status": record.status,
                    "return": value,
                    "score": None if score is None else rounded(score),
                    "length": record.length,
                    "success_any": record.success_any,
                    "success_last": record.success_last,
                    "terminated": record.terminated,
                    "truncated": record.truncated,
                    "trajectory": record.trajectory,
                    "failures": record.failures,
                    "failure_kind": record.failure.kind if record.failure else None,
                    "failure_message": record.failure.message if record.failure else None,
                    "failed_by_agent": record.failed_by_agent,
                }


def timing(summary: Summary, evidence: Evidence) -> Iterator[Row]:
    """Yield one row an agent and task with mean times; they depend on the machine and its load."""
    for planned in evidence.tasks:
        for agent in evidence.agents:
            cell = evidence.cells.get((agent.label, planned.task.id))
            if cell is None or not cell.scored:
                continue
            records = list(cell.scored.values())
            decisions = sum(record.length or 0 for record in records)
            agent_s = sum(record.measured.agent_s for record in records)
            yield {
                "agent": agent.label,
                "task": planned.task.id,
                "episodes": len(records),
                "decisions": decisions,
                "wall_s_mean": rounded(float(np.mean([r.measured.wall_s for r in records]))),
                "simulator_s_mean": rounded(float(np.mean([r.measured.simulator_s for r in records]))),
                "agent_s_mean": rounded(agent_s / len(records)),
                "agent_ms_per_decision": rounded(1000 * agent_s / decisions) if decisions else None,
                "incidents": sum(len(record.measured.incidents) for record in cell.records.values()),
            }


TABLES: Mapping[str, Callable[[Summary, Evidence], Iterable[Row]]] = MappingProxyType(
    {
        "per_task": per_task,
        "per_domain": per_domain,
        "per_group": per_group,
        "aggregates": aggregates,
        "comparisons": comparisons,
        "episodes": episodes,
        "audit": audit,
        "timing": timing,
    }
)


_WITHOUT_SCORES = ("timing",)


def _estimate(name: str, estimate: Estimate | None) -> Row:
    interval = estimate.interval if estimate else None
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_interval": interval.method if interval else None,
        f"{name}_doubt": "; ".join(interval.doubts) if interval else None,
    }


def _aggregate(aggregate: Aggregate) -> Row:
    rests_on = aggregate.rests_on
    return {
        **_estimate("value", aggregate.estimate),
        "note": aggregate.estimate.note if aggregate.estimate else "no task has a value",
        "tasks": rests_on.tasks,
        "of_tasks": rests_on.of_tasks,
        "comparable": rests_on.comparable,
        "episodes": rests_on.episodes,
        "domains": len(rests_on.domains),
        "tasks_with_borrowed_noise": rests_on.borrowed_noise,
        "tasks_all_alike": rests_on.alike,
        "left_out": "; ".join(f"{left.task}: {left.reason}" for left in rests_on.left_out),
    }


def _cell(value: Value) -> Value:
    """Return what stands in a cell for ``value``.

    Spreadsheets take a text that begins with one of these signs for a formula, be it behind white space or in
    full width; an apostrophe says that it is text. Numbers stay what they are.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or not value:
        return value
    first, others = visible(value), _NONE
    if ";" in first or "|" in first or "\n" in first or "\t" in first:
        first, *others = _ENDS.split(first)
    if value[0] in "\t\r\n" or value.lstrip()[:1] in _FORMULA:
        first = first if _is_number(value) else f"'{first}"
    return first + "".join(map(_as_text, others)) if others else first


def _as_text(part: str) -> str:
    """Return a part of a cell, an apostrophe before what would be a formula at a cell's beginning."""
    text = part.lstrip(_QUOTES)
    if text[:1] not in _FORMULA or _is_number(text):
        return part
    return f"{part[: len(part) - len(text)]}'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip(";|\t\n"))
    except ValueError:
        return False
    return True


_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20\u2212\ufe63\ufe62\ufe66\ufe6b")
# Where commas are decimal points, spreadsheets end a cell at a semicolon, and others at a tab, a bar or
# the end of a line, be it within quotes or not.
_ENDS = re.compile(r"(?<=[;|\t\n])")
_NONE: list[str] = []
_QUOTES = "'\" \u00a0\u3000"


def csv_of(rows: Iterable[Row]) -> bytes:
    """Return rows as a CSV file, the first one's keys as its head."""
    raw = io.BytesIO()
    # Straight into bytes: the table of episodes may have millions of rows.
    with io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        writer, names = csv.writer(file, lineterminator="\n"), None
        for row in rows:
            if names is None:
                names = list(row)
                writer.writerow(map(_cell, names))
            writer.writerow([_cell(value) for value in map(row.get, names)])
        file.flush()
        return raw.getvalue()
