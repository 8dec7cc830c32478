"""xLSTM: mLSTM blocks (matrix memory) with sLSTM blocks (scalar memory) between them.

The block stack of Beck et al. 2024 (arXiv 2405.04517) in plain PyTorch. Parameters have the names and
shapes of ``xlstm.xLSTMBlockStack`` (PyPI ``xlstm``, sLSTM backend "vanilla"), so its weights load here
as they are.

Shapes: B rows, S tokens, D width, NH heads; F inner width of an mLSTM, DH width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.gpu import KernelReader, gpu_kernels_for, triton_detail, why_no_triton
from lram.agents.backbones.layers import (
    causal_conv,
    causal_conv_step,
    column,
    drop,
    keep_valid,
    split_last,
    wide_convolution,
)
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts.headwise import HeadwiseLinear
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.sequences import SequenceReader, compiled_for, sequence_form
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State, clear
from lram.agents.backbones.xlstm import XLSTMConfig, mlstm_package, round_up
from lram.agents.compute import SequenceForm

Memory = tuple[Tensor, Tensor, Tensor]  # C (B,NH,DH,DH: keys, values), n (B,NH,DH), m (B,NH)
MLSTMState = tuple[Tensor, Tensor, Tensor, Tensor]  # the same, and conv (B,K-1,F)
SLSTMState = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # y, c, n, m (B,D) each, conv (B,K-1,D)

CHUNK = 64
"""Tokens of a chunk, where a sequence is cut into chunks."""

EPS = 1e-5
"""Of every norm; PyTorch's own of a LayerNorm."""

UNCHUNKED = 192
"""Up to so many tokens, one chunk is faster (measured at 16M) and its memory is small."""


class XLSTM(Backbone):
    """The stack: blocks, then a norm."""

    DECAYED = (HeadwiseLinear,)

    def __init__(self, config: ModelShape) -> None:
        super().__init__()
        section = config.backbone
        self.blocks = nn.ModuleList(
            SLSTMBlock(config.width, section, position, config.layers)
            if position in section.slstm_at
            else MLSTMBlock(config.width, section, config.layers)
            for position in range(config.layers)
        )
        self.post_blocks_norm = Norm(config.width, rms=section.norm == "rms")

    @property
    def _stack(self) -> Sequence[MLSTMBlock | SLSTMBlock]:
        return cast("Sequence[MLSTMBlock | SLSTMBlock]", self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`. Time and memory grow linearly with S."""
        for block in self._stack:
            x = block(x)
        y: Tensor = self.post_blocks_norm(x)
        return y

    def initial_state(self, rows: int) -> State:
        """One tuple a block."""
        return [block.initial_state(rows) for block in self._stack]

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """See :class:`Backbone`."""
        clear(state, rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for block, block_state in zip(self._stack, state, strict=True):
            x, block_state = block.step(x, block_state, valid)
            new_state.append(block_state)
        return self.post_blocks_norm(x), new_state

    def reset_parameters(self) -> None:
        """The rules of the xlstm package."""
        for block in self._stack:
            block.reset_parameters()


class Norm(nn.Module):
    """LayerNorm without bias, or norm by the root mean square, over ``groups`` equal parts; scaled by
    1 + weight.
    """

    def __init__(self, width: int, groups: int = 1, *, rms: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.groups, self.rms = groups, rms

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        parts = split_last(x, self.groups)
        norm = F.rms_norm if self.rms else F.layer_norm
        return norm(parts, parts.shape[-1:], eps=EPS).flatten(-2) * (1.0 + self.weight)


class CausalConv(nn.Module, KernelReader):
    """Depthwise causal convolution followed by SiLU."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, groups=width, padding=kernel - 1)

    def initial_state(self, rows: int) -> Tensor:
        """Zeros."""
        weight = self.conv.weight
        return torch.zeros(
            rows, weight.shape[2] - 1, weight.shape[0], dtype=torch.float32, device=weight.device
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, width) -> the same."""
        return F.silu(causal_conv(self.conv, x))

    def step(self, x: Tensor, past: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, k, width) -> the same."""
        return causal_conv_step(self.conv, x, past, valid, silu=True)

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        return wide_convolution(self.conv)


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
            h, memory = _read_chunk(
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


def _read_chunk(
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


class SLSTMCell(nn.Module, KernelReader, SequenceReader):
    """The scalar memory, with a recurrent matrix a head. Gates are in the order i, f, z, o."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._recurrent_kernel_ = nn.Parameter(torch.zeros(heads, 4 * width // heads, width // heads))
        self._bias_ = nn.Parameter(torch.zeros(4 * width))  # (gate, head, DH)

    def forward(
        self, gates: Tensor, memory: tuple[Tensor, Tensor, Tensor, Tensor], valid: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Token by token: gates (B, S, 4, D) -> (B, S, D), and the memory y, c, n, m (B, D) each."""
        if gpu_kernels_for(gates.shape[1]):
            from lram.agents.backbones.gpu import slstm

            return slstm.read_tokens(gates, self._recurrent_kernel_, self._bias_, memory, valid)
        kernel = self._recurrent_kernel_.float().transpose(1, 2)  # (NH, DH, 4 DH)
        gates = gates.float() + self._bias_.float().view(4, -1)
        y, c, n, m = memory
        outputs = []
        for token in range(gates.shape[1]):
            y_heads = split_last(y, kernel.shape[0]).transpose(0, 1)  # (NH, B, DH)
            recurrent = split_last(torch.bmm(y_heads, kernel), 4)  # (NH, B, 4, DH)
            raw = gates[:, token] + recurrent.permute(1, 2, 0, 3).flatten(-2)  # (B, 4, D)
            i, f, z, o = raw.unbind(dim=1)

            log_f = m + F.logsigmoid(f)
            # A fresh memory (n = 0) takes the input gate as its scale. This must be asked of each
            # number: asked of the whole batch, a fresh row would depend on its neighbours.
            m_new = torch.where(n == 0, i, torch.maximum(i, log_f))
            i = torch.exp((i - m_new).clamp(max=0))
            f = torch.exp((log_f - m_new).clamp(max=0))
            c_new = f * c + i * torch.tanh(z)
            n_new = f * n + i
            y_new = torch.sigmoid(o) * c_new / n_new
            outputs.append(y_new)

            here = column(valid, token)
            y, c = keep_valid(here, y_new, y), keep_valid(here, c_new, c)
            n, m = keep_valid(here, n_new, n), keep_valid(here, m_new, m)
        return torch.stack(outputs, dim=1), (y, c, n, m)

    def read_in(self, form: SequenceForm) -> bool:
        """See :class:`SequenceReader`."""
        return form == "triton"

    def why_not_read(self, form: SequenceForm, device: torch.device) -> str | None:
        """See :class:`SequenceReader`."""
        return why_no_triton(device)

    def read_by(self, form: SequenceForm, device: torch.device) -> str:
        """See :class:`SequenceReader`."""
        return triton_detail()


class SLSTMLayer(nn.Module):
    """Convolution, headwise gates, memory, norm a head."""

    def __init__(self, width: int, section: XLSTMConfig) -> None:
        super().__init__()
        self.conv1d = CausalConv(width, section.conv_kernel)
        self.fgate = HeadwiseLinear(width, section.heads)
        self.igate = HeadwiseLinear(width, section.heads)
        self.zgate = HeadwiseLinear(width, section.heads)
        self.ogate = HeadwiseLinear(width, section.heads)
        self.slstm_cell = SLSTMCell(width, section.heads)
        self.group_norm = Norm(width, groups=section.heads)

    def gates(self, x: Tensor, x_conv: Tensor) -> Tensor:
        """Two (B, S, D) -> (B, S, 4, D), in the cell's order."""
        # In the xlstm package ``fgate`` feeds the cell's input gate and ``igate`` its forget gate;
        # trained weights follow that, so it is kept.
        parts = [self.fgate(x_conv), self.igate(x_conv), self.zgate(x), self.ogate(x)]
        return torch.stack(parts, dim=2)


class SLSTMFeedForward(nn.Module):
    """down(gelu(gate) * up)."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        inner = round_up(factor * width)
        self.proj_up = Linear(width, 2 * inner, bias=False)
        self.proj_down = Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        gate, up = self.proj_up(x).chunk(2, dim=-1)
        y: Tensor = self.proj_down(F.gelu(gate) * up)
        return y


class SLSTMBlock(nn.Module):
    """x + sLSTM(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, section: XLSTMConfig, position: int, layers: int) -> None:
        super().__init__()
        self.position, self.layers, self.dropout = position, layers, section.dropout
        self.xlstm_norm = Norm(width, rms=section.norm == "rms")
        self.xlstm = SLSTMLayer(width, section)
        self.ffn_norm = Norm(width, rms=section.norm == "rms")
        self.ffn = SLSTMFeedForward(width, section.ffn_factor)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same; token by token, because the memory feeds back into the gates."""
        inputs = self.xlstm_norm(x)
        gates = self.xlstm.gates(inputs, self.xlstm.conv1d(inputs))
        cell = self.xlstm.slstm_cell
        if compiled_for(gates, cell._recurrent_kernel_):
            from lram.agents.backbones.xlstm.slstm_sequence import read

            return self._finish(x, read(cell, gates))
        if sequence_form() == "triton" and not torch.compiler.is_compiling():
            from lram.agents.backbones.gpu import slstm_sequence

            return self._finish(x, slstm_sequence.read(gates, cell._recurrent_kernel_, cell._bias_))
        y, c, n, m, _ = self.initial_state(x.shape[0])
        y, _ = cell(gates, (y, c, n, m), None)
        return self._finish(x, y)

    def step(self, x: Tensor, state: SLSTMState, valid: Tensor | None) -> tuple[Tensor, SLSTMState]:
        """(B, k, D) -> the same."""
        y, c, n, m, past = state
        inputs = self.xlstm_norm(x)
        inputs_conv, past = self.xlstm.conv1d.step(inputs, past, valid)
        y, memory = self.xlstm.slstm_cell(self.xlstm.gates(inputs, inputs_conv), (y, c, n, m), valid)
        return self._finish(x, y), (*memory, past)

    def _finish(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.xlstm.group_norm(self._drop(y)).to(x.dtype)
        z: Tensor = x + self._drop(self.ffn(self.ffn_norm(x)))
        return z

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)

    def initial_state(self, rows: int) -> SLSTMState:
        """Zeros."""
        weight = self.xlstm_norm.weight
        memory = torch.zeros(4, rows, weight.shape[0], dtype=torch.float32, device=weight.device)
        y, c, n, m = memory.unbind(0)
        return y, c, n, m, self.xlstm.conv1d.initial_state(rows)

    def reset_parameters(self) -> None:
        """The rules of the xlstm package."""
        layer, width = self.xlstm, self.xlstm_norm.weight.shape[0]
        for linear in (layer.fgate, layer.igate, layer.zgate, layer.ogate, self.ffn.proj_up):
            small_init(linear.weight, width)
        wang_init(self.ffn.proj_down.weight, width, self.layers)
        nn.init.zeros_(layer.slstm_cell._recurrent_kernel_)
        nn.init.zeros_(layer.slstm_cell._bias_)
        # Forget gates from +5 down to -7 within a head, steeper in later blocks
        # ("powerlaw_blockdependent" in the xlstm package).
        heads, head_width = layer.fgate.weight.shape[:2]
        exponent = 0.3 + 1.3 * self.position / max(self.layers - 1, 1)
        spread = (torch.arange(head_width) / max(head_width - 1, 1)) ** exponent
        with torch.no_grad():
            layer.slstm_cell._bias_.view(4, heads, head_width)[1] = 5.0 - 12.0 * spread
