"""What is wrong with a study, found before it collects or trains anything."""

from __future__ import annotations

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import CONFIG_FILE
from lram.agents.checkpoints.shipped import checkpoint_folder
from lram.agents.patterns import fits
from lram.agents.shown import few
from lram.agents.training.recipe import Recipe, model_config
from lram.agents.trajectories import TrajectoryStore
from lram.envs.registry import select
from lram.harness.errors import LramError
from lram.harness.executors.contract import Executor
from lram.harness.machine import Machine
from lram.harness.plan import RunRequest, plan_for
from lram.harness.storage.record_checks import is_name
from lram.harness.storage.records import RunPlan
from lram.harness.studies.cells import Cell, cells_of
from lram.harness.studies.study import Collect, Evaluation, Study


def check_study(study: Study, executor: Executor) -> tuple[RunPlan, list[Cell]]:
    """Return an evaluation's plan, as random play would have it, and the study's cells but for their keys.

    Agents that collect are made, tasks and protocols looked up, and every cell's recipe and model made, so
    that a bad name is known at once. What only training can tell (memory, the data's shapes) is not.

    Raises:
        LramError, AgentError: A name, a field or a value that is not right; one sentence.
    """
    known = {task for path in study.data.stores for task in TrajectoryStore(path).tasks}
    with executor.open(Machine(workers=1)) as session:
        for asked in study.data.collect:
            plan_for(request_of(asked), session)
            known |= {task.id for task in select(list(asked.tasks))}
        planned, _ = plan_for(request_of(study.evaluation), session)
    # No key is asked for yet, so any digests will do.
    stores = dict.fromkeys([*study.data.stores, *(["collected"] if study.data.collect else [])], "")
    cells = cells_of(study, stores, protocols_of(planned))
    for cell in cells:
        if not is_name(cell.title):
            raise LramError(
                f"the cell {cell.title!r} cannot label its model; name levels in printable characters "
                "other than '|'"
            )
        _check_recipe(cell.recipe, cell.title, known)
    return planned, cells


def protocols_of(plan: RunPlan) -> tuple[str, ...]:
    """Return the ids of a plan's protocols, each once."""
    return tuple(sorted({task.protocol for task in plan.tasks}))


def request_of(asked: Collect | Evaluation) -> RunRequest:
    """Return a section of a study as what is planned; an evaluation's models are not there yet, so that
    random play stands in.
    """
    return RunRequest(
        agents=list(asked.agents) if isinstance(asked, Collect) else "random",
        tasks=list(asked.tasks),
        episodes=asked.episodes,
        seed=asked.seed,
        protocols=asked.protocols,
    )


def _check_recipe(recipe: Recipe, title: str, tasks: set[str]) -> None:
    section = recipe.model
    try:
        if not section.init_from:
            model_config(section)
        elif not (checkpoint_folder(section.init_from) / CONFIG_FILE).is_file():
            raise AgentError(
                f"model.init_from names {section.init_from}, which is no checkpoint's folder and no model "
                "that comes with the package; name one of these"
            )
    except AgentError as error:
        raise AgentError(f"the cell {title!r}: {error}") from None
    for pattern in recipe.data.tasks:
        if not any(fits(task, pattern) for task in tasks):
            raise LramError(
                f"the cell {title!r} trains on data.tasks = {pattern}, and the study's data are of "
                f"{few(sorted(tasks), 8) or 'no task'}; name tasks of these"
            )
