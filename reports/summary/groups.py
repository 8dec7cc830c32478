"""Results by group of tasks: by split over all domains, and by what a domain's tasks differ in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lram.envs.attributes import task_attributes
from lram.envs.task import Task
from lram.reports.model import GroupResult
from lram.reports.samples import AgentSamples
from lram.reports.statistics import equal_domain_weights, equal_task_weights

ALL = "all domains"


def groups_of(tasks: Sequence[Task]) -> Iterator[tuple[str, str, str, list[Task]]]:
    """Yield domain, facet, value and tasks of each group worth showing, in the order of the tasks.

    A facet with one value in a domain is no division, and neither is a split over all domains when
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
    score: AgentSamples,
    success: AgentSamples,
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
