"""``lram finetune``: a checkpoint, trained further on other trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.agents.training.recipe_text import changed
from lram.harness.cli.options import (
    RUN_FOLDER,
    STORES_OPTION,
    CheckpointArgument,
    QuietOption,
    SettingsOption,
)
from lram.harness.cli.printing.closing import conclude_training
from lram.harness.cli.printing.paths import as_typed
from lram.harness.cli.train import field_rows
from lram.harness.training import finetuning_recipe, surroundings, task_patterns


def finetune(
    checkpoint: CheckpointArgument,
    /,
    *,
    data: Annotated[list[Path], STORES_OPTION],
    output: Annotated[Path, RUN_FOLDER],
    tasks: Annotated[
        list[str] | None,
        Parameter(
            name=["--tasks", "-t"], help="A selection of the stores' tasks (default: all).", negative=()
        ),
    ] = None,
    top: Annotated[
        float, Parameter(help="Share of each task's trajectories, those of the highest returns.")
    ] = 1.0,
    fraction: Annotated[float, Parameter(help="Share of each task's trajectories, drawn at random.")] = 1.0,
    updates: Annotated[int, Parameter(help="Optimiser updates; the warm-up is a fiftieth of them.")] = 1000,
    learning_rate: Annotated[
        float | None, Parameter(help="Largest learning rate (default: as the checkpoint was trained).")
    ] = None,
    scratch: Annotated[
        bool, Parameter(help="Random weights instead of the checkpoint's, to compare with.", negative=())
    ] = False,
    set_: SettingsOption = None,
    quiet: QuietOption = False,
) -> int:
    """Train a checkpoint further on other trajectories."""
    # The recipe names them as they were typed.
    chosen = finetuning_recipe(
        as_typed(str(checkpoint)),
        [as_typed(str(path)) for path in data],
        task_patterns(tasks or ()),
        updates=updates,
        learning_rate=learning_rate,
        top_fraction=top,
        episode_fraction=fraction,
        scratch=scratch,
    )
    from lram.agents.training.run import start

    chosen = changed(chosen, set_ or ())
    with surroundings(quiet=quiet) as around:
        outcome = start(chosen, output, around)
    return conclude_training(outcome, output)


_NAMES = "\n    ".join(field_rows(defaults=False))
finetune.__doc__ = f"""Train a checkpoint further on other trajectories, by the recipe that its card holds.

    Data, updates and learning rate are those of the options; a fiftieth of the updates is warm-up. Every
    other field is as the checkpoint was trained, on one thread of the processor, unless --set changes it.
    Interrupt it whenever you like: 'lram train --resume FOLDER' continues, with the same result.

    Example: lram finetune runs/first/checkpoint --data stores/heldout --tasks @heldout --top 0.05 -o runs/ft

    The fields that --set can change:

    {_NAMES}
    """
