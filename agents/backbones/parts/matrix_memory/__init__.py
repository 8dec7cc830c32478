"""A matrix a head that decays, is corrected, and is read: the recurrence of linear attention and its kin.

    S_t = diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T        o_t = S_t^T q_t

With one decay a head and no correction (a, b) it is that of Mamba-2, with one a channel of the key that of
gated linear attention and HGRN2; with a_t = k_t and b_t = -alpha beta k_t the gated delta rule, and with
both the recurrence of RWKV-7. Decays are given as logarithms, at most 0.

Shapes: B rows, S tokens, k new tokens, H heads, G heads of keys (H is a multiple of G: each serves the heads
beside each other), M width of a key, N width of a value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lram.agents.backbones.gpu import KernelReader, gpu_kernels_for
from lram.agents.backbones.parts.matrix_memory.plain import advance, read_sequence
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.sequences import compiled_for


class MatrixMemory(nn.Module, Part, KernelReader):
    """``heads`` matrices of a row, each (key_width, value_width).

    ``forward`` and ``step`` take q, k (B, S, G, M), v (B, S, H, N), the logarithm of the decay (B, S, H, M),
    or (B, S, H, 1) for one of a whole head, and, with a correction, a (B, S, G, M) and b (B, S, H, M).
    """

    def __init__(self, heads: int, key_width: int, value_width: int) -> None:
        super().__init__()
        self.shape = heads, key_width, value_width

    def initial_state(self, rows: int, device: torch.device) -> Tensor:
        """Zeros (B, H, M, N)."""
        return torch.zeros(rows, *self.shape, dtype=torch.float32, device=device)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor,
        a: Tensor | None = None,
        b: Tensor | None = None,
    ) -> Tensor:
        """Return o (B, S, H, N) in float32, from the initial state."""
        if compiled_for(v):
            from lram.agents.backbones.parts.matrix_memory.kernels import scan_sequence

            return scan_sequence(q, k, v, log_decay, a, b)
        # Under autocast the products of a memory would be of fewer digits than the memory itself.
        with torch.autocast(v.device.type, enabled=False):
            state = self.initial_state(len(v), v.device)
            return read_sequence(q, k, v, log_decay, a, b, state)[0]

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor,
        state: Tensor,
        valid: Tensor | None,
        a: Tensor | None = None,
        b: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return o (B, k, H, N) in float32, and the state after the valid tokens."""
        if gpu_kernels_for(v.shape[1]):
            from lram.agents.backbones.gpu import matrix_memory

            return matrix_memory.advance(q, k, v, log_decay, a, b, state, valid)
        with torch.autocast(v.device.type, enabled=False):
            return advance(q, k, v, log_decay, a, b, state, valid)

    def compiled(self, tokens: int) -> Any:
        """See :class:`Part`."""
        from lram.agents.backbones.parts.matrix_memory.kernels import MatrixMemoryStep

        return MatrixMemoryStep()
