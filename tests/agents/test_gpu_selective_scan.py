"""Mamba's scan over sequences by Triton kernels against plain PyTorch: interpreted where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.backbones import noisy_backbone
from support.gpu_sequences import Faulty, compared, compared_backbone, compared_under_autocast, times
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba.selective_scan import selective_scan
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.sequences import check_sequences
from lram.agents.backbones.stack import StackConfig
from lram.agents.model.config import ModelConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton's wheel is 286 MB and not installed: tox run -e triton")

from lram.agents.backbones.gpu import selective_scan_sequence  # noqa: E402

NAMES = ("y", "x", "z", "dt", "B", "C", "A", "D")
CLOSE = 2e-6 if DEVICE.type == "cpu" else 2e-5  # exponentials of GPUs are shorter


@pytest.fixture(autouse=True)
def _small_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several programs of few channels, and pieces of four tokens."""
    monkeypatch.setattr(selective_scan_sequence, "EVERY", 4)
    monkeypatch.setattr(selective_scan_sequence, "NUMBERS", 16)


def _plain(x: Tensor, z: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor) -> Tensor:
    return (selective_scan(x, F.softplus(dt), A, B, C) + D * x) * F.silu(z)


def _given(rows: int, tokens: int, channels: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    """As in the mixer, z and B and C are parts of wider tensors, and x has its tokens last in memory."""
    generator = torch.Generator().manual_seed(tokens)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    x = drawn(rows, channels, tokens).transpose(1, 2)
    z = drawn(rows, tokens, 2 * channels)[..., channels:]
    B, C = drawn(rows, tokens, 2 * size).chunk(2, dim=-1)
    dt = 2 * drawn(rows, tokens, channels) - 1
    A, D = -torch.exp(drawn(channels, size)), drawn(channels)
    return [*(one.to(dtype) for one in (x, z, dt, B, C)), A, D]


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 8, 23])
def test_a_selective_scan_reads_sequences_as_plain_pytorch_does(tokens: int) -> None:
    """Within a piece, whole pieces and not; channels and a state that fill no program."""
    given = _given(2, tokens, 5, 6, torch.float32)
    compared(selective_scan_sequence.scan, _plain, NAMES, given, CLOSE)


def test_many_tokens_lose_nothing() -> None:
    compared(selective_scan_sequence.scan, _plain, NAMES, _given(1, 100, 2, 3, torch.float32), CLOSE)


def test_numbers_of_two_bytes_are_read_and_their_gradients_rounded() -> None:
    """States are of four: the gradients of A and D, which are not rounded, are exact."""
    given = _given(1, 30, 3, 4, torch.bfloat16)
    assert selective_scan_sequence.scan(*given).dtype == torch.bfloat16
    compared(selective_scan_sequence.scan, _plain, NAMES, given, 3 * CLOSE)


def test_rows_do_not_see_each_other() -> None:
    given = _given(3, 9, 4, 3, torch.float32)
    alone = [one[1:2] for one in given[:5]]
    together = selective_scan_sequence.scan(*given)
    assert torch.equal(together[1:2], selective_scan_sequence.scan(*alone, *given[5:]))


def test_without_gradients_no_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sizes: object) -> Tensor:
        raise AssertionError

    given = _given(1, 9, 4, 3, torch.float32)
    expected = selective_scan_sequence.scan(*(one.requires_grad_() for one in given)).detach()
    monkeypatch.setattr(selective_scan_sequence._ScanSizes, "states", refuse)
    with torch.no_grad():
        assert torch.equal(selective_scan_sequence.scan(*given), expected)


def _moved(name: str) -> Callable[[dict[str, Any]], None]:
    """Return what gives a kernel numbers of the token before."""
    return lambda given: given.update({name: given[name].roll(1, 1).contiguous()})


FAULTS = {
    "a decay": ("_read", times("A", 1.001)),
    "what passes by the state": ("_read", times("D", 1.001)),
    "a token too few": ("_read", lambda given: given.update(tokens=given["tokens"] - 1)),
    "a gate of another token": ("_read", _moved("z")),
    "a state that was not kept": ("_gradients", times("kept", 0.0)),
    "a state of another piece": ("_gradients", _moved("kept")),
    "a decay, backwards": ("_gradients", times("A", 1.001)),
    "a gate, backwards": ("_gradients", times("z", 1.001)),
    "a step, backwards": ("_gradients", _moved("dt")),
    "what the state writes": ("_gradients", times("B", 1.001)),
    "what reads the state": ("_gradients", times("C", 1.001)),
    "what passes by, backwards": ("_gradients", times("D", 1.001)),
    "a slope": ("_gradients", times("dout", 1.001)),
}


def test_without_a_fault_none_is_found() -> None:
    compared(selective_scan_sequence.scan, _plain, NAMES, _given(1, 11, 3, 4, torch.float32), CLOSE)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, change = FAULTS[fault]
    faulty = Faulty(getattr(selective_scan_sequence, kernel), change)
    monkeypatch.setattr(selective_scan_sequence, kernel, faulty)
    with pytest.raises(AssertionError):
        compared(selective_scan_sequence.scan, _plain, NAMES, _given(1, 11, 3, 4, torch.float32), CLOSE)


WHOLE = {"mamba": MambaConfig(), "a stack": StackConfig(("mamba", "attention"))}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_backbone_has_the_states_and_gradients_of_the_plain_form(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = selective_scan_sequence.scan
    monkeypatch.setattr(selective_scan_sequence, "NUMBERS", 512)  # few programs: they are interpreted
    monkeypatch.setattr(selective_scan_sequence, "scan", lambda *given: asked.append(1) or read(*given))
    backbone = noisy_backbone(ModelConfig(24, 2, backbone=WHOLE[name]))
    backbone.to(DEVICE)
    compared_backbone(backbone, 11)
    assert len(asked) == (2 if name == "mamba" else 1)


def test_under_autocast_it_rounds_about_as_the_plain_form_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selective_scan_sequence, "NUMBERS", 512)
    backbone = noisy_backbone(ModelConfig(24, 1, backbone=MambaConfig()))
    compared_under_autocast(backbone.to(DEVICE), 9)


def test_what_reads_is_told_and_where_it_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone(ModelConfig(24, 1, backbone=MambaConfig()))
    told = check_sequences(backbone, "triton", DEVICE)
    assert told.startswith("kernels in Triton ")
    assert told.endswith(f", plain PyTorch {torch.__version__}")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(AgentError, match="Triton kernels are of GPUs, and the model is on cpu"):
        check_sequences(backbone, "triton", torch.device("cpu"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    large = build_backbone(ModelConfig(8, 1, backbone=MambaConfig(state_size=5000)))
    with pytest.raises(AgentError, match="its state a channel is 5,000, and its Triton kernel takes at most"):
        check_sequences(large, "triton", torch.device("cpu"))
