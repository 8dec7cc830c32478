"""An mLSTM's sequences by the kernels of ``mlstm_kernels``: hidden states and gradients are those of ours.

On a processor the package's plain PyTorch kernels are run, whose backward pass has the formulas of its Triton
ones.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from support.backbones import noisy_backbone
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.sequences import check_sequences, read_sequences
from lram.agents.backbones.stack import StackConfig
from lram.agents.backbones.xlstm import XLSTMConfig, mlstm_package
from lram.agents.model.config import ModelConfig

CPU = torch.device("cpu")
CONFIGS = {
    "mlstm": ModelConfig(32, 2, backbone=XLSTMConfig()),
    "three heads of 64": ModelConfig(96, 1, backbone=XLSTMConfig(heads=3)),
    "with an sLSTM": ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(1,))),
}
needs_package = pytest.mark.skipif(
    mlstm_package.problem("cpu") is not None, reason=str(mlstm_package.problem("cpu"))
)


def _backbone(config: ModelConfig) -> Backbone:
    """Drawn weights with long queries and small values.

    So normalisers of both kinds occur, and the epsilon of a head's norm counts beside its variance.
    """
    backbone = noisy_backbone(config)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith(("q_proj.weight", "v_proj.weight")):
                parameter.mul_(8.0 if "q_proj" in name else 0.05)
    return backbone


def _results(backbone: Backbone, rows: int, tokens: int, form: str) -> dict[str, Tensor]:
    """Hidden states, and the gradients of their product with fixed numbers."""
    generator = torch.Generator().manual_seed(tokens)
    width = next(iter(backbone.parameters())).shape[-1]
    x = torch.randn(rows, tokens, width, generator=generator).requires_grad_()
    backbone.zero_grad()
    with read_sequences(form):  # type: ignore[arg-type]
        y = backbone(x)
    (y.float() * torch.randn(y.shape, generator=generator)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    gradients = {name: one.grad.clone() for name, one in backbone.named_parameters() if one.grad is not None}
    return {"y": y.detach(), "x": x.grad, **gradients}


def _assert_close(results: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    assert results.keys() == expected.keys()
    for name, one in expected.items():
        # below: what rounding leaves of sums that cancel
        difference = (results[name] - one).norm() / one.norm().clamp(min=0.05)
        assert difference < tolerance, f"{name}: {difference:.1e}"


@needs_package
@pytest.mark.parametrize(("rows", "tokens"), [(3, 1), (2, 17), (2, 128), (1, 150), (1, 300)])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_packages_kernels_give_our_states_and_all_gradients(name: str, rows: int, tokens: int) -> None:
    """Also where tokens are no multiple of a chunk, and of several chunks."""
    backbone = _backbone(CONFIGS[name])
    _assert_close(_results(backbone, rows, tokens, "packages"), _results(backbone, rows, tokens, "torch"))


@needs_package
@pytest.mark.parametrize("shift", [-40.0, -5.0, 5.0])
@pytest.mark.parametrize("gate", ["igate", "fgate"])
def test_extreme_gates_give_the_same(gate: str, shift: float) -> None:
    backbone = _backbone(CONFIGS["mlstm"])
    with torch.no_grad():
        for block in backbone.blocks:  # type: ignore[union-attr]
            getattr(block.xlstm.mlstm_cell, gate).bias.add_(shift)
    # Where input gates are wide open, the 1e-6 beside the normaliser counts, whose derivative the package
    # leaves out; logarithms of closed forget gates add up to hundreds, in float32.
    _assert_close(_results(backbone, 2, 40, "packages"), _results(backbone, 2, 40, "torch"), 1e-3)


@needs_package
@pytest.mark.parametrize("name", CONFIGS)
def test_under_autocast_gradients_are_float32_and_close(name: str) -> None:
    backbone = _backbone(CONFIGS[name])
    expected = _results(backbone, 4, 40, "torch")
    with torch.autocast("cpu", torch.bfloat16):
        results = _results(backbone, 4, 40, "packages")
    assert {one.dtype for key, one in results.items() if key != "y"} == {torch.float32}
    for key in ("y", "x"):
        assert (results[key] - expected[key]).norm() < 0.1 * expected[key].norm()


def _scaled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    return lambda k, **given: kernel(k=k * 1.01, **given)


def _shifted(kernel: Callable[..., Any]) -> Callable[..., Any]:
    return lambda i, **given: kernel(i=i + 0.01, **given)


def _without_logsigmoid(kernel: Callable[..., Any]) -> Callable[..., Any]:
    return lambda f, **given: kernel(f=torch.nn.functional.logsigmoid(f), **given)


def _other_eps(kernel: Callable[..., Any]) -> Callable[..., Any]:
    return lambda eps, **given: kernel(eps=1e-4, **given)


def _constant_normalizer(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """As the package has it: of the columns of ones nothing comes back."""

    def read(v: Tensor, **given: Any) -> Tensor:
        y = kernel(v=v, **given)
        return torch.cat([y[..., : -mlstm_package._ONES], y[..., -mlstm_package._ONES :].detach()], dim=-1)

    return read


@needs_package
@pytest.mark.parametrize("fault", [_scaled, _shifted, _without_logsigmoid, _other_eps, _constant_normalizer])
def test_a_planted_fault_is_found(
    fault: Callable[[Callable[..., Any]], Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = _backbone(CONFIGS["mlstm"])
    expected = _results(backbone, 2, 40, "torch")
    faulty = fault(mlstm_package.installed_kernel("cpu"))
    monkeypatch.setattr(mlstm_package, "installed_kernel", lambda device_type: faulty)
    with pytest.raises(AssertionError):
        _assert_close(_results(backbone, 2, 40, "packages"), expected)


@needs_package
def test_what_reads_is_told_with_its_version() -> None:
    told = check_sequences(_backbone(CONFIGS["mlstm"]), "packages", CPU)
    assert told.startswith("mlstm_kernels ")
    assert told.endswith(f"(chunkwise--native_custbw), plain PyTorch {torch.__version__}")


def test_a_package_that_is_not_there_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlstm_package, "find_spec", lambda name: None)
    with pytest.raises(AgentError) as raised:
        check_sequences(_backbone(CONFIGS["mlstm"]), "packages", CPU)
    assert str(raised.value) == (
        "the sequence form packages cannot be used: mlstm_kernels is not installed (pip install --no-deps "
        "mlstm_kernels einops, if you accept the NXAI Community License of the former); use the sequence "
        "form auto"
    )


def test_a_triton_that_the_package_was_not_written_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton's wheel is 286 MB and not installed: tox run -e triton")
    from triton.language.semantic import TritonSemantic

    monkeypatch.setattr(mlstm_package, "find_spec", lambda name: True)
    monkeypatch.delattr(TritonSemantic, "make_block_ptr", raising=False)
    told = mlstm_package.problem("cuda")
    assert told is not None
    assert "has no block pointers any more, of which the kernels of mlstm_kernels are made" in told


REFUSED = {
    "gru": ("packages", "its backbone has no memory that is read so"),
    "mamba": ("packages", "mamba-ssm's kernels are of GPUs, and the model is on cpu"),
    "stack": ("packages", "mamba-ssm's kernels are of GPUs, and the model is on cpu"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_package_reads_is_refused_in_a_sentence(what: str) -> None:
    from support.backbones import CONFIGS as OTHERS

    config = {
        "gru": OTHERS["gru"],
        "mamba": ModelConfig(32, 1, backbone=MambaConfig()),
        "stack": ModelConfig(32, 2, backbone=StackConfig(("mamba",))),
    }[what]
    form, reason = REFUSED[what]
    with pytest.raises(AgentError) as raised:
        check_sequences(build_backbone(config), form, CPU)  # type: ignore[arg-type]
    assert (
        str(raised.value) == f"the sequence form {form} cannot be used: {reason}; use the sequence form auto"
    )


def test_a_form_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(AgentError, match="choose one of auto, torch, fused, packages, triton"):
        check_sequences(torch.nn.Identity(), "flash", CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["auto", "torch"])
def test_without_being_asked_for_the_package_reads_nothing(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(mlstm_package, "read", refuse)
    backbone = _backbone(CONFIGS["mlstm"]).to(torch.bfloat16)  # which no kernel of processors reads
    with read_sequences(form), nullcontext():  # type: ignore[arg-type]
        assert backbone(torch.zeros(1, 5, 32, dtype=torch.bfloat16)).shape == (1, 5, 32)
    assert "mlstm_kernels" not in check_sequences(backbone, form, CPU)  # type: ignore[arg-type]
