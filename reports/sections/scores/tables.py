"""The tables of an evaluation over agents, domains and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lram.reports import forms, literature, text
from lram.reports.aggregates import HEADLINE, AggregateMetric, aggregate_metrics
from lram.reports.model import (
    AgentResult,
    Aggregate,
    DomainResult,
    Summary,
    TaskEntry,
    TaskResult,
)
from lram.reports.sections.scores import published
from lram.reports.table import EMPTY, Column, Table, TableCell, hidden, normaliser_column, words

WIDE = 12
"""Up to so many agents a table may have a column for each."""

ERRORS_SHOWN = 10
"""Distinct failure messages that the report prints; the others are counted."""


def headline(summary: Summary) -> Table[AgentResult]:
    """Return the aggregates of every agent, and what they rest on."""
    metrics = aggregate_metrics()

    def of(metric: AggregateMetric) -> Callable[[AgentResult], Aggregate]:
        return lambda agent: agent.aggregates[metric.key]

    columns: list[Column[AgentResult]] = [
        words("Agent", "", lambda agent: agent.name),
        *(Column(metric.title, "", of(metric), forms.scores) for metric in metrics),
        Column("Tasks", "", lambda agent: _reach(agent.mean_of_domain_means), _of),
        Column("Episodes", "", lambda agent: agent.mean_of_domain_means.rests_on.episodes),
    ]
    caption = (
        f"Normalised scores with {summary.level:.0%} intervals of the episode noise. The interquartile "
        "mean is over task means, so it is not rliable's (over episodes); it and the median have no "
        "interval: noise moves them themselves, by an amount that few episodes do not tell. Tasks and "
        "episodes are what all aggregates rest on."
    ) + text.score_words(summary.normaliser)
    return Table("headline", caption, columns, summary.agents)


def counts(summary: Summary) -> Table[AgentResult]:
    """Return what became of the planned episodes of every agent."""
    columns: list[Column[AgentResult]] = [
        words("Agent", "", lambda agent: agent.name),
        Column("Scored", "", lambda agent: agent.scored),
        Column("Errored", "", lambda agent: agent.errored),
        Column("Missing", "", lambda agent: agent.missing),
        Column("Tasks not playable", "", lambda agent: agent.skipped),
        Column("Domains with a score", "", lambda agent: len(agent.mean_of_domain_means.rests_on.domains)),
    ]
    caption = "What became of all planned episodes, and how many tasks an agent cannot play."
    return Table("counts", caption, columns, summary.agents)


def _reach(aggregate: Aggregate) -> tuple[int, int]:
    return aggregate.rests_on.tasks, aggregate.rests_on.of_tasks


def _of(counts: tuple[int, int]) -> TableCell:
    return TableCell(f"{counts[0]} of {counts[1]}", value=counts[0])


@dataclass(frozen=True, slots=True)
class _Failure:
    """Episodes that failed with one message: whose, and how many on each result."""

    message: str
    kind: str
    hits: tuple[tuple[TaskResult, int], ...]

    @property
    def episodes(self) -> int:
        return sum(number for _, number in self.hits)


def errors(summary: Summary) -> Table[_Failure] | None:
    """Return why episodes errored, the most frequent messages first; None where none did."""
    agent_name = {agent.label: agent.name for agent in summary.agents}
    found: dict[tuple[str, str], list[tuple[TaskResult, int]]] = {}
    for result in summary.results:
        for failure in result.failures:
            hits = found.setdefault((failure.message, failure.kind), [])
            hits.append((result, failure.episodes))
    if not found:
        return None
    failures = [_Failure(message, kind, tuple(hits)) for (message, kind), hits in found.items()]
    failures.sort(key=lambda one: (-one.episodes, one.message, one.kind))
    caption = "Why planned episodes ended in an error."
    rest = failures[ERRORS_SHOWN:]
    if rest:
        more = text.count(len(rest), "more message")
        caption += f" Not shown: {more}, {text.count(sum(one.episodes for one in rest), 'episode')}."
    caption += " tables/episodes.csv holds each episode's message."

    def listed(names: Sequence[str]) -> str:
        return text.listing(list(dict.fromkeys(names)), 3)

    columns: list[Column[_Failure]] = [
        words("Message", "", lambda one: text.shortened(one.message) or "no message was recorded"),
        words("Kind", "", lambda one: one.kind, str),
        words("Agent", "", lambda one: listed([agent_name[result.agent] for result, _ in one.hits])),
        words("Task", "", lambda one: listed([result.task for result, _ in one.hits])),
        Column("Episodes", "", lambda one: one.episodes),
    ]
    return Table("errors", caption, columns, failures[:ERRORS_SHOWN])


def domains(summary: Summary) -> Table[AgentResult]:
    """Return the mean score of every agent in every domain."""

    def score(place: int) -> Callable[[AgentResult], Aggregate]:
        return lambda agent: agent.domains[place].score

    caption = f"Mean normalised score over each domain's tasks, with {summary.level:.0%} intervals."
    columns: list[Column[AgentResult]] = [
        words("Agent", "", lambda agent: agent.name),
        *(Column(name, "", score(place), forms.scores) for place, name in enumerate(summary.domains)),
    ]
    return Table("domains", caption + text.score_words(summary.normaliser), columns, summary.agents)


def success(summary: Summary) -> Table[AgentResult] | None:
    """Return the mean success rates; None where no task has that notion."""
    shown = [
        place
        for place, _ in enumerate(summary.domains)
        if any(agent.domains[place].success_any for agent in summary.agents)
    ]
    if not shown:
        return None

    def of(place: int, what: Callable[[DomainResult], object]) -> Callable[[AgentResult], object]:
        return lambda agent: what(agent.domains[place])

    def episodes(result: DomainResult) -> int | None:
        return result.success_any.rests_on.episodes if result.success_any else None

    columns: list[Column[AgentResult]] = [words("Agent", "", lambda agent: agent.name)]
    for place in shown:
        name = summary.domains[place]
        columns += [
            Column(f"{name}, any step", "", of(place, lambda result: result.success_any), forms.rates),
            Column(f"{name}, last step", "", of(place, lambda result: result.success_last), forms.rates),
            Column("Episodes", "", of(place, episodes)),
        ]
    caption = (
        f"Share of episodes solved, in per cent: mean over the domain's tasks, {summary.level:.0%} intervals."
    )
    return Table("success", caption, columns, summary.agents)


_MATRIX = (
    "Mean normalised score; where a task has no usable score reference, the mean return, marked as such."
)


def matrix(summary: Summary) -> Table[TaskEntry] | Table[AgentResult]:
    """Return the score of each agent on each task, or the return where there is none.

    One row a task and one column an agent; where there are many agents, more than tasks, the other way round.
    """
    results = {(r.agent, r.task): r for r in summary.results}
    caption = _MATRIX + text.score_words(summary.normaliser)
    if len(summary.agents) > max(WIDE, len(summary.tasks)):
        return _turned_matrix(summary, results, caption)

    def of(label: str) -> Callable[[TaskEntry], TaskResult | None]:
        return lambda task: results.get((label, task.id))

    columns: list[Column[TaskEntry]] = [
        words("Task", "", lambda task: task.id),
        *(Column(agent.name, "", of(agent.label), _score_or_return) for agent in summary.agents),
    ]
    return Table("scores", caption, columns, summary.tasks)


def _turned_matrix(
    summary: Summary, results: Mapping[tuple[str, str], TaskResult], caption: str
) -> Table[AgentResult]:
    def of(task: str) -> Callable[[AgentResult], TaskResult | None]:
        return lambda agent: results.get((agent.label, task))

    columns: list[Column[AgentResult]] = [
        words("Agent", "", lambda agent: agent.name),
        *(Column(task.id, "", of(task.id), _score_or_return) for task in summary.tasks),
    ]
    return Table("scores", caption, columns, summary.agents)


_UNCOUNTED = "not comparable: failed by its own errors"
_score = forms.estimates(forms.two)


def _score_or_return(result: TaskResult | None) -> TableCell | str:
    if result is None:
        return EMPTY
    if result.score is not None:
        return _score(result.score)
    if result.mean_return is not None:
        return TableCell(text.figures(result.mean_return.value), "return", value=None)
    if result.uncounted:
        return TableCell(text.NONE, _UNCOUNTED)
    return TableCell(text.NONE, "cannot play it" if result.skipped else "no scored episode")


def _task_columns(summary: Summary, *, success: bool) -> list[Column[TaskResult]]:
    """Return what is known of each agent on each task; people see success where it is ``success``."""
    task = {task.id: task for task in summary.tasks}
    name = {agent.label: agent.name for agent in summary.agents}
    trained = {agent.label: agent.trained for agent in summary.agents}
    rate = forms.estimates(text.percent)

    def warning(result: TaskResult) -> str:
        if result.uncounted:
            return _UNCOUNTED
        failed = result.failed_by_agent
        return f"{failed} failed by the agent, as the worst" if failed else ""

    return [
        Column(
            "Agent",
            "agent",
            lambda one: one.agent,
            lambda label: TableCell(name[label]),
            flag=lambda one: "cannot play it" if one.skipped else "",
            numeric=False,
        ),
        hidden("trained", lambda one: trained[one.agent]),
        words("Task", "task", lambda one: one.task, lambda found: TableCell(found.partition("/")[2])),
        hidden("domain", lambda one: task[one.task].domain),
        hidden("split", lambda one: task[one.task].split),
        hidden("seen_in_training", lambda one: one.seen),
        hidden("protocol", lambda one: task[one.task].protocol),
        hidden("planned", lambda one: one.planned),
        Column("Scored", "scored", lambda one: one.scored),
        Column("Errored", "errored", lambda one: one.errored),
        Column("Missing", "missing", lambda one: one.missing),
        hidden("failed_by_agent", lambda one: one.failed_by_agent),
        hidden("skipped", lambda one: one.skipped),
        hidden("uncounted", lambda one: one.uncounted),
        Column(
            "Return",
            "return",
            lambda one: one.mean_return,
            forms.estimates(text.figures),
            parts=forms.INTERVAL,
        ),
        Column("Score", "score", lambda one: one.score, _score, flag=warning, parts=forms.INTERVAL),
        Column(
            "Success, any step, %" if success else "",
            "success_any",
            lambda one: one.success_any,
            rate,
            parts=forms.INTERVAL,
        ),
        Column(
            "Success, last step, %" if success else "",
            "success_last",
            lambda one: one.success_last,
            rate,
            parts=forms.INTERVAL,
        ),
        normaliser_column(summary.normaliser),
    ]


def per_task(summary: Summary) -> Table[TaskResult]:
    """Return the table of every agent on every task, for programs."""
    return Table("", "", _task_columns(summary, success=False), summary.results, "per_task")


def tasks(summary: Summary) -> list[Table[TaskResult]]:
    """Return the same for people: one table a domain."""
    by_domain: dict[str, dict[str, TaskEntry]] = {}
    for task in summary.tasks:
        by_domain.setdefault(task.domain, {})[task.id] = task
    by_task: dict[str, list[TaskResult]] = {}
    for result in summary.results:
        by_task.setdefault(result.task, []).append(result)
    found = literature.beside_summary(summary)
    tables = []
    for place, (domain, inside) in enumerate(by_domain.items()):
        rows = [result for task in inside for result in by_task.get(task, ())]
        protocols = text.names(dict.fromkeys(task.protocol for task in inside.values()))
        caption = f"{domain}, {text.count(len(inside), 'task')}, protocol {protocols}."
        has_success = any(agent.domains[place].success_any for agent in summary.agents)
        columns = [*_task_columns(summary, success=has_success), *published.task_columns(found, domain)]
        tables.append(Table(f"tasks-{domain}", caption, columns, rows, first=("Task", "Agent")))
    return tables


def agents(summary: Summary) -> Table[AgentResult]:
    """Return what each agent is."""
    columns: list[Column[AgentResult]] = [
        words("Agent", "", lambda agent: agent.name),
        words("Kind", "", lambda agent: agent.kind, str),
        words("Description", "", lambda agent: agent.description, str),
        words("Specification", "", lambda agent: agent.spec, str),
        words("Digest (start)", "", lambda agent: agent.digest[:16]),
        Column("Parameters", "", lambda agent: agent.parameters, forms.parameters),
    ]
    return Table("agents", "What the labels stand for.", columns, summary.agents)


@dataclass(frozen=True, slots=True)
class Omission:
    """Tasks that some agents' aggregates leave out, for one reason."""

    agents: tuple[str, ...]
    reason: str
    tasks: tuple[str, ...]


def omissions(summary: Summary) -> list[Omission]:
    """Return the tasks outside the aggregates, by name, grouped by reason and agents."""
    by_agent: dict[tuple[str, str], list[str]] = {}
    for agent in summary.agents:
        for left_out in agent.aggregates[HEADLINE].rests_on.left_out:
            by_agent.setdefault((left_out.reason, left_out.task), []).append(agent.name)
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, task), labels in by_agent.items():
        grouped.setdefault((reason, tuple(labels)), []).append(task)
    return [Omission(labels, reason, tuple(found)) for (reason, labels), found in grouped.items()]
