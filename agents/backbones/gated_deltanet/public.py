"""Weights of Gated DeltaNet as public code names them, for a :class:`GatedDeltaNet` of ours.

``fla`` has a projection each for q, k, v, the gate, beta and dt, and a convolution each for q, k and v.
``transformers`` has one projection whose rows go by heads of keys, and norms of a block with weights 1 + w.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_BLOCK = re.compile(r"(?:model\.)?layers\.([0-9]+)\.(.+)")


def from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a backbone, given those of a whole model of ``fla``, but for its embeddings and
    its head.
    """
    blocks: dict[str, dict[str, Tensor]] = {}
    ours: dict[str, Tensor] = {}
    for name, value in weights.items():
        if match := _BLOCK.fullmatch(name):
            blocks.setdefault(match[1], {})[match[2]] = value
        elif name.removeprefix("model.") == "norm.weight":
            ours["norm.weight"] = value
    for place, block in blocks.items():
        ours.update({f"blocks.{place}.{name}": value for name, value in block_from_fla(block).items()})
    return ours


def block_from_fla(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a block, given those of ``fla``'s (``attn.q_proj.weight`` and so on)."""
    projections = [weights[f"attn.{part}_proj.weight"] for part in ("q", "k", "v", "g", "b", "a")]
    return {
        "norm.weight": weights["attn_norm.weight"],
        "mixer.in_proj.weight": torch.cat(projections),
        "mixer.conv.weight": torch.cat([weights[f"attn.{part}_conv1d.weight"] for part in ("q", "k", "v")]),
        "mixer.A_log": weights["attn.A_log"],
        "mixer.dt_bias": weights["attn.dt_bias"],
        "mixer.norm.weight": weights["attn.o_norm.weight"],
        "mixer.out_proj.weight": weights["attn.o_proj.weight"],
        "feed_forward_norm.weight": weights["mlp_norm.weight"],
        **_feed_forward(weights),
    }


def block_from_transformers(weights: Mapping[str, Tensor], key_heads: int) -> dict[str, Tensor]:
    """Return the weights of a block, given those of a layer of a Qwen3-Next with linear attention.

    Args:
        weights: ``linear_attn.*``, ``input_layernorm.weight``, ``post_attention_layernorm.weight`` and
            ``mlp.*``, which must be dense, without experts.
        key_heads: Its ``linear_num_key_heads``.
    """
    heads, value = len(weights["linear_attn.A_log"]), len(weights["linear_attn.norm.weight"])
    keys = (len(weights["linear_attn.conv1d.weight"]) - heads * value) // 2
    served = heads // key_heads
    large, small = weights["linear_attn.in_proj_qkvz.weight"], weights["linear_attn.in_proj_ba.weight"]
    widths = [keys // key_heads] * 2 + [served * value] * 2  # of q, k, v and the gate, of a head of keys
    parts = [
        *torch.split(large.view(key_heads, -1, large.shape[1]), widths, dim=1),
        *torch.split(small.view(key_heads, -1, small.shape[1]), [served] * 2, dim=1),
    ]
    return {
        "norm.weight": 1 + weights["input_layernorm.weight"],
        "mixer.in_proj.weight": torch.cat([part.flatten(0, 1) for part in parts]),
        "mixer.conv.weight": weights["linear_attn.conv1d.weight"],
        "mixer.A_log": weights["linear_attn.A_log"],
        "mixer.dt_bias": weights["linear_attn.dt_bias"],
        "mixer.norm.weight": weights["linear_attn.norm.weight"],
        "mixer.out_proj.weight": weights["linear_attn.out_proj.weight"],
        "feed_forward_norm.weight": 1 + weights["post_attention_layernorm.weight"],
        **_feed_forward(weights),
    }


def _feed_forward(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        "feed_forward.up.weight": torch.cat([weights["mlp.gate_proj.weight"], weights["mlp.up_proj.weight"]]),
        "feed_forward.down.weight": weights["mlp.down_proj.weight"],
    }
