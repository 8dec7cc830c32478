"""``lram create``: a checkpoint with random weights."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import NewCheckpointOption
from lram.harness.cli.printing.paths import writing


def create(
    preset: Annotated[str, Parameter(help="A preset, such as 'xlstm[7:1]-16M'; see 'lram agents'.")],
    /,
    *,
    output: NewCheckpointOption,
    seed: Annotated[int, Parameter(name=["--seed", "-s"], help="Seed of the random weights.")] = 0,
) -> int:
    """Write a checkpoint with random weights: config.json and model.safetensors."""
    from lram.agents.checkpoints.folder import save_checkpoint
    from lram.agents.model.network import build_model
    from lram.agents.model.presets import parse_preset

    config = parse_preset(preset)
    card = {"made_by": f"lram create {preset} --seed {seed}", "note": "random weights, not trained"}
    with writing(output):
        save_checkpoint(output, build_model(config, seed), config, trained=False, card=card)
    print(f"checkpoint: {output}")
    return 0
