"""Weights of the public minGRU and minLSTM layers (lucidrains' minGRU-pytorch 0.2.1), as ours are named."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "to_hidden_and_gate.weight": "in_proj.weight",  # rows: candidate, gate
        "to_hidden_and_f_i_gate.weight": "in_proj.weight",  # rows: candidate, forget gate, input gate
        "to_out.weight": "out_proj.weight",
    }
)
"""Of a layer ``minGRU`` or ``minLSTM``, and of our mixer. Both pack their inputs in one order."""


def from_public(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return the weights of one public recurrent layer for a :class:`MinimalMixer` without convolution.

    Args:
        weights: A state dict; in one of a whole ``minLM`` the layer of block N is at ``layers.N.2.``.
        prefix: Where the layer is in it.
    """
    return {ours: weights[prefix + theirs] for theirs, ours in NAMES.items() if prefix + theirs in weights}
