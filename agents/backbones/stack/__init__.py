"""Stacks of mixing layers, for hybrids: ``stack[mlstm,mlstm,slstm]-16M``, ``stack[mamba*3,attention]-16M``.

The pattern in the brackets is repeated over the blocks of a size. The mixing layers are in
:mod:`lram.agents.backbones.stack.mixers`; each is a whole pre-norm residual block of the kind it is of, with
that kind's own defaults but for what :class:`StackConfig` sets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_TOKENS, check_limits
from lram.agents.backbones.sizes import table_sizes
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, EncoderWeights, ModelShape, Past, Size
from lram.agents.shown import shown

MIXERS = MappingProxyType(
    {
        "mlstm": "lram.agents.backbones.stack.mixers:MLSTMMixing",
        "slstm": "lram.agents.backbones.stack.mixers:SLSTMMixing",
        "mamba": "lram.agents.backbones.stack.mixers:MambaMixing",
        "attention": "lram.agents.backbones.stack.mixers:AttentionMixing",
        "gated_deltanet": "lram.agents.backbones.stack.mixers:GatedDeltaNetMixing",
        "gla": "lram.agents.backbones.stack.mixers:GLAMixing",
        "hgrn2": "lram.agents.backbones.stack.mixers:HGRN2Mixing",
        "rwkv7": "lram.agents.backbones.stack.mixers:RWKV7Mixing",
        "rglru": "lram.agents.backbones.stack.mixers:RGLRUMixing",
        "mamba2": "lram.agents.backbones.stack.mixers:Mamba2Mixing",
        "gru": "lram.agents.backbones.stack.mixers:GRUMixing",
        "lstm": "lram.agents.backbones.stack.mixers:LSTMMixing",
        "mingru": "lram.agents.backbones.stack.mixers:MinGRUMixing",
        "minlstm": "lram.agents.backbones.stack.mixers:MinLSTMMixing",
    }
)
"""The mixing layers by name, each a ``module:Class`` of a mixer."""

_ATTENTION = "PyTorch, scaled_dot_product_attention, in blocks that have it"
_MOST_PATTERN = 4096
_ITEM = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(\*(?P<times>[0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class StackConfig:
    """A stack of mixing layers.

    Attributes:
        blocks: Names of mixing layers; over more blocks than these, they are repeated.
        heads: Heads of the mixing layers that have some.
        window: Tokens that attention sees, itself included, by rotary positions.
    """

    blocks: tuple[str, ...] = ("mlstm",)
    heads: int = 4
    window: int = 150


def pattern(text: str) -> tuple[str, ...]:
    """Return the names that ``mamba*3,attention`` stands for; AgentError for one that is unknown."""
    names: list[str] = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None or match["name"] not in MIXERS:
            raise AgentError(
                f"there is no mixing layer {shown(item.strip())!r}; choose from {', '.join(MIXERS)}, such as "
                "stack[mamba*3,attention]-16M"
            )
        names += [match["name"]] * int(match["times"] or 1)
        if not 0 < len(names) <= _MOST_PATTERN:
            raise AgentError(f"a stack's pattern has 1 to {_MOST_PATTERN} blocks, not as {shown(text)} says")
    return tuple(names)


def _preset(brackets: str, size: Size) -> StackConfig:
    return StackConfig(pattern(brackets or "mlstm"), heads=size.options["heads"])


def _check(model: ModelShape) -> None:
    section: StackConfig = model.backbone
    check_limits("stack.heads", section.heads, 1 << 16)
    check_limits("stack.window", section.window, MOST_TOKENS)
    if not section.blocks or len(section.blocks) > _MOST_PATTERN:
        raise AgentError(f"stack.blocks names 1 to {_MOST_PATTERN} mixing layers, not {len(section.blocks)}")
    for name in section.blocks:
        if name not in MIXERS:
            raise AgentError(f"stack.blocks names {shown(name)!r}; choose from {', '.join(MIXERS)}")
    heads = {"mlstm", "slstm", "attention", "hgrn2", "rglru"} & set(section.blocks)
    if heads and model.width % section.heads:
        raise AgentError(f"width {model.width} is no multiple of the stack's {section.heads} heads")
    if "attention" in heads and (model.width // section.heads) % 2:
        raise AgentError("rotary positions need an even width a head")


def names_of_blocks(model: ModelShape) -> tuple[str, ...]:
    """Return the mixing layer of every block."""
    blocks: tuple[str, ...] = model.backbone.blocks
    return tuple(blocks[place % len(blocks)] for place in range(model.layers))


def _describe(model: ModelShape) -> str:
    runs: list[tuple[str, int]] = []
    for name in names_of_blocks(model)[: len(model.backbone.blocks)]:
        times = runs.pop()[1] + 1 if runs and runs[-1][0] == name else 1
        runs.append((name, times))
    written = ", ".join(name if times == 1 else f"{times} {name}" for name, times in runs)
    return f"Stack of {written}" + (", repeated" if len(model.backbone.blocks) < model.layers else "")


def _past(model: ModelShape) -> Past:
    """Of one size, whatever was read: attention keeps a window."""
    names = set(names_of_blocks(model))
    kept = f"keys and values of the last {model.backbone.window} tokens"
    if "attention" not in names:
        return Past()
    return Past(
        words=f"{kept}, float32" if names == {"attention"} else f"recurrent state, and {kept}, float32"
    )


SPEC = BackboneSpec(
    kind="stack",
    options=StackConfig,
    build="lram.agents.backbones.stack.plain:Stack",
    title="Stack",
    check=_check,
    describe=_describe,
    past=_past,
    fused=COMPILED_PARTS,
    attention=(_ATTENTION, _ATTENTION),
    sizes=table_sizes("xlstm"),
    brackets=r"[a-z][a-z0-9_]*(\*[0-9]{1,4})?( ?, ?[a-z][a-z0-9_]*(\*[0-9]{1,4})?)*",
    listed=("mlstm,mlstm,slstm", "mamba*3,attention", "gated_deltanet*3,attention"),
    preset=_preset,
    encoders=EncoderWeights(normal_inputs=True, drawn_biases=True),
)
