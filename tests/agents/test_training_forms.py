"""Whole sequences: kernels and plain PyTorch give the same hidden states and the same gradients."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.backbones import CONFIGS as EVERY_KIND
from support.backbones import noisy_backbone
from torch import Tensor

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.linear import Linear, linear
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba.selective_scan import selective_scan
from lram.agents.backbones.sequences import compiled_for, plain_sequences
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.transformer.plain import Transformer
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.backbones.xlstm.mlstm_chunks import chunk_of
from lram.agents.model.config import ModelConfig
from lram.agents.model.encoders import IMAGES_AT_ONCE, ImageEncoder
from lram.agents.model.network import action_loss, build_model
from lram.agents.training.optimizer import clip_gradients, gradient_norm

WIDTH = 32
CONFIGS = {
    "mlstm": ModelConfig(WIDTH, 2, backbone=XLSTMConfig()),
    "mlstm, heads of 48, conv of 3": ModelConfig(96, 1, backbone=XLSTMConfig(conv_kernel=3)),
    "mlstm, three heads": ModelConfig(96, 1, backbone=XLSTMConfig(heads=3)),
    "mlstm, blocks of 8": ModelConfig(WIDTH, 1, backbone=XLSTMConfig(qkv_block=8)),
    "slstm": ModelConfig(WIDTH, 1, backbone=XLSTMConfig(slstm_at=(0,))),
    "slstm, heads of 24": ModelConfig(96, 1, backbone=XLSTMConfig(slstm_at=(0,))),
    "mamba": ModelConfig(WIDTH, 2, backbone=MambaConfig()),
    "mamba, 100 channels, states of 5": ModelConfig(50, 1, backbone=MambaConfig(state_size=5, conv_kernel=2)),
    "mamba, more channels than go at once": ModelConfig(112, 1, backbone=MambaConfig(dt_rank=3)),
    "transformer": ModelConfig(
        WIDTH, 2, backbone=TransformerConfig(heads=4, positions="rotary", window=20, cache="ring")
    ),
}
EVERY = {**CONFIGS, **{f"{kind}, every kind": config for kind, config in EVERY_KIND.items()}}
RECURRENT = [name for name in CONFIGS if name != "transformer"]


@pytest.fixture(autouse=True)
def _numba() -> None:
    pytest.importorskip("numba")


def _results(backbone: Backbone, x: Tensor, plain: bool = False) -> dict[str, Tensor]:
    """Hidden states, and the gradients of their product with fixed numbers."""
    x = x.clone().requires_grad_()
    backbone.zero_grad()
    with plain_sequences() if plain else nullcontext():
        y = backbone(x)
        generator = torch.Generator().manual_seed(9)
        (y.float() * torch.randn(y.shape, generator=generator)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    gradients = {name: one.grad.clone() for name, one in backbone.named_parameters() if one.grad is not None}
    return {"y": y.detach(), "x": x.grad, **gradients}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_no_memory_is_read_before_it_is_written(name: str, plain: bool) -> None:
    """Trainings leave new tensors as they are found; PyTorch can fill them with NaN instead."""
    backbone, x = noisy_backbone(EVERY[name]), _tokens(2, 70, EVERY[name].width)
    found = _bits(_results(backbone, x, plain))
    fill, strict = torch.utils.deterministic, torch.are_deterministic_algorithms_enabled()
    before = fill.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    fill.fill_uninitialized_memory = True
    try:
        assert torch.empty(3).isnan().all()
        assert _bits(_results(backbone, x, plain)) == found
    finally:
        torch.use_deterministic_algorithms(strict)
        fill.fill_uninitialized_memory = before


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        ("mlstm", ""),
        ("mlstm", "rms"),
        ("slstm", ""),
        ("mamba", ""),
        ("transformer", ""),
        ("transformer", "rms"),
    ],
)
def test_pytorch_has_nothing_to_warn_of_when_a_model_trains_in_autocast(kind: str, norm: str) -> None:
    config = CONFIGS[kind]
    if norm:
        config = replace(config, backbone=replace(config.backbone, norm=norm))
    backbone = noisy_backbone(config)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
            warnings.simplefilter("error")
            _results(backbone, _tokens(2, 9, config.width).bfloat16())
    finally:
        torch.set_warn_always(before)


def _tokens(rows: int, count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, count, width, generator=torch.Generator().manual_seed(seed))


def _assert_close(results: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert results.keys() == expected.keys()
    for name, one in expected.items():
        difference = (results[name] - one).norm() / one.norm().clamp(
            min=0.05
        )  # below: what rounding leaves of sums that cancel
        assert difference < tolerance, f"{name}: {difference:.1e}"


def _bits(results: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: one.contiguous().numpy().tobytes() for name, one in results.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (3, 2), (2, 33), (9, 50), (1, 150)])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_kernels_equal_plain_pytorch_with_all_gradients(name: str, rows: int, count: int) -> None:
    config = CONFIGS[name]
    backbone, x = noisy_backbone(config), _tokens(rows, count, config.width)
    _assert_close(_results(backbone, x), _results(backbone, x, plain=True))


@pytest.mark.slow
@pytest.mark.parametrize("count", [257, 300, 384, 1500])
def test_long_sequences_are_read_in_chunks_as_plain_pytorch_reads_them(count: int) -> None:
    backbone, x = noisy_backbone(CONFIGS["mlstm"]), _tokens(2, count, WIDTH)
    layer = backbone.blocks[0].xlstm  # type: ignore[index,union-attr]
    assert chunk_of(count, len(layer.learnable_skip) // layer.mlstm_cell.heads) is not None
    _assert_close(_results(backbone, x), _results(backbone, x, plain=True), 5e-5)


@pytest.mark.parametrize("shift", [-40.0, 12.0, 40.0])
@pytest.mark.parametrize("gate", ["igate", "fgate"])
def test_extreme_gates_of_an_mlstm_give_the_same_in_chunks(gate: str, shift: float) -> None:
    backbone, x = noisy_backbone(CONFIGS["mlstm"]), _tokens(1, 270, WIDTH)
    with torch.no_grad():
        for block in backbone.blocks:  # type: ignore[union-attr]
            getattr(block.xlstm.mlstm_cell, gate).bias.add_(shift)
    # What large input gates have in common cancels: their bias's gradient is 0 but for rounding.
    _assert_close(_results(backbone, x), _results(backbone, x, plain=True), 1e-3)


@pytest.mark.parametrize("shift", [-40.0, -5.0, 12.0, 40.0])
@pytest.mark.parametrize("gate", ["igate", "fgate"])
def test_extreme_gates_of_an_mlstm_give_the_same(gate: str, shift: float) -> None:
    backbone, x = noisy_backbone(CONFIGS["mlstm"]), _tokens(2, 40, WIDTH)
    with torch.no_grad():
        for block in backbone.blocks:  # type: ignore[union-attr]
            getattr(block.xlstm.mlstm_cell, gate).bias.add_(shift)
    _assert_close(_results(backbone, x), _results(backbone, x, plain=True), 2e-4)


@pytest.mark.parametrize("shift", [-60.0, -5.0, 5.0, 60.0])
@pytest.mark.parametrize("gate", [0, 1])
def test_extreme_gates_of_an_slstm_give_the_same(gate: int, shift: float) -> None:
    backbone, x = noisy_backbone(CONFIGS["slstm"]), _tokens(2, 40, WIDTH)
    with torch.no_grad():
        backbone.blocks[0].xlstm.slstm_cell._bias_.view(4, -1)[gate].add_(shift)  # type: ignore[index,union-attr]
    _assert_close(_results(backbone, x), _results(backbone, x, plain=True), 2e-4)


@pytest.mark.parametrize("name", ["mlstm", "slstm", "mamba"])
def test_results_are_the_same_bit_for_bit_each_time(name: str) -> None:
    backbone, x = noisy_backbone(CONFIGS[name]), _tokens(17, 20, WIDTH)
    assert _bits(_results(backbone, x)) == _bits(_results(backbone, x))


@pytest.mark.parametrize("name", ["mlstm", "slstm", "mamba"])
def test_two_threads_give_the_same(name: str) -> None:
    backbone, x = noisy_backbone(CONFIGS[name]), _tokens(17, 20, WIDTH)
    expected, threads = _results(backbone, x), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        results = _results(backbone, x)
    finally:
        torch.set_num_threads(threads)
    _assert_close(results, expected, 2e-6)


@pytest.mark.parametrize("name", RECURRENT)
@torch.no_grad()
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    config = CONFIGS[name]
    backbone, x = noisy_backbone(config), _tokens(4, 40, config.width)
    others = torch.cat([x[:3], 100 * x[3:]])
    assert backbone(x)[:3].numpy().tobytes() == backbone(others)[:3].numpy().tobytes()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_what_comes_later_changes_nothing_before(name: str) -> None:
    config = CONFIGS[name]
    backbone, x = noisy_backbone(config), _tokens(2, 40, config.width)
    later = torch.cat([x[:, :25], 100 * x[:, 25:]], dim=1)
    torch.testing.assert_close(backbone(later)[:, :25], backbone(x)[:, :25], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_under_autocast_gradients_are_float32_and_close(name: str) -> None:
    config = CONFIGS[name]
    backbone, x = noisy_backbone(config, 0.02), _tokens(4, 40, config.width)
    expected = _results(backbone, x)
    with torch.autocast("cpu", torch.bfloat16):
        results = _results(backbone, x)
    assert {one.dtype for key, one in results.items() if key != "y"} == {torch.float32}
    for key in ("y", "x"):
        assert (results[key] - expected[key]).norm() < 0.05 * expected[key].norm()


def test_weights_of_other_types_are_read_plainly() -> None:
    backbone = noisy_backbone(CONFIGS["mamba"])
    assert compiled_for(torch.zeros(1), torch.zeros(1))
    with plain_sequences():
        assert not compiled_for(torch.zeros(1), torch.zeros(1))
    assert not compiled_for(torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.bfloat16))
    x = _tokens(2, 5, WIDTH)
    expected = backbone(x)
    results = backbone.bfloat16()(x.bfloat16())
    assert results.dtype == torch.bfloat16
    assert (results.float() - expected).norm() < 0.1 * expected.norm()


def test_many_images_are_encoded_as_few_are_with_all_gradients() -> None:
    encoder = ImageEncoder(8)
    images = torch.randint(
        0, 256, (IMAGES_AT_ONCE + 3, 3, 64, 64), generator=torch.Generator().manual_seed(1)
    )

    def results(function: Any) -> dict[str, Tensor]:
        encoder.zero_grad()
        y = function(images)
        y.square().sum().backward()
        gradients = {
            name: one.grad.clone() for name, one in encoder.named_parameters() if one.grad is not None
        }
        return {"y": y.detach(), **gradients}

    _assert_close(results(encoder), results(encoder._encode))


@torch.no_grad()
def test_a_model_predicts_only_the_dimensions_that_are_asked_for() -> None:
    model = build_model(CONFIGS["mamba"], 0)
    inputs = torch.rand(2, 5, model.config.state_width), torch.rand(2, 5), torch.rand(2, 5)
    logits, few = model(*inputs).logits, model(*inputs, dims=3).logits
    torch.testing.assert_close(few, logits[:, :, :3], rtol=0, atol=1e-6)
    classes = torch.full((2, 5, 8), 20)
    mask = (torch.arange(8) < 3).expand(2, 5, 8)
    torch.testing.assert_close(action_loss(few, classes, mask), action_loss(logits, classes, mask))


def test_a_band_as_long_as_the_sequence_is_causal_attention() -> None:
    backbone, x = noisy_backbone(CONFIGS["transformer"]), _tokens(2, 20, WIDTH)
    assert isinstance(backbone, Transformer)
    torch.testing.assert_close(backbone(x), backbone._read_band(x, 20), rtol=0, atol=1e-5)


def _scan_inputs(rows: int, tokens: int, channels: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    u, dt = normal(rows, tokens, channels), F.softplus(normal(rows, tokens, channels))
    A, B, C = -normal(channels, size).exp(), normal(rows, tokens, size), normal(rows, tokens, size)
    return [one.requires_grad_() for one in (u, dt, A, B, C)]


def test_the_plain_scan_has_the_gradients_of_finite_differences() -> None:
    inputs = _scan_inputs(2, 19, 3, 2, torch.float64)
    assert torch.autograd.gradcheck(selective_scan, inputs)


def test_the_plain_scan_has_the_gradients_of_its_loop() -> None:
    inputs = _scan_inputs(3, 37, 6, 4, torch.float32)

    def loop(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        h, outputs = u.new_zeros(len(u), *A.shape), []
        for t in range(u.shape[1]):
            h = torch.exp(dt[:, t, :, None] * A) * h + (dt * u)[:, t, :, None] * B[:, t, None]
            outputs.append((h * C[:, t, None]).sum(-1))
        return torch.stack(outputs, dim=1)

    def gradients(function: Any) -> dict[str, Tensor]:
        y = function(*inputs)
        found = torch.autograd.grad(y.square().sum(), inputs)
        return {"y": y.detach(), **dict(zip(["u", "dt", "A", "B", "C"], found, strict=True))}

    _assert_close(gradients(selective_scan), gradients(loop), 2e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("tokens", "inputs", "outputs"), [(200, 96, 38), (200, 7, 33), (129, 64, 256), (5, 8, 8)]
)
def test_a_linear_is_that_of_pytorch(tokens: int, inputs: int, outputs: int, bias: bool) -> None:
    layer = Linear(inputs, outputs, bias=bias)
    x = _tokens(1, tokens, inputs + 3)[0]

    def results(function: Any) -> dict[str, Tensor]:
        own = x.clone().requires_grad_()
        layer.zero_grad()
        # Rows that lie apart in memory, as after a split.
        y = function(own[:, :inputs].view(1, tokens, inputs), layer.weight, layer.bias)
        y.square().sum().backward()
        gradients = {name: one.grad.clone() for name, one in layer.named_parameters() if one.grad is not None}
        assert own.grad is not None
        return {"y": y.detach(), "x": own.grad, **gradients}

    _assert_close(results(linear), results(F.linear), 3e-6)


def clipped(model: torch.nn.Module, largest: float) -> float:
    measured = gradient_norm(model)
    return clip_gradients(model, largest, measured, measured.tolist())


@pytest.mark.parametrize("largest", [0.0, 0.25])
def test_a_gradient_whose_square_is_beyond_float32_is_scaled_down(largest: float) -> None:
    model = torch.nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3e22, 0.0]]), torch.tensor([4e22])
    assert clipped(model, largest) == pytest.approx(5e22)
    scale = largest / 5e22 if largest else 1.0
    torch.testing.assert_close(model.weight.grad, torch.tensor([[3e22 * scale, 0.0]]))
    torch.testing.assert_close(model.bias.grad, torch.tensor([4e22 * scale]))
    model.bias.grad = torch.tensor([float("nan")])
    assert not math.isfinite(clipped(model, largest))


@pytest.mark.parametrize("largest", [0.0, 0.25, 1e3])
def test_gradients_are_clipped_to_the_bits_that_pytorch_clips_them_to(largest: float) -> None:
    models = [torch.nn.Linear(40, 30), torch.nn.Linear(40, 30)]
    generator = torch.Generator().manual_seed(0)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        one.grad = torch.randn(one.shape, generator=generator)
        other.grad = one.grad.clone()
    expected = torch.nn.utils.clip_grad_norm_(models[1].parameters(), largest or math.inf)
    assert clipped(models[0], largest) == float(expected)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
