"""The tables that people read, once for the page and for Markdown: cells of text with a sort value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lram.reports import text
from lram.reports.model import (
    ALL_EQUAL,
    NO_IQM_INTERVAL,
    UNTOLD,
    Aggregate,
    Comparison,
    Estimate,
    Summary,
    TaskEntry,
    TaskResult,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: The value.
        small: What stands below it in small print, such as its interval.
        flag: What warns about it.
        value: What the column is sorted by; None sorts last, and text is sorted as text.
    """

    text: str
    small: str = ""
    flag: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and whether its cells are numbers (set flush right)."""

    heading: str
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; the first column heads the rows."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


EMPTY = Cell(text.NONE)

WIDE = 12
"""Up to so many agents a table may have a column for each."""

ERRORS_SHOWN = 10
"""Distinct failure messages that the report prints; the others are counted."""


def headline(summary: Summary) -> Table:
    """Return the aggregates of every agent, and what they rest on."""
    headings = ["Agent", "Mean of domain means", "IQM of task means", "Tasks", "Domains", "Episodes"]
    headings += ["Scored", "Errored", "Missing", "Not playable"]
    rows = []
    for agent in summary.agents:
        rests_on = agent.mean_of_domains.rests_on
        rows.append(
            (
                Cell(agent.name),
                _aggregate(agent.mean_of_domains),
                _aggregate(agent.iqm_of_task_means),
                Cell(f"{rests_on.tasks} of {rests_on.of_tasks}", value=rests_on.tasks),
                integer(len(rests_on.domains)),
                integer(rests_on.episodes),
                integer(agent.scored),
                integer(agent.errored),
                integer(agent.missing),
                integer(agent.skipped),
            )
        )
    caption = (
        f"Normalised scores with {summary.level:.0%} intervals of the episode noise. The interquartile mean "
        "is over task means, so it is not rliable's (over episodes), and has no interval: noise moves a "
        "trimmed mean itself, by an amount that few episodes do not tell. Tasks, domains and episodes are "
        "what both aggregates rest on; scored, errored and missing count all planned episodes, not "
        "playable counts tasks."
    ) + text.score_words(summary.normaliser)
    return with_legend(Table("headline", caption, columns(headings), tuple(rows)))


def errors(summary: Summary) -> Table | None:
    """Return why episodes errored, the most frequent messages first; None where none did."""
    agent_name = {agent.label: agent.name for agent in summary.agents}
    found: dict[tuple[str, str], list[tuple[TaskResult, int]]] = {}
    for result in summary.results:
        for failure in result.failures:
            hits = found.setdefault((failure.message, failure.kind), [])
            hits.append((result, failure.episodes))
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda item: (-sum(n for _, n in item[1]), item[0]))
    rows = tuple(
        (
            Cell(text.shortened(message) or "no message was recorded"),
            Cell(kind),
            Cell(text.listing(list(dict.fromkeys(agent_name[r.agent] for r, _ in hits)), 3)),
            Cell(text.listing(list(dict.fromkeys(r.task for r, _ in hits)), 3)),
            integer(sum(episodes for _, episodes in hits)),
        )
        for (message, kind), hits in ordered[:ERRORS_SHOWN]
    )
    caption = "Why planned episodes ended in an error."
    rest = [episodes for _, hits in ordered[ERRORS_SHOWN:] for _, episodes in hits]
    if rest:
        more = text.count(len(ordered) - ERRORS_SHOWN, "more message")
        caption += f" Not shown: {more}, {text.count(sum(rest), 'episode')}."
    caption += " tables/episodes.csv holds each episode's message."
    headings = ["Message", "Kind", "Agent", "Task", "Episodes"]
    return Table("errors", caption, columns(headings, words=4), rows)


def domains(summary: Summary) -> Table:
    """Return the mean score of every agent in every domain."""
    rows = tuple(
        (Cell(agent.name), *(_aggregate(result.score) for result in agent.domains))
        for agent in summary.agents
    )
    caption = f"Mean normalised score over each domain's tasks, with {summary.level:.0%} intervals."
    caption += text.score_words(summary.normaliser)
    return with_legend(Table("domains", caption, columns(["Agent", *summary.domains]), rows))


def success(summary: Summary) -> Table | None:
    """Return the mean success rates; None where no task has that notion."""
    shown = [
        place
        for place, _ in enumerate(summary.domains)
        if any(agent.domains[place].success_any for agent in summary.agents)
    ]
    if not shown:
        return None
    headings = ["Agent"]
    for place in shown:
        headings += [
            f"{summary.domains[place]}, any step",
            f"{summary.domains[place]}, last step",
            "Episodes",
        ]
    rows = []
    for agent in summary.agents:
        cells = [Cell(agent.name)]
        for place in shown:
            result = agent.domains[place]
            cells += [
                _aggregate(result.success_any, text.percent),
                _aggregate(result.success_last, text.percent),
            ]
            cells.append(integer(result.success_any.rests_on.episodes) if result.success_any else EMPTY)
        rows.append(tuple(cells))
    caption = (
        f"Share of episodes solved, in per cent: mean over the domain's tasks, {summary.level:.0%} intervals."
    )
    return with_legend(Table("success", caption, columns(headings), tuple(rows)))


def matrix(summary: Summary) -> Table:
    """Return the score of each agent on each task, or the return where there is none.

    One row a task and one column an agent; where there are many agents, more than tasks, the other way round.
    """
    results = {(r.agent, r.task): r for r in summary.results}
    if len(summary.agents) > max(WIDE, len(summary.tasks)):
        return _turned_matrix(summary, results)
    rows = []
    for task in summary.tasks:
        cells = [_matrix_cell(results.get((agent.label, task.id))) for agent in summary.agents]
        rows.append((Cell(task.id), *cells))
    headings = ["Task", *(agent.name for agent in summary.agents)]
    caption = _MATRIX + text.score_words(summary.normaliser)
    return with_legend(Table("scores", caption, columns(headings), tuple(rows)))


_MATRIX = (
    "Mean normalised score; where a task has no usable score reference, the mean return, marked as such."
)


def _turned_matrix(summary: Summary, results: Mapping[tuple[str, str], TaskResult]) -> Table:
    rows = tuple(
        (Cell(agent.name), *(_matrix_cell(results.get((agent.label, task.id))) for task in summary.tasks))
        for agent in summary.agents
    )
    caption = _MATRIX + text.score_words(summary.normaliser)
    headings = ["Agent", *(task.id for task in summary.tasks)]
    return with_legend(Table("scores", caption, columns(headings), rows))


def tasks(summary: Summary) -> list[Table]:
    """Return one table a domain with everything known of each agent on each task."""
    headings = ["Task", "Agent", "Scored", "Errored", "Missing", "Return", "Score"]
    tables = []
    by_domain: dict[str, dict[str, TaskEntry]] = {}
    for task in summary.tasks:
        by_domain.setdefault(task.domain, {})[task.id] = task
    by_task: dict[str, list[TaskResult]] = {}
    for result in summary.results:
        by_task.setdefault(result.task, []).append(result)
    agent_name = {agent.label: agent.name for agent in summary.agents}
    for place, (domain, inside) in enumerate(by_domain.items()):
        has_success = any(agent.domains[place].success_any for agent in summary.agents)
        rows = []
        for result in (result for task in inside for result in by_task.get(task, ())):
            name = Cell(result.task.partition("/")[2])
            cells = [name, Cell(agent_name[result.agent], flag=result.skipped and "cannot play it")]
            cells += [integer(result.scored), integer(result.errored), integer(result.missing)]
            cells += [_estimate(result.mean_return, text.figures), _estimate(result.score, _two)]
            if result.uncounted:
                cells[-1] = replace(cells[-1], flag=_UNCOUNTED)
            elif result.failed_by_agent:
                cells[-1] = replace(
                    cells[-1], flag=f"{result.failed_by_agent} failed by the agent, as the worst"
                )
            if has_success:
                cells += [_estimate(result.success_any, text.percent)]
                cells += [_estimate(result.success_last, text.percent)]
            rows.append(tuple(cells))
        protocols = text.names(dict.fromkeys(task.protocol for task in inside.values()))
        caption = f"{domain}, {text.count(len(inside), 'task')}, protocol {protocols}."
        own = [*headings, "Success, any step, %", "Success, last step, %"] if has_success else headings
        tables.append(with_legend(Table(f"tasks-{domain}", caption, columns(own, words=2), tuple(rows))))
    return tables


def comparisons(summary: Summary) -> Table | None:
    """Return the paired differences; None for a single agent."""
    if not summary.comparisons:
        return None
    agent_name = {agent.label: agent.name for agent in summary.agents}
    of_tasks = summary.agents[0].mean_of_domains.rests_on.of_tasks
    rows = tuple(
        (
            Cell(agent_name[pair.first]),
            Cell(agent_name[pair.second]),
            replace(_estimate(pair.difference, _three), flag=pair.reason or _caution(pair, summary.level)),
            Cell(text.p_value(pair.p), value=pair.p),
            Cell(text.p_value(pair.p_holm), value=pair.p_holm),
            Cell(f"{pair.tasks} of {of_tasks}", value=pair.tasks),
            integer(len(pair.domains)),
            integer(pair.episodes),
        )
        for pair in summary.comparisons
    )
    headings = ["Agent", "against", "Difference", "p", "p, Holm", "Tasks", "Domains", "Episode pairs"]
    caption = (
        f"Difference of the mean of domain means (agent minus the other) with {summary.level:.0%} intervals, "
        "on the tasks that both scored and the seeds that both met. An interval leaves out 0 exactly where p "
        f"is below {1 - summary.level:.3g}; it is not corrected for the number of pairs, p (Holm) is."
    ) + text.score_words(summary.normaliser)
    if any(pair.limit for pair in summary.comparisons):
        caption += (
            " Unseen outcomes: on some tasks all episodes of an agent ended alike, and what a further one "
            "could bring, not the sign flips, sets p and the interval."
        )
    return with_legend(Table("comparisons", caption, columns(headings, words=2), rows))


def _caution(pair: Comparison, level: float) -> str:
    """Return what keeps a difference whose interval leaves out 0 from being established, or sets its p."""
    if pair.p is not None and pair.p_holm is not None and pair.p < 1 - level <= pair.p_holm:
        return "not after Holm's correction"
    return pair.limit


def agents(summary: Summary) -> Table:
    """Return what each agent is."""
    rows = tuple(
        (
            Cell(agent.name),
            Cell(agent.kind),
            Cell(agent.description),
            Cell(agent.spec),
            Cell(agent.digest[:16] or text.NONE),
            Cell(text.parameters(agent.parameters), value=agent.parameters),
        )
        for agent in summary.agents
    )
    headings = ["Agent", "Kind", "Description", "Specification", "Digest (start)", "Parameters"]
    return Table("agents", "What the labels stand for.", columns(headings, words=5), rows)


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
        for left_out in agent.mean_of_domains.rests_on.left_out:
            by_agent.setdefault((left_out.reason, left_out.task), []).append(agent.name)
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, task), labels in by_agent.items():
        grouped.setdefault((reason, tuple(labels)), []).append(task)
    return [Omission(labels, reason, tuple(found)) for (reason, labels), found in grouped.items()]


def with_legend(table: Table) -> Table:
    """Return ``table`` with what the signs of doubt in it mean at the end of its caption."""
    legend = text.legend(cell.small for row in table.rows for cell in row)
    return replace(table, caption=table.caption + legend) if legend else table


def columns(headings: Sequence[str], words: int = 1) -> tuple[Column, ...]:
    """Return columns of which the first ``words`` hold words and the others numbers."""
    return tuple(Column(heading, numeric=place >= words) for place, heading in enumerate(headings))


def integer(value: int) -> Cell:
    """Return a cell with a whole number."""
    return Cell(str(value), value=value)


def aggregate_cell(aggregate: Aggregate | None, *, percent: bool = False) -> Cell:
    """Return an aggregate as a cell, with its interval and what warns about it."""
    return _aggregate(aggregate, text.percent if percent else _three)


def _two(value: float) -> str:
    return text.number(value, 2)


def _three(value: float) -> str:
    return text.number(value, 3)


def _aggregate(aggregate: Aggregate | None, form: Callable[[float], str] = _three) -> Cell:
    if aggregate is None:
        return EMPTY
    rests_on = aggregate.rests_on
    unfinished = "unfinished, " if rests_on.unfinished else ""
    if aggregate.estimate is None:
        return replace(EMPTY, flag="unfinished, no task scored" if unfinished else "")
    note = aggregate.estimate.note
    said = note in (NO_IQM_INTERVAL, ALL_EQUAL) or note.startswith(UNTOLD)  # in place of the interval
    flags = [note] if note and not said else []
    if not rests_on.comparable:
        reach = f"rests on {rests_on.tasks} of {text.count(rests_on.of_tasks, 'task')}"
        flags.append(f"not comparable: {unfinished}{reach}")
    cell = replace(_estimate(aggregate.estimate, form), flag="; ".join(flags))
    return replace(cell, small="") if note == NO_IQM_INTERVAL else cell


def _estimate(estimate: Estimate | None, form: Callable[[float], str]) -> Cell:
    if estimate is None:
        return EMPTY
    if estimate.note.startswith(UNTOLD):
        return Cell(form(estimate.value), estimate.note, value=estimate.value)
    return Cell(form(estimate.value), text.span(estimate, form), value=estimate.value)


def _matrix_cell(result: TaskResult | None) -> Cell:
    if result is None:
        return EMPTY
    if result.score is not None:
        return _estimate(result.score, _two)
    if result.mean_return is not None:
        return Cell(text.figures(result.mean_return.value), "return", value=None)
    if result.uncounted:
        return Cell(text.NONE, _UNCOUNTED)
    return Cell(text.NONE, "cannot play it" if result.skipped else "no scored episode")


_UNCOUNTED = "not comparable: failed by its own errors"
