"""minGRU and minLSTM give what the public code gave on the same weights (``tests/data/recurrences``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.backbones.minimal import MinGRUConfig, MinLSTMConfig
from lram.agents.backbones.minimal.plain import MinGRUMixer, MinimalMixer, MinLSTMMixer
from lram.agents.backbones.minimal.public import from_public
from lram.agents.backbones.parts import MixerBlock, MixerStack
from lram.agents.backbones.parts.compiled import CompiledStep, with_compiled_parts
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.sequences import plain_sequences
from lram.agents.model.config import ModelConfig

DATA = Path(__file__).parents[1] / "data" / "recurrences"
CPU = torch.device("cpu")
MIXERS: dict[str, tuple[type[MinimalMixer], Any]] = {
    "mingru": (MinGRUMixer, MinGRUConfig),
    "minlstm": (MinLSTMMixer, MinLSTMConfig),
}
ATOL = 1e-5  # float32, the same sums in another order


@pytest.fixture(params=list(MIXERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recorded(kind: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{kind}.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _mixer(kind: str, weights: dict[str, Tensor], prefix: str) -> MinimalMixer:
    cls, options = MIXERS[kind]
    mixer = cls(16, options(expansion=1.5, conv_kernel=None))
    mixer.load_state_dict(from_public(weights, prefix))
    return mixer.eval()


def _stack(kind: str, recorded: dict[str, Tensor]) -> MixerStack:
    """Blocks as those of the public language model, around our layer."""
    eps, weights = torch.finfo(torch.float32).eps, recorded
    blocks = []
    for place in range(2):
        own = f"weight/stack/layers.{place}."
        feed_forward = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        feed_forward.load_state_dict(
            {
                name.removeprefix(f"{own}4."): value
                for name, value in weights.items()
                if name.startswith(f"{own}4.")
            }
        )
        block = MixerBlock(16, _mixer(kind, weights, f"{own}2."), feed_forward, eps)
        block.norm.weight.data.copy_(weights[f"{own}1.weight"])
        assert block.feed_forward_norm is not None
        block.feed_forward_norm.weight.data.copy_(weights[f"{own}3.weight"])
        blocks.append(block)
    stack = MixerStack(16, blocks, eps)
    stack.get_parameter("norm.weight").data.copy_(weights["weight/stack/norm.weight"])
    return stack.eval()


def _in_passes(step: Any, x: Tensor, state: Any, size: int) -> tuple[Tensor, Any]:
    outputs = []
    for first in range(0, x.shape[1], size):
        y, state = step(x[:, first : first + size], state, None)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


@torch.no_grad()
def test_the_layer_reads_as_the_public_one(kind: str, recorded: dict[str, Tensor]) -> None:
    pytest.importorskip("numba")
    mixer, x = _mixer(kind, recorded, "weight/layer/"), recorded["x"]
    torch.testing.assert_close(mixer(x), recorded["y"], rtol=0, atol=ATOL)
    with plain_sequences():
        torch.testing.assert_close(mixer(x), recorded["y"], rtol=0, atol=ATOL)
    for form in (mixer, with_compiled_parts(mixer, 3)):
        for size in (1, 3):
            y, state = _in_passes(form.step, x, mixer.initial_state(len(x), CPU), size)
            torch.testing.assert_close(y, recorded["y_step"], rtol=0, atol=ATOL)
            torch.testing.assert_close(state[0], recorded["state"][:, 0], rtol=0, atol=ATOL)


@torch.no_grad()
def test_blocks_around_it_are_in_the_public_order(kind: str, recorded: dict[str, Tensor]) -> None:
    pytest.importorskip("numba")
    stack, x = _stack(kind, recorded), recorded["x"]
    torch.testing.assert_close(stack(x), recorded["stack_y"], rtol=0, atol=ATOL)
    for step in (stack.step, CompiledStep(stack, 3)):
        for size in (1, 3):
            y, _ = _in_passes(step, x, stack.initial_state(len(x)), size)
            torch.testing.assert_close(y, recorded["stack_y_step"], rtol=0, atol=ATOL)


def test_a_state_as_wide_as_a_token_is_what_the_layer_gives(kind: str) -> None:
    cls, options = MIXERS[kind]
    mixer = cls(16, options(expansion=1.0))
    assert {name.partition(".")[0] for name, _ in mixer.named_parameters()} == {"conv", "in_proj"}
    with torch.no_grad():
        y, state = mixer.step(torch.randn(2, 3, 16), mixer.initial_state(2, CPU), None)
    assert torch.equal(y[:, -1], state[0])


@pytest.mark.parametrize("form", ["kernels", "plain", "step", "compiled step"])
def test_gates_that_are_shut_or_wide_open_give_numbers(kind: str, form: str) -> None:
    """Gates of +-300, whose sigmoids are 0 and 1 in float32: the state stays between what was written."""
    pytest.importorskip("numba")
    cls, options = MIXERS[kind]
    mixer = cls(4, options(expansion=1.0, conv_kernel=None))
    with torch.no_grad():
        mixer.in_proj.weight.copy_(torch.eye(4).repeat(mixer.inputs, 1))
        mixer.in_proj.weight[4:] *= 100
        if kind == "minlstm":
            mixer.in_proj.weight[8:10] *= -1  # channels of which one gate is shut where the other is open
    x = torch.tensor([[[3.0, -3.0, 2.0, -2.0], [-3.0, 3.0, -2.0, 2.0], [3.0, 3.0, -3.0, -3.0]]])
    x.requires_grad_(form in ("kernels", "plain"))
    if form == "kernels":
        y = mixer(x)
    elif form == "plain":
        with plain_sequences():
            y = mixer(x)
    else:
        stepped = mixer if form == "step" else with_compiled_parts(mixer, 3)
        with torch.no_grad():
            y, _ = stepped.step(x, mixer.initial_state(1, CPU), None)
    z = torch.where(x > 0, 1.0, 0.0) if kind == "mingru" else torch.where(x > 0, 0.0, 1.0)
    if kind == "minlstm":
        z[..., 2:] = 0.5  # both gates alike: half of each
    candidate = torch.where(x >= 0, x + 0.5, torch.sigmoid(x)).detach()
    h, expected = torch.zeros(1, 4), []
    for token in range(3):
        h = (1 - z[:, token]) * h + z[:, token] * candidate[:, token]
        expected.append(h)
    torch.testing.assert_close(y.detach(), torch.stack(expected, dim=1), rtol=0, atol=1e-6)
    if x.requires_grad:
        y.sum().backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_options_that_do_not_fit_are_refused_in_a_sentence(kind: str) -> None:
    _, options = MIXERS[kind]
    with pytest.raises(AgentError, match=rf"{kind}\.expansion must be above 0"):
        ModelConfig(16, 1, options(expansion=-1.0))
    with pytest.raises(AgentError, match=f"{kind}: width 16 times the expansion 0.01"):
        ModelConfig(16, 1, options(expansion=0.01))
    with pytest.raises(AgentError, match=rf"{kind}\.conv_kernel"):
        ModelConfig(16, 1, options(conv_kernel=0))


def test_without_a_convolution_a_block_keeps_its_state_alone(kind: str) -> None:
    model = ModelConfig(16, 1, MIXERS[kind][1](conv_kernel=None))
    backbone = build_backbone(model)
    x = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = backbone.initial_state(2)
        assert [tuple(tensor.shape) for tensor in state[0]] == [(2, 24)]
        torch.testing.assert_close(_in_passes(backbone.step, x, state, 2)[0], backbone(x), rtol=0, atol=ATOL)


def test_variants_are_told_apart(kind: str) -> None:
    options = MIXERS[kind][1]
    title = {"mingru": "minGRU", "minlstm": "minLSTM"}[kind]
    assert ModelConfig(16, 1, options()).describe() == title
    changed = ModelConfig(16, 1, options(expansion=2.0, conv_kernel=None))
    assert changed.describe() == f"{title}, state of 32, no convolution"
