"""Outputs of public code that were recorded (``tests/data/recurrences``), and ours on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lram.agents.backbones.parts.compiled import with_compiled_parts
from lram.agents.backbones.sequences import plain_sequences

FOLDER = Path(__file__).parents[1] / "data" / "recurrences"


class Recorded:
    """One file: ``weights`` by their public names, ``config``, and whatever else it has by key."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        self.config: dict[str, Any] = json.loads(bytes(arrays.pop("meta")))["config"]
        tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
        self.weights = {k.removeprefix("weight/"): v for k, v in tensors.items() if k.startswith("weight/")}
        self.tensors = {key: value for key, value in tensors.items() if not key.startswith("weight/")}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]


@torch.no_grad()
def outputs(module: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Any]]:
    """Return what every form of a block or mixer gives for x (rows, tokens, width), and its state after it.

    Forms of whole sequences have no state.
    """
    with plain_sequences():
        found: dict[str, tuple[Tensor, Any]] = {"plain": (module(x), None)}
    found["kernels"] = module(x), None
    for form, stepped in (("step", module), ("compiled", with_compiled_parts(module, 3))):
        for size in (1, 3):
            made: Any = stepped
            state, parts = module.initial_state(len(x), x.device), []
            for piece in x.split(size, dim=1):
                y, state = made.step(piece, state, None)
                parts.append(y)
            found[f"{form} by {size}"] = torch.cat(parts, dim=1), state
    return found
