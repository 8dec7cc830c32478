"""Names, layouts and sizes of the LRAM reference implementation's weights (github.com/ml-jku/LRAM).

Only tensors are handled here; :mod:`lram.agents.checkpoints.importing` reads the files. What a kind of
backbone looks like there stands in the module that its specification names: ``BLOCK``, names of its blocks'
tensors; ``arrange``, their order; ``options_of`` and ``assumed``, its options.

Options of the reference that leave no trace in the weights (time embeddings, rotary positions, symlog,
RMS norms in place of LayerNorms) are taken as in its multi-domain configuration: off.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.registry import BUILT_IN, find_spec
from lram.agents.model.config import ModelConfig
from lram.agents.model.presets import parse_preset, preset_names
from lram.agents.model.tokens import ACTION_DIMS, Decoding

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

    @property
    def timestep_tokens(self) -> int:
        """Tokens of a timestep."""
        return 3 + (ACTION_DIMS if self.actions_in_context else 0)


def from_reference(
    weights: Mapping[str, Tensor], kind: str, *, actions_in_context: bool = False
) -> dict[str, Tensor]:
    """Return a state dict of :class:`lram.agents.model.network.ActionModel` from one of the reference.

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
        renamed[name] = tensor
    reader_of(kind).arrange(renamed)
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


def reader_of(kind: str) -> Any:
    """Return the module that tells what a kind of backbone looks like in the reference."""
    return importlib.import_module(find_spec(kind).reference)


def kind_of(names: Iterable[str]) -> str:
    """Return the kind of backbone that parameters (our names) are of; AgentError if it is not one."""
    names = list(names)
    known = [spec for spec in BUILT_IN if spec.reference]
    found = [
        spec for spec in known if any(reader_of(spec.kind).BLOCK.match(name) is not None for name in names)
    ]
    if len(found) != 1:
        seen = " and ".join(spec.kind for spec in found) if found else "none"
        *first, last = (spec.label for spec in known)
        listed = f"{', a '.join(first)} or a {last}"
        raise AgentError(f"the encoder must be an {listed}; found: {seen}")
    return found[0].kind


def read_config(weights: Mapping[str, Tensor], options: ReferenceOptions) -> ModelConfig:
    """Return the configuration that ``weights`` (as :func:`from_reference` returns them) are of.

    Raises:
        AgentError: A tensor that tells a size is missing, sizes are not of any reference model, or an
            option is needed or out of place.
    """
    kind = kind_of(weights)
    reader = reader_of(kind)
    size = partial(_size, weights)
    blocks = {int(match[1]) for name in weights if (match := reader.BLOCK.match(name))}
    if blocks != set(range(len(blocks))):
        raise AgentError(f"there are {len(blocks)} blocks, but they are numbered up to {max(blocks)}")
    width, layers = size("encoders.norm.weight", 0), len(blocks)
    section = reader.options_of(weights, size, width, layers, options)
    for option in ("heads", "context", "positions"):
        if getattr(options, option) is not None and not reader.assumed(section, options):
            raise AgentError(f"{option} is an option for Transformers, and the weights are of another kind")
    config = ModelConfig(
        width,
        layers,
        section,
        state_width=size("encoders.state.weight", 1),
        actions_in_context=options.actions_in_context,
        decode=options.decode,
    )
    return replace(config, name=_preset_name(config))


def _preset_name(config: ModelConfig) -> str:
    """Return the preset whose backbone is that of ``config``; empty when there is none."""
    for name in preset_names():
        preset = parse_preset(name)
        if (config.width, config.layers, config.backbone) == (preset.width, preset.layers, preset.backbone):
            return name
    return ""


def _size(weights: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in weights:
        raise AgentError(f"{their_name(name)} is missing")
    shape = tuple(weights[name].shape)
    if axis >= len(shape) or 0 in shape:
        raise AgentError(f"{their_name(name)} has the shape {shape}, which no reference model has")
    return shape[axis]
