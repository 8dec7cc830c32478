"""``lram train``: a model from stored trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.agents.own_modules import search_working_directory
from lram.agents.training.recipe import describe_fields
from lram.agents.training.recipe_text import read_recipe, render_recipe, render_value
from lram.agents.training.settings import setting_names
from lram.harness.cli.options import RUN_FOLDER, QuietOption, SettingsOption
from lram.harness.cli.printing.closing import conclude_training
from lram.harness.cli.printing.output import print_answer
from lram.harness.errors import LramError
from lram.harness.training import surroundings


def train(
    recipe: Annotated[
        Path | None, Parameter(help="A recipe in TOML; without one, the defaults and --set.")
    ] = None,
    /,
    *,
    output: Annotated[Path | None, RUN_FOLDER] = None,
    resume: Annotated[Path | None, Parameter(help="Continue the run in this folder.")] = None,
    set_: SettingsOption = None,
    print_recipe: Annotated[
        bool,
        Parameter(
            help="Print the recipe with all its fields, and what its preset stands for; train nothing.",
            negative=(),
        ),
    ] = False,
    quiet: QuietOption = False,
) -> int:
    """Train a model on stored trajectories."""
    settings = tuple(set_ or ())
    if "model.backbone" in setting_names(settings):  # named on this command line, so trusted
        search_working_directory()
    if print_recipe:
        print_answer(render_recipe(read_recipe(recipe, settings), expand=True))
        return 0
    if resume is not None:
        if recipe is not None or (output is not None and output != resume):
            raise LramError(
                f"--resume {resume} takes recipe and folder from the run; leave RECIPE and -o out"
            )
        from lram.agents.training.run import go_on

        with surroundings(quiet=quiet) as around:
            outcome = go_on(resume, settings, around)
        return conclude_training(outcome, resume)
    if output is None:
        raise LramError("the run needs a folder; add -o FOLDER, or --resume FOLDER to continue one")
    from lram.agents.training.run import start

    chosen = read_recipe(recipe, settings)
    with surroundings(quiet=quiet) as around:
        outcome = start(chosen, output, around)
    return conclude_training(outcome, output)


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
