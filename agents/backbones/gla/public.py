"""Weights of GLA as the flash-linear-attention package names them, for instance those of
``fla-hub/gla-1.3B-100B``, given the names of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_INPUTS = ("q_proj", "k_proj", "v_proj", "g_proj", "gk_proj.0")
_SAME = {
    "gk_proj.1.weight": "decay_proj.weight",
    "gk_proj.1.bias": "decay_proj.bias",
    # Of the package's fused norm, and of its plain one.
    "g_norm_swish_gate.weight": "norm.weight",
    "g_norm.weight": "norm.weight",
    "o_proj.weight": "out_proj.weight",
}


def from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's weights of a model without short convolutions; embeddings and head are left out.

    Raises:
        KeyError: A weight that ours need is missing.
    """
    return from_fla(weights, _INPUTS, _SAME)


def from_fla(
    weights: Mapping[str, Tensor], inputs: Sequence[str], same: Mapping[str, str]
) -> dict[str, Tensor]:
    """Rename the weights of a model of blocks ``attn`` and ``mlp``.

    Args:
        weights: By the package's names, with or without ``model.`` before them.
        inputs: Projections of a mixer that are one in ours, in our order.
        same: Other weights of a mixer that are in ``weights``, and what ours are called.
    """
    given = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    places = {int(match[1]) for name in given if (match := re.match(r"layers\.(\d+)\.", name))}
    found = {"norm.weight": given["norm.weight"]}
    for place in sorted(places):
        theirs, ours = f"layers.{place}.", f"blocks.{place}."
        # Older models have gate and up in one, in our order.
        ups = [f"{theirs}mlp.{name}_proj.weight" for name in ("gate", "up")]
        made = {
            "norm.weight": given[theirs + "attn_norm.weight"],
            "mixer.in_proj.weight": torch.cat([given[f"{theirs}attn.{name}.weight"] for name in inputs]),
            "feed_forward_norm.weight": given[theirs + "mlp_norm.weight"],
            "feed_forward.up.weight": torch.cat([given[name] for name in ups if name in given]),
            "feed_forward.down.weight": given[theirs + "mlp.down_proj.weight"],
        }
        for name, own in same.items():
            if (tensor := given.get(f"{theirs}attn.{name}")) is not None:
                made[f"mixer.{own}"] = tensor
        found |= {ours + name: tensor for name, tensor in made.items()}
    return found
