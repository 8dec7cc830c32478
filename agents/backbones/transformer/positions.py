"""Positions of tokens: learned vectors, and rotary angles."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lram.agents.api import AgentError


def learned_positions(table: nn.Embedding, position: Tensor) -> Tensor:
    """Return the vectors (..., S, D) of positions (..., S); AgentError if there are not as many."""
    if position.shape[-1] > table.num_embeddings:
        raise AgentError(
            f"{position.shape[-1]} tokens are longer than the {table.num_embeddings} learned positions"
        )
    # Only masked tokens can be beyond the table, being numbered after the row's last token.
    vectors: Tensor = table(position.clamp(max=table.num_embeddings - 1))
    return vectors


def rotary_angles(position: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (..., 1, S, DH / 2) of the rotary angles (Su et al. 2021, arXiv 2104.09864)."""
    # In float64: at position 100,000 a float32 angle is off by 0.004.
    exponent = torch.arange(0, head_width, 2, dtype=torch.float64, device=position.device) / head_width
    angle = position.double().unsqueeze(-1) * 10000.0**-exponent
    angle = angle.unsqueeze(-3)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x_j, x_{j + DH/2}) of ``x`` (B, NH, S, DH) by their angles."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
