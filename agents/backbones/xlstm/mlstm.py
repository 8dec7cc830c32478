"""mLSTM blocks of xLSTM, in plain PyTorch: a matrix memory, which is read in parallel or in chunks.

Shapes: B rows, S tokens, D width, NH heads; F inner width, DH width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader, gpu_kernels_for, triton_detail, why_no_triton
from lram.agents.backbones.layers import drop, split_last
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts.headwise import HeadwiseLinear
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.sequences import SequenceReader, compiled_for, sequence_form
from lram.agents.backbones.xlstm import XLSTMConfig, mlstm_package, round_up
from lram.agents.backbones.xlstm.layers import CausalConv, Norm
from lram.agents.compute import SequenceForm

Memory = tuple[Tensor, Tensor, Tensor]  # C (B,NH,DH,DH: keys, values), n (B,NH,DH), m (B,NH)
MLSTMState = tuple[Tensor, Tensor, Tensor, Tensor]  # the same, and conv (B,K-1,F)

CHUNK = 64
"""Tokens of a chunk, where a sequence is cut into chunks."""

UNCHUNKED = 192
"""Up to so many tokens, one chunk is faster (measured at 16M) and its memory is small."""


class MLSTMCell(nn.Module, KernelReader, SequenceReader):
    """Gates and norm of the matrix memory.

    One computation serves training, reading a long past and acting: tokens are read in chunks, within
    a chunk every token looks at every earlier one, and what lies before the chunk is in the memory. A
    whole short sequence, a part of a long one and the few tokens of a decision are chunks alike.
    """

    def __init__(self, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.igate = Linear(3 * inner, heads)
        self.fgate = Linear(3 * inner, heads)
        self.outnorm = Norm(inner, groups=heads)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, memory: Memory | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """q, k, v: (B, S, F) -> (B, S, F), and the memory after the valid tokens.

        Without grad, the given memory's tensors are used for the new one.
        """
        qkv = torch.cat([q, k, v], dim=-1)
        i = self.igate(qkv).float().transpose(1, 2)  # (B, NH, S)
        log_f = F.logsigmoid(self.fgate(qkv).float()).transpose(1, 2)
        if valid is not None:
            absent = ~valid.unsqueeze(1)
            i, log_f = i.masked_fill(absent, -torch.inf), log_f.masked_fill(absent, 0.0)
        q, k, v = (split_last(part.float(), self.heads).transpose(1, 2) for part in (q, k, v))
        k = k / math.sqrt(k.shape[-1])

        tokens = q.shape[2]
        if memory is not None and gpu_kernels_for(tokens):
            from lram.agents.backbones.gpu import mlstm

            h, memory = mlstm.read_chunk(q, k, v, i, log_f, memory)
            return self.outnorm(h.transpose(1, 2).flatten(-2)), memory
        size = CHUNK if tokens > UNCHUNKED else tokens
        outputs = []
        for first in range(0, tokens, size):
            part = slice(first, first + size)
            h, memory = read_chunk(
                q[:, :, part], k[:, :, part], v[:, :, part], i[..., part], log_f[..., part], memory
            )
            outputs.append(h)
        assert memory is not None
        return self.outnorm(torch.cat(outputs, dim=2).transpose(1, 2).flatten(-2)), memory

    def read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Whole sequences from an empty memory, in the form that is asked for: (B, S, F) -> the same."""
        form = sequence_form()
        if form not in ("packages", "triton") or torch.compiler.is_compiling():
            plain: Tensor = self(q, k, v)[0]
            return plain
        qkv = torch.cat([q, k, v], dim=-1)
        i, f = (gate(qkv).float().transpose(1, 2) for gate in (self.igate, self.fgate))  # (B, NH, S)
        if form == "triton":
            from lram.agents.backbones.gpu import mlstm_sequence

            h = mlstm_sequence.read(q, k, v, i, f)
        else:
            q, k, v = (split_last(part, self.heads).transpose(1, 2) for part in (q, k, v))
            h = mlstm_package.read(q, k, v, i, f, mlstm_package.installed_kernel(q.device.type))
            h = h.float().transpose(1, 2).flatten(-2)
        normed: Tensor = self.outnorm(h)
        return normed

    def why_not_read(self, form: SequenceForm, device: torch.device) -> str | None:
        """See :class:`SequenceReader`."""
        if form == "packages":
            return mlstm_package.problem(device.type)
        return why_no_triton(device)

    def read_by(self, form: SequenceForm, device: torch.device) -> str:
        """See :class:`SequenceReader`."""
        return triton_detail() if form == "triton" else mlstm_package.described(device.type)


def read_chunk(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, log_f: Tensor, memory: Memory | None
) -> tuple[Tensor, Memory]:
    """Read T tokens: q, k, v (B, NH, T, DH), i, log_f (B, NH, T) -> h (B, NH, T, DH), new memory.

    The recurrence C_t = f_t C_{t-1} + i_t k_t v_t, unrolled over the chunk. All weights are scaled by
    e^-m, m being the largest log weight at each token, as in the recurrence.
    """
    # log of the weight of token s at token t: the forget gates after s, then the input gate of s
    f_sum = log_f.cumsum(dim=-1)  # (B, NH, T)
    log_d = f_sum.unsqueeze(-1) - f_sum.unsqueeze(-2) + i.unsqueeze(-2)  # (B, NH, T, T)
    future = torch.ones(log_d.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    log_d = log_d.masked_fill(future, -torch.inf)
    m = log_d.amax(dim=-1, keepdim=True)  # (B, NH, T, 1)
    if memory is not None:
        log_past = (f_sum + memory[2].unsqueeze(-1)).unsqueeze(-1)
        m = torch.maximum(m, log_past)
        past = torch.exp(log_past - m)  # (B, NH, T, 1): the weight of the memory at each token

    weights = torch.exp(log_d - m)
    scores = (q @ k.transpose(-2, -1)) * weights
    normalizer, h = scores.sum(dim=-1, keepdim=True), scores @ v
    if memory is not None:
        C, n = memory[:2]
        normalizer = normalizer + past * (q @ n.unsqueeze(-1))
        h = h + past * (q @ C)
    h = h / (torch.maximum(normalizer.abs(), torch.exp(-m)) + 1e-6)

    last = weights[..., -1, :].unsqueeze(-1) * k  # (B, NH, T, DH)
    n_new = last.sum(dim=-2)
    m_new = m[..., -1, 0].contiguous()  # as an initial state is laid out, else torch.compile compiles twice
    if memory is None:
        return h, (last.transpose(-2, -1) @ v, n_new, m_new)
    decay = past[..., -1, :]  # (B, NH, 1)
    n_new = decay * n + n_new
    if torch.is_grad_enabled():
        return h, (decay.unsqueeze(-1) * C + last.transpose(-2, -1) @ v, n_new, m_new)
    C.mul_(decay.unsqueeze(-1))
    C.flatten(0, 1).baddbmm_(last.flatten(0, 1).transpose(-2, -1), v.flatten(0, 1))
    return h, (C, n_new, m_new)


class MLSTMLayer(nn.Module):
    """Up-projection; convolution, queries, keys, values, memory; gated down-projection."""

    def __init__(self, width: int, section: XLSTMConfig) -> None:
        super().__init__()
        inner = round_up(section.mlstm_factor * width)
        self.proj_up = Linear(width, 2 * inner, bias=False)
        self.conv1d = CausalConv(inner, section.conv_kernel)
        self.q_proj = HeadwiseLinear(inner, inner // section.qkv_block)
        self.k_proj = HeadwiseLinear(inner, inner // section.qkv_block)
        self.v_proj = HeadwiseLinear(inner, inner // section.qkv_block)
        self.mlstm_cell = MLSTMCell(inner, section.heads)
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.proj_down = Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        up = self.proj_up(x)
        if compiled_for(up, self.learnable_skip):
            from lram.agents.backbones.xlstm import mlstm_sequence

            if mlstm_sequence.can_read(self):
                read: Tensor = self.proj_down(mlstm_sequence.read(self, up).to(up.dtype))
                return read
        x, z = up.chunk(2, dim=-1)  # (B, S, F) each
        x_conv = self.conv1d(x)
        h = self.mlstm_cell.read(self.q_proj(x_conv), self.k_proj(x_conv), self.v_proj(x))
        y: Tensor = self.proj_down((h.to(x.dtype) + self.learnable_skip * x_conv) * F.silu(z))
        return y

    def step(self, x: Tensor, state: MLSTMState, valid: Tensor | None) -> tuple[Tensor, MLSTMState]:
        """(B, k, D) -> the same."""
        C, n, m, past = state
        x, z = self.proj_up(x).chunk(2, dim=-1)
        x_conv, past = self.conv1d.step(x, past, valid)
        q, k, v = self.q_proj(x_conv), self.k_proj(x_conv), self.v_proj(x)
        h, memory = self.mlstm_cell(q, k, v, (C, n, m), valid)
        y = self.proj_down((h.to(x.dtype) + self.learnable_skip * x_conv) * F.silu(z))
        return y, (*memory, past)


class MLSTMBlock(nn.Module):
    """x + mLSTM(norm(x))."""

    def __init__(self, width: int, section: XLSTMConfig, layers: int) -> None:
        super().__init__()
        self.layers, self.dropout = layers, section.dropout
        self.xlstm_norm = Norm(width, rms=section.norm == "rms")
        self.xlstm = MLSTMLayer(width, section)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        y: Tensor = x + drop(self.xlstm(self.xlstm_norm(x)), self.dropout, self.training)
        return y

    def step(self, x: Tensor, state: MLSTMState, valid: Tensor | None) -> tuple[Tensor, MLSTMState]:
        """(B, k, D) -> the same."""
        y, state = self.xlstm.step(self.xlstm_norm(x), state, valid)
        return x + y, state

    def initial_state(self, rows: int) -> MLSTMState:
        """Zeros."""
        skip, heads = self.xlstm.learnable_skip, self.xlstm.mlstm_cell.heads
        head_width = len(skip) // heads
        return (
            torch.zeros(rows, heads, head_width, head_width, dtype=torch.float32, device=skip.device),
            torch.zeros(rows, heads, head_width, dtype=torch.float32, device=skip.device),
            torch.zeros(rows, heads, dtype=torch.float32, device=skip.device),
            self.xlstm.conv1d.initial_state(rows),
        )

    def reset_parameters(self) -> None:
        """The rules of the xlstm package."""
        layer, width = self.xlstm, self.xlstm_norm.weight.shape[0]
        for linear in (layer.proj_up, layer.q_proj, layer.k_proj, layer.v_proj):
            small_init(linear.weight, width)
        wang_init(layer.proj_down.weight, width, self.layers)
        cell = layer.mlstm_cell
        nn.init.zeros_(cell.igate.weight)
        nn.init.normal_(cell.igate.bias, std=0.1)
        nn.init.zeros_(cell.fgate.weight)
        with torch.no_grad():
            cell.fgate.bias.copy_(torch.linspace(3.0, 6.0, cell.heads))
