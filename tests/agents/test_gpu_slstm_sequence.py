"""An sLSTM's sequences by Triton kernels against plain PyTorch: interpreted where there is no GPU."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.backbones import CONFIGS, noisy_backbone
from support.gpu_sequences import Faulty, compared, compared_backbone, compared_under_autocast, times
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.layers import split_last
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.sequences import check_sequences
from lram.agents.backbones.stack import StackConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.model.config import ModelConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton's wheel is 286 MB and not installed: tox run -e triton")

from lram.agents.backbones.gpu import slstm_sequence  # noqa: E402

NAMES = ("y", "gates", "matrix", "bias")
CLOSE = 5e-6 if DEVICE.type == "cpu" else 5e-5  # exponentials of GPUs are shorter
ONLY = ModelConfig(24, 1, backbone=XLSTMConfig(heads=2, slstm_at=(0,)))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts of a head, of few numbers."""
    monkeypatch.setattr(slstm_sequence, "CHANNELS", 16)
    monkeypatch.setattr(slstm_sequence, "PART", 16)


def _plain(gates: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """The recurrence as the paper has it, stabilised; its scale is no constant to autograd here."""
    rows, tokens, _, width = gates.shape
    heads = len(matrix)
    y = c = n = gates.new_zeros(rows, width)
    m = gates.new_full((rows, width), -torch.inf)
    outputs = []
    for token in range(tokens):
        by_head = torch.einsum("bhj,hgj->bhg", split_last(y, heads), matrix)
        recurrent = split_last(by_head, 4).transpose(1, 2).flatten(-2)
        i, f, z, o = (gates[:, token] + bias.view(4, -1) + recurrent).unbind(dim=1)
        log_f = F.logsigmoid(f) + m
        scale = torch.maximum(i, log_f)
        i, f = torch.exp(i - scale), torch.exp(log_f - scale)
        c, n, m = f * c + i * torch.tanh(z), f * n + i, scale
        y = torch.sigmoid(o) * c / n
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def _given(rows: int, tokens: int, heads: int, head_width: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    width = heads * head_width
    gates, matrix, bias = (
        torch.randn(shape, generator=generator)
        for shape in ((rows, tokens, 4, width), (heads, 4 * head_width, head_width), (4 * width,))
    )
    # A recurrence that is felt, but not chaotic: rounding would grow.
    return [one.to(DEVICE) for one in (gates.to(dtype), matrix * head_width**-0.5, bias)]


SHAPES = [(1, 1, 2, 8), (2, 2, 1, 16), (3, 3, 1, 24), (17, 4, 1, 8), (2, 13, 2, 24)]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_slstm_reads_sequences_as_plain_pytorch_does(shape: tuple[int, int, int, int]) -> None:
    """A token and more; rows of two programs; heads of one part, of several, and of what fills none."""
    given = _given(*shape, torch.float32)
    compared(slstm_sequence.read, _plain, NAMES, given, CLOSE)


@pytest.mark.parametrize(("gate", "shift"), [(0, -120.0), (0, 120.0), (1, -80.0), (1, 80.0)])
def test_closed_and_open_gates_give_the_same(gate: int, shift: float) -> None:
    """Input gates whose exponential no float32 number is, and memories that keep all, and nothing."""
    gates, matrix, bias = _given(2, 9, 1, 8, torch.float32)
    gates[:, ::2, gate] += shift
    compared(slstm_sequence.read, _plain, NAMES, [gates, matrix, bias], 10 * CLOSE)


def test_gates_of_two_bytes_are_read_and_their_gradients_rounded() -> None:
    """The memory is of four: gradients of matrix and bias, which are not rounded, are exact."""
    given = _given(2, 12, 1, 16, torch.bfloat16)
    assert slstm_sequence.read(*given).dtype == torch.float32
    compared(slstm_sequence.read, _plain, NAMES, given, 1e-5 if DEVICE.type == "cpu" else 1e-2)


def test_rows_do_not_see_each_other() -> None:
    gates, matrix, bias = _given(3, 6, 2, 8, torch.float32)
    together = slstm_sequence.read(gates, matrix, bias)
    assert torch.equal(together[1:2], slstm_sequence.read(gates[1:2], matrix, bias))


def _of_head_before(given: dict[str, Any]) -> None:
    given.update(matrix=given["matrix"].roll(1, 0).contiguous())


def _of_token_before(name: str) -> Any:
    return lambda given: given.update({name: given[name].roll(1, 1).contiguous()})


FAULTS = {
    "a recurrence that is not there": ("_read_all", times("matrix", 0.0)),
    "a recurrence of another head": ("_read_all", _of_head_before),
    "a recurrence that is a little off": ("_read_all", times("matrix", 1.001)),
    "a bias": ("_read_all", times("bias", 1.001)),
    "what another token gives to the gates": ("_read_all", _of_token_before("gates")),
    "a recurrence that is not there, backwards": ("_all_gradients", times("matrix", 0.0)),
    "a recurrence of another head, backwards": ("_all_gradients", _of_head_before),
    "gates of another token": ("_all_gradients", _of_token_before("raw")),
    "a memory of another token": ("_all_gradients", _of_token_before("c")),
    "a normaliser of another token": ("_all_gradients", _of_token_before("n")),
    "a scale of another token": ("_all_gradients", _of_token_before("m")),
    "a slope": ("_all_gradients", times("dout", 1.001)),
    "what later tokens want of the memory": ("_all_gradients", lambda given: given["dc"].fill_(0.01)),
    "what later tokens want of the normaliser": ("_all_gradients", lambda given: given["dn"].fill_(0.01)),
}


def test_without_a_fault_none_is_found() -> None:
    compared(slstm_sequence.read, _plain, NAMES, _given(1, 5, 2, 8, torch.float32), CLOSE)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, change = FAULTS[fault]
    monkeypatch.setattr(slstm_sequence, kernel, Faulty(getattr(slstm_sequence, kernel), change))
    with pytest.raises(AssertionError):
        compared(slstm_sequence.read, _plain, NAMES, _given(1, 5, 2, 8, torch.float32), CLOSE)


WHOLE = {"xlstm": ONLY, "a stack": ModelConfig(24, 2, StackConfig(("slstm", "attention")))}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_backbone_has_the_states_and_gradients_of_the_plain_form(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []
    read = slstm_sequence.read
    monkeypatch.setattr(slstm_sequence, "read", lambda *given: asked.append(given[0]) or read(*given))
    backbone = noisy_backbone(WHOLE[name])
    backbone.to(DEVICE)
    compared_backbone(backbone, 11)
    assert len(asked) == 1


def test_under_autocast_it_rounds_about_as_the_plain_form_does() -> None:
    compared_under_autocast(noisy_backbone(ONLY).to(DEVICE), 9)


def test_what_reads_is_told_and_what_no_package_reads_is_refused() -> None:
    backbone = build_backbone(ONLY)
    told = check_sequences(backbone, "triton", DEVICE)
    assert told.startswith("kernels in Triton ")
    assert told.endswith(f", plain PyTorch {torch.__version__}")
    with pytest.raises(AgentError, match="its backbone has no memory that is read so"):
        check_sequences(backbone, "packages", DEVICE)
    with pytest.raises(AgentError, match="its backbone has no memory that is read so"):
        check_sequences(build_backbone(CONFIGS["gru"]), "triton", DEVICE)
