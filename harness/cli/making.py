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
    from lram.agents.checkpoint import create_checkpoint

    print(create_checkpoint(preset, output, seed=seed))
    return 0


COMMANDS: tuple[tuple[Callable[..., Any], str], ...] = ((create, "create"),)
