"""Parts of backbones: all forms compute the same, with the same gradients; masked tokens change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts import (
    GatedFeedForward,
    GatedRMSNorm,
    MatrixMemory,
    Mixer,
    PreviousToken,
    RMSNorm,
    ShortConvolution,
    VectorMemory,
)
from lram.agents.backbones.sequences import plain_sequences

ROWS, TOKENS = 3, 37
CPU = torch.device("cpu")
Step = Callable[..., tuple[Tensor, Tensor]]


def _uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _memory_inputs(
    corrected: bool, one_decay: bool, fastest: float = 3.0, value: int = 9
) -> tuple[MatrixMemory, list[Any]]:
    """Two heads of keys serve four of values; fast decays, so that products of many would underflow."""
    heads, keys, key = 4, 2, 7
    q = _uniform(ROWS, TOKENS, keys, key, seed=0) - 0.5
    k = _uniform(ROWS, TOKENS, keys, key, seed=1) - 0.5
    v = _uniform(ROWS, TOKENS, heads, value, seed=2) - 0.5
    log_decay = -fastest * _uniform(ROWS, TOKENS, heads, 1 if one_decay else key, seed=3)
    inputs: list[Any] = [q, k, v, log_decay]
    if corrected:
        a = nn.functional.normalize(_uniform(ROWS, TOKENS, keys, key, seed=4) - 0.5, dim=-1)
        inputs += [a, 0.5 * (_uniform(ROWS, TOKENS, heads, key, seed=5) - 0.5)]
    return MatrixMemory(heads, key, value), inputs


def _gradients(call: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    given = [tensor.clone().requires_grad_() for tensor in inputs]
    y = call(*given)
    slope = _uniform(*y.shape, seed=9) - 0.5
    return y.detach(), torch.autograd.grad((y * slope).sum(), given)


def _slowly(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *fix: Tensor) -> Tensor:
    """The recurrence as it is written, one row, token and head at a time, in float64."""
    rows, tokens, heads, width = v.shape
    share = heads // k.shape[2]
    out = torch.zeros(rows, tokens, heads, width, dtype=torch.float64)
    for row in range(rows):
        for head in range(heads):
            S = torch.zeros(k.shape[3], width, dtype=torch.float64)
            for t in range(tokens):
                new = log_decay[row, t, head].double().exp().unsqueeze(-1) * S
                if fix:
                    held = fix[0][row, t, head // share].double() @ S
                    new = new + torch.outer(fix[1][row, t, head].double(), held)
                S = new + torch.outer(k[row, t, head // share].double(), v[row, t, head].double())
                out[row, t, head] = q[row, t, head // share].double() @ S
    return out


# The wider one is 64 + 32 + 16 + 8 + 4 + 1: panels of every width that the kernels have.
@pytest.mark.parametrize("value", [9, 125])
@pytest.mark.parametrize("one_decay", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
def test_every_form_of_the_matrix_memory_is_the_recurrence(
    corrected: bool, one_decay: bool, value: int
) -> None:
    pytest.importorskip("numba")
    memory, inputs = _memory_inputs(corrected, one_decay, value=value)
    expected = _slowly(*inputs)
    y, gradients = _gradients(memory, inputs)
    with plain_sequences():
        plain, plain_gradients = _gradients(memory, inputs)
    # Float32 sums of 7 to 37 terms below 1.
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(plain.double(), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(gradients, plain_gradients, rtol=1e-4, atol=1e-5)
    for step in (memory.step, memory.compiled(3).step):
        for size in (1, 3, TOKENS):
            assert (_in_passes(step, inputs, memory, size) - expected).abs().max() < 2e-6, (step, size)


def _in_passes(step: Step, inputs: list[Tensor], memory: MatrixMemory, size: int) -> Tensor:
    state, outputs = memory.initial_state(ROWS, CPU), []
    for first in range(0, TOKENS, size):
        q, k, v, decay, *fix = (tensor[:, first : first + size] for tensor in inputs)
        y, state = step(q, k, v, decay, state, None, *fix)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("corrected", [False, True])
def test_decays_that_leave_nothing_give_no_nan(corrected: bool) -> None:
    memory, inputs = _memory_inputs(corrected, False, fastest=500.0)
    with plain_sequences():
        y, gradients = _gradients(memory, inputs)
    assert all(part.isfinite().all() for part in (y, *gradients))
    torch.testing.assert_close(y.double(), _slowly(*inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_matrix_memory_is_float32_under_autocast(corrected: bool) -> None:
    memory, inputs = _memory_inputs(corrected, True)
    with plain_sequences():
        expected = memory(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = memory(*inputs)
            stepped = _in_passes(memory.step, inputs, memory, 3)
    assert torch.equal(found, expected)
    torch.testing.assert_close(stepped, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("size", [3, 12])
@pytest.mark.parametrize("corrected", [False, True])
def test_masked_tokens_leave_a_matrix_memory_as_it_was(corrected: bool, size: int, compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    memory, inputs = _memory_inputs(corrected, True)
    step = memory.compiled(3).step if compiled else memory.step
    state = memory.initial_state(ROWS, CPU).normal_(generator=torch.Generator().manual_seed(7))
    first = [tensor[:, :size] for tensor in inputs]
    valid = torch.ones(ROWS, size, dtype=torch.bool)
    valid[0], valid[1, 1] = False, False
    _, new = step(*first[:4], state.clone(), valid, *first[4:])
    assert torch.equal(new[0], state[0])
    without = [torch.cat([tensor[1:2, :1], tensor[1:2, 2:]], dim=1) for tensor in first]
    _, expected = memory.step(*without[:4], state[1:2].clone(), None, *without[4:])
    torch.testing.assert_close(new[1:2], expected, rtol=0, atol=1e-6)


def test_every_form_of_the_vector_memory_is_the_recurrence() -> None:
    pytest.importorskip("numba")
    memory = VectorMemory(5)
    inputs = [_uniform(ROWS, TOKENS, 5, seed=0), _uniform(ROWS, TOKENS, 5, seed=1) - 0.5]
    h, expected = torch.zeros(ROWS, 5), []
    for token in range(TOKENS):
        h = inputs[0][:, token] * h + inputs[1][:, token]
        expected.append(h)
    y, gradients = _gradients(memory, inputs)
    with plain_sequences():
        plain, plain_gradients = _gradients(memory, inputs)
    torch.testing.assert_close(y, torch.stack(expected, dim=1), rtol=0, atol=1e-6)
    torch.testing.assert_close(plain, torch.stack(expected, dim=1), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients, plain_gradients, rtol=1e-5, atol=1e-6)
    valid = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    valid[1, 5:20] = False
    stepped, state = memory.step(*inputs, memory.initial_state(ROWS, CPU), valid)
    again, compiled_state = memory.compiled(3).step(*inputs, memory.initial_state(ROWS, CPU), valid)
    torch.testing.assert_close(stepped[valid], again[valid], rtol=0, atol=1e-6)
    torch.testing.assert_close(state, compiled_state, rtol=0, atol=1e-6)
    torch.testing.assert_close(state[0], expected[-1][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_every_form_of_the_convolution_is_the_same(bias: bool, silu: bool) -> None:
    pytest.importorskip("numba")
    torch.manual_seed(0)
    conv = ShortConvolution(6, 4, bias=bias, silu=silu)
    x = _uniform(ROWS, TOKENS, 6, seed=0) - 0.5
    y, gradients = _gradients(conv, [x])
    with plain_sequences():
        plain, plain_gradients = _gradients(conv, [x])
    torch.testing.assert_close(y, plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients, plain_gradients, rtol=0, atol=1e-6)
    valid = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    valid[1, 5:20], valid[2, 0] = False, False
    with torch.no_grad():
        stepped, past = conv.step(x, conv.initial_state(ROWS, CPU), valid)
        again, compiled_past = conv.compiled(3).step(x, conv.initial_state(ROWS, CPU), valid)
    torch.testing.assert_close(stepped[0], y[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(stepped[valid], again[valid], rtol=0, atol=1e-6)
    assert torch.equal(past, compiled_past)


def test_the_token_before_passes_over_masked_ones() -> None:
    shift = PreviousToken(2)
    x = _uniform(1, 4, 2, seed=0)
    state = shift.initial_state(1, CPU)
    before, last = shift.step(x, state, torch.tensor([[True, False, False, True]]))
    assert torch.equal(before[0, 3], x[0, 0])
    assert torch.equal(last[0], x[0, 3])
    assert torch.equal(shift.step(x, state, None)[0], shift(x))
    assert torch.equal(shift(x)[0, 0], torch.zeros(2))
    assert torch.equal(shift(x)[0, 1:], x[0, :-1])


@pytest.mark.parametrize("gate_first", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_gated_norms_have_the_same_gradients_in_every_form(shared: bool, gate_first: bool) -> None:
    pytest.importorskip("numba")
    norm = GatedRMSNorm(12, 3, shared=shared, gate_first=gate_first, eps=0.01)
    inputs = [_uniform(ROWS, 5, 12, seed=0) - 0.5, 4 * (_uniform(ROWS, 5, 12, seed=1) - 0.5)]
    weight = _uniform(*norm.weight.shape, seed=2)

    def call(x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(norm, {"weight": weight}, (x, gate))
        return y

    found = _gradients(call, [*inputs, weight])
    with plain_sequences():
        expected = _gradients(call, [*inputs, weight])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gate_first", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@torch.no_grad()
def test_compiled_norms_are_the_norms(shared: bool, gate_first: bool) -> None:
    pytest.importorskip("numba")
    # Small numbers, so that the epsilon matters.
    x, both = 0.01 * (_uniform(ROWS, 5, 12, seed=0) - 0.5), 4 * (_uniform(ROWS, 5, 24, seed=1) - 0.5)
    norm, gated = RMSNorm(12, 1e-4), GatedRMSNorm(12, 3, shared=shared, gate_first=gate_first, eps=1e-4)
    for each, seed in ((norm, 2), (gated, 3)):
        each.weight.copy_(_uniform(*each.weight.shape, seed=seed))
    torch.testing.assert_close(norm.compiled(3)(x), norm(x), rtol=1e-6, atol=1e-7)
    gate = both[..., 12:]  # not one piece of memory, as what a projection gives for a gate
    torch.testing.assert_close(gated.compiled(3)(x, gate), gated(x, gate), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_a_compiled_feed_forward_part_is_the_part(bias: bool, activation: str) -> None:
    pytest.importorskip("numba")
    torch.manual_seed(0)
    part, x = GatedFeedForward(6, 10, activation, bias=bias), 4 * (_uniform(ROWS, 5, 6, seed=0) - 0.5)
    torch.testing.assert_close(part.compiled(15)(x), part(x), rtol=1e-6, atol=1e-6)


def test_a_compiled_mixer_has_the_methods_that_it_names() -> None:
    from lram.agents.backbones.parts.compiled import with_compiled_parts

    class Doubled(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            return self._read(x)

        def initial_state(self, rows: int, device: torch.device) -> tuple[()]:
            return ()

        def step(self, x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
            return self._read(x), state

        def compiled_methods(self) -> dict[str, Callable[..., Any]]:
            return {"_read": lambda x: 3 * x}

        def _read(self, x: Tensor) -> Tensor:
            return 2 * x

    mixer, one = Doubled(), torch.ones(1, 1, 1)
    assert with_compiled_parts(mixer, 1).step(one, (), None)[0] == 3
    assert mixer.step(one, (), None)[0] == 2


def test_a_compiled_copy_leaves_the_module_as_it_was() -> None:
    from lram.agents.backbones.parts.compiled import with_compiled_parts

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linears = nn.ModuleList([Linear(4, 4), nn.Linear(4, 4)])
            self.norm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            for linear in self.linears:
                x = linear(x)
            y: Tensor = self.norm(x)
            return y

    module, x = Twice(), _uniform(2, 4, seed=0)
    copy = with_compiled_parts(module, 2)
    with torch.no_grad():
        torch.testing.assert_close(copy.forward(x), module(x), rtol=0, atol=1e-6)
    assert isinstance(module.linears[0], Linear)
    assert module.norm is copy.norm
