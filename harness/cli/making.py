"""Commands that make checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def create(
    preset: Annotated[str, Parameter(help="A preset, such as 'xlstm[7:1]-16M'; see 'lram agents'.")],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="Folder of the checkpoint; must be new.")
    ],
    seed: Annotated[int, Parameter(name=["--seed", "-s"], help="Seed of the random weights.")] = 0,
) -> int:
    """Write a checkpoint with random weights: config.json and model.safetensors."""
    from lram.agents.checkpoint import save_checkpoint
    from lram.agents.model import build_model
    from lram.agents.presets import parse_preset

    config = parse_preset(preset)
    card = {"made_by": f"lram create {preset} --seed {seed}", "note": "random weights, not trained"}
    save_checkpoint(output, build_model(config, seed), config, trained=False, card=card)
    print(f"checkpoint: {output}")
    return 0


COMMANDS: tuple[tuple[Callable[..., Any], str], ...] = ((create, "create"),)
