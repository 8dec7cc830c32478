"""Triton kernels against plain PyTorch: in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones import CONFIGS
from torch import Tensor

from lram.agents.backbones.captured import CapturedStep, repeat
from lram.agents.backbones.parts.matrix_memory import plain as matrix_plain
from lram.agents.backbones.parts.vector_memory import VectorMemory
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.states import tensors
from lram.agents.backbones.xlstm.plain import _read_chunk

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton's wheel is 286 MB and not installed: tox run -e triton")

from lram.agents.backbones.gpu import matrix_memory, mlstm, vector_memory  # noqa: E402

KINDS = (
    *("xlstm[1:1]", "mamba2", "gated_deltanet", "gla", "hgrn2", "rwkv7"),
    *("mingru", "minlstm", "rglru", "griffin"),
)


def close(ours: Any, plain: Any) -> None:
    """Equal to float32 rounding: sums are taken in another order, normalizers may be small."""
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5 * float(other.abs().max()) + 1e-6)


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.inference_mode():
        yield


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape).to(DEVICE)


@pytest.mark.parametrize("tokens", [1, 2, 3, 11])
def test_an_mlstm_reads_its_tokens_as_plain_pytorch_does(tokens: int) -> None:
    """40 columns: a program has some beyond the last. Row 1 is fresh; row 0 lacks a token, row 2 all."""
    torch.manual_seed(tokens)
    rows, heads, width = 3, 2, 40
    q, k, v = (drawn(rows, tokens, heads, width).transpose(1, 2) for _ in range(3))
    i, log_f = drawn(rows, heads, tokens), torch.nn.functional.logsigmoid(drawn(rows, heads, tokens) + 2)
    for absent in ((2, slice(None), slice(None)), *([(0, slice(None), tokens // 2)] if tokens > 1 else [])):
        i[absent], log_f[absent] = -torch.inf, 0.0
    memory = drawn(rows, heads, width, width), drawn(rows, heads, width), drawn(rows, heads)
    for part in memory:
        part[1] = 0
    ours, plain = (tuple(part.clone() for part in memory) for _ in range(2))
    (h, new), (expected, expected_new) = (
        mlstm.read_chunk(q, k, v, i, log_f, ours),
        _read_chunk(q, k, v, i, log_f, plain),
    )
    close([h, *new], [expected, *expected_new])
    assert new[0] is ours[0]
    for before, after in zip(memory, new, strict=True):
        assert torch.equal(before[2], after[2])


@pytest.mark.parametrize(("corrected", "one_decay", "masked"), list(product([False, True], repeat=3)))
def test_a_matrix_memory_reads_its_tokens_as_plain_pytorch_does(
    corrected: bool, one_decay: bool, masked: bool
) -> None:
    torch.manual_seed(0)
    rows, tokens, heads, keys, M, N = 2, 2 + masked, 4, 2, 10, 40
    q, k, a = (drawn(rows, tokens, keys, M) for _ in range(3))
    v, b = drawn(rows, tokens, heads, N), 0.1 * drawn(rows, tokens, heads, M)
    log_decay = -drawn(rows, tokens, heads, 1 if one_decay else M).abs()
    state = drawn(rows, heads, M, N)
    valid = torch.tensor([[True, False, True], [False, False, False]], device=DEVICE) if masked else None
    given = q, k, v, log_decay, *((a, b) if corrected else (None, None))
    own = state.clone()
    close(matrix_memory.advance(*given, own, valid), matrix_plain.advance(*given, state.clone(), valid))
    if masked:
        assert torch.equal(own[1], state[1])


@pytest.mark.parametrize("masked", [False, True])
def test_a_vector_memory_reads_its_tokens_as_plain_pytorch_does(masked: bool) -> None:
    torch.manual_seed(0)
    rows, tokens, channels = 2, 3, 200
    decay, new, state = (
        drawn(rows, tokens, channels).sigmoid(),
        drawn(rows, tokens, channels),
        drawn(rows, channels),
    )
    valid = torch.tensor([[True, False, True], [False, False, False]], device=DEVICE) if masked else None
    (h, own), (expected, newest) = (
        step(decay, new, state.clone(), valid)
        for step in (vector_memory.advance, VectorMemory(channels).step)
    )
    close([h, own], [expected, newest])
    if masked:
        assert torch.equal(own[1], state[1])


def test_the_kernels_compile_for_gpus(tmp_path: Path) -> None:
    """A100 and H100, with Triton's own assembler: nothing of a GPU has to be there."""
    given = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "support.compiled_for_gpus"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [kernel, capability] for kernel in ("_read", "_advance", "_decay") for capability in ("80", "90")
    ]


@pytest.mark.parametrize("name", KINDS)
def test_a_step_with_kernels_gives_what_the_plain_step_gives(name: str) -> None:
    torch.manual_seed(0)
    rows = 3
    backbone = build_backbone(CONFIGS[name]).eval()
    backbone.reset_parameters()
    for parameter in backbone.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    backbone.to(DEVICE)
    step = CapturedStep(backbone, repeat, kernels=True)
    state, plain = (backbone.initial_state(rows) for _ in range(2))
    for number, tokens in enumerate((3, 2, 1, 11)):
        if number == 2:
            for one in (state, plain):
                backbone.reset(one, [1])
        x = drawn(rows, tokens, 16)
        valid = (torch.rand(rows, tokens) < 0.6).to(DEVICE) if number % 2 else None
        y, state = step(x, state, valid)
        expected, plain = backbone.step(x, plain, valid)
        seen = slice(None) if valid is None else valid
        close([y[seen], *tensors(state)], [expected[seen], *tensors(plain)])
