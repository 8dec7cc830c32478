"""The end of a command: what a run or a training holds, and what to do next."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.printing.hints import is_known, show_unseen, trained_tasks
from lram.harness.cli.printing.output import print_table
from lram.harness.errors import LramError
from lram.harness.storage.run_folder import Run
from lram.harness.words import brief, command

if TYPE_CHECKING:
    from lram.agents.training.run import Outcome
    from lram.reports.evidence.evidence import Evidence
    from lram.reports.model import Estimate
    from lram.reports.standing import Standing

_REASONS_SHOWN = 5
_MOST_ROWS = 24
"""Agents times tasks that are shown one by one; a report has them all."""


def conclude_run(run: Run, *, hint: bool = True, counts: bool = False, allow_errors: bool = False) -> int:
    """Print what a run shows, what went wrong and what to do next.

    Args:
        run: The run.
        hint: Also print what to do next.
        counts: Also print what became of the planned episodes where all were scored, and how they were spread
            over lanes and workers.
        allow_errors: Episodes without a score are no failure, unless an agent has none on some task.

    Returns:
        1 when planned episodes have no score.
    """
    from lram.reports.evidence.collect import collect

    evidence = collect([run])
    if any(cell.counted for cell in evidence.cells.values()):
        show_standing(evidence)
    lost = sum(cell.planned - len(cell.scored) for cell in evidence.cells.values())
    if counts or lost:
        print()
        _show_counts(evidence)
    _show_errors(run, evidence)
    for agent in run.plan.agents:
        skipped = [skip for skip in run.plan.skipped if skip.agent == agent.label]
        if skipped:
            print(
                f"\n{agent.label} cannot play {len(skipped)} of {len(run.plan.tasks)} tasks, such as "
                f"{skipped[0].task}: {skipped[0].reason}"
            )
    show_unseen(run)
    sessions = run.provenance()
    if counts and sessions and (spread := sessions[-1].settings.get("spread")):
        print(f"\n{spread}")
    empty = [pair for pair in run.plan.pairs() if not evidence.cells[pair].scored]
    if empty:
        label, task = min(empty)
        more = f", and {len(empty) - 1} more of {len(run.plan.pairs())}" if len(empty) > 1 else ""
        print(f"\nno episode was scored of {label} on {task}{more}; the exit code is {EXIT_FAILED}")
    elif lost and not allow_errors:
        planned = sum(cell.planned for cell in evidence.cells.values())
        print(
            f"\n{lost:,} of {planned:,} planned episodes have no score; the exit code is {EXIT_FAILED} "
            "(0 with --allow-errors)"
        )
    errored = any(len(cell.scored) < len(cell.records) for cell in evidence.cells.values())
    if hint and errored:
        print(f"\nto play the errored episodes again: {command('resume', run.path, '--retry-errors')}")
    if hint:
        print(f"\nnext: {command('report', run.path)}")
    return EXIT_FAILED if empty or (lost and not allow_errors) else 0


def _show_counts(evidence: Evidence) -> None:
    """Print what became of the planned episodes of each agent."""
    rows = []
    for agent in evidence.agents:
        mine = [cell for (label, _), cell in evidence.cells.items() if label == agent.label]
        recorded, scored = sum(len(cell.records) for cell in mine), sum(len(cell.scored) for cell in mine)
        missing = sum(cell.planned for cell in mine) - recorded
        rows.append((agent.label, scored, recorded - scored, missing, agent.info.description))
    print_table(("agent", "scored", "errored", "missing", "what it is"), rows)


def _show_errors(run: Run, evidence: Evidence) -> None:
    """Print why episodes errored, and whose fault it was."""
    records = [record for cell in evidence.cells.values() for record in cell.records.values()]
    reasons = Counter(r.failure.message for r in records if r.failure and r.failure.kind != "quarantine")
    given_up = sorted({r.task for r in records if r.failure and r.failure.kind == "quarantine"})
    for reason, times in reasons.most_common(_REASONS_SHOWN):
        print(f"\n{times} errored: {reason}")
    if own := sum(record.failed_by_agent for record in records):
        print(
            f"\n{own} of the errored failed by the agent's own fault: they count as the worst outcome, and "
            "where no least return is known the agent has no score on the task"
        )
    if len(reasons) > _REASONS_SHOWN:
        print(f"\nand {len(reasons) - _REASONS_SHOWN} other reasons; the records have them")
    if given_up:
        print(f"\ngiven up after repeated failures: {', '.join(given_up)}; see {run.path / 'logs'}")


def interrupted(folder: Path, again: str = "") -> int:
    """Say how to continue after Ctrl-C; return the exit code."""
    if not (folder / "run.json").is_file():
        raise KeyboardInterrupt
    run = Run(folder)
    planned = len(run.plan.pairs()) * run.plan.episodes
    print(
        f"\ninterrupted: {planned - len(run.missing())} of {planned} episodes are recorded; "
        f"continue with: {again or command('resume', folder)}"
    )
    return EXIT_INTERRUPTED


def show_standing(evidence: Evidence) -> None:
    """Print score, success rate and return of each agent, with 95% intervals, as a report has them; the
    highest score first.

    Returns of different tasks have no common scale: where there are several tasks, the returns stand task by
    task, unless these are too many.
    """
    from lram.reports import text
    from lram.reports.standing import standings

    found = sorted(standings(evidence), key=_descending)
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


def _descending(standing: Standing) -> tuple[bool, float]:
    estimate = standing.score.estimate
    return estimate is None, 0.0 if estimate is None else -estimate.value


def _percent(share: float) -> str:
    from lram.reports import text

    return f"{text.percent(share)}%"


def _shown(estimate: Estimate | None, form: Callable[[float], str]) -> str:
    from lram.reports import text

    return text.NONE if estimate is None else f"{form(estimate.value)} {text.span(estimate, form)}"


def _explain(rows: Iterable[tuple[str, ...]]) -> None:
    from lram.reports import text

    print(f"In brackets: 95% intervals.{text.legend(cell for row in rows for cell in row)}")


def conclude_training(outcome: Outcome, run: Path) -> int:
    """Print how a run ended and what to do next; return the exit code."""
    if os.environ.get("RANK", "0") != "0":  # of several processes, one talks
        return 0 if outcome.finished else EXIT_INTERRUPTED
    if not outcome.finished:
        print(
            f"\ninterrupted: the state after update {outcome.update} is saved; continue with: "
            f"{command('train', '--resume', run)}"
        )
        return EXIT_INTERRUPTED
    domains: list[str] = []
    if outcome.validation is not None:
        try:
            domains = _show_validation(outcome.validation)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LramError(
                f"the last validation in {run / 'metrics.jsonl'} is not what a training writes; restore the "
                f"file; the model is in {run / 'checkpoint'}"
            ) from None
    print(f"\ntrained: {outcome.update} updates\ncheckpoint: {run / 'checkpoint'}")
    tasks = trained_tasks(run / "checkpoint", domains)
    known = [term for term in tasks if is_known(term)]
    if tasks and not known:
        print(
            f"no simulator of {brief(', '.join(tasks), 80)} is known here; to evaluate the model there, give "
            "--tasks the file of their domain"
        )
    known = known or ["TASKS"]
    print(f"next: {command('eval', run / 'checkpoint', '--tasks', *known, '-o', run / 'eval')}")
    return 0


def _mean(value: float | None) -> str:
    # JSON has no number that is not finite; it is read back as None.
    return f"{math.nan if value is None else value:.4g}"


def _show_validation(line: Any) -> list[str]:
    """Print a line of validation; return its domains."""
    names = ("loss", "perplexity", "top1", "action_error")
    rows: list[Sequence[object]] = [
        (domain, *(_mean(one[name]) for name in names)) for domain, one in line["domains"].items()
    ]
    if len(rows) > 1:
        rows.append(("mean", *(_mean(line[name]) for name in names)))
    print(f"\nvalidation after update {line['update']}:\n")
    print_table(("domain", "loss", "perplexity", "top-1", "action error"), rows)
    return [brief(domain, 80) for domain in line["domains"]]
