"""``lram cast``: a checkpoint with weights of another type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lram.harness.cli.options import CheckpointArgument
from lram.harness.cli.printing.paths import as_typed, writing


def cast(
    checkpoint: CheckpointArgument,
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
    from lram.agents.checkpoints.shipped import checkpoint_folder

    model, meta = load_checkpoint(checkpoint_folder(as_typed(str(checkpoint))))
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
