"""sLSTM blocks of xLSTM, in plain PyTorch: a scalar memory that feeds back into its gates, token by token.

Shapes: B rows, S tokens, D width, NH heads, DH width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader, gpu_kernels_for, triton_detail, why_no_triton
from lram.agents.backbones.layers import column, drop, keep_valid, split_last
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts.headwise import HeadwiseLinear
from lram.agents.backbones.parts.initial import small_init, wang_init
from lram.agents.backbones.sequences import SequenceReader, compiled_for, sequence_form
from lram.agents.backbones.xlstm import XLSTMConfig, round_up
from lram.agents.backbones.xlstm.layers import CausalConv, Norm
from lram.agents.compute import SequenceForm

SLSTMState = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # y, c, n, m (B,D) each, conv (B,K-1,D)


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
