"""The real-gated linear recurrent unit, RG-LRU (De et al. 2024, arXiv 2402.19427).

    r_t = sigmoid(W_r u_t + b_r)        i_t = sigmoid(W_i u_t + b_i)
    a_t = exp(-8 r_t softplus(Lambda))  h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t u_t

with block-diagonal W_r and W_i. At a row's first token the square root is 1 instead, as in the authors' code:
nothing is there yet that it would make room for. So the state has a number that says whether there was one.

Numerics: a is kept as its logarithm; 1 - a^2 = -expm1(2 log a) loses no digits where a is close to 1. There
the slope of the square root grows without bound; as in the authors' code it is held to at most 1000.

Shapes: B rows, S tokens, k new tokens, E channels, H blocks of the gates.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lram.agents.backbones.layers import split_last
from lram.agents.backbones.parts import HeadwiseLinear, VectorMemory
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.sequences import compiled_for
from lram.agents.backbones.states import State

FASTEST = 8.0
"""The factor of r_t softplus(Lambda)."""

SMALLEST = 1e-6
"""The least that the slope of a square root, 1 / sqrt(4 x), takes for 4 x."""


class RGLRU(nn.Module, Part):
    """See the module's text.

    Args:
        width: Channels E.
        heads: Blocks H of the gates.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.gates = HeadwiseLinear(width, heads, 2 * width, bias=True)  # of each block: i, then r
        self.decay = nn.Parameter(torch.zeros(width))
        self.memory = VectorMemory(width)
        self.heads = heads

    def forward(self, u: Tensor) -> Tensor:
        """(B, S, E) -> the same."""
        if compiled_for(u, self.decay):
            from lram.agents.backbones.griffin.kernels import recur_sequence

            return recur_sequence(self.gates(u), u, self._rate(), self.heads).to(u.dtype)
        decay, multiplier, new = self._read(u)
        first = torch.arange(u.shape[1], device=u.device) == 0
        h: Tensor = self.memory(decay, _begun(multiplier, first.unsqueeze(-1)) * new)
        return h.to(u.dtype)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """Zeros: h (B, E), and whether the row has begun (B, 1)."""
        begun = torch.zeros(rows, 1, dtype=torch.float32, device=device)
        return self.memory.initial_state(rows, device), begun

    def step(self, u: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(B, k, E) -> the same; masked tokens leave their row's state as it was."""
        h, begun = state
        decay, multiplier, new = self._read(u)
        if valid is None:
            earlier = torch.arange(u.shape[1], device=u.device).expand(u.shape[:2])
            after = torch.ones_like(begun)
        else:
            earlier = valid.cumsum(dim=1) - valid.long()
            after = torch.maximum(begun, valid.any(dim=1, keepdim=True).float())
        first = (earlier == 0) & (begun == 0)  # (B, k)
        y, h = self.memory.step(decay, _begun(multiplier, first.unsqueeze(-1)) * new, h, valid)
        return y.to(u.dtype), (h, after)

    def reset_parameters(self) -> None:
        """The authors' rules: softplus(Lambda) such that exp of it lies between 0.9 and 0.999."""
        block = self.gates.weight.shape[2]
        nn.init.normal_(self.gates.weight, std=math.sqrt(1 / block))
        assert self.gates.bias is not None
        nn.init.zeros_(self.gates.bias)
        with torch.no_grad():
            # Uniform in the square, so that on a disc it would be uniform.
            square = torch.empty_like(self.decay).uniform_(0.9**2 + 1e-8, 0.999**2 + 1e-8)
            self.decay.copy_(torch.log(torch.expm1(-0.5 * torch.log(square))))

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.griffin.kernels import RGLRUStep

        assert self.gates.bias is not None
        return RGLRUStep(self.gates.weight, self.gates.bias, self._rate())

    def _rate(self) -> Tensor:
        """Return that of r in the decay's logarithm, (E,) float32."""
        return FASTEST * F.softplus(self.decay.float())

    def _read(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a_t, sqrt(1 - a_t^2) and i_t u_t, float32 (B, S, E)."""
        gates = split_last(self.gates(u), self.heads).float().sigmoid()
        i, r = (gate.flatten(-2) for gate in gates.chunk(2, dim=-1))
        log_decay = -self._rate() * r
        return log_decay.exp(), bounded_sqrt(-torch.expm1(2 * log_decay)), i * u.float()


def _begun(multiplier: Tensor, first: Tensor) -> Tensor:
    return torch.where(first, 1.0, multiplier)


def bounded_sqrt(x: Tensor) -> Tensor:
    """Return the square root of x >= 0, with a slope of at most 1000."""
    y: Tensor = _BoundedSqrt.apply(x) if x.requires_grad else x.sqrt()  # type: ignore[no-untyped-call]
    return y


class _BoundedSqrt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sqrt()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return dy * torch.rsqrt((4 * x).clamp(min=SMALLEST))
