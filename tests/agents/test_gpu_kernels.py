"""Triton kernels against plain PyTorch: in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones import CONFIGS
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError
from lram.agents.backbones.captured import CapturedStep, repeat
from lram.agents.backbones.layers import causal_conv_step
from lram.agents.backbones.mamba.plain import MambaMixer
from lram.agents.backbones.parts.matrix_memory import plain as matrix_plain
from lram.agents.backbones.parts.vector_memory import VectorMemory
from lram.agents.backbones.recording import recorded_here
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.states import tensors
from lram.agents.backbones.stepping import make_stepper
from lram.agents.backbones.transformer.cache import CachedPass, cached_attention
from lram.agents.backbones.xlstm.mlstm import read_chunk
from lram.agents.backbones.xlstm.slstm import SLSTMCell
from lram.agents.checks.equivalence import Extent, model_checks
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="Triton's wheel is 286 MB and not installed: tox run -e triton")

from lram.agents.backbones.gpu import (  # noqa: E402
    attention,
    convolution,
    kernels_here,
    matrix_memory,
    mlstm,
    selective_scan,
    slstm,
    vector_memory,
)

WITHOUT = {"gru", "lstm", "transformer[recompute]"}
SEQUENCES = ("_states", "_read_tiles", "state_gradients", "key_gradients", "query_gradients")
COMPILED = (
    *("_read", "_advance", "_decay", "_convolve", "_read_token", "_scan", "_attend", "_combine"),
    *(*SEQUENCES, "_read_tiles"),  # of bfloat16, and one of float32
    *("_read", "_gradients"),  # of Mamba's scan
    *("_read_all", "_all_gradients"),  # of an sLSTM
)
KINDS = sorted(set(CONFIGS) - WITHOUT)
TYPES = (torch.float32, torch.bfloat16)


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


def masks(rows: int, tokens: int) -> Tensor:
    """Return a mask in which the last row has no token, the first all but one, and others some."""
    valid = torch.rand(rows, tokens) < 0.6
    valid[0], valid[-1] = True, False
    valid[0, tokens // 2] = False
    return valid.to(DEVICE)


def rounded(one: Tensor, other: Tensor, dtype: torch.dtype) -> None:
    """Equal to the rounding of ``dtype``; what is compared with was computed in float32."""
    if dtype == torch.bfloat16:
        torch.testing.assert_close(one.float(), other, rtol=2**-7, atol=1e-5)
    else:
        close([one], [other])


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
        read_chunk(q, k, v, i, log_f, plain),
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


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("tokens", "kernel"), [(1, 4), (2, 2), (3, 4), (11, 6)])
def test_a_convolution_reads_its_tokens_as_plain_pytorch_does(
    tokens: int, kernel: int, dtype: torch.dtype
) -> None:
    """Of a part of wider tensors; rings of a power of two and of other sizes; more and fewer tokens."""
    torch.manual_seed(tokens)
    conv = torch.nn.Conv1d(150, 150, kernel, groups=150, bias=tokens != 2).to(DEVICE, dtype)
    x, past = drawn(3, tokens, 300).to(dtype)[..., 150:], drawn(3, kernel - 1, 150)
    past[1] = 0
    for valid, silu in ((None, True), (masks(3, tokens), False)):
        with kernels_here():
            y, new = causal_conv_step(conv, x, own := past.clone(), valid, silu=silu)
        expected, kept = causal_conv_step(conv.float(), x.float(), past, valid, silu=silu)
        conv.to(dtype)
        assert new is own
        assert y.dtype == dtype
        seen = slice(None) if valid is None else valid
        rounded(y[seen], expected[seen], dtype)
        assert torch.equal(new, kept)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("tokens", [1, 2, 3, 11])
def test_an_slstm_reads_its_tokens_as_plain_pytorch_does(tokens: int, dtype: torch.dtype) -> None:
    """More rows, and more channels of a head, than a program has; row 1 is fresh."""
    torch.manual_seed(tokens)
    rows, heads, width = 18, 2, 40
    cell = SLSTMCell(width, heads).to(DEVICE)
    for parameter in cell.parameters():
        parameter.add_(0.5 * torch.randn(parameter.shape).to(DEVICE))
    cell = cell.to(dtype).float()  # of rounded numbers
    gates = drawn(rows, tokens, 4, width).to(dtype)
    y, c, n, m = drawn(rows, width), drawn(rows, width), drawn(rows, width).exp(), drawn(rows, width)
    for part in (y, c, n, m):
        part[1] = 0
    for valid in (None, masks(rows, tokens)):
        expected, after = cell(gates.float(), (y, c, n, m), valid)
        with kernels_here():
            read, new = cell.to(dtype)(gates, tuple(part.clone() for part in (y, c, n, m)), valid)
        cell.float()
        close([read, *new], [expected, *after])
        if valid is not None:
            assert all(torch.equal(one[-1], other[-1]) for one, other in zip(new, (y, c, n, m), strict=True))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("tokens", [1, 2, 3, 11])
def test_a_selective_scan_reads_its_tokens_as_plain_pytorch_does(tokens: int, dtype: torch.dtype) -> None:
    """Step sizes of all sizes, small ones to many digits; a state size that is no power of two."""
    torch.manual_seed(tokens)
    section = replace(CONFIGS["mamba"].backbone, state_size=10)
    mixer = MambaMixer(32, section).to(DEVICE)
    mixer.reset_parameters(1)
    mixer.dt_proj.bias.copy_(torch.linspace(-15.0, 25.0, 64))
    mixer = mixer.to(dtype).float()
    x, z = drawn(3, tokens, 128).to(dtype).chunk(2, dim=-1)
    h = drawn(3, 64, 10)
    h[1] = 0
    projected = mixer.dt_proj(mixer._parameters_of(x.float())[0]), *mixer._parameters_of(x.float())[1:]
    for valid in (None, masks(3, tokens)):
        expected, after = mixer._scan(x.float(), z.float(), h, valid)
        own = h.clone()
        y, new = selective_scan.scan(
            x, z, *projected, mixer.A_log.to(dtype).float(), mixer.D.to(dtype), own, valid
        )
        assert new is own
        rounded(y, expected, dtype)
        close([new], [after])
        if valid is not None:
            assert torch.equal(new[-1], h[-1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("tokens", "slots", "band"), [(1, 40, None), (2, 40, 25), (3, 600, 585), (11, 600, None)]
)
def test_attention_reads_a_cache_as_plain_pytorch_does(
    tokens: int, slots: int, band: int | None, dtype: torch.dtype
) -> None:
    """Caches in one part and in several; a fresh row, some in between, one whose ring has gone round."""
    torch.manual_seed(tokens)
    heads, key_heads, width = 4, 2, 10
    counts = torch.tensor([slots - 30, 0, 5, 3 * slots // 2 if band else slots - tokens], device=DEVICE)
    rows = len(counts)
    valid = masks(rows, tokens) if tokens > 1 else torch.ones(rows, 1, dtype=torch.bool, device=DEVICE)
    position = counts.unsqueeze(1) + torch.where(
        valid, valid.cumsum(1) - 1, valid.sum(1, keepdim=True) + (~valid).cumsum(1) - 1
    )
    keys, values = (drawn(rows, 2, key_heads, slots, width) for _ in range(2))
    q, k, v = (drawn(rows, tokens, n, width).to(dtype).transpose(1, 2) for n in (heads, key_heads, key_heads))
    ours, plain = (
        CachedPass(keys.clone(), values.clone(), position, valid, counts + valid.sum(1), band)
        for _ in range(2)
    )
    with kernels_here():
        y = cached_attention(ours)(1, q, k, v)
    with recorded_here():
        expected = cached_attention(plain)(1, q.float(), k.float(), v.float())
    assert (y.shape, y.dtype) == (expected.shape, dtype)
    seen = valid.unsqueeze(1).expand(y.shape[:3])
    rounded(y[seen], expected[seen], dtype)
    assert bool(y.isfinite().all())
    assert torch.equal(ours.keys, plain.keys)
    assert torch.equal(ours.values, plain.values)


@pytest.mark.timeout(900)  # a minute of a processor's time, which others may use too
def test_the_kernels_compile_for_gpus(tmp_path: Path) -> None:
    """A100 and H100, with Triton's own assembler: nothing of a GPU has to be there."""
    given = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "support.compiled_for_gpus"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert max(int(line[3]) for line in lines) <= 99 * 1024, "more shared memory than small GPUs have"
    assert [line[:2] for line in lines] == [
        [kernel, capability] for kernel in COMPILED for capability in ("80", "90")
    ]


def stepped(name: str, dtype: torch.dtype = torch.float32, faulty: bool = False) -> None:
    """Compare the step with kernels with the plain one; ``faulty``: it resets the wrong row."""
    torch.manual_seed(0)
    rows = 3
    backbone = build_backbone(CONFIGS[name]).eval()
    backbone.reset_parameters()
    for parameter in backbone.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    backbone.to(DEVICE, dtype)
    step = CapturedStep(backbone, repeat, kernels=True)
    state, plain = (backbone.initial_state(rows) for _ in range(2))
    for number, tokens in enumerate((3, 2, 1, 11)):
        if number == 2:
            backbone.reset(state, [0 if faulty else 1])
            backbone.reset(plain, [1])
        x = drawn(rows, tokens, 16).to(dtype)
        valid = (torch.rand(rows, tokens) < 0.6).to(DEVICE) if number % 2 else None
        y, state = step(x, state, valid)
        expected, plain = backbone.step(x, plain, valid)
        seen = slice(None) if valid is None else valid
        if dtype == torch.float32:
            close([y[seen], *tensors(state)], [expected[seen], *tensors(plain)])
        else:  # both round what they hand on
            torch.testing.assert_close(y[seen], expected[seen], rtol=0.05, atol=0.05)
        assert not [one for one in tensors(state) if one.is_floating_point() and one.dtype != torch.float32]


@pytest.mark.parametrize("name", KINDS)
def test_a_step_with_kernels_gives_what_the_plain_step_gives(name: str) -> None:
    stepped(name)


@pytest.mark.parametrize("name", ["xlstm[1:1]", "mamba", "transformer[ring]"])
def test_weights_of_two_bytes_are_read_by_the_kernels(name: str) -> None:
    stepped(name, torch.bfloat16)


def _changed(place: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what makes a function change what is given at ``place``."""

    def of(call: Any) -> Any:
        return lambda *given, **named: call(
            *(change(one) if number == place else one for number, one in enumerate(given)), **named
        )

    return of


def _forgetting(call: Any) -> Any:
    """Return a convolution that hands on the past that it was given."""
    return lambda x, past, *given, **named: (call(x, past.clone(), *given, **named)[0], past)


FAULTS: dict[str, tuple[str, Any, str, Callable[[Any], Any]]] = {
    "decay of a scan": ("mamba", selective_scan, "scan", _changed(5, lambda A_log: A_log + 0.01)),
    "forget gates of an sLSTM": ("xlstm[1:1]", slstm, "read_tokens", _changed(2, lambda bias: bias + 0.01)),
    "decay of a matrix": ("mamba2", matrix_memory, "advance", _changed(3, lambda decay: decay * 0.99)),
    "a past that is not kept": ("mamba", convolution, "convolve", _forgetting),
    "a stale slot": ("transformer[full]", attention, "attend", _changed(3, torch.clone)),
    "a slot too many": ("transformer[ring]", attention, "attend", _changed(7, lambda count: count + 1)),
    "a mask that is not read": ("griffin", attention, "attend", _changed(6, torch.ones_like)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, module, function, plant = FAULTS[fault]
    monkeypatch.setattr(module, function, plant(getattr(module, function)))
    with pytest.raises(AssertionError):
        stepped(name)


@pytest.mark.parametrize("name", ["mamba", "transformer[full]"])
def test_a_reset_of_another_row_is_found(name: str) -> None:
    with pytest.raises(AssertionError):
        stepped(name, faulty=True)


REFUSED = {
    "gru": (CONFIGS["gru"], "GRU has no Triton kernel"),
    "recompute": (
        CONFIGS["transformer[recompute]"],
        "a Transformer that reads its window anew has no Triton kernel",
    ),
    "convolution": (
        ModelConfig(16, 1, replace(CONFIGS["mamba"].backbone, conv_kernel=33)),
        "its convolution is over 33, and its Triton kernel takes at most 32",
    ),
    "state": (
        ModelConfig(16, 1, replace(CONFIGS["mamba"].backbone, state_size=5000)),
        "its state a channel is 5,000, and its Triton kernel takes at most 4,096",
    ),
    "heads": (
        ModelConfig(512, 1, replace(CONFIGS["transformer[full]"].backbone, heads=1)),
        "its heads of attention have the width 512, and its Triton kernel takes at most 256",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_kernels_cannot_read_is_refused_in_a_sentence(what: str) -> None:
    config, reason = REFUSED[what]
    with pytest.raises(AgentError) as raised:
        make_stepper(build_backbone(config), "triton")
    assert str(raised.value) == f"the triton step cannot be used: {reason}; use the step form torch"


def test_without_a_gpu_kernels_act_in_the_interpreter_only(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build_backbone(CONFIGS["mingru"])
    assert "interpreter" in make_stepper(backbone, "triton").detail or DEVICE == "cuda"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(AgentError, match="CUDA graphs are of GPUs, and the weights are on cpu"):
        make_stepper(backbone, "triton")


@pytest.mark.skipif(DEVICE == "cuda", reason="this is of the interpreter")
@pytest.mark.parametrize("name", ["mamba", "transformer[ring]"])
def test_the_checks_of_an_agent_take_the_kernels(name: str) -> None:
    """The same that ``lram check --step triton`` asks."""
    model = build_model(CONFIGS[name], seed=0)
    compute = Compute(step="triton", rows=1)
    agent = ModelAgent(model, trained=False, description="test", digest="", compute=compute)
    checks = model_checks(agent, Extent(lengths=(6,), decisions=2))
    assert [check for check in checks if check.status == "failed"] == []
    assert len(checks) > 5
