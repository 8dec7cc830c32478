"""RWKV-7: a linear recurrence with a decay and a rate of correction a channel (Peng et al. 2025, arXiv
2503.14456).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape

PUBLISHED_HEAD_WIDTH = 64


@dataclass(frozen=True, slots=True)
class RWKV7Config:
    """A stack of RWKV-7 blocks. Where an option is None, the published rule holds.

    Attributes:
        head_width: Width of a head; None: 64, or where that does not divide the width of a token, the largest
            number below that does.
        hidden: Width of the channel mixing; None: four times a token's.
        decay_rank: Rank of what sets the decays; None: :func:`published_rank` of 2.5.
        rate_rank: Of what sets the correction's rate; None: the same.
        value_rank: Of what mixes the first block's value in; None: :func:`published_rank` of 1.7.
        gate_rank: Of the output's gate; None: :func:`published_rank` of 5.
    """

    head_width: int | None = None
    hidden: int | None = None
    decay_rank: int | None = None
    rate_rank: int | None = None
    value_rank: int | None = None
    gate_rank: int | None = None

    def width_of_head(self, width: int) -> int:
        """Return the width of a head, given that of a token."""
        if self.head_width is not None:
            return self.head_width
        return next(size for size in range(min(PUBLISHED_HEAD_WIDTH, width), 0, -1) if width % size == 0)


def published_rank(width: int, factor: float) -> int:
    """Return factor times the root of the width, rounded to a multiple of 32, at least 32."""
    return max(32, round(factor * math.sqrt(width) / 32) * 32)


def _check(model: ModelShape) -> None:
    section: RWKV7Config = model.backbone
    for name in ("head_width", "hidden", "decay_rank", "rate_rank", "value_rank", "gate_rank"):
        check_limits(f"rwkv7.{name}", getattr(section, name))
    if section.head_width is not None and model.width % section.head_width:
        raise AgentError(
            f"rwkv7: width {model.width} is no multiple of head_width {section.head_width}; give a divisor"
        )


def _describe(model: ModelShape) -> str:
    head = model.backbone.width_of_head(model.width)
    return "RWKV-7" + ("" if head == PUBLISHED_HEAD_WIDTH else f", heads of width {head}")


SPEC = BackboneSpec(
    kind="rwkv7",
    options=RWKV7Config,
    build="lram.agents.backbones.rwkv7.plain:RWKV7",
    title="RWKV-7",
    check=_check,
    describe=_describe,
    sizes=sizes_like_xlstm(0.5, hidden=(312, 1840, 2864, 3824, 4752)),
    fused=COMPILED_PARTS,
)
