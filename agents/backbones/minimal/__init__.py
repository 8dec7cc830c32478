"""minGRU and minLSTM: gated recurrences whose gates see the token alone (Feng et al. 2024, "Were RNNs All We
Needed?", arXiv 2410.01201).
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_FACTOR, check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape


@dataclass(frozen=True, slots=True)
class MinimalConfig:
    """What minGRU and minLSTM have in common.

    Attributes:
        expansion: Width of the recurrent state over that of a token. With 1 there is no projection after the
            recurrence.
        conv_kernel: Width of the causal convolution before the recurrence; None: there is none.
        hidden: Width of the feed-forward part; None: 8/3 of a token's, rounded up to a multiple of 16.
    """

    expansion: float = 1.5
    conv_kernel: int | None = 4
    hidden: int | None = None

    def state_width(self, width: int) -> int:
        """Return the width of the recurrent state, for tokens of ``width``."""
        return int(width * self.expansion)


@dataclass(frozen=True, slots=True)
class MinGRUConfig(MinimalConfig):
    """A stack of minGRU blocks: one gate. Options: see :class:`MinimalConfig`."""


@dataclass(frozen=True, slots=True)
class MinLSTMConfig(MinimalConfig):
    """A stack of minLSTM blocks: a forget and an input gate. Options: see :class:`MinimalConfig`."""


def _check(model: ModelShape) -> None:
    section: MinimalConfig = model.backbone
    kind = "minlstm" if isinstance(section, MinLSTMConfig) else "mingru"
    check_limits(f"{kind}.expansion", section.expansion, MOST_FACTOR)
    check_limits(f"{kind}.conv_kernel", section.conv_kernel, 1 << 12)
    check_limits(f"{kind}.hidden", section.hidden)
    if section.state_width(model.width) < 1:
        raise AgentError(
            f"{kind}: width {model.width} times the expansion {section.expansion} leaves no recurrent state; "
            "give a larger expansion"
        )


def _describe(model: ModelShape) -> str:
    section: MinimalConfig = model.backbone
    parts = ["minLSTM" if isinstance(section, MinLSTMConfig) else "minGRU"]
    if section.expansion != MinimalConfig().expansion:
        parts.append(f"state of {section.state_width(model.width)}")
    if section.conv_kernel is None:
        parts.append("no convolution")
    return ", ".join(parts)


MINGRU = BackboneSpec(
    kind="mingru",
    options=MinGRUConfig,
    build="lram.agents.backbones.minimal.plain:MinGRU",
    title="minGRU",
    check=_check,
    describe=_describe,
    sizes=sizes_like_xlstm(0.5, hidden=(296, 1336, 1968, 2608, 3248)),
    fused=COMPILED_PARTS,
)

MINLSTM = BackboneSpec(
    kind="minlstm",
    options=MinLSTMConfig,
    build="lram.agents.backbones.minimal.plain:MinLSTM",
    title="minLSTM",
    check=_check,
    describe=_describe,
    sizes=sizes_like_xlstm(0.5, hidden=(240, 1080, 1584, 2096, 2608)),
    fused=COMPILED_PARTS,
)
