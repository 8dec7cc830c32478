"""Commands that train: train, finetune and cast."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lram.agents.backbones.registry import search_working_directory
from lram.agents.training.recipe import describe_fields
from lram.agents.training.recipe_text import changed, read_recipe, render_recipe, render_value
from lram.agents.training.settings import setting_names
from lram.harness.cli.hints import trained_tasks
from lram.harness.cli.output import as_typed, print_table, writing
from lram.harness.errors import LramError
from lram.harness.training import finetuning_recipe, surroundings, task_patterns
from lram.harness.words import brief

if TYPE_CHECKING:
    from lram.agents.training.run import Outcome

Settings = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        help="section.field=value: set a field of the recipe (listed above); repeat it for several, such as "
        "--set optimizer.updates=500 --set data.tasks=toy/reach,toy/steps.",
        negative=(),
    ),
]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show no progress.", negative=())]


def train(
    recipe: Annotated[
        Path | None, Parameter(help="A recipe in TOML; without one, the defaults and --set.")
    ] = None,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Folder of the run; must be new.")
    ] = None,
    resume: Annotated[Path | None, Parameter(help="Continue the run in this folder.")] = None,
    set_: Settings = None,
    print_recipe: Annotated[
        bool,
        Parameter(
            help="Print the recipe with all its fields, and what its preset stands for; train nothing.",
            negative=(),
        ),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Train a model on stored trajectories."""
    settings = tuple(set_ or ())
    if "model.backbone" in setting_names(settings):  # named on this command line, so trusted
        search_working_directory()
    if print_recipe:
        print(render_recipe(read_recipe(recipe, settings), expand=True), end="")
        return 0
    if resume is not None:
        if recipe is not None or (output is not None and output != resume):
            raise LramError(
                f"--resume {resume} takes recipe and folder from the run; leave RECIPE and -o out"
            )
        from lram.agents.training.run import go_on

        with surroundings(quiet=quiet) as around:
            outcome = go_on(resume, settings, around)
        return conclude(outcome, resume)
    if output is None:
        raise LramError("the run needs a folder; add -o FOLDER, or --resume FOLDER to continue one")
    from lram.agents.training.run import start

    chosen = read_recipe(recipe, settings)
    with surroundings(quiet=quiet) as around:
        outcome = start(chosen, output, around)
    return conclude(outcome, output)


def finetune(
    checkpoint: Annotated[Path, Parameter(help="Folder of the checkpoint.")],
    /,
    *,
    data: Annotated[
        list[Path], Parameter(name=["--data", "-d"], help="Folders of trajectory stores.", negative=())
    ],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the run; must be new.")],
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
    set_: Settings = None,
    quiet: Quiet = False,
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
    return conclude(outcome, output)


def cast(
    checkpoint: Annotated[Path, Parameter(help="Folder of the checkpoint.")],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="Folder of the new checkpoint; must be new.")
    ],
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32"], Parameter(help="Type of the weights in the file.")
    ] = "float16",
) -> int:
    """Write a checkpoint with weights of another type; half the size with float16 or bfloat16.

    Models compute in float32 (or as --precision says) whatever the file holds; the weights are rounded.
    """
    import torch

    from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint

    model, meta = load_checkpoint(checkpoint)
    card = {**meta.card, "cast": {"from": meta.digest, "dtype": dtype}}
    kind: torch.dtype = getattr(torch, dtype)
    with writing(output):
        save_checkpoint(
            output,
            model,
            meta.config,
            trained=meta.trained,
            card=card,
            dtype=kind,
            target_returns=meta.target_returns,
        )
    print(f"checkpoint: {output}")
    return 0


def conclude(outcome: Outcome, run: Path) -> int:
    """Print how a run ended and what to do next; return the exit code."""
    if os.environ.get("RANK", "0") != "0":  # of several processes, one talks
        return 0 if outcome.finished else 130
    if not outcome.finished:
        print(
            f"\ninterrupted: the state after update {outcome.update} is saved; go on with: "
            f"lram train --resume {run}"
        )
        return 130
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
    tasks = " ".join(map(shlex.quote, trained_tasks(run / "checkpoint", domains))) or "TASKS"
    print(f"next: lram eval {run / 'checkpoint'} --tasks {tasks} -o {run / 'eval'}")
    return 0


def _show_validation(line: Any) -> list[str]:
    """Print a line of validation; return its domains."""
    names = ("loss", "perplexity", "top1", "action_error")
    rows: list[Sequence[object]] = [
        (domain, *(f"{one[name]:.4g}" for name in names)) for domain, one in line["domains"].items()
    ]
    if len(rows) > 1:
        rows.append(("mean", *(f"{line[name]:.4g}" for name in names)))
    print(f"\nvalidation after update {line['update']}:\n")
    print_table(("domain", "loss", "perplexity", "top-1", "action error"), rows)
    return [brief(domain, 80) for domain in line["domains"]]


def field_rows(*, defaults: bool = True) -> list[str]:
    """Return a line a field of a recipe, with or without its default, for help texts and documents."""
    rows = []
    for row in describe_fields():
        default = "" if row.default is None or not defaults else f" = {render_value(row.default)}"
        rows.append(f"* `{row.name}{default}`: {row.description}")
    return rows


_FIELDS = "\n    ".join(field_rows())
train.__doc__ = f"""Train a model on stored trajectories, into a folder with metrics, states and checkpoints.

    Interrupt it whenever you like: '--resume FOLDER' continues, with the same result.

    Example: lram train recipe.toml --set optimizer.updates=500 -o runs/first

    A recipe's fields and defaults; the defaults are the LRAM reference's recipe, in optimiser updates:

    {_FIELDS}
    """

_NAMES = "\n    ".join(field_rows(defaults=False))
finetune.__doc__ = f"""Train a checkpoint further on other trajectories, by the recipe that its card holds.

    Data, updates and learning rate are those of the options; a fiftieth of the updates is warm-up. Every
    other field is as the checkpoint was trained, on one thread of the processor, unless --set changes it.
    Interrupt it whenever you like: 'lram train --resume FOLDER' continues, with the same result.

    Example: lram finetune runs/first/checkpoint --data stores/heldout --tasks @heldout --top 0.05 -o runs/ft

    The fields that --set can change:

    {_NAMES}
    """

COMMANDS: tuple[tuple[Callable[..., Any], str], ...] = (
    (train, "train"),
    (finetune, "finetune"),
    (cast, "cast"),
)
