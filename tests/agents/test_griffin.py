"""Hawk and Griffin: both forms of their recurrence and of their attention, and what they keep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.griffin import GriffinConfig, RGLRUConfig
from lram.agents.backbones.griffin.recurrence import RGLRU, bounded_sqrt
from lram.agents.backbones.parts import LocalAttention
from lram.agents.backbones.sequences import plain_sequences
from lram.agents.model.config import ModelConfig
from lram.agents.model.presets import parse_preset

ROWS, TOKENS, WIDTH = 3, 37, 20
CPU = torch.device("cpu")


def _uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


@pytest.fixture
def recurrence() -> RGLRU:
    """Channels of every speed: some so slow that 1 - a^2 has digits by expm1 only, some that keep nothing."""
    made = RGLRU(WIDTH, 4)
    with torch.no_grad():
        made.gates.weight.copy_(_uniform(4, 10, 5, seed=1))
        assert made.gates.bias is not None
        made.gates.bias.copy_(_uniform(40, seed=2))
        made.decay.copy_(torch.linspace(-30, 30, WIDTH))
    return made


def _gradients(recurrence: RGLRU, u: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    u = u.clone().requires_grad_()
    y = recurrence(u)
    slope = _uniform(*y.shape, seed=3)
    return y.detach(), torch.autograd.grad((y * slope).sum(), [u, *recurrence.parameters()])


def test_both_forms_of_the_recurrence_and_their_gradients_are_the_same(recurrence: RGLRU) -> None:
    pytest.importorskip("numba")
    u = _uniform(ROWS, TOKENS, WIDTH, seed=0)
    y, gradients = _gradients(recurrence, u)
    with plain_sequences():
        plain, plain_gradients = _gradients(recurrence, u)
    torch.testing.assert_close(y, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients, plain_gradients, rtol=1e-4, atol=1e-5)


def test_the_slope_of_the_square_root_is_held_where_nothing_is_forgotten() -> None:
    x = torch.tensor([0.0, 1e-12, 0.25], requires_grad=True)
    (slope,) = torch.autograd.grad(bounded_sqrt(x).sum(), x)
    torch.testing.assert_close(slope, torch.tensor([1000.0, 1000.0, 1.0]))


@torch.no_grad()
def test_a_slow_channel_fills_as_in_float64(recurrence: RGLRU) -> None:
    u = _uniform(1, 500, WIDTH, seed=0) + 0.5
    with plain_sequences():
        y = recurrence(u)
        exact = RGLRU(WIDTH, 4).double()
        exact.load_state_dict(recurrence.state_dict())
        gates = exact.gates(u.double()).view(1, 500, 4, 10).sigmoid()
        i, r = (gate.flatten(-2) for gate in gates.chunk(2, dim=-1))
        decay = torch.exp(-8 * r * torch.nn.functional.softplus(exact.decay))
    h, expected = torch.zeros(1, WIDTH, dtype=torch.float64), []
    for t in range(500):
        room = torch.ones_like(h) if t == 0 else (1 - decay[:, t].square()).sqrt()
        h = decay[:, t] * h + room * i[:, t] * u[:, t]
        expected.append(h)
    torch.testing.assert_close(y.double(), torch.stack(expected, dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@torch.no_grad()
def test_the_first_token_that_is_there_begins_a_row(recurrence: RGLRU, compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    step = (recurrence.compiled(3) if compiled else recurrence).step
    u, valid = _uniform(2, 6, WIDTH, seed=0), torch.tensor([[False, True, True]] * 2)
    valid[1] = False
    _, state = step(u[:, :3], recurrence.initial_state(2, CPU), valid)
    assert state[1].flatten().tolist() == [1.0, 0.0]
    y, state = step(u[:, 3:], state, None)
    assert state[1].flatten().tolist() == [1.0, 1.0]
    torch.testing.assert_close(y[:1], recurrence(u[:1, 1:])[:, 2:], rtol=0, atol=1e-6)
    torch.testing.assert_close(y[1:], recurrence(u[1:, 3:]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("key_heads", [1, 2, 6])
@pytest.mark.parametrize("rotated", [4, 8])
@torch.no_grad()
def test_every_form_of_local_attention_is_the_same(key_heads: int, rotated: int) -> None:
    pytest.importorskip("numba")
    attention = LocalAttention(6, key_heads, 8, 9, rotated)
    qkv = 3 * _uniform(ROWS, TOKENS, attention.width, seed=0)
    whole = attention(qkv)
    for form in (attention, attention.compiled(3)):
        for size in (1, 3, TOKENS):
            state, outputs = attention.initial_state(ROWS, CPU), []
            for first in range(0, TOKENS, size):
                y, state = form.step(qkv[:, first : first + size].clone(), state, None)
                outputs.append(y)
            torch.testing.assert_close(torch.cat(outputs, dim=1), whole, rtol=0, atol=2e-6)


def test_what_griffin_keeps_and_is_called_is_said() -> None:
    griffin = parse_preset("griffin-1M")
    assert griffin.past.words == "recurrent state, and keys and values of the last 150 tokens, float32"
    assert griffin.past.recurrent  # of one size, whatever was read
    assert griffin.describe() == "Griffin (attention to 150 tokens)"
    assert ModelConfig(32, 2, GriffinConfig()).past.words == ""  # no attention in two blocks
    assert parse_preset("rglru-1M").past.words == ""


def test_options_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(AgentError, match="state's width 30 is no multiple of the 4 heads"):
        ModelConfig(32, 2, RGLRUConfig(state=30))
    with pytest.raises(AgentError, match="no multiple of 4 times the 4 heads"):
        ModelConfig(24, 3, GriffinConfig())
    with pytest.raises(AgentError, match=r"griffin\.blocks names 'mamba'; choose from recurrent, attention"):
        ModelConfig(32, 2, GriffinConfig(blocks=("mamba",)))
