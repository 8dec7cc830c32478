"""Gated DeltaNet: a linear recurrence that corrects what it holds (Yang, Kautz and Hatamizadeh 2024,
arXiv 2412.06464).
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_FACTOR, check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape

EPS = 1e-6
"""Of every norm, and of the lengths of keys and queries."""


@dataclass(frozen=True, slots=True)
class GatedDeltaNetConfig:
    """A stack of Gated DeltaNet blocks.

    Attributes:
        heads: Heads, each with a matrix.
        key_heads: Heads of keys and queries, each of which serves as many heads; None: as many as heads.
        key_factor: Width of all keys over that of a token.
        value_factor: Width of all values over that of a token.
        conv_kernel: Width of the causal convolution.
        hidden: Width of the feed-forward part; None: 8/3 of a token's, rounded up to a multiple of 16.
        negative_eigenvalues: Whether the correction's rate goes up to 2 instead of 1, so that a memory can
            change its sign (Grazzi et al. 2024, arXiv 2411.12537).
    """

    heads: int = 4
    key_heads: int | None = None
    key_factor: float = 0.75
    value_factor: float = 1.5
    conv_kernel: int = 4
    hidden: int | None = None
    negative_eigenvalues: bool = False

    def head_widths(self, width: int) -> tuple[int, int]:
        """Return the widths of a head's key and value."""
        key_heads = self.key_heads or self.heads
        return round(width * self.key_factor) // key_heads, round(width * self.value_factor) // self.heads


def _check(model: ModelShape) -> None:
    section: GatedDeltaNetConfig = model.backbone
    check_limits("gated_deltanet.heads", section.heads, 1 << 16)
    check_limits("gated_deltanet.key_heads", section.key_heads, 1 << 16)
    check_limits("gated_deltanet.key_factor", section.key_factor, MOST_FACTOR)
    check_limits("gated_deltanet.value_factor", section.value_factor, MOST_FACTOR)
    check_limits("gated_deltanet.conv_kernel", section.conv_kernel, 1 << 12)
    check_limits("gated_deltanet.hidden", section.hidden)
    if min(section.head_widths(model.width)) < 1:
        raise AgentError(
            f"gated_deltanet: width {model.width} leaves nothing for each of {section.heads} heads; give "
            "fewer heads"
        )
    if section.key_heads and section.heads % section.key_heads:
        raise AgentError(
            f"gated_deltanet: {section.heads} heads are no multiple of {section.key_heads} key heads"
        )


def _describe(model: ModelShape) -> str:
    return "Gated DeltaNet" + (", negative eigenvalues" if model.backbone.negative_eigenvalues else "")


SPEC = BackboneSpec(
    kind="gated_deltanet",
    options=GatedDeltaNetConfig,
    build="lram.agents.backbones.gated_deltanet.plain:GatedDeltaNet",
    title="Gated DeltaNet",
    check=_check,
    describe=_describe,
    sizes=sizes_like_xlstm(0.5, hidden=(240, 1080, 1584, 2096, 2608)),
    fused=COMPILED_PARTS,
)
