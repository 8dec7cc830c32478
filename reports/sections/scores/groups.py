"""Results by group of tasks: by split over all domains, and by what a domain's tasks differ in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lram.envs.attributes import task_attributes
from lram.envs.task import Task
from lram.reports import seen
from lram.reports.model import GroupResult, Summary
from lram.reports.samples import Samples
from lram.reports.statistics import equal_domain_weights, equal_task_weights
from lram.reports.views import WIDE, Cell, Table, aggregate_cell, columns, with_legend

ALL = "all domains"


def groups_of(tasks: Sequence[Task]) -> Iterator[tuple[str, str, str, list[Task]]]:
    """Yield domain, attribute, value and tasks of each group worth showing, in the order of the tasks.

    An attribute with one value in a domain is no division, and neither is a split over all domains when
    there is one domain: that domain's own groups say the same.
    """
    domains = list(dict.fromkeys(task.domain for task in tasks))
    if len(domains) > 1:
        yield from _divided(ALL, tasks, ["split"])
    for domain in domains:
        mine = [task for task in tasks if task.domain == domain]
        yield from _divided(
            domain, mine, list(dict.fromkeys(name for task in mine for name in task_attributes(task)))
        )


def _divided(
    domain: str, tasks: Sequence[Task], names: Sequence[str]
) -> Iterator[tuple[str, str, str, list[Task]]]:
    for name in names:
        values: dict[str, list[Task]] = {}
        for task in tasks:
            values.setdefault(task_attributes(task).get(name, "none"), []).append(task)
        if len(values) > 1:
            for value, members in values.items():
                yield domain, name, value, members


def group_results(
    tasks: Sequence[Task],
    score: Samples,
    success: Samples,
    score_reach: set[str],
    success_reach: set[str],
) -> tuple[GroupResult, ...]:
    """Return one agent's aggregates over every group of ``tasks``.

    Args:
        tasks: The planned tasks.
        score: The agent's normalised scores.
        success: Its success at any step.
        score_reach: Ids of the tasks that could have a score (:func:`lram.reports.samples.covered`).
        success_reach: Likewise for success.
    """
    return tuple(
        GroupResult(
            domain=domain,
            facet=name,
            value=value,
            score=score.aggregate(members, score_reach, equal_domain_weights),
            success_any=(
                success.aggregate(members, success_reach, equal_task_weights)
                if domain != ALL and any(task.id in success_reach for task in members)
                else None
            ),
        )
        for domain, name, value, members in groups_of(tasks)
    )


def tables(summary: Summary) -> list[Table]:
    """Return the tables of groups for people: what agents have seen, scores, and success where known."""
    found = []
    if (own := seen.table(summary)) is not None:
        found.append(own)
    score = _table(summary, "group-scores", success=False)
    if score.rows:
        found.append(score)
    success = _table(summary, "group-success", success=True)
    if success.rows:
        found.append(success)
    return found


def _table(summary: Summary, name: str, *, success: bool) -> Table:
    if len(summary.agents) > WIDE:
        return _long_table(summary, name, success=success)
    rows = []
    for place, group in enumerate(summary.agents[0].groups if summary.agents else ()):
        mine = [agent.groups[place] for agent in summary.agents]
        measured = [one.success_any if success else one.score for one in mine]
        if all(aggregate is None for aggregate in measured):
            continue
        reach = max(aggregate.rests_on.of_tasks for aggregate in measured if aggregate is not None)
        rows.append(
            (
                Cell(group.domain),
                Cell(_by(group.facet)),
                Cell(group.value),
                Cell(str(reach), value=reach),
                *(aggregate_cell(aggregate, percent=success) for aggregate in measured),
            )
        )
    headings = ["Domain", "By", "Group", "Tasks", *(agent.name for agent in summary.agents)]
    return with_legend(
        Table(name, _caption(summary, success=success), columns(headings, words=3), tuple(rows))
    )


def _long_table(summary: Summary, name: str, *, success: bool) -> Table:
    """Return one row a group and agent: with many agents no page is wide enough for a column of each."""
    rows = []
    for agent in summary.agents:
        for group in agent.groups:
            aggregate = group.success_any if success else group.score
            if aggregate is not None:
                cells = (Cell(agent.name), Cell(group.domain), Cell(_by(group.facet)), Cell(group.value))
                reach = Cell(str(aggregate.rests_on.of_tasks), value=aggregate.rests_on.of_tasks)
                rows.append((*cells, reach, aggregate_cell(aggregate, percent=success)))
    headings = ["Agent", "Domain", "By", "Group", "Tasks", "Success" if success else "Score"]
    return with_legend(
        Table(name, _caption(summary, success=success), columns(headings, words=4), tuple(rows))
    )


def _by(attribute: str) -> str:
    """Return what people read of an attribute: the split is not that of the agent's own training."""
    return "the paper's split" if attribute == "split" else attribute


def _caption(summary: Summary, *, success: bool) -> str:
    level = f"{summary.level:.0%}"
    if success:
        return f"Share of episodes solved at any step by group of tasks, in per cent, {level} intervals."
    return (
        f"Mean normalised score by group of tasks, with {level} intervals; over all domains it is the "
        "mean of domain means. Groups overlap (a task has a robot and an object), and nothing is "
        "corrected for their number."
    )
