"""Weights of the authors' models (BlinkDL/rwkv-7-world, BlinkDL/rwkv7-g1; the package ``rwkv``) as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

_MIXES = MappingProxyType(
    {"att": ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g"), "ffn": ("x_k",)}
)  # in the order of ours
_LOW_RANK = MappingProxyType({"w": "decay", "a": "rate", "v": "value_mix", "g": "gate"})
_NAMES = MappingProxyType(
    {
        "ln1": "time_norm",
        "ln2": "channel_norm",
        "att.receptance": "time.receptance",
        "att.key": "time.key",
        "att.value": "time.value",
        "att.output": "time.out",
        "att.k_k": "time.recurrence.key_scale",
        "att.k_a": "time.recurrence.key_rate",
        "att.r_k": "time.recurrence.bonus",
        "att.ln_x.weight": "time.recurrence.norm_weight",
        "att.ln_x.bias": "time.recurrence.norm_bias",
        "ffn.key": "channels.up",
        "ffn.value": "channels.down",
    }
)


def from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an :class:`lram.agents.backbones.rwkv7.plain.RWKV7` from those of a ``.pth``.

    Token embeddings and the head, which a backbone has not, are left out, as is what the first block does not
    use.
    """
    ours: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.startswith("ln_out."):
            ours[f"norm.{name[7:]}"] = weight
        elif name.startswith("blocks.0.ln0."):
            ours[f"first_norm.{name[13:]}"] = weight
        elif (match := re.fullmatch(r"blocks\.(\d+)\.(.+)", name)) is not None:
            ours.update(_of_block(int(match[1]), match[2], weight))
    for place in sorted({int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}):
        for part, mixing in (("att", "time"), ("ffn", "channels")):
            mixes = [weights[f"blocks.{place}.{part}.{mix}"].flatten() for mix in _MIXES[part]]
            ours[f"blocks.{place}.{mixing}.mix.weight"] = torch.stack(mixes)
    return ours


def _of_block(place: int, name: str, weight: Tensor) -> dict[str, Tensor]:
    if (match := re.fullmatch(r"att\.([wavg])([012])", name)) is not None:
        if place == 0 and match[1] == "v":
            return {}
        kind = ("bias", "down", "up")[int(match[2])]
        # Theirs multiply from the right: x w1 w2.
        weight = weight.flatten() if kind == "bias" else weight.t().contiguous()
        return {f"blocks.{place}.time.{_LOW_RANK[match[1]]}.{kind}": weight}
    if name in _NAMES:
        return {f"blocks.{place}.{_NAMES[name]}": weight.flatten()}
    layer, _, kind = name.rpartition(".")
    return {f"blocks.{place}.{_NAMES[layer]}.{kind}": weight} if layer in _NAMES else {}
