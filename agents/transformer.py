"""Transformer: pre-norm causal attention blocks in the style of GPT-2, and two ways to act with them.

``cache: ring`` keeps keys and values of the last ``window`` tokens and gives every token, in training
too, exactly that band to look at. ``cache: recompute`` keeps the last ``window`` embedded tokens and
reads them anew. Parameters have the names of Hugging Face's GPT-2 (its Conv1D weights transposed).

Shapes: B rows, S tokens, D width, NH heads, DH width of a head, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.backbone import Backbone, State
from lram.agents.config import ModelConfig

# Attention: layer, queries, keys, values (B, NH, S, DH) -> (B, NH, S, DH).
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
LayerAttend = Callable[[Tensor, Tensor, Tensor], Tensor]

PASS = 16
"""Most tokens that enter the ring at once; a longer ``step`` is split. The ring has that many spare
slots, because the first token of a pass must still see its whole band after the last is written."""


class Transformer(Backbone):
    """The stack: positions, blocks, then a norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        section = config.transformer
        assert section is not None
        self.width, self.heads = config.width, section.heads
        self.window, self.cache = section.window, section.cache
        self.wpe = (
            nn.Embedding(section.max_positions, config.width) if section.positions == "learned" else None
        )
        self.h = nn.ModuleList(Block(config.width, section.heads) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`. AgentError when x is longer than the table of learned positions."""
        position = torch.arange(x.shape[1], device=x.device)
        if self.cache == "recompute":
            return self._read(x, position, _causal)
        distance = position.unsqueeze(-1) - position  # (S, S)
        band = (distance >= 0) & (distance < self.window)

        def banded(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=band)

        return self._read(x, position, banded)

    def initial_state(self, rows: int) -> State:
        """Tokens read so far, and either ring of keys and values, or window of embedded tokens."""
        count = torch.zeros(rows, dtype=torch.int64, device=self.device)
        if self.cache == "recompute":
            return {"count": count, "tokens": torch.zeros(rows, self.window, self.width, device=self.device)}
        slots = self.window + PASS - 1
        shape = (rows, len(self.h), self.heads, slots, self.width // self.heads)
        keys, values = torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)
        return {"count": count, "keys": keys, "values": values}

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`. With ``recompute``, all tokens of a pass see the window after it."""
        if valid is None:
            valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if self.cache == "recompute":
            return self._step_window(x, state, valid)
        outputs = []
        for first in range(0, x.shape[1], PASS):
            tokens = slice(first, first + PASS)
            y, state = self._step_ring(x[:, tokens], state, valid[:, tokens])
            outputs.append(y)
        return torch.cat(outputs, dim=1), state

    def _read(self, x: Tensor, position: Tensor, attend: Attend) -> Tensor:
        """Run the blocks over x (B, S, D), whose tokens are at ``position`` ((S,) or (B, S))."""
        if self.wpe is None:
            cos_sin = rotary_angles(position, self.width // self.heads)
        else:
            if position.shape[-1] > self.wpe.num_embeddings:
                most = self.wpe.num_embeddings
                raise AgentError(f"{position.shape[-1]} tokens are longer than the {most} learned positions")
            x, cos_sin = x + self.wpe(position), None
        for layer, block in enumerate(self.h):
            x = block(x, partial(attend, layer), cos_sin)
        y: Tensor = self.ln_f(x)
        return y

    def _step_ring(self, x: Tensor, state: State, valid: Tensor) -> tuple[Tensor, State]:
        count, keys, values = state["count"], state["keys"], state["values"]
        slots = keys.shape[3]
        position = count.unsqueeze(-1) + _places(valid)  # (B, k)
        count = count + valid.sum(dim=1)

        # The position whose key each slot holds after this pass; below 0: none yet.
        newest = count.unsqueeze(-1) - 1
        held = newest - (newest - torch.arange(slots, device=x.device)) % slots  # (B, slots)
        distance = position.unsqueeze(-1) - held.unsqueeze(-2)  # (B, k, slots)
        seen = (held >= 0).unsqueeze(-2) & (distance >= 0) & (distance < self.window)
        # A masked token has no band; let it see everything, so that its output is finite.
        seen = (seen | ~valid.unsqueeze(-1)).unsqueeze(1)  # (B, 1, k, slots)
        row, slot = torch.arange(len(x), device=x.device).unsqueeze(-1), position % slots

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for ring, new in ((keys, k), (values, v)):
                here = ring[row, layer, :, slot]  # (B, k, NH, DH)
                new = new.transpose(1, 2).to(ring.dtype)
                ring[row, layer, :, slot] = torch.where(valid[:, :, None, None], new, here)
            held_keys, held_values = keys[:, layer].to(q.dtype), values[:, layer].to(q.dtype)
            return F.scaled_dot_product_attention(q, held_keys, held_values, attn_mask=seen)

        y = self._read(x, position, attend)
        return y, {"count": count, "keys": keys, "values": values}

    def _step_window(self, x: Tensor, state: State, valid: Tensor) -> tuple[Tensor, State]:
        count, tokens = state["count"].unsqueeze(-1), state["tokens"]
        if x.shape[1] > self.window:
            raise AgentError(f"a pass of {x.shape[1]} tokens is longer than the window of {self.window}")
        new = valid.sum(dim=1, keepdim=True)
        dropped = (count + new - self.window).clamp(min=0)  # (B, 1)

        # Each slot takes an old token (shifted by those that drop out), a new one, or stays as it is.
        slot = torch.arange(self.window, device=x.device)
        ordinal = slot + dropped - count  # (B, window): which of the new tokens, if 0 <= ordinal < new
        order = torch.argsort(valid, dim=1, descending=True, stable=True)  # valid tokens first
        from_new = self.window + order.gather(1, ordinal.clamp(0, x.shape[1] - 1))
        source = torch.where(ordinal < 0, slot + dropped, torch.where(ordinal < new, from_new, slot))
        both = torch.cat([tokens, x.to(tokens.dtype)], dim=1)  # (B, window + k, D)
        tokens = both.gather(1, source.unsqueeze(-1).expand(-1, -1, self.width))
        count = count - dropped + new

        y = self._read(tokens.to(x.dtype), slot, _causal)
        place = (count - new + _places(valid)).clamp(max=self.window - 1)  # (B, k)
        y = y.gather(1, place.unsqueeze(-1).expand(-1, -1, self.width))
        return y, {"count": count.squeeze(-1), "tokens": tokens}

    def reset_parameters(self) -> None:
        """The rules of Hugging Face's GPT-2."""
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(self.h)))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class Attention(nn.Module):
    """Projection to queries, keys and values, attention, projection back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, attend: LayerAttend, cos_sin: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, S, D) -> the same."""
        heads = self.c_attn(x).view(*x.shape[:-1], 3, self.heads, -1)  # (B, S, 3, NH, DH)
        q, k, v = heads.transpose(1, 3).unbind(dim=2)  # (B, NH, S, DH)
        if cos_sin is not None:
            q, k = rotate(q, *cos_sin), rotate(k, *cos_sin)
        y: Tensor = self.c_proj(attend(q, k, v).transpose(1, 2).flatten(-2))
        return y


class FeedForward(nn.Module):
    """Four times as wide, with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        y: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return y


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor, attend: LayerAttend, cos_sin: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, S, D) -> the same."""
        x = x + self.attn(self.ln_1(x), attend, cos_sin)
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


def _causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


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


def _places(valid: Tensor) -> Tensor:
    """Number the valid tokens of each row 0, 1, ..., and the masked ones on from there: (B, k)."""
    # Distinct places for masked tokens too: what they write back never meets another token's slot.
    masked = ~valid
    return torch.where(valid, valid.cumsum(1) - 1, valid.sum(1, keepdim=True) + masked.cumsum(1) - 1)
