"""Mamba-1: selective state spaces (Gu and Dao 2023, arXiv 2312.00752), in plain PyTorch.

Parameters have the names and shapes of ``mamba_ssm.Mamba`` inside a stack of pre-norm blocks, so its
weights load here as they are. On a GPU, the kernels of ``mamba_ssm`` take the place of the convolution
and the scan where that package is installed; they compute the same.

Shapes: B rows, S tokens, D width, E = expand x D channels, N state size, R rank of the step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.gpu import (
    LARGEST_STATE,
    KernelReader,
    gpu_kernels_for,
    too_large,
    triton_detail,
    why_no_triton,
)
from lram.agents.backbones.layers import (
    RootMeanSquareNorm,
    causal_conv,
    causal_conv_step,
    column,
    drop,
    keep_valid,
    wide_convolution,
)
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.mamba.selective_scan import selective_scan
from lram.agents.backbones.parts.initial import step_size_biases
from lram.agents.backbones.sequences import SequenceReader, compiled_for, sequence_form
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State, clear
from lram.agents.compute import SequenceForm
from lram.agents.installed import version

LayerState = tuple[Tensor, Tensor]  # h (B, E, N), conv (B, K - 1, E)

NORM_EPS = 1e-5


class Mamba(Backbone):
    """The stack: blocks, then a norm."""

    def __init__(self, config: ModelShape) -> None:
        super().__init__()
        section = config.backbone
        self.layers = nn.ModuleList(MambaBlock(config.width, section) for _ in range(config.layers))
        self.norm_f = RootMeanSquareNorm(config.width, NORM_EPS)

    @property
    def blocks(self) -> Sequence[MambaBlock]:
        """``layers``, typed."""
        return cast("Sequence[MambaBlock]", self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`."""
        for layer in self.blocks:
            x = layer(x)
        y: Tensor = self.norm_f(x)
        return y

    def initial_state(self, rows: int) -> State:
        """One tuple a block."""
        return [layer.mixer.initial_state(rows) for layer in self.blocks]

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """See :class:`Backbone`."""
        clear(state, rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        new_state = []
        for layer, layer_state in zip(self.blocks, state, strict=True):
            x, layer_state = layer.step(x, layer_state, valid)
            new_state.append(layer_state)
        return self.norm_f(x), new_state

    def plain_detail(self) -> str:
        """See :class:`Backbone`."""
        if self.device.type == "cuda" and installed_kernels() is not None:
            return "kernels of mamba-ssm, PyTorch"
        return super().plain_detail()

    def reset_parameters(self) -> None:
        """The rules of ``mamba_ssm``."""
        for layer in self.blocks:
            layer.mixer.reset_parameters(len(self.layers))


class MambaBlock(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, width: int, section: MambaConfig) -> None:
        super().__init__()
        self.dropout = section.dropout
        self.norm = RootMeanSquareNorm(width, NORM_EPS)
        self.mixer = MambaMixer(width, section)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        y: Tensor = x + drop(self.mixer(self.norm(x)), self.dropout, self.training)
        return y

    def step(self, x: Tensor, state: LayerState, valid: Tensor | None) -> tuple[Tensor, LayerState]:
        """(B, k, D) -> the same."""
        y, state = self.mixer.step(self.norm(x), state, valid)
        return x + y, state


class MambaMixer(nn.Module, KernelReader, SequenceReader):
    """Projection in, convolution, selective scan, gate, projection out."""

    def __init__(self, width: int, section: MambaConfig) -> None:
        super().__init__()
        channels, size = section.expand * width, section.state_size
        self.rank = section.dt_rank or math.ceil(width / 16)
        self.in_proj = Linear(width, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(
            channels, channels, section.conv_kernel, groups=channels, padding=section.conv_kernel - 1
        )
        self.x_proj = Linear(channels, self.rank + 2 * size, bias=False)
        self.dt_proj = Linear(self.rank, channels)
        self.A_log = nn.Parameter(torch.zeros(channels, size))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = Linear(channels, width, bias=False)

    def initial_state(self, rows: int) -> LayerState:
        """Zeros."""
        channels, _, kernel = self.conv1d.weight.shape
        device = self.A_log.device
        return (
            torch.zeros(rows, *self.A_log.shape, dtype=torch.float32, device=device),
            torch.zeros(rows, kernel - 1, channels, dtype=torch.float32, device=device),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        xz = self.in_proj(x)
        if compiled_for(xz, self.A_log):
            from lram.agents.backbones.mamba.sequence import mix

            y = mix(xz, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D).to(xz.dtype)
            mixed: Tensor = self.out_proj(y)
            return mixed
        x, z = xz.chunk(2, dim=-1)  # (B, S, E) each
        kernels = kernels_for(x)
        if kernels is None:
            x = F.silu(causal_conv(self.conv1d, x))
            if (
                torch.compiler.is_compiling()
            ):  # which knows operations, not functions with their own backward pass
                y, _ = self._scan(x, z, self.initial_state(x.shape[0])[0], None)
            elif sequence_form() == "triton":
                from lram.agents.backbones.gpu.selective_scan_sequence import scan

                dt, B, C = self._parameters_of(x)
                y = scan(x, z, self.dt_proj(dt), B, C, self._A(), self.D.float())
            else:
                y = self._scan_plainly(x, z)
        else:
            y = self._scan_sequence(kernels, self._convolve_sequence(kernels, x), z)
        out: Tensor = self.out_proj(y)
        return out

    def step(self, x: Tensor, state: LayerState, valid: Tensor | None) -> tuple[Tensor, LayerState]:
        """(B, k, D) -> the same."""
        h, past = state
        x, z = self.in_proj(x).chunk(2, dim=-1)
        # The kernel of one token has no backward pass.
        kernels = None if torch.is_grad_enabled() else kernels_for(x)
        x, past = causal_conv_step(self.conv1d, x, past, valid, silu=True)
        if gpu_kernels_for(x.shape[1]):
            y, h = self._scan_by_kernel(x, z, h, valid)
        elif kernels is None:
            y, h = self._scan(x, z, h, valid)
        else:
            y, h = self._scan_tokens(kernels, x, z, h, valid)
        return self.out_proj(y), (h, past)

    def _scan(self, x: Tensor, z: Tensor, h: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """h_t = exp(dt A) h_{t-1} + dt B_t x_t; y_t = (C_t h_t + D x_t) silu(z_t). (B, S, E) -> the same."""
        dt, B, C = self._parameters_of(x)
        dt = F.softplus(self.dt_proj(dt).float())  # (B, S, E)
        B, C = B.float().unsqueeze(-2), C.float().unsqueeze(-1)  # (B, S, 1, N), (B, S, N, 1)
        A = self._A()  # (E, N)
        dt_x = dt * x.float()

        outputs = []
        for token in range(x.shape[1]):
            decay = (dt[:, token].unsqueeze(-1) * A).exp_()  # (B, E, N)
            h_new = (dt_x[:, token].unsqueeze(-1) * B[:, token]).addcmul_(decay, h)
            outputs.append((h_new @ C[:, token]).squeeze(-1))
            h = keep_valid(column(valid, token), h_new, h)
        y = torch.stack(outputs, dim=1) + self.D.float() * x.float()
        return y.to(x.dtype) * F.silu(z), h

    def _scan_by_kernel(self, x: Tensor, z: Tensor, h: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """:meth:`_scan` by the kernel of :mod:`lram.agents.backbones.gpu`; ``h`` is written to."""
        from lram.agents.backbones.gpu import selective_scan as kernel

        dt, B, C = self._parameters_of(x)
        return kernel.scan(x, z, self.dt_proj(dt), B, C, self.A_log, self.D, h, valid)

    def _scan_plainly(self, x: Tensor, z: Tensor) -> Tensor:
        """:meth:`_scan` of whole sequences from the initial state, with a backward pass of its own."""
        dt, B, C = self._parameters_of(x)
        dt = F.softplus(self.dt_proj(dt).float())
        y = selective_scan(x.float(), dt, self._A(), B.float(), C.float()) + self.D.float() * x.float()
        return y.to(x.dtype) * F.silu(z)

    def _convolve_sequence(self, kernels: Kernels, x: Tensor) -> Tensor:
        """Convolution and SiLU of whole sequences: (B, S, E) -> the same."""
        weight = self.conv1d.weight[:, 0]  # (E, K)
        if kernels.causal_conv is None or not 2 <= weight.shape[1] <= 4:  # what that kernel can do
            return F.silu(causal_conv(self.conv1d, x))
        # Tokens last and contiguous: in the other layout the kernel takes only multiples of 8 channels.
        x = x.transpose(1, 2).contiguous()
        y: Tensor = kernels.causal_conv(x, weight, self.conv1d.bias, activation="silu")
        return y.transpose(1, 2)

    def _scan_sequence(self, kernels: Kernels, x: Tensor, z: Tensor) -> Tensor:
        """:meth:`_scan` of whole sequences from the initial state."""
        dt, B, C = self._parameters_of(x)
        dt = F.linear(dt, self.dt_proj.weight)  # the kernel adds the bias
        x, dt, B, C, z = (part.transpose(1, 2) for part in (x, dt, B, C, z))  # tokens last
        bias = self.dt_proj.bias.float()
        y: Tensor = kernels.selective_scan(
            x, dt, self._A(), B, C, self.D.float(), z=z, delta_bias=bias, delta_softplus=True
        )
        return y.transpose(1, 2)

    def _scan_tokens(
        self, kernels: Kernels, x: Tensor, z: Tensor, h: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """:meth:`_scan`, token by token; ``h`` is written to."""
        dt, B, C = self._parameters_of(x)
        dt = F.linear(dt, self.dt_proj.weight)
        A, D, bias = self._A(), self.D.float(), self.dt_proj.bias.float()
        outputs = []
        for token in range(x.shape[1]):
            here = column(valid, token)
            h_new = h if here is None else h.clone()
            x_t, dt_t, B_t, C_t, z_t = (part[:, token] for part in (x, dt, B, C, z))
            outputs.append(
                kernels.state_update(h_new, x_t, dt_t, A, B_t, C_t, D, z=z_t, dt_bias=bias, dt_softplus=True)
            )
            h = keep_valid(here, h_new, h)
        return torch.stack(outputs, dim=1), h

    def _parameters_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, E) -> the low-rank step sizes (B, S, R), B and C (B, S, N)."""
        size = self.A_log.shape[1]
        dt, B, C = self.x_proj(x).split([self.rank, size, size], dim=-1)
        return dt, B, C

    def _A(self) -> Tensor:  # noqa: N802
        return -torch.exp(self.A_log.float())  # (E, N)

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        size = self.A_log.shape[1]
        return wide_convolution(self.conv1d) or too_large("its state a channel is", size, LARGEST_STATE)

    def why_not_read(self, form: SequenceForm, device: torch.device) -> str | None:
        """See :class:`SequenceReader`."""
        if form == "triton":
            size = self.A_log.shape[1]
            return why_no_triton(device) or too_large("its state a channel is", size, LARGEST_STATE)
        if device.type != "cuda":
            return f"mamba-ssm's kernels are of GPUs, and the model is on {device}"
        if installed_kernels() is None:
            return "mamba-ssm is not installed, or cannot be imported (pip install 'lram-bench[mamba]')"
        return None

    def read_by(self, form: SequenceForm, device: torch.device) -> str:
        """See :class:`SequenceReader`."""
        return triton_detail() if form == "triton" else f"mamba-ssm {version('mamba-ssm')}"

    def takes_packages(self, device: torch.device) -> bool:
        """See :class:`SequenceReader`."""
        return self.why_not_read("packages", device) is None

    def reset_parameters(self, layers: int) -> None:
        """The output of ``layers`` blocks is added up, so each is drawn smaller."""
        for linear in (self.in_proj, self.x_proj, self.out_proj):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(layers)
            channels, size = self.A_log.shape
            self.A_log.copy_(torch.log(torch.arange(1, size + 1.0)).expand(channels, size))
            # Step sizes spread log-uniformly over 0.001 .. 0.1, through the inverse of softplus.
            nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
            self.dt_proj.bias.copy_(step_size_biases(channels))


class Kernels(NamedTuple):
    """CUDA kernels, with the signatures of their packages.

    Attributes:
        selective_scan: ``mamba_ssm``'s ``selective_scan_fn``: whole sequences (B, E, S), differentiable.
        state_update: ``mamba_ssm``'s ``selective_state_update``: one token (B, E); writes to the state.
        causal_conv: ``causal_conv1d``'s ``causal_conv1d_fn`` on (B, E, S), or None.
    """

    selective_scan: Callable[..., Any]
    state_update: Callable[..., Any]
    causal_conv: Callable[..., Any] | None


def kernels_for(x: Tensor) -> Kernels | None:
    """Return what to read ``x`` with, or None for plain PyTorch.

    PyTorch's compiler gets the plain form: it fuses that by itself, and captures it in CUDA graphs.
    """
    if not x.is_cuda or torch.compiler.is_compiling() or sequence_form() not in ("auto", "packages"):
        return None
    return installed_kernels()


@cache
def installed_kernels() -> Kernels | None:
    """Return the kernels of ``mamba_ssm``, with those of ``causal_conv1d`` if that is installed too."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
        from mamba_ssm.ops.triton.selective_state_update import selective_state_update
    except ImportError:
        return None
    try:
        from causal_conv1d import causal_conv1d_fn
    except ImportError:
        causal_conv1d_fn = None
    return Kernels(selective_scan_fn, selective_state_update, causal_conv1d_fn)
