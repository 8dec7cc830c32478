"""Mamba through CUDA kernels: what they are called with, and that it gives what plain PyTorch gives.

On a processor the kernels are played by functions of the same signatures, which also hold the callers to
what the real ones demand (mamba_ssm 2.3.2: csrc/selective_scan/selective_scan.cpp,
ops/triton/selective_state_update.py; causal_conv1d 1.7.0: csrc/causal_conv1d.cpp).
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba import plain as mamba
from lram.agents.backbones.mamba.plain import Kernels, installed_kernels
from lram.agents.backbones.registry import build_backbone
from lram.agents.model.config import ModelConfig

SECTION = MambaConfig(state_size=8)
# Sums of some dozens of float32 products in another order.
CLOSE = 2e-5


def _selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor:
    """Equations 2a and 2b of arXiv 2312.00752 by cumulative products, not by a recurrence."""
    assert D is not None
    assert z is not None
    assert delta_bias is not None
    assert delta_softplus
    assert not return_last_state
    rows, channels, tokens = u.shape
    size = A.shape[1]
    assert delta.shape == z.shape == u.shape
    assert (A.shape, D.shape, delta_bias.shape) == ((channels, size), (channels,), (channels,))
    assert B.shape == C.shape == (rows, size, tokens)
    assert {delta.dtype, B.dtype, C.dtype, z.dtype} == {u.dtype}
    assert {A.dtype, D.dtype, delta_bias.dtype} == {torch.float32}

    dt = F.softplus(delta.double() + delta_bias.unsqueeze(-1))  # (b, e, s)
    logs = (dt.unsqueeze(2) * A.view(1, channels, size, 1)).cumsum(dim=-1)  # (b, e, n, s)
    gap = logs.unsqueeze(-1) - logs.unsqueeze(-2)  # from token j to token i: (b, e, n, i, j)
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    weights = torch.exp(gap.masked_fill(future, -torch.inf))
    y = torch.einsum("bni,benij,bnj,bej->bei", C.double(), weights, B.double(), dt * u)
    y = (y + D.unsqueeze(-1) * u) * F.silu(z)
    return y.to(u.dtype)


def _state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    assert D is not None
    assert z is not None
    assert dt_bias is not None
    assert dt_softplus
    rows, channels, size = state.shape
    assert x.shape == dt.shape == z.shape == (rows, channels)
    assert (A.shape, D.shape, dt_bias.shape) == ((channels, size), (channels,), (channels,))
    assert B.shape == C.shape == (rows, size)
    assert state.dtype == torch.float32
    step = F.softplus(dt.float() + dt_bias)
    decay = torch.exp(torch.einsum("be,en->ben", step, A))
    state.copy_(state * decay + torch.einsum("be,bn,be->ben", step, B.float(), x.float()))
    y = torch.einsum("ben,bn->be", state, C.float()) + D * x
    return (y * F.silu(z)).to(x.dtype)


def _causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    assert bias is not None
    assert activation == "silu"
    channels, width = weight.shape
    assert 2 <= width <= 4
    assert x.shape[1] == channels
    assert x.stride(2) == 1
    padded = F.pad(x, (width - 1, 0)).unfold(2, width, 1)  # (b, e, s, k)
    return F.silu((padded * weight.unsqueeze(1)).sum(dim=-1) + bias.unsqueeze(-1))


PLAYED = Kernels(_selective_scan, _state_update, _causal_conv)


def _backbone(section: MambaConfig = SECTION) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(ModelConfig(24, 2, backbone=section))
        backbone.reset_parameters()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return backbone.eval()


def _tokens(rows: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, count, 24, generator=torch.Generator().manual_seed(seed))


def _play(monkeypatch: pytest.MonkeyPatch, kernels: Kernels = PLAYED) -> None:
    monkeypatch.setattr(mamba, "kernels_for", lambda x: kernels)


@pytest.mark.parametrize("kernels", [PLAYED, PLAYED._replace(causal_conv=None)], ids=["both", "scan only"])
def test_forward_and_its_gradients_are_those_of_plain_pytorch(
    monkeypatch: pytest.MonkeyPatch, kernels: Kernels
) -> None:
    backbone, x = _backbone(), _tokens(2, 13)
    plain = backbone(x)
    plain.square().sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in backbone.named_parameters()}  # type: ignore[union-attr]
    backbone.zero_grad()
    _play(monkeypatch, kernels)
    y = backbone(x)
    y.square().sum().backward()
    torch.testing.assert_close(y, plain, rtol=0, atol=CLOSE)
    for name, parameter in backbone.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("width", [1, 5])
@torch.no_grad()
def test_the_convolutions_kernel_is_not_asked_for_widths_it_does_not_have(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    backbone, x = _backbone(replace(SECTION, conv_kernel=width)), _tokens(2, 13)
    plain = backbone(x)
    _play(monkeypatch)
    torch.testing.assert_close(backbone(x), plain, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_steps_are_those_of_plain_pytorch(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    backbone, x = _backbone(), _tokens(3, 30)
    valid = torch.rand(3, 30, generator=torch.Generator().manual_seed(1)) < 0.6 if masked else None

    def read() -> tuple[Tensor, Any]:
        outputs, state = [], backbone.initial_state(3)
        for first in range(0, 30, 3):
            part = slice(first, first + 3)
            y, state = backbone.step(x[:, part], state, None if valid is None else valid[:, part])
            outputs.append(y)
        return torch.cat(outputs, dim=1), state

    y, state = read()
    _play(monkeypatch)
    played_y, played_state = read()
    kept = torch.ones(3, 30, dtype=torch.bool) if valid is None else valid
    torch.testing.assert_close(played_y[kept], y[kept], rtol=0, atol=CLOSE)
    torch.testing.assert_close(played_state, state, rtol=0, atol=CLOSE)


@torch.no_grad()
def test_a_masked_token_leaves_the_state_as_it_was_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    _play(monkeypatch)
    backbone = _backbone()
    _, state = backbone.step(_tokens(2, 6), backbone.initial_state(2))
    state[0][0][1, 0] = -0.0  # a sum with zero would lose the sign
    before = copy.deepcopy(state)
    x = _tokens(2, 3, seed=1)
    x[1] = torch.nan
    _, state = backbone.step(x, state, torch.tensor([[True] * 3, [False] * 3]))
    for (h, past), (h_before, past_before) in zip(state, before, strict=True):
        assert h[1].numpy().tobytes() == h_before[1].numpy().tobytes()
        assert past[1].numpy().tobytes() == past_before[1].numpy().tobytes()
        assert not torch.equal(h[0], h_before[0])


@torch.no_grad()
def test_types_are_those_that_the_kernels_take_under_bfloat16_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _play(monkeypatch)
    backbone = _backbone().to(torch.bfloat16)
    x = _tokens(2, 6).bfloat16()
    y, state = backbone.step(x, backbone.initial_state(2))
    assert y.dtype == backbone(x).dtype == torch.bfloat16
    assert {tensor.dtype for layer in state for tensor in layer} == {torch.float32}
    torch.testing.assert_close(y, backbone(x), rtol=0, atol=0.2)


def test_a_step_that_is_differentiated_uses_no_kernel_without_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _play(monkeypatch)
    backbone = _backbone()
    y, _ = backbone.step(_tokens(2, 3), backbone.initial_state(2))
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_a_processor_reads_without_kernels() -> None:
    assert mamba.kernels_for(_tokens(1, 1)) is None


def _installed() -> Kernels:
    kernels = installed_kernels()
    if kernels is None:
        pytest.skip("mamba_ssm is not installed")
    return kernels


@pytest.mark.parametrize("name", ["selective_scan", "state_update"])
def test_the_packages_functions_have_the_signatures_played_here(name: str) -> None:
    real, played = getattr(_installed(), name), getattr(PLAYED, name)
    names = list(inspect.signature(played).parameters)
    assert list(inspect.signature(real).parameters)[: len(names)] == names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_on_a_gpu_the_kernels_give_what_plain_pytorch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed()
    backbone, x = _backbone().cuda(), _tokens(3, 30).cuda()
    valid = torch.rand(3, 30, generator=torch.Generator().manual_seed(1)).cuda() < 0.6
    with_kernels = backbone(x), backbone.step(x, backbone.initial_state(3), valid)
    monkeypatch.setattr(mamba, "kernels_for", lambda x: None)
    plain = backbone(x), backbone.step(x, backbone.initial_state(3), valid)
    # The GPU's float32 products and exponentials are rounded otherwise than PyTorch's.
    torch.testing.assert_close(with_kernels[0], plain[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(with_kernels[1][0][valid], plain[1][0][valid], rtol=0, atol=1e-3)
    torch.testing.assert_close(with_kernels[1][1], plain[1][1], rtol=0, atol=1e-3)
