"""Triton kernels of whole sequences against plain PyTorch: in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import math
import os

import pytest
import torch
import torch.nn.functional as F
from support.backbones import noisy_backbone
from support.gpu_sequences import Faulty, compared, compared_backbone, times
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.sequences import check_sequences
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.backbones.xlstm.mlstm import read_chunk
from lram.agents.model.config import ModelConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton's wheel is 286 MB and not installed: tox run -e triton")

from lram.agents.backbones.gpu import mlstm_sequence  # noqa: E402

NAMES = ("h", "q", "k", "v", "i", "f")
CONFIG = ModelConfig(24, 2, backbone=XLSTMConfig(heads=2, slstm_at=(1,)))


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of several tiles, of few tokens."""
    for name, size in {"CHUNK": 32, "TILE": 16, "PART": 16, "COLUMNS": 32}.items():
        monkeypatch.setattr(mlstm_sequence, name, size)


def _plain(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    heads = i.shape[1]
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    h, _ = read_chunk(q, k / math.sqrt(k.shape[-1]), v, i, F.logsigmoid(f), None)
    return h.transpose(1, 2).flatten(-2)


def _given(rows: int, tokens: int, heads: int, width: int, dtype: torch.dtype, shift: float) -> list[Tensor]:
    """Long queries, so that normalisers of both kinds occur."""
    generator = torch.Generator().manual_seed(tokens)
    q, k, v, i, f = (
        torch.randn(shape, generator=generator)
        for shape in (*3 * [(rows, tokens, heads * width)], *2 * [(rows, heads, tokens)])
    )
    gates = 2 * i + shift, f + 2 - shift
    return [one.to(DEVICE) for one in ((3 * q).to(dtype), k.to(dtype), v.to(dtype), *gates)]


def _compared(given: list[Tensor], tolerance: float) -> None:
    """Against plain PyTorch in float64."""
    assert mlstm_sequence.read(*given).dtype == torch.float32
    compared(mlstm_sequence.read, _plain, NAMES, given, tolerance)


@pytest.mark.parametrize("shape", [(1, 1, 2, 16), (2, 17, 1, 24), (2, 75, 2, 40)])
def test_an_mlstm_reads_sequences_as_plain_pytorch_does(shape: tuple[int, int, int, int]) -> None:
    """A token; more than a tile; three chunks, the last not whole. Heads wider than a program's columns."""
    _compared(_given(*shape, torch.float32, 0.0), 2e-5 if DEVICE.type == "cpu" else 2e-4)


@pytest.mark.parametrize("shift", [-20.0, 6.0])
def test_extreme_gates_give_the_same(shift: float) -> None:
    """Closed input gates, open forget gates, and the other way round: the 1e-6 counts."""
    _compared(_given(1, 40, 2, 16, torch.float32, shift), 1e-4)


def test_numbers_of_two_bytes_are_read_and_their_gradients_rounded() -> None:
    _compared(_given(1, 50, 2, 40, torch.bfloat16, 0.0), 1e-2)


FAULTS = {
    "scale of keys": ("_read_tiles", times("scale", 1.001)),
    "a gate": ("_read_tiles", times("a", 1.001)),
    "a state that is not carried": ("_read_tiles", times("states", 0.0)),
    "a normaliser that is not carried": ("_read_tiles", times("norms", 0.0)),
    "a normaliser that is taken for a constant": ("key_gradients", times("dnorm", 0.0)),
    "the gradient of a state": ("key_gradients", times("dstates", 0.0)),
    "the gradient of a normaliser": ("query_gradients", times("norms", 0.0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, change = FAULTS[fault]
    monkeypatch.setattr(mlstm_sequence, kernel, Faulty(getattr(mlstm_sequence, kernel), change))
    with pytest.raises(AssertionError):
        _compared(_given(1, 40, 1, 16, torch.float32, 0.0), 1e-4)


def test_a_planted_epsilon_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlstm_sequence, "_EPS", 1e-3)
    with pytest.raises(AssertionError):
        _compared(_given(1, 40, 1, 16, torch.float32, 0.0), 1e-4)


def test_a_whole_backbone_has_the_states_and_gradients_of_the_plain_form() -> None:
    """With an sLSTM block, whose kernels have tests of their own."""
    backbone = noisy_backbone(CONFIG)
    backbone.to(DEVICE)
    compared_backbone(backbone, 20)


def test_where_there_is_neither_a_gpu_nor_the_interpreter_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone(CONFIG)
    assert check_sequences(backbone, "triton", DEVICE).startswith("kernels in Triton ")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(AgentError) as raised:
        check_sequences(backbone, "triton", torch.device("cpu"))
    assert str(raised.value) == (
        "the sequence form triton cannot be used: Triton kernels are of GPUs, and the model is on cpu; use "
        "the sequence form auto"
    )
