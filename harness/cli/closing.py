"""The table at the end of a run: what each agent has reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from lram.harness.cli.output import print_table

if TYPE_CHECKING:
    from lram.reports.evidence.evidence import Evidence
    from lram.reports.model import Estimate

_MOST_ROWS = 24
"""Agents times tasks that are shown one by one; a report has them all."""


def show_standing(evidence: Evidence) -> None:
    """Print score, success rate and return of each agent, with 95% intervals, as a report has them.

    Returns of different tasks have no common scale: where there are several tasks, the returns stand task by
    task, unless these are too many.
    """
    from lram.reports import text
    from lram.reports.standing import standings

    found = list(standings(evidence))
    tasks = len(evidence.tasks)
    score, percent = partial(text.number, digits=3), _percent
    if tasks == 1:
        only = [agent.tasks[0] if agent.tasks else None for agent in found]
        rows = [
            (
                agent.name,
                _shown(agent.score.estimate, score),
                _shown(agent.success.estimate, percent),
                _shown(one.returns if one else None, text.figures),
            )
            for agent, one in zip(found, only, strict=True)
        ]
        print_table(("agent", "score", "success", "return"), rows)
        _explain(rows)
        return
    rows = [
        (
            agent.name,
            _shown(agent.score.estimate, score),
            _shown(agent.success.estimate, percent),
            f"{agent.score.rests_on.tasks} of {agent.score.rests_on.of_tasks}",
        )
        for agent in found
    ]
    print_table(("agent", "score", "success", "tasks with a score"), rows)
    number = sum(len(agent.tasks) for agent in found)
    if number > _MOST_ROWS:
        _explain(rows)
        print(f"{number:,} results by agent and task, with returns, are in the report")
        return
    by_task = [
        (
            agent.name,
            one.task,
            _shown(one.score, score),
            _shown(one.success, percent),
            _shown(one.returns, text.figures),
        )
        for agent in found
        for one in agent.tasks
    ]
    print()
    print_table(("agent", "task", "score", "success", "return"), by_task)
    _explain([*rows, *by_task])


def _percent(share: float) -> str:
    from lram.reports import text

    return f"{text.percent(share)}%"


def _shown(estimate: Estimate | None, form: Callable[[float], str]) -> str:
    from lram.reports import text

    return text.NONE if estimate is None else f"{form(estimate.value)} {text.span(estimate, form)}"


def _explain(rows: Iterable[tuple[str, ...]]) -> None:
    from lram.reports import text

    print(f"In brackets: 95% intervals.{text.legend(cell for row in rows for cell in row)}")
