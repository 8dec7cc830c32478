"""xLSTM: a stack of mLSTM blocks with sLSTM blocks between them (Beck et al. 2024, arXiv 2405.04517)."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_FACTOR, check_limits, check_share, number
from lram.agents.backbones.sizes import table_sizes
from lram.agents.backbones.spec import LATER, BackboneSpec, EncoderWeights, ModelShape, Package, Size
from lram.agents.shown import shown


@dataclass(frozen=True, slots=True)
class XLSTMConfig:
    """A stack of mLSTM blocks with sLSTM blocks at ``slstm_at`` (Beck et al. 2024, arXiv 2405.04517).

    Attributes:
        heads: Heads of every mLSTM and sLSTM.
        slstm_at: Positions of the sLSTM blocks, counted from 0; all others are mLSTM.
        conv_kernel: Width of the causal convolution before queries and keys.
        qkv_block: Size of the diagonal blocks of the query, key and value projections.
        mlstm_factor: Inner width of an mLSTM over the width (rounded up to a multiple of 64).
        ffn_factor: Inner width of the feed-forward part of an sLSTM block, likewise.
        dropout: In training, the share of numbers that is zeroed of what an mLSTM and a feed-forward part
            add, and of an sLSTM's outputs before their norm, as in the xlstm package; acting knows none.
        norm: Of blocks and after them, ``layer`` or ``rms`` (by the root mean square); a head's own norm is
            a LayerNorm in both.
    """

    heads: int = 4
    slstm_at: tuple[int, ...] = ()
    conv_kernel: int = 4
    qkv_block: int = 4
    mlstm_factor: float = 2.0
    ffn_factor: float = 1.3
    dropout: float = field(default=0.0, metadata=LATER)
    norm: Literal["layer", "rms"] = field(default="layer", metadata=LATER)


def round_up(value: float, multiple: int = 64) -> int:
    """Return ``value`` rounded up to a multiple, as the xlstm package sizes its inner layers."""
    return math.ceil(value / multiple) * multiple


def slstm_positions(layers: int, mlstm: int, slstm: int) -> tuple[int, ...]:
    """Return where the sLSTM blocks of a ``[mlstm:slstm]`` stack go; AgentError if they do not fit.

    A ratio places ceil(layers s / (m + s)) sLSTM blocks at the first odd positions; this gives the positions
    of
    the reference's published commands for [7:1] (``[1]`` of 8 blocks, ``[1, 3]`` of 12 and 16, ``[1, 3, 5]``
    of 20), where the true ratio is 5:1 for 12 blocks and 17:3 for 20.
    """
    if mlstm + slstm == 0:
        raise AgentError("an xLSTM ratio [0:0] has no blocks; write for instance [7:1] or [1:0]")
    count = math.ceil(layers * slstm / (mlstm + slstm))
    if count > layers // 2:
        raise AgentError(
            f"an xLSTM [{mlstm}:{slstm}] of {layers} blocks needs {count} sLSTM blocks, but only "
            f"{layers // 2} odd positions are there; name the positions in config.json (xlstm.slstm_at)"
        )
    return tuple(range(1, 2 * count, 2))


def _preset(brackets: str, size: Size) -> XLSTMConfig:
    mlstm, _, slstm = (brackets or "1:0").partition(":")
    at = slstm_positions(size.layers, int(mlstm), int(slstm))
    return XLSTMConfig(heads=size.options["heads"], slstm_at=at)


def _check(model: ModelShape) -> None:
    section: XLSTMConfig = model.backbone
    check_limits("xlstm.heads", section.heads, 1 << 16)
    check_limits("xlstm.conv_kernel", section.conv_kernel, 1 << 12)
    check_limits("xlstm.qkv_block", section.qkv_block)
    check_limits("xlstm.mlstm_factor", section.mlstm_factor, MOST_FACTOR)
    check_limits("xlstm.ffn_factor", section.ffn_factor, MOST_FACTOR)
    check_share("xlstm.dropout", section.dropout)
    inner = round_up(section.mlstm_factor * model.width)
    if inner % section.heads or inner % section.qkv_block:
        raise AgentError(f"inner width {inner} is no multiple of heads and qkv_block of the xLSTM")
    if section.slstm_at and model.width % section.heads:
        raise AgentError(f"width {model.width} is no multiple of the xLSTM's {section.heads} heads")
    for position in section.slstm_at:
        if not 0 <= position < model.layers:
            raise AgentError(f"xlstm.slstm_at {number(position)} is outside the {model.layers} blocks")
    if len(set(section.slstm_at)) != len(section.slstm_at):
        raise AgentError(f"xlstm.slstm_at names a block twice: {shown(str(list(section.slstm_at[:100])))}")


def _describe(model: ModelShape) -> str:
    at = model.backbone.slstm_at
    where = f" (sLSTM at {', '.join(map(str, at))} of {model.layers} blocks)" if at else ""
    section: XLSTMConfig = model.backbone
    dropout = f", dropout {section.dropout:g}" if section.dropout else ""
    return f"xLSTM {_ratio(model)}{where}{dropout}{', RMSNorm' * (section.norm == 'rms')}"


def _ratio(model: ModelShape) -> str:
    """The ratio that the name writes, as papers do; it may be rounded, and the positions say what it is.

    A name that other layers or positions were given to writes the ratio of another stack: then the true one.
    """
    at = model.backbone.slstm_at
    if (written := re.search(r"\[(\d+):(\d+)\]", model.name)) is not None:
        with suppress(AgentError):  # a ratio that this stack cannot have
            if slstm_positions(model.layers, int(written[1]), int(written[2])) == tuple(sorted(at)):
                return written[0]
    divisor = math.gcd(model.layers - len(at), len(at))
    return f"[{(model.layers - len(at)) // divisor}:{len(at) // divisor}]"


def _blocks(model: ModelShape) -> str:
    at = model.backbone.slstm_at
    return f"sLSTM at {', '.join(map(str, at))}" if at else ""


SPEC = BackboneSpec(
    kind="xlstm",
    options=XLSTMConfig,
    build="lram.agents.backbones.xlstm.plain:XLSTM",
    title="xLSTM",
    check=_check,
    describe=_describe,
    blocks=_blocks,
    sizes=table_sizes("xlstm"),
    brackets="[0-9]{1,9}:[0-9]{1,9}",
    listed=("7:1", "1:0"),
    preset=_preset,
    fused="lram.agents.backbones.xlstm.fused:FusedXLSTM",
    encoders=EncoderWeights(normal_inputs=True, drawn_biases=True),
    reference="lram.agents.backbones.xlstm.reference",
    packages=(
        Package("xlstm", "xlstm", "to compare with", computes=False),
        Package(
            *("mlstm_kernels", "mlstm_kernels"),
            "mLSTM's kernels in training, by optimizer.sequences; under the NXAI Community License",
            computes=False,
        ),
    ),
)
