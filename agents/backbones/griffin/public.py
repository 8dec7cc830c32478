"""Weights under the names of RecurrentGemma as Hugging Face's transformers has it
(``google/recurrentgemma-2b``).

What is not the backbone's is left out: the embedding (whose vectors RecurrentGemma multiplies by the root of
the width) and the head. Its norms multiply by 1 + weight, ours by weight. Its attention, too, counts the
token itself to the window; in the authors' own package the window is one token longer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_LAYER = re.compile(r"(?:model\.)?layers\.([0-9]+)\.(.+)")
_NORMS = {"temporal_pre_norm.weight": "norm.weight", "channel_pre_norm.weight": "feed_forward_norm.weight"}
_SAME = {
    "temporal_block.linear_out": "mixer.out_proj",
    "temporal_block.o_proj": "mixer.out_proj",
    "temporal_block.conv_1d": "mixer.conv",
    "mlp_block.down_proj": "feed_forward.down",
}


def from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a stack under our names, as they are in RecurrentGemma's state dict."""
    layers: dict[str, dict[str, Tensor]] = {}
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if match := _LAYER.fullmatch(name):
            layers.setdefault(match[1], {})[match[2]] = tensor
        elif name.removeprefix("model.") == "final_norm.weight":
            found["norm.weight"] = 1 + tensor
    for layer, its in layers.items():
        found |= {f"blocks.{layer}.{name}": tensor for name, tensor in block_from_public(its).items()}
    return found


def block_from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of one block, given those of one layer without its prefix."""
    found = {ours: 1 + weights[theirs] for theirs, ours in _NORMS.items()}
    for theirs, ours in _SAME.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in weights:
                found[f"{ours}.{kind}"] = weights[f"{theirs}.{kind}"]
    for kind in ("weight", "bias"):
        up = [weights[f"mlp_block.{part}_proj.{kind}"] for part in ("gate", "up")]
        found[f"feed_forward.up.{kind}"] = torch.cat(up)
    if "temporal_block.q_proj.weight" in weights:
        qkv = [weights[f"temporal_block.{part}_proj.weight"] for part in "qkv"]
        return found | {"mixer.in_proj.weight": torch.cat(qkv)}
    for kind in ("weight", "bias"):
        both = [weights[f"temporal_block.linear_{part}.{kind}"] for part in "yx"]
        found[f"mixer.in_proj.{kind}"] = torch.cat(both)
    lru = "temporal_block.rg_lru"
    gates = [weights[f"{lru}.{part}_gate_weight"].transpose(1, 2) for part in ("input", "recurrent")]
    biases = [weights[f"{lru}.{part}_gate_bias"] for part in ("input", "recurrent")]
    return found | {
        "mixer.recurrence.gates.weight": torch.cat(gates, dim=1),
        "mixer.recurrence.gates.bias": torch.cat(biases, dim=1).flatten(),
        "mixer.recurrence.decay": weights[f"{lru}.recurrent_param"],
    }
