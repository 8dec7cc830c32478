"""``lram tasks``: the tasks of a selection, their targets and score references."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from lram.envs import registry
from lram.envs.errors import SelectionError
from lram.envs.random_play import RandomPlay, random_play
from lram.envs.scores import HALF, audit, normalise
from lram.envs.task import Task
from lram.harness.cli.options import JsonOption, terms
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.selecting import selected
from lram.harness.waiting import say


def tasks(
    selection: Annotated[list[str] | None, Parameter(help="Tasks, such as 'metaworld/*' or lram432.")] = None,
    /,
    *,
    exclude: Annotated[list[str] | None, Parameter(help="Tasks to leave out.", negative=())] = None,
    json: JsonOption = False,
) -> None:
    """List tasks with their targets and score references.

    'measured' is the mean return of random play as measured here; docs/explanation/references.md tells more.

    A selection is a comma list of domains (atari), tasks (atari/freeway), patterns (`metaworld/door-*`),
    splits (@train, @heldout, dmcontrol@heldout) and suites (lram432; see 'lram suites'). A Python file that
    holds a domain stands for its tasks (mine.py, `mine.py:easy-*`); it is run. A term after
    '!' takes tasks away. Without one, the 469 tasks of the paper are listed.
    """
    chosen = selected(terms(selection or ["*"], exclude))
    for problem in registry.file_problems():
        say(f"lram: {problem}")
    if json:
        print_json([task_facts(task) for task in chosen])
        return
    print_table(
        (
            "task",
            "split",
            "horizon",
            "observation",
            "action",
            "target",
            "random",
            "measured",
            "reference",
            "kind",
            "audit",
        ),
        [
            (
                task.id,
                task.split,
                task.horizon,
                task.observation + (f" {task.observation_size}" if task.observation_size else ""),
                f"{task.action} {task.action_size or '?'}",
                task.target_return,
                task.score_random,
                None if (found := _random_play(task)) is None else float(f"{found.mean:.4g}"),
                task.score_reference,
                task.score_kind,
                audit(task) or _weakness(task),
            )
            for task in chosen
        ],
    )
    splits = Counter(task.split for task in chosen)
    unscored = [task.id for task in chosen if audit(task)]
    print(
        f"\n{len(chosen)} tasks ({', '.join(f'{count} {split}' for split, count in splits.items())})", end=""
    )
    print(f"; {len(unscored)} without a usable score reference: {', '.join(unscored)}" if unscored else "")
    weak = [task.id for task in chosen if _weakness(task)]
    if weak:
        reach = "reaches half of the reference or more, so that a score says little of skill"
        print(f"on {len(weak)} of them random play, as measured, {reach}: {', '.join(weak)}")


def task_facts(task: Task) -> dict[str, Any]:
    """Return a task as plain values, with the audit of its score reference and random play as measured.

    ``random_score`` is the normalised score of that play by the task's own references.
    """
    found = _random_play(task)
    return {
        "id": task.id,
        **asdict(task),
        "sources": dict(task.sources),
        "audit": audit(task),
        "random_play": asdict(found) if found else None,
        "random_score": normalise(task, found.mean) if found else None,
    }


def _random_play(task: Task) -> RandomPlay | None:
    """Return random play as measured under the default protocol of the task's domain."""
    try:
        protocol = registry.load_domain(task.domain).protocol()
    except SelectionError:
        return None
    return random_play(task.id, protocol.id(task.domain))


def _weakness(task: Task) -> str:
    """Return what random play reaches of the reference, where that is half of it or more."""
    found = _random_play(task)
    score = normalise(task, found.mean) if found else None
    return f"random play scores {score:.2f}" if score is not None and score >= HALF else ""
