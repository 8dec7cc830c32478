"""Names, layouts and sizes of the LRAM reference implementation's weights (github.com/ml-jku/LRAM).

Only tensors are handled here; :mod:`lram.agents.importing` reads the files. An sLSTM trained on the
reference's CUDA backend stores its recurrent matrix and its bias in another order; the matrix's shape
gives it away, and both are brought into place.

Options of the reference that leave no trace in the weights (time embeddings, rotary positions, symlog,
RMS norms in place of LayerNorms) are taken as in its multi-domain configuration: off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.config import (
    KINDS,
    Kind,
    MambaConfig,
    ModelConfig,
    TransformerConfig,
    XLSTMConfig,
    round_up,
)
from lram.agents.presets import parse_preset, preset_names
from lram.agents.tokens import ACTION_DIMS, Decoding

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
# Causal masks, which older versions of transformers saved with the weights.
_MASK = re.compile(r"encoder\.h\.[0-9]+\.attn\.(masked_)?bias")
_WRAPPERS = ("_orig_mod", "module")  # torch.compile and distributed training, around any module
_HOLDERS = ("state_dict", "params", "policy", "model")
_BLOCKS: dict[Kind, re.Pattern[str]] = {
    "xlstm": re.compile(r"backbone\.blocks\.([0-9]{1,4})\."),
    "mamba": re.compile(r"backbone\.layers\.([0-9]{1,4})\."),
    "transformer": re.compile(r"backbone\.h\.([0-9]{1,4})\."),
}

TRAINED_CONTEXT = 50
"""Timesteps that the reference's multi-domain models were trained on."""

Positions = Literal["learned", "constant"]


@dataclass(frozen=True, slots=True)
class ReferenceOptions:
    """What the weights of a reference model do not tell.

    Attributes:
        actions_in_context: Whether past actions are tokens (``action_condition``); the embedding is
            among the weights of models without, too.
        decode: Where in its bin an action lies; the reference takes the ``lower`` edge.
        heads: A Transformer's attention heads; None takes those of the preset of its width and layers
            (the reference also has an older one, ``dt_medium``, with 4 heads where ours of 16M has 8).
        context: Timesteps that a Transformer looks back; None is the 50 of training.
        positions: A Transformer's: ``learned``, one a token (``global_pos_embds``, as in the published
            commands), or ``constant``, the first one for every token (without that option). None is
            ``learned``.
    """

    actions_in_context: bool = False
    decode: Decoding = "center"
    heads: int | None = None
    context: int | None = None
    positions: Positions | None = None


def from_reference(
    weights: Mapping[str, Tensor], kind: Kind, *, actions_in_context: bool = False
) -> dict[str, Tensor]:
    """Return a state dict of :class:`lram.agents.model.ActionModel` from one of the reference.

    Args:
        weights: The reference's policy state dict, names as :func:`our_name` takes them.
        kind: The backbone's kind.
        actions_in_context: Whether to keep the action embedding, which is unused without.

    Raises:
        AgentError: Two names mean the same tensor.
    """
    renamed: dict[str, Tensor] = {}
    for theirs, tensor in weights.items():
        name = our_name(theirs)
        if name is None or (name.startswith("encoders.action.") and not actions_in_context):
            continue
        if name in renamed:
            raise AgentError(f"{bare_name(theirs)!r} is there twice, behind different prefixes")
        conv1d = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
        if kind == "transformer" and conv1d and tensor.dim() == 2:
            tensor = tensor.T  # their Conv1D stores (in, out)
        renamed[name] = tensor
    for name in [name for name in renamed if name.endswith("._recurrent_kernel_")]:
        _order_slstm(renamed, name)
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in renamed.items()}


def bare_name(name: str) -> str:
    """Return the reference's own name of a parameter.

    Goes: ``_orig_mod`` and ``module`` wherever they stand, in any number; ``policy``, ``model``,
    ``params`` and ``state_dict`` in front.
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while parts and parts[0] in _HOLDERS:
        parts.pop(0)
    return ".".join(parts)


def our_name(name: str) -> str | None:
    """Return our name of the reference's parameter ``name``; None for those no action depends on."""
    name = bare_name(name)
    if name.startswith(_UNUSED) or _MASK.fullmatch(name):
        return None
    for theirs, ours in _PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def their_name(name: str) -> str:
    """Return the reference's name of our parameter ``name``."""
    for theirs, ours in _PREFIXES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def kind_of(names: Iterable[str]) -> Kind:
    """Return the kind of backbone that parameters (our names) are of; AgentError if it is not one."""
    names = list(names)
    found = [kind for kind in KINDS if any(_BLOCKS[kind].match(name) for name in names)]
    if len(found) != 1:
        seen = " and ".join(found) if found else "none"
        raise AgentError(f"the encoder must be an xLSTM, a Mamba or a Transformer; found: {seen}")
    return found[0]


def read_config(weights: Mapping[str, Tensor], options: ReferenceOptions) -> ModelConfig:
    """Return the configuration that ``weights`` (as :func:`from_reference` returns them) are of.

    Raises:
        AgentError: A tensor that tells a size is missing, sizes are not of any reference model, or an
            option is needed or out of place.
    """
    kind = kind_of(weights)
    if kind != "transformer":
        for option in ("heads", "context", "positions"):
            if getattr(options, option) is not None:
                raise AgentError(
                    f"{option} is an option for Transformers, and the weights are of another kind"
                )
    blocks = {int(match[1]) for name in weights if (match := _BLOCKS[kind].match(name))}
    if blocks != set(range(len(blocks))):
        raise AgentError(f"there are {len(blocks)} blocks, but they are numbered up to {max(blocks)}")
    width, layers = _size(weights, "encoders.norm.weight", 0), len(blocks)
    config = ModelConfig(
        width,
        layers,
        xlstm=_xlstm(weights, width, layers) if kind == "xlstm" else None,
        mamba=_mamba(weights, width) if kind == "mamba" else None,
        transformer=_transformer(weights, width, layers, options) if kind == "transformer" else None,
        state_width=_size(weights, "encoders.state.weight", 1),
        actions_in_context=options.actions_in_context,
        decode=options.decode,
    )
    return replace(config, name=_preset_name(config))


def _xlstm(weights: Mapping[str, Tensor], width: int, layers: int) -> XLSTMConfig:
    block = "backbone.blocks.{}.xlstm.".format
    slstm_at = tuple(i for i in range(layers) if f"{block(i)}slstm_cell._recurrent_kernel_" in weights)
    section = XLSTMConfig(slstm_at=slstm_at)
    if slstm_at:
        first = block(slstm_at[0])
        ffn = first.removesuffix("xlstm.") + "ffn.proj_down.weight"
        section = replace(
            section,
            heads=_size(weights, f"{first}fgate.weight", 0),
            conv_kernel=_size(weights, f"{first}conv1d.conv.weight", 2),
            ffn_factor=_factor(section.ffn_factor, _size(weights, ffn, 1), width),
        )
    if len(slstm_at) < layers:
        first = block(next(i for i in range(layers) if i not in slstm_at))
        inner = _size(weights, f"{first}conv1d.conv.weight", 0)
        section = replace(
            section,
            heads=_size(weights, f"{first}mlstm_cell.igate.weight", 0),
            conv_kernel=_size(weights, f"{first}conv1d.conv.weight", 2),
            qkv_block=_size(weights, f"{first}q_proj.weight", 2),
            mlstm_factor=_factor(section.mlstm_factor, inner, width),
        )
    return section


def _mamba(weights: Mapping[str, Tensor], width: int) -> MambaConfig:
    mixer = "backbone.layers.0.mixer."
    channels = _size(weights, f"{mixer}A_log", 0)
    if channels % width:
        raise AgentError(f"the {channels} channels of a Mamba block are no multiple of the width {width}")
    rank = _size(weights, f"{mixer}dt_proj.weight", 1)
    return MambaConfig(
        state_size=_size(weights, f"{mixer}A_log", 1),
        conv_kernel=_size(weights, f"{mixer}conv1d.weight", 2),
        expand=channels // width,
        dt_rank=None if rank == math.ceil(width / 16) else rank,
    )


def _transformer(
    weights: Mapping[str, Tensor], width: int, layers: int, options: ReferenceOptions
) -> TransformerConfig:
    context = TRAINED_CONTEXT if options.context is None else options.context
    if context < 2:
        raise AgentError(f"a Transformer's context must be 2 timesteps or more, not {context}")
    # Of the newest timestep, only state and return-to-go are there when its action is chosen.
    window = (context - 1) * (3 + (ACTION_DIMS if options.actions_in_context else 0)) + 2
    positions = _size(weights, "backbone.wpe.weight", 0)
    if window > positions:
        raise AgentError(
            f"a context of {context} timesteps is {window} tokens, but the weights have {positions} "
            "positions; give a smaller --context"
        )
    heads = preset_heads(width, layers) if options.heads is None else options.heads
    if heads is None:
        raise AgentError(
            f"the weights do not tell the attention heads, and no preset has {layers} blocks of width "
            f"{width}; give them with --heads"
        )
    return TransformerConfig(
        heads=heads, positions="learned", window=window, cache="recompute", max_positions=positions
    )


def preset_heads(width: int, layers: int) -> int | None:
    """Return the heads of the reference's Transformer of this size; None when there is none."""
    for preset in map(parse_preset, preset_names()):
        section, size = preset.transformer, (preset.width, preset.layers)
        # The small preset, of rotary positions, is not of the reference.
        if section is not None and section.positions == "learned" and size == (width, layers):
            return section.heads
    return None


def _preset_name(config: ModelConfig) -> str:
    """Return the preset whose backbone is that of ``config``; empty when there is none."""
    for name in preset_names():
        preset = parse_preset(name)
        same = all(getattr(config, part) == getattr(preset, part) for part in ("width", "layers", *KINDS))
        if same:
            return name
    return ""


def _factor(default: float, inner: int, width: int) -> float:
    """Return a factor that the xlstm package rounds to ``inner``: the default one if that does."""
    # The exact ratio, times the width, may lie a hair above ``inner`` and be rounded up by 64.
    for factor in (default, inner / width, (inner - 32) / width):
        if round_up(factor * width) == inner:
            return factor
    raise AgentError(f"the inner width {inner} of an xLSTM block is no multiple of 64")


def _size(weights: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in weights:
        raise AgentError(f"{their_name(name)} is missing")
    shape = tuple(weights[name].shape)
    if axis >= len(shape) or 0 in shape:
        raise AgentError(f"{their_name(name)} has the shape {shape}, which no reference model has")
    return shape[axis]


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
