"""The fused step of Mamba against the plain one, and what it promises bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba", reason="fused steps need numba")

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.kernels.compiler import kernel
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba.fused import FEW_TOKENS, FusedMamba
from lram.agents.backbones.mamba.scan import exp2
from lram.agents.backbones.registry import build_backbone
from lram.agents.model.config import ModelConfig

CONFIGS = {
    "reference": ModelConfig(32, 2, backbone=MambaConfig()),
    # Kernels are compiled for each size of a state and of a convolution: those with most are in one model.
    "prime sizes": ModelConfig(23, 2, backbone=MambaConfig(state_size=5, conv_kernel=2, expand=3, dt_rank=7)),
    "no past": ModelConfig(32, 1, backbone=MambaConfig(state_size=12, conv_kernel=1)),
}
# Both forms are within 2e-6 of the same in float64 (values of order 1 to 4; 192 tokens, 2 blocks): sums of
# up to 216 products in different orders, elementary functions within 3e-7.
CLOSE = 1e-5


def _backbone(name: str = "reference") -> Backbone:
    """Weights drawn by the rules, then noise, so that no row of A is the pattern of the rules."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(CONFIGS[name])
        backbone.reset_parameters()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return backbone.eval()


@pytest.fixture(params=list(CONFIGS))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return _backbone(request.param)


def _fused(backbone: Backbone, rows_times_tokens: int = 24) -> FusedMamba:
    return FusedMamba(backbone, rows_times_tokens)  # type: ignore[arg-type]


def _tokens(backbone: Backbone, rows: int, count: int, seed: int = 0) -> Tensor:
    width = backbone.get_parameter("norm_f.weight").shape[0]
    return torch.randn(rows, count, width, generator=torch.Generator().manual_seed(seed))


def _mask(rows: int, count: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, count, generator=torch.Generator().manual_seed(seed)) < 0.6


def _bits(state: Any, row: int) -> list[bytes]:
    return [tensor[row].numpy().tobytes() for layer in state for tensor in layer]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 3, 11, 64])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
@torch.inference_mode()
def test_fused_steps_equal_plain_steps(backbone: Backbone, rows: int, tokens: int, masked: bool) -> None:
    fused = _fused(backbone)
    state, plain_state = backbone.initial_state(rows), backbone.initial_state(rows)
    for turn in range(3):
        x = _tokens(backbone, rows, tokens, seed=turn)
        valid = _mask(rows, tokens, seed=turn) if masked else None
        y, state = fused(x, state, valid)
        plain, plain_state = backbone.step(x, plain_state, valid)
        kept = torch.ones(rows, tokens, dtype=torch.bool) if valid is None else valid
        torch.testing.assert_close(y[kept], plain[kept], rtol=0, atol=CLOSE)
        torch.testing.assert_close(state, plain_state, rtol=0, atol=CLOSE)
        assert torch.isfinite(y).all()


@pytest.mark.parametrize("size", [1, 3, 11, 66])
@torch.inference_mode()
def test_fused_steps_of_any_size_equal_forward(backbone: Backbone, size: int) -> None:
    fused, x = _fused(backbone), _tokens(backbone, 3, 66)
    state, outputs = backbone.initial_state(3), []
    for first in range(0, 66, size):
        y, state = fused(x[:, first : first + size], state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), backbone(x), rtol=0, atol=CLOSE)


@torch.inference_mode()
def test_one_state_serves_fused_and_plain_steps_in_turn(backbone: Backbone) -> None:
    fused, x = _fused(backbone), _tokens(backbone, 3, 36)
    state, outputs = backbone.initial_state(3), []
    for turn in range(12):
        step = fused if turn % 2 else backbone.step
        y, state = step(x[:, 3 * turn : 3 * turn + 3], state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), backbone(x), rtol=0, atol=CLOSE)


@torch.inference_mode()
def test_states_are_written_in_place(backbone: Backbone) -> None:
    state = backbone.initial_state(8)
    _, new = _fused(backbone)(_tokens(backbone, 8, 3), state)
    assert [t.data_ptr() for layer in new for t in layer] == [t.data_ptr() for layer in state for t in layer]


@pytest.mark.parametrize("tokens", [1, 3, 11])
@torch.inference_mode()
def test_a_row_does_not_depend_on_its_place_or_its_neighbours(backbone: Backbone, tokens: int) -> None:
    """Both forms of the small products: 8 tokens in the kernels, 24 and 88 by oneDNN."""
    assert 8 * 1 <= FEW_TOKENS < 8 * 3
    fused, own, valid = _fused(backbone, 8 * tokens), _tokens(backbone, 1, 4 * tokens), _mask(1, 4 * tokens)
    seen = set()
    for place in (0, 3, 7):
        x, here = _tokens(backbone, 8, 4 * tokens, seed=1 + place), _mask(8, 4 * tokens, seed=1 + place)
        x[place], here[place] = own[0], valid[0]
        state, outputs = backbone.initial_state(8), []
        for first in range(0, 4 * tokens, tokens):
            part = slice(first, first + tokens)
            y, state = fused(x[:, part], state, here[:, part])
            outputs.append(y[place][valid[0, part]].numpy().tobytes())
        seen.add((*outputs, *_bits(state, place)))
    assert len(seen) == 1


@pytest.mark.parametrize("tokens", [1, 3])
@torch.inference_mode()
def test_idle_rows_keep_their_state_bit_for_bit(backbone: Backbone, tokens: int) -> None:
    fused = _fused(backbone)
    _, state = fused(_tokens(backbone, 8, 9), backbone.initial_state(8))
    for layer in state:
        for tensor in layer:
            tensor[2].view(-1)[:1] = -0.0  # a sum with zero would lose the sign
    before = copy.deepcopy(state)
    x = _tokens(backbone, 8, tokens, seed=1)
    x[2] *= 1e18
    x[5] = torch.nan
    valid = torch.ones(8, tokens, dtype=torch.bool)
    valid[[2, 5]] = False
    y, state = fused(x, state, valid)
    assert torch.isfinite(y[[0, 1, 2, 3, 4, 6, 7]]).all()
    for row in range(8):
        kept = _bits(state, row) == _bits(before, row)
        assert kept == (row in (2, 5)), f"row {row}"


@torch.inference_mode()
def test_three_thousand_tokens_stay_finite(backbone: Backbone) -> None:
    fused, x, state = _fused(backbone), 3 * _tokens(backbone, 1, 3000), backbone.initial_state(1)
    for first in range(0, 3000, 3):
        y, state = fused(x[:, first : first + 3], state)
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(tensor).all() for layer in state for tensor in layer)


@pytest.mark.parametrize("shift", [-8.0, 4.0])
@torch.inference_mode()
def test_states_that_hardly_decay_or_vanish_at_once_equal_the_plain_ones(shift: float) -> None:
    """Exponents dt A of about -1e-6 and of -500: below what float32 can hold as a power."""
    backbone = _backbone()
    for name, parameter in backbone.named_parameters():
        if name.endswith(("A_log", "dt_proj.bias")):
            parameter.add_(shift)
    fused, x = _fused(backbone), _tokens(backbone, 2, 60)
    state, plain_state = backbone.initial_state(2), backbone.initial_state(2)
    for first in range(0, 60, 3):
        y, state = fused(x[:, first : first + 3], state)
        plain, plain_state = backbone.step(x[:, first : first + 3], plain_state)
    torch.testing.assert_close(y, plain, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(state, plain_state, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("rows", [2, 8])
@torch.inference_mode()
def test_what_is_not_finite_is_not_hidden_and_stays_in_its_row(
    backbone: Backbone, rows: int, broken: float
) -> None:
    fused, x = _fused(backbone), _tokens(backbone, rows, 6)
    expected, _ = fused(x[:, :3], backbone.initial_state(rows))
    x[1, 1, 5] = broken
    y, state = fused(x[:, :3], backbone.initial_state(rows))
    later, _ = fused(x[:, 3:], state)
    assert torch.isfinite(y[1, 0]).all()
    assert not torch.isfinite(y[1, 1:]).any()
    assert not torch.isfinite(later[1]).any()
    assert torch.equal(y[0], expected[0])
    assert torch.isfinite(later[0]).all()


@torch.inference_mode()
def test_the_weights_are_those_of_when_it_was_made() -> None:
    backbone = _backbone()
    fused, x = _fused(backbone), _tokens(backbone, 8, 3)
    before, _ = fused(x, backbone.initial_state(8))
    few_before, _ = fused(x[:2], backbone.initial_state(2))
    for parameter in backbone.parameters():
        parameter.zero_()
    assert torch.equal(fused(x, backbone.initial_state(8))[0], before)
    assert torch.equal(fused(x[:2], backbone.initial_state(2))[0], few_before)


def test_powers_of_two_are_within_three_parts_in_ten_million() -> None:
    @kernel
    def powers(x: Any, y: Any) -> None:
        for i in range(len(x)):
            y[i] = exp2(x[i])

    x = np.linspace(-126, 0, 300_001).astype(np.float32)
    y = np.empty_like(x)
    powers(x, y)
    assert np.abs(y / np.exp2(x.astype(np.float64)) - 1).max() < 3e-7
    edges = np.array([-0.0, -1e-30, -500, -np.inf, np.nan], np.float32)
    y = np.empty_like(edges)
    powers(edges, y)
    assert y[:2].tolist() == [1, 1]
    assert (y[2:4] < 1.2e-38).all()
    assert np.isnan(y[4])
