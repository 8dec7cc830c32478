"""Hawk and Griffin: a gated linear recurrence, alone or with local attention (De et al. 2024,
arXiv 2402.19427).

Hawk has the recurrence (RG-LRU) in every block, Griffin attention in every third. Both are RecurrentGemma's
blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_TOKENS, check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape, Past
from lram.agents.shown import shown

BLOCKS = ("recurrent", "attention")
"""What a block of Griffin can be."""

_ATTENTION = (
    "PyTorch, scaled_dot_product_attention",
    "own kernel over the keys in use (numba)",
)
_MOST_PATTERN = 4096


@dataclass(frozen=True, slots=True)
class RGLRUConfig:
    """A stack of recurrent blocks: Hawk.

    Attributes:
        heads: Blocks of the block-diagonal gates.
        state: Width of the recurrent state; None: that of a token. The paper has 4/3 of it, RecurrentGemma 1.
        conv_kernel: Width of the causal convolution.
        hidden: Width of the feed-forward part; None: three times that of a token.
    """

    heads: int = 4
    state: int | None = None
    conv_kernel: int = 4
    hidden: int | None = None


@dataclass(frozen=True, slots=True)
class GriffinConfig:
    """A stack of recurrent blocks and local attention: Griffin.

    Attributes:
        heads: Blocks of the gates, and heads of the attention's queries; one head of keys and values.
        state: See :class:`RGLRUConfig`.
        conv_kernel: See :class:`RGLRUConfig`.
        hidden: See :class:`RGLRUConfig`.
        window: Tokens that attention sees, itself included: 50 timesteps of three tokens. The paper has 1024,
            RecurrentGemma 2048.
        blocks: Of ``BLOCKS``, repeated over the stack's blocks.
    """

    heads: int = 4
    state: int | None = None
    conv_kernel: int = 4
    hidden: int | None = None
    window: int = 150
    blocks: tuple[str, ...] = ("recurrent", "recurrent", "attention")


def names_of_blocks(model: ModelShape) -> tuple[str, ...]:
    """Return what every block is, of ``BLOCKS``."""
    section: RGLRUConfig | GriffinConfig = model.backbone
    pattern = section.blocks if isinstance(section, GriffinConfig) else ("recurrent",)
    return tuple(pattern[place % len(pattern)] for place in range(model.layers))


def _check(model: ModelShape) -> None:
    section: RGLRUConfig | GriffinConfig = model.backbone
    kind = "griffin" if isinstance(section, GriffinConfig) else "rglru"
    check_limits(f"{kind}.heads", section.heads, 1 << 16)
    check_limits(f"{kind}.state", section.state)
    check_limits(f"{kind}.conv_kernel", section.conv_kernel, 1 << 12)
    check_limits(f"{kind}.hidden", section.hidden)
    state = section.state or model.width
    if state % section.heads:
        raise AgentError(f"{kind}: the state's width {state} is no multiple of the {section.heads} heads")
    if isinstance(section, GriffinConfig):
        _check_attention(model, section)


def _check_attention(model: ModelShape, section: GriffinConfig) -> None:
    check_limits("griffin.window", section.window, MOST_TOKENS)
    if not 0 < len(section.blocks) <= _MOST_PATTERN:
        raise AgentError(f"griffin.blocks names 1 to {_MOST_PATTERN} blocks, not {len(section.blocks)}")
    for name in section.blocks:
        if name not in BLOCKS:
            raise AgentError(f"griffin.blocks names {shown(name)!r}; choose from {', '.join(BLOCKS)}")
    if "attention" in names_of_blocks(model) and model.width % (4 * section.heads):
        raise AgentError(
            f"griffin: width {model.width} is no multiple of 4 times the {section.heads} heads, as rotary "
            "positions on half of a head need"
        )


def _describe(model: ModelShape) -> str:
    section: RGLRUConfig | GriffinConfig = model.backbone
    if not isinstance(section, GriffinConfig):
        return "RG-LRU (Hawk)"
    if section.blocks == GriffinConfig().blocks:
        return f"Griffin (attention to {section.window} tokens)"
    return f"Griffin ({', '.join(section.blocks)}; attention to {section.window} tokens)"


def _past(model: ModelShape) -> Past:
    """Of one size, whatever was read: attention keeps a window."""
    names = set(names_of_blocks(model))
    if "attention" not in names:
        return Past()
    kept = f"keys and values of the last {model.backbone.window} tokens, float32"
    return Past(words=f"recurrent state, and {kept}" if "recurrent" in names else kept)


RGLRU = BackboneSpec(
    kind="rglru",
    options=RGLRUConfig,
    build="lram.agents.backbones.griffin.plain:Hawk",
    title="RG-LRU (Hawk)",
    check=_check,
    describe=_describe,
    sizes=sizes_like_xlstm(0.5, hidden=(320, 1504, 2224, 2960, 3680)),
    fused=COMPILED_PARTS,
)

GRIFFIN = BackboneSpec(
    kind="griffin",
    options=GriffinConfig,
    build="lram.agents.backbones.griffin.plain:Griffin",
    title="Griffin",
    check=_check,
    describe=_describe,
    past=_past,
    sizes=sizes_like_xlstm(0.5, hidden=(336, None, None, None, None)),
    fused=COMPILED_PARTS,
    attention=_ATTENTION,
)
