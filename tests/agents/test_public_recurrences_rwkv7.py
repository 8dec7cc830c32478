"""RWKV-7 against recorded outputs of the public code on the same weights, and its forms among each other."""

from __future__ import annotations

import pytest
import torch
from support.recorded import Recorded
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.backbones.parts import MatrixMemory
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.rwkv7 import RWKV7Config
from lram.agents.backbones.rwkv7.plain import RWKV7
from lram.agents.backbones.rwkv7.public import from_public
from lram.agents.backbones.sequences import plain_sequences
from lram.agents.backbones.states import State
from lram.agents.backbones.stepping import make_stepper
from lram.agents.model.config import ModelConfig
from lram.agents.model.presets import parse_preset
from lram.agents.training.optimizer import decayed_names


@pytest.fixture(scope="module")
def public() -> tuple[RWKV7, Recorded]:
    """Two blocks with the weights of the package ``rwkv``, and what that computes with them."""
    kept = Recorded("rwkv7")
    config, ranks = kept.config, kept.config["ranks"]
    section = RWKV7Config(
        config["head_width"],
        decay_rank=ranks["w"],
        rate_rank=ranks["a"],
        value_rank=ranks["v"],
        gate_rank=ranks["g"],
    )
    backbone = build_backbone(ModelConfig(config["width"], config["layers"], backbone=section))
    assert isinstance(backbone, RWKV7)
    backbone.load_state_dict(from_public(kept.weights))
    return backbone.eval(), kept


def _close(state: State, kept: Recorded) -> None:
    """Theirs has the value first in a matrix."""
    for place, (matrices, time, channels) in enumerate(state):
        expected = kept[f"state/{place}.recurrent"].transpose(2, 3)
        torch.testing.assert_close(matrices, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(time, kept[f"state/{place}.att_shift"], rtol=0, atol=1e-5)
        torch.testing.assert_close(channels, kept[f"state/{place}.ffn_shift"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("plain", [False, True])
@torch.no_grad()
def test_sequences_are_read_as_by_the_public_code(public: tuple[RWKV7, Recorded], plain: bool) -> None:
    backbone, kept = public
    if plain:
        with plain_sequences():
            y = backbone(kept["x"])
    else:
        pytest.importorskip("numba")
        y = backbone(kept["x"])
    torch.testing.assert_close(y, kept["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 21])
@pytest.mark.parametrize("form", ["torch", "fused"])
@torch.no_grad()
def test_steps_and_states_are_those_of_the_public_code(
    public: tuple[RWKV7, Recorded], form: str, size: int
) -> None:
    if form == "fused":
        pytest.importorskip("numba")
    backbone, kept = public
    step, x = make_stepper(backbone, form).call, kept["x"]
    state, outputs = backbone.initial_state(len(x)), []
    for first in range(0, x.shape[1], size):
        y, state = step(x[:, first : first + size], state, None)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), kept["y"], rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(outputs, dim=1), kept["y_step"], rtol=0, atol=1e-5)
    _close(state, kept)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_matrix_memory_is_the_public_rule(compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    kept = Recorded("rwkv7_rule")
    r, w, k, v, a, b = (kept[f"rule/{name}"] for name in "rwkvab")
    memory = MatrixMemory(*kept["rule/initial"].shape[1:])
    step = memory.compiled(3).step if compiled else memory.step
    o, state = step(r, k, v, w, kept["rule/initial"].clone(), None, a, b)
    torch.testing.assert_close(o, kept["rule/o"], rtol=0, atol=1e-5)
    torch.testing.assert_close(state, kept["rule/final"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [32, 96])
def test_compiled_sequences_have_the_gradients_of_plain_ones(width: int) -> None:
    pytest.importorskip("numba")
    backbone, x = _noisy(width), _uniform(2, 19, width)
    y, gradients = _gradients(backbone, x)
    with plain_sequences():
        plain, plain_gradients = _gradients(backbone, x)
    torch.testing.assert_close(y, plain, rtol=0, atol=2e-5)
    assert gradients.keys() == plain_gradients.keys() == {name for name, _ in backbone.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
        close = 1e-4 * plain_gradients[name].abs().max().item()
        torch.testing.assert_close(
            gradient, plain_gradients[name], rtol=0, atol=close, msg=lambda told, name=name: f"{name}: {told}"
        )


def _uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) - 0.5


def _noisy(width: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(ModelConfig(width, 3, backbone=RWKV7Config()))
        backbone.reset_parameters()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return backbone


def _gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    names, parameters = zip(*module.named_parameters(), strict=True)
    y = module(x)
    slopes = torch.autograd.grad((y * _uniform(*y.shape)).sum(), parameters)
    return y.detach(), dict(zip(names, slopes, strict=True))


@torch.no_grad()
def test_later_blocks_read_the_first_ones_value() -> None:
    backbone, x = _noisy(32), _uniform(1, 6, 32)
    assert isinstance(backbone, RWKV7)
    before = backbone(x)
    third = backbone.get_submodule("blocks.2.time")
    seen = []
    handle = third.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    backbone(x)
    handle.remove()
    first = backbone.get_submodule("blocks.0.time")
    value = first(backbone.get_submodule("blocks.0.time_norm")(backbone.first_norm(x)), None)[1]
    torch.testing.assert_close(seen[0], value, rtol=0, atol=1e-6)
    state, outputs = backbone.initial_state(1), []
    for token in range(6):
        y, state = backbone.step(x[:, token : token + 1], state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), before, rtol=0, atol=1e-5)
    backbone.get_parameter("blocks.2.time.value_mix.bias").add_(1)
    assert (backbone(x) - before).abs().max() > 1e-3


def test_the_first_weights_follow_the_published_rules() -> None:
    backbone = build_backbone(parse_preset("rwkv7-1M"))
    backbone.reset_parameters()
    weights = backbone.state_dict()
    for added in ("time.out", "channels.down"):  # of the other backbones: theirs begin at zero
        assert weights[f"blocks.3.{added}.weight"].std() == pytest.approx(2 / 4 / 96**0.5, rel=0.05)
    mix = weights["blocks.1.time.mix.weight"]
    torch.testing.assert_close(mix[1, 48], torch.tensor(1 - 0.5 ** (0.9 * 0.75)))
    torch.testing.assert_close(weights["blocks.1.time.decay.bias"][24], torch.tensor(_published_decay(24)))
    square = weights["blocks.2.time.receptance.weight"]
    torch.testing.assert_close(square @ square.T, torch.eye(96), rtol=0, atol=1e-5)


def _published_decay(n: int, width: int = 96, place: int = 1, layers: int = 4, head: int = 48) -> float:
    zigzag = (n % head - (head - 1) / 2) / ((head - 1) / 2)
    slow = -6 + 6 * (n / (width - 1)) ** (1 + (place / (layers - 1)) ** 0.3)
    return float(slow + 0.5 + 2.5 * zigzag * abs(zigzag))


def test_only_the_large_matrices_decay_as_in_the_public_code() -> None:
    kinds = {name.split(".", 3)[3] for name in decayed_names(_noisy(32))}
    assert kinds == {f"{name}.weight" for name in ("receptance", "key", "value", "out", "up", "down")}


def test_heads_that_do_not_fit_are_refused_in_a_sentence() -> None:
    assert [RWKV7Config().width_of_head(width) for width in (16, 32, 96, 512, 768)] == [16, 32, 48, 64, 64]
    with pytest.raises(AgentError, match="width 96 is no multiple of head_width 64; give a divisor"):
        ModelConfig(96, 2, backbone=RWKV7Config(64))
    with pytest.raises(AgentError, match=r"rwkv7\.gate_rank must be above 0"):
        ModelConfig(96, 2, backbone=RWKV7Config(gate_rank=0))
    assert parse_preset("rwkv7-1M").describe() == "RWKV-7, heads of width 48"
    assert parse_preset("rwkv7-16M").describe() == "RWKV-7"
