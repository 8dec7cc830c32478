"""Weights of Mamba-2 as ``mamba_ssm`` and ``transformers`` name them, for a :class:`Mamba2` of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_BLOCK = re.compile(r"(?:backbone\.)?layers\.([0-9]+)\.(.+)")


def from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a backbone.

    Args:
        weights: Of a whole model, such as ``state-spaces/mamba2-130m``; its embeddings and head are left out.
    """
    ours: dict[str, Tensor] = {}
    for name, value in weights.items():
        if match := _BLOCK.fullmatch(name):
            ours.update(block_from_public({match[2]: value}, f"blocks.{match[1]}."))
        elif name.removeprefix("backbone.") == "norm_f.weight":
            ours["norm.weight"] = value
    return ours


def block_from_public(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return the weights of a block, named ``mixer.in_proj.weight`` and so on in both."""
    return {prefix + name.replace("mixer.conv1d.", "mixer.conv."): value for name, value in weights.items()}
