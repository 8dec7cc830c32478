"""Weights of HGRN2 as the flash-linear-attention package names them, for instance those of
``fla-hub/hgrn2-1.3B-100B``, given the names of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lram.agents.backbones.gla.public import from_fla


def from_public(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's weights of a model without short convolutions; embeddings and head are left out.

    Raises:
        KeyError: A weight that ours need is missing.
    """
    bounds = weights.get("model.lower_bounds")
    found = from_fla(
        weights,
        ("q_proj", "f_proj", "i_proj"),
        {"g_norm.weight": "norm.weight", "o_proj.weight": "out_proj.weight"},
    )
    return {**found, "lower_bounds.weight": weights["lower_bounds"] if bounds is None else bounds}
