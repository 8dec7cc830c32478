"""Weights of the LRAM reference implementation under the names that are used here.

Only tensors are handled: reading the reference's own files (zip archives with pickles inside) is
left to the user's side. An sLSTM trained on the reference's CUDA backend stores its recurrent matrix
and its bias in another order; the matrix's shape gives it away, and both are brought into place.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lram.agents.config import Kind

_PREFIXES: tuple[tuple[str, str], ...] = (
    ("embed_state.", "encoders.state."),
    ("embed_image.linear.0.", "encoders.image.linear."),
    ("embed_image.", "encoders.image."),
    ("embed_return.", "encoders.return_to_go."),
    ("embed_rewards.", "encoders.reward."),
    ("embed_action_disc.", "encoders.action."),
    ("embed_ln.", "encoders.norm."),
    ("action_net.0.", "head."),
    ("encoder.layers.blocks.", "backbone.blocks."),
    ("encoder.layers.post_blocks_norm.", "backbone.post_blocks_norm."),
    ("encoder.", "backbone."),
)
# No action depends on these in any of the reference's configurations.
_UNUSED = ("embed_timestep.", "predict_state.", "predict_return.", "predict_reward.", "encoder.wte.")
_WRAPPERS = ("_orig_mod.", "module.")


def from_reference(
    weights: Mapping[str, Tensor], kind: Kind, *, actions_in_context: bool = False
) -> dict[str, Tensor]:
    """Return a state dict of :class:`lram.agents.model.ActionModel` from one of the reference.

    Args:
        weights: The reference's policy state dict, names perhaps behind ``_orig_mod.`` or ``module.``.
        kind: The backbone's kind.
        actions_in_context: Whether to keep the action embedding, which is unused without.
    """
    renamed = {}
    for theirs, tensor in weights.items():
        name = our_name(theirs)
        if name is None or (name.startswith("encoders.action.") and not actions_in_context):
            continue
        if kind == "transformer" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            tensor = tensor.T  # their Conv1D stores (in, out)
        renamed[name] = tensor
    for name in [name for name in renamed if name.endswith("._recurrent_kernel_")]:
        _order_slstm(renamed, name)
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in renamed.items()}


def our_name(name: str) -> str | None:
    """Return our name of the reference's parameter ``name``; None for those no action depends on."""
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    if name.startswith(_UNUSED):
        return None
    for theirs, ours in _PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _order_slstm(weights: dict[str, Tensor], kernel_name: str) -> None:
    kernel = weights[kernel_name]
    heads, second, third = kernel.shape
    if second == 4 * third:
        return
    bias_name = kernel_name.removesuffix("_recurrent_kernel_") + "_bias_"
    # (head, in, gate, out) -> (head, gate, out, in), and (head, gate, out) -> (gate, head, out).
    weights[kernel_name] = kernel.view(heads, second, 4, second).permute(0, 2, 3, 1).flatten(1, 2)
    weights[bias_name] = weights[bias_name].view(heads, 4, second).transpose(0, 1).reshape(-1)
