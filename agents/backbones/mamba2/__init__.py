"""Mamba-2: state spaces with one decay a head, as a matrix memory (Dao and Gu 2024, arXiv 2405.21060)."""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_FACTOR, check_limits
from lram.agents.backbones.sizes import sizes_like_xlstm
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, ModelShape


@dataclass(frozen=True, slots=True)
class Mamba2Config:
    """A stack of Mamba-2 blocks.

    A row keeps ``state_size`` x ``expand`` x width numbers of float32 a block, and the convolution's past:
    0.22 MB for mamba2-1M, 2.2 MB for mamba2-16M, 27 MB for mamba2-206M.

    Attributes:
        state_size: Recurrent numbers a channel. 128 in the published models.
        conv_kernel: Width of the causal convolution.
        expand: Channels over the width.
        head_width: Channels of a head, which share a decay and a step size; where the channels are no
            multiple of it, the largest smaller number that divides them.
        groups: Sets of B and C; each serves as many heads.
    """

    state_size: int = 128
    conv_kernel: int = 4
    expand: int = 2
    head_width: int = 64
    groups: int = 1

    def heads(self, width: int) -> tuple[int, int]:
        """Return the number of heads and the channels of each."""
        channels = self.expand * width
        of_head = next(w for w in range(min(self.head_width, channels), 0, -1) if channels % w == 0)
        return channels // of_head, of_head


def _check(model: ModelShape) -> None:
    section: Mamba2Config = model.backbone
    check_limits("mamba2.state_size", section.state_size, 1 << 16)
    check_limits("mamba2.conv_kernel", section.conv_kernel, 1 << 12)
    check_limits("mamba2.expand", section.expand, MOST_FACTOR)
    check_limits("mamba2.head_width", section.head_width)
    check_limits("mamba2.groups", section.groups, 1 << 16)
    heads = section.heads(model.width)[0]
    if heads % section.groups:
        raise AgentError(
            f"mamba2: {section.groups} groups do not divide the {heads} heads of width {model.width}; give "
            "another number of groups, or another head_width"
        )


def _describe(model: ModelShape) -> str:
    section: Mamba2Config = model.backbone
    groups = f", {section.groups} groups" if section.groups > 1 else ""
    return f"Mamba-2, state {section.state_size}{groups}"


SPEC = BackboneSpec(
    kind="mamba2",
    options=Mamba2Config,
    build="lram.agents.backbones.mamba2.plain:Mamba2",
    title="Mamba-2",
    check=_check,
    describe=_describe,
    # B and C take 2 x width x state_size weights, which at small widths is much beside the 6 x width^2 of
    # the projections: hence smaller states there.
    sizes=sizes_like_xlstm(1, state_size=(32, 64, 64, 96, 128)),
    fused=COMPILED_PARTS,
)
