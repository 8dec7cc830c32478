"""``lram create``: a checkpoint with random weights."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lram.agents.own_modules import search_working_directory
from lram.agents.training.settings import apply_settings, setting_names
from lram.harness.cli.options import NewCheckpointOption
from lram.harness.cli.printing.paths import writing
from lram.harness.errors import LramError
from lram.harness.words import command

_OF_TRAINING = ("model.init_from", "model.state_init")


def create(
    preset: Annotated[
        str | None, Parameter(help="A preset, such as 'xlstm[7:1]-16M'; see 'lram agents'.")
    ] = None,
    /,
    *,
    output: NewCheckpointOption,
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            help="model.field=value: set a field of the model, as of a recipe for 'lram train'; repeat it "
            "for several, such as --set model.backbone=mine:SPEC --set model.width=64 --set model.layers=2.",
            negative=(),
        ),
    ] = None,
    seed: Annotated[int, Parameter(name=["--seed", "-s"], help="Seed of the random weights.")] = 0,
) -> int:
    """Write a checkpoint with random weights: config.json and model.safetensors.

    Example: lram create --set model.backbone=mine:SPEC --set model.width=64 --set model.layers=2 -o untrained
    """
    from lram.agents.checkpoints.folder import save_checkpoint
    from lram.agents.model.network import build_model
    from lram.agents.model.presets import parse_preset
    from lram.agents.training.recipe import model_config
    from lram.agents.training.recipe_text import recipe_from_dict

    settings, words = tuple(set_ or ()), [preset] if preset is not None else []
    names = setting_names(settings)
    if wrong := sorted(name for name in names if not name.startswith("model.") or name in _OF_TRAINING):
        raise LramError(f"{wrong[0]} is no field of a model with random weights; leave it out")
    if "model.backbone" in names:  # named on this command line, so trusted
        search_working_directory()
    if preset is not None and not settings:
        config = parse_preset(preset)
    else:
        base = {"model": {"preset": preset}} if preset is not None else {}
        config = model_config(recipe_from_dict(apply_settings(base, settings), "the model").model)
    made_by = " ".join(["lram create", *words, *(f"--set {one}" for one in settings), f"--seed {seed}"])
    card = {"made_by": made_by, "note": "random weights, not trained"}
    with writing(output):
        save_checkpoint(output, build_model(config, seed), config, trained=False, card=card)
    print(f"checkpoint: {output}")
    if settings:
        print(f"next: {command('check', output)}")
    return 0
