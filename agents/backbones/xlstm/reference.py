"""What an xLSTM of the reference implementation looks like, see :mod:`lram.agents.checkpoints.reference`.

An sLSTM trained on the reference's CUDA backend stores its recurrent matrix and its bias in another order;
the matrix's shape gives it away, and both are brought into place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.spec import ReferenceChoices, TensorSize
from lram.agents.backbones.xlstm import XLSTMConfig, round_up

BLOCK = re.compile(r"backbone\.blocks\.([0-9]{1,4})\.")
_KERNEL = "._recurrent_kernel_"


def arrange(weights: dict[str, Tensor]) -> None:
    """Bring renamed weights into our order, in place."""
    for name in [name for name in weights if name.endswith(_KERNEL)]:
        _order_slstm(weights, name)


def options_of(
    weights: Mapping[str, Tensor], size: TensorSize, width: int, layers: int, choices: ReferenceChoices
) -> XLSTMConfig:
    """Return the options that the weights show."""
    block = "backbone.blocks.{}.xlstm.".format
    slstm_at = tuple(i for i in range(layers) if f"{block(i)}slstm_cell._recurrent_kernel_" in weights)
    section = XLSTMConfig(slstm_at=slstm_at)
    if slstm_at:
        first = block(slstm_at[0])
        ffn = first.removesuffix("xlstm.") + "ffn.proj_down.weight"
        section = replace(
            section,
            heads=size(f"{first}fgate.weight", 0),
            conv_kernel=size(f"{first}conv1d.conv.weight", 2),
            ffn_factor=_factor(section.ffn_factor, size(ffn, 1), width),
        )
    if len(slstm_at) < layers:
        first = block(next(i for i in range(layers) if i not in slstm_at))
        inner = size(f"{first}conv1d.conv.weight", 0)
        section = replace(
            section,
            heads=size(f"{first}mlstm_cell.igate.weight", 0),
            conv_kernel=size(f"{first}conv1d.conv.weight", 2),
            qkv_block=size(f"{first}q_proj.weight", 2),
            mlstm_factor=_factor(section.mlstm_factor, inner, width),
        )
    return section


def assumed(options: XLSTMConfig, choices: ReferenceChoices) -> dict[str, str]:
    """Return what the weights do not tell of its options, each with its value and why."""
    return {}


def _factor(default: float, inner: int, width: int) -> float:
    """Return a factor that the xlstm package rounds to ``inner``: the default one if that does."""
    # The exact ratio, times the width, may lie a hair above ``inner`` and be rounded up by 64.
    for factor in (default, inner / width, (inner - 32) / width):
        if round_up(factor * width) == inner:
            return factor
    raise AgentError(f"the inner width {inner} of an xLSTM block is no multiple of 64")


def _order_slstm(weights: dict[str, Tensor], kernel_name: str) -> None:
    kernel = weights[kernel_name]
    bias_name = kernel_name.removesuffix("_recurrent_kernel_") + "_bias_"
    # Whatever is not of the CUDA layout stays as it is: a wrong shape is found when it is loaded.
    if kernel.dim() != 3 or kernel.shape[2] != 4 * kernel.shape[1] or bias_name not in weights:
        return
    heads, width, _ = kernel.shape
    if weights[bias_name].shape != (heads * 4 * width,):
        return
    # (head, in, gate, out) -> (head, gate, out, in), and (head, gate, out) -> (gate, head, out).
    weights[kernel_name] = kernel.reshape(heads, width, 4, width).permute(0, 2, 3, 1).flatten(1, 2)
    weights[bias_name] = weights[bias_name].reshape(heads, 4, width).transpose(0, 1).reshape(-1)
