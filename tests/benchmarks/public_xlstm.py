"""``xlstm`` (PyPI): its block stack, stepping token by token, with our weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from compare_public import Comparison
from ratios import token_by_token
from torch import Tensor
from xlstm import (
    FeedForwardConfig,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
)

from lram.harness.timing.backbones import BenchCase, TimedBackbone, weight_bytes
from lram.harness.timing.rounds import PreparedDecision, TimedCandidate


def versions() -> dict[str, str]:
    """Return the versions of what is compared with."""
    return {"xlstm": version("xlstm")}


def compare(subject: TimedBackbone, forms: Sequence[str], context: int) -> Comparison:
    """Return our forms beside the package."""
    case = BenchCase(subject.name, "xlstm package, token by token", subject.work.rows, None)
    public = {case: TimedCandidate(case.name, partial(prepare, subject, context))}
    ours = token_by_token(subject, context) | subject.candidates(forms, context)
    return Comparison.of(ours, public, {})


def prepare(subject: TimedBackbone, context: int) -> PreparedDecision:
    """Return the package's decision: one call of ``step`` a token, after the same past was read."""
    stack = make_stack(subject)
    state: dict[str, Any] | None = None
    for chunk in subject.work.past(0, context):
        for token in chunk.split(1, dim=1):
            _, state = stack.step(token, state=state)
    turns = itertools.cycle([x.split(1, dim=1) for x in subject.work.inputs()])

    def decide() -> Tensor:
        nonlocal state
        for token in next(turns):
            hidden, state = stack.step(token, state=state)
        return hidden

    size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state))
    return PreparedDecision(
        decide, weight_bytes(subject.backbone), size, size, f"xlstm {version('xlstm')}, .step"
    )


def make_stack(subject: TimedBackbone) -> xLSTMBlockStack:
    """Return the package's stack with the weights of ``subject``."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    mlstm = mLSTMLayerConfig(
        conv1d_kernel_size=section.conv_kernel,
        qkv_proj_blocksize=section.qkv_block,
        num_heads=section.heads,
        proj_factor=section.mlstm_factor,
    )
    slstm = sLSTMLayerConfig(
        backend="vanilla", num_heads=section.heads, conv1d_kernel_size=section.conv_kernel
    )
    feed_forward = FeedForwardConfig(proj_factor=section.ffn_factor, act_fn="gelu")
    stack = xLSTMBlockStack(
        xLSTMBlockStackConfig(
            mlstm_block=mLSTMBlockConfig(mlstm=mlstm),
            slstm_block=sLSTMBlockConfig(slstm=slstm, feedforward=feed_forward) if section.slstm_at else None,
            context_length=256,  # sizes a mask of the parallel form; ``step`` has no limit
            num_blocks=config.layers,
            embedding_dim=config.width,
            slstm_at=list(section.slstm_at),
        )
    )
    stack.load_state_dict(subject.backbone.state_dict(), strict=True)
    return stack.to(subject.work.device).eval()


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state
    return [tensor for value in values for tensor in _tensors(value)]
