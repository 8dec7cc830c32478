"""Gated linear attention: a matrix a head whose decay is a function of the token (Yang, Wang, Shen, Panda and
Kim 2023, arXiv 2312.06635).
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_FACTOR, check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape


@dataclass(frozen=True, slots=True)
class GLAConfig:
    """A stack of gated linear attention.

    Attributes:
        heads: Heads.
        key_factor: Width of all keys over that of a token.
        value_factor: Width of all values over that of a token.
        decay_rank: Width between the two projections that the decays come from.
        decay_divisor: What the logarithms of the decays are divided by: the larger, the slower a fresh model
            forgets.
        hidden: Width of the feed-forward part; None: 8/3 of a token's, rounded up to a multiple of 16.
    """

    heads: int = 4
    key_factor: float = 0.5
    value_factor: float = 1.0
    decay_rank: int = 16
    decay_divisor: float = 16.0
    hidden: int | None = None

    def head_widths(self, width: int) -> tuple[int, int]:
        """Return the widths of a head's key and value."""
        return round(width * self.key_factor) // self.heads, round(width * self.value_factor) // self.heads


def _check(model: ModelShape) -> None:
    section: GLAConfig = model.backbone
    check_limits("gla.heads", section.heads, 1 << 16)
    check_limits("gla.key_factor", section.key_factor, MOST_FACTOR)
    check_limits("gla.value_factor", section.value_factor, MOST_FACTOR)
    check_limits("gla.decay_rank", section.decay_rank, 1 << 16)
    check_limits("gla.hidden", section.hidden)
    if not 1 <= section.decay_divisor <= 1e6:
        raise AgentError(f"gla.decay_divisor must be from 1 to 1000000, not {section.decay_divisor}")
    if min(section.head_widths(model.width)) < 1:
        raise AgentError(
            f"gla: width {model.width} leaves nothing for each of {section.heads} heads; give fewer heads"
        )


def _describe(model: ModelShape) -> str:
    divisor = model.backbone.decay_divisor
    return "Gated linear attention" + ("" if divisor == 16 else f", decays divided by {divisor:g}")


SPEC = BackboneSpec(
    kind="gla",
    options=GLAConfig,
    build="lram.agents.backbones.gla.plain:GLA",
    title="GLA",
    check=_check,
    describe=_describe,
    sizes=sizes_like_xlstm(0.5, hidden=(304, 1408, 2096, 2784, 3456)),
    fused=COMPILED_PARTS,
)
