"""What a Transformer of the reference implementation looks like, see
:mod:`lram.agents.checkpoints.reference`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.sizes import table_sizes
from lram.agents.backbones.spec import ReferenceChoices, TensorSize
from lram.agents.backbones.transformer import TransformerConfig

BLOCK = re.compile(r"backbone\.h\.([0-9]{1,4})\.")
TRAINED_CONTEXT = 50
"""Timesteps that the reference's multi-domain models were trained on."""

_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")


def arrange(weights: dict[str, Tensor]) -> None:
    """Bring renamed weights into our order, in place: the reference's Conv1D stores (in, out)."""
    for name, tensor in weights.items():
        if name.endswith(_TRANSPOSED) and tensor.dim() == 2:
            weights[name] = tensor.T


def options_of(
    weights: Mapping[str, Tensor], size: TensorSize, width: int, layers: int, choices: ReferenceChoices
) -> TransformerConfig:
    """Return the options that the weights show, or ``choices`` tell."""
    context = TRAINED_CONTEXT if choices.context is None else choices.context
    if context < 2:
        raise AgentError(f"a Transformer's context must be 2 timesteps or more, not {context}")
    # Of the newest timestep, only state and return-to-go are there when its action is chosen.
    window = (context - 1) * choices.timestep_tokens + 2
    positions = size("backbone.wpe.weight", 0)
    if window > positions:
        raise AgentError(
            f"a context of {context} timesteps is {window} tokens, but the weights have {positions} "
            "positions; give a smaller --context"
        )
    heads = preset_heads(width, layers) if choices.heads is None else choices.heads
    if heads is None:
        raise AgentError(
            f"the weights do not tell the attention heads, and no preset has {layers} blocks of width "
            f"{width}; give them with --heads"
        )
    return TransformerConfig(
        heads=heads, positions="learned", window=window, cache="recompute", max_positions=positions
    )


def preset_heads(width: int, layers: int) -> int | None:
    """Return the heads of the preset of this size; None when there is none."""
    for one in table_sizes("transformer"):
        if (one.width, one.layers) == (width, layers):
            return int(one.options["heads"])
    return None


def assumed(options: TransformerConfig, choices: ReferenceChoices) -> dict[str, str]:
    """Return what the weights do not tell of its options, each with its value and why."""
    heads = "--heads" if choices.heads is not None else "the reference's preset of this size, see --heads"
    timesteps = choices.context or TRAINED_CONTEXT
    return {
        "heads": f"{options.heads} ({heads})",
        "window": f"{options.window} tokens ({timesteps} timesteps, see --context)",
        "positions": f"{choices.positions or 'learned'} (--positions)",
    }
