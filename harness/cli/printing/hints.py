"""What commands say of the tasks that a model knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import read_card
from lram.agents.checkpoints.known_tasks import known_tasks
from lram.agents.shown import few
from lram.envs.errors import SelectionError
from lram.envs.registry import all_tasks, own_rows
from lram.harness.storage.run_folder import Run
from lram.harness.words import command, count

_LISTED = 20
"""Tasks of a domain that a selection names one by one."""


def next_report(folder: Path) -> str:
    """Return the line that names the command of the report of what is in ``folder``."""
    return f"next: {command('report', folder, '-o', f'{folder}-report')}"


def trained_tasks(checkpoint: Path, domains: Sequence[str]) -> list[str]:
    """Return selections of the tasks that a checkpoint was trained on.

    A domain stands for them where the model knows all of it, and where it knows too many to name: then the
    domain has tasks that the model has not seen, and 'lram eval' and reports tell which.

    Args:
        checkpoint: Its folder.
        domains: Of its training, where the card does not tell its tasks.
    """
    try:
        known = known_tasks(read_card(checkpoint)).tasks
    except AgentError:  # a hint is no place to find out that a checkpoint was damaged
        known = None
    if known is None:
        return [f"{domain}/*" for domain in domains]
    terms = []
    for domain in dict.fromkeys(task.partition("/")[0] for task in known):
        mine = [task for task in known if task.startswith(f"{domain}/")]
        every = {task for task in all_tasks() if task.startswith(f"{domain}/")}
        whole = len(mine) > _LISTED or (bool(every) and every <= set(mine))
        terms += [f"{domain}/*"] if whole else mine
    return terms


def is_known(term: str) -> bool:
    """Return whether a selection of tasks selects some that can be played: imported data may be of others."""
    try:
        return bool(own_rows(term))
    except SelectionError:
        return False


def show_unseen(run: Run) -> None:
    """Print for each model that tells its training tasks which of the run's tasks it has not seen."""
    planned = [planned.task.id for planned in run.plan.tasks]
    for agent in run.plan.agents:
        known = agent.info.training_tasks
        unseen = [task for task in planned if known is not None and task not in known]
        if known is not None and unseen:
            whole = agent.info.training_tasks_complete
            lacks = "has not seen" if whole else "tells of no training on"
            others = "" if whole else "; what it was trained on before is not known"
            print(
                f"\n{agent.label} was trained on {count(len(known), 'task')} ({few(known)}) "
                f"and {lacks} {len(unseen)} of the {len(planned)} here, such as {unseen[0]}{others}"
            )
