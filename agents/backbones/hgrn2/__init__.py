"""HGRN2: a gated linear recurrence whose state is a matrix a head, and whose forget gates have a lower bound
that rises from layer to layer (Qin, Yang, Sun, Shen, Li, Sun and Zhong 2024, arXiv 2404.07904).
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape


@dataclass(frozen=True, slots=True)
class HGRN2Config:
    """A stack of HGRN2 blocks.

    Attributes:
        heads: Heads. The width over them is what the paper calls the expansion ratio, the numbers that each
            channel's state has; the published models have 128.
        hidden: Width of the feed-forward part; None: 8/3 of a token's, rounded up to a multiple of 16.
    """

    heads: int = 4
    hidden: int | None = None


def _check(model: ModelShape) -> None:
    section: HGRN2Config = model.backbone
    check_limits("hgrn2.heads", section.heads, 1 << 16)
    check_limits("hgrn2.hidden", section.hidden)
    if model.width % section.heads:
        raise AgentError(f"hgrn2: width {model.width} is no multiple of {section.heads} heads")


def _describe(model: ModelShape) -> str:
    return f"HGRN2, {model.width // model.backbone.heads} numbers a channel"


SPEC = BackboneSpec(
    kind="hgrn2",
    options=HGRN2Config,
    build="lram.agents.backbones.hgrn2.plain:HGRN2",
    title="HGRN2",
    check=_check,
    describe=_describe,
    # Heads: an expansion ratio of 128, but for the smallest, which is narrower.
    sizes=sizes_like_xlstm(0.5, hidden=(312, 1424, 2104, 2784, 3472), heads=(4, 4, 6, 8, 10)),
    fused=COMPILED_PARTS,
)
