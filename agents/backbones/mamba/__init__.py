"""Mamba-1: selective state spaces (Gu and Dao 2023, arXiv 2312.00752)."""

from __future__ import annotations

from dataclasses import dataclass, field

from lram.agents.backbones.limits import MOST_FACTOR, check_limits, check_share
from lram.agents.backbones.sizes import table_sizes
from lram.agents.backbones.spec import LATER, BackboneSpec, EncoderWeights, ModelShape, Package


@dataclass(frozen=True, slots=True)
class MambaConfig:
    """A stack of Mamba-1 blocks (Gu and Dao 2023, arXiv 2312.00752).

    Attributes:
        state_size: Recurrent numbers a channel.
        conv_kernel: Width of the causal convolution.
        expand: Channels over the width.
        dt_rank: Rank of the step-size projection; None is width / 16, rounded up.
        dropout: In training, the share of numbers that is zeroed of what a block adds; acting knows none.
    """

    state_size: int = 16
    conv_kernel: int = 4
    expand: int = 2
    dt_rank: int | None = None
    dropout: float = field(default=0.0, metadata=LATER)


def _check(model: ModelShape) -> None:
    section: MambaConfig = model.backbone
    check_limits("mamba.state_size", section.state_size, 1 << 16)
    check_limits("mamba.conv_kernel", section.conv_kernel, 1 << 12)
    check_limits("mamba.expand", section.expand, MOST_FACTOR)
    check_limits("mamba.dt_rank", section.dt_rank)
    check_share("mamba.dropout", section.dropout)


def _describe(model: ModelShape) -> str:
    dropout = model.backbone.dropout
    return f"Mamba (dropout {dropout:g})" if dropout else ""


SPEC = BackboneSpec(
    kind="mamba",
    options=MambaConfig,
    build="lram.agents.backbones.mamba.plain:Mamba",
    title="Mamba",
    check=_check,
    describe=_describe,
    sizes=table_sizes("mamba"),
    fused="lram.agents.backbones.mamba.fused:FusedMamba",
    encoders=EncoderWeights(zero_inputs=True),
    reference="lram.agents.backbones.mamba.reference",
    packages=(Package("mamba-ssm", "mamba_ssm", "Mamba's kernels on a GPU"),),
)
