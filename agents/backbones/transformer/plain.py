"""Transformer: pre-norm causal attention blocks in the style of GPT-2, and three ways to act with them.

``cache: ring`` keeps keys and values of the last ``window`` tokens and gives every token, in training
too, exactly that band to look at. ``cache: full`` keeps those of all tokens, until there are
``window``; then it starts again from the newest half. ``cache: recompute`` keeps the last ``window``
embedded tokens and reads them anew. What they keep is in :mod:`lram.agents.backbones.transformer.cache`.
Parameters have the names of Hugging Face's GPT-2 (its Conv1D weights transposed).

Shapes: B rows, S tokens, D width, NH heads, DH width of a head, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.gpu import KernelReader
from lram.agents.backbones.layers import RootMeanSquareNorm, drop
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.states import State, clear, state_bytes
from lram.agents.backbones.transformer.cache import (
    BOUND,
    Attend,
    CachedPass,
    KeyValueCache,
    TokenWindow,
    cached_attention,
    wide_heads,
)
from lram.agents.backbones.transformer.positions import learned_positions, rotary_angles, rotate

LayerAttend = Callable[[Tensor, Tensor, Tensor], Tensor]


class Transformer(Backbone, KernelReader):
    """The stack: positions, blocks, then a norm."""

    def __init__(self, config: ModelShape) -> None:
        super().__init__()
        section = config.backbone
        self.width, self.heads = config.width, section.heads
        self.window, self.cache = section.window, section.cache
        self.past = TokenWindow(config) if section.cache == "recompute" else KeyValueCache.of(config)
        self.positions, self.dropout = section.positions, section.dropout
        self.wpe = (
            nn.Embedding(section.max_positions, config.width) if section.positions == "learned" else None
        )
        self.h = nn.ModuleList(
            TransformerBlock(
                config.width,
                section.heads,
                norm=section.norm,
                order=section.norm_order,
                qk_norm=section.qk_norm,
                dropout=section.dropout,
            )
            for _ in range(config.layers)
        )
        # Where norms follow the sums, the last block ends with one.
        self.ln_f = nn.Identity() if section.norm_order == "post" else make_norm(section.norm, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`. AgentError when x is longer than the table of learned positions."""
        if self.cache == "ring":
            assert self.window is not None
            if x.shape[1] > self.window:
                return self._read_band(x, self.window)
            return self._read_causal(x)
        if self.cache == "recompute" or self.window is None or x.shape[1] <= self.window:
            return self._read_causal(x)

        # As ``step`` does: each part begins with the newest tokens of the one before, and adds some.
        kept = self.window // 2
        added = self.window - kept
        starts = range(added, x.shape[1] - kept, added)
        parts = [self._read_causal(x[:, first : first + self.window])[:, kept:] for first in starts]
        return torch.cat([self._read_causal(x[:, : self.window]), *parts], dim=1)

    def initial_state(self, rows: int) -> State:
        """A dict with the ``count`` of tokens read, and what is kept of them; all zeros."""
        return self.past.initial_state(rows, self.device)

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """See :class:`Backbone`."""
        clear(state, rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`. With ``recompute``, all tokens of a pass see the window after it."""
        if valid is None:
            valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if isinstance(self.past, TokenWindow):
            return self.past.step(x, state, valid, self._read_causal)
        return self.past.step(x, state, valid, self._read_cached)

    def ready(self, state: State, tokens: int) -> State | None:
        """See :class:`Backbone`."""
        return state if isinstance(self.past, TokenWindow) else self.past.ready(state, tokens)

    def ready_step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :class:`Backbone`."""
        if isinstance(self.past, TokenWindow):
            return self.step(x, state, valid)
        if valid is None:
            valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return self.past.append(x, state, valid, self._read_cached)

    def remember(self, x: Tensor, state: State, valid: Tensor | None = None) -> State:
        """See :class:`Backbone`. A window of tokens takes them as they are: nothing has to be computed
        yet.
        """
        if not isinstance(self.past, TokenWindow):
            return super().remember(x, state, valid)
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if valid is None else valid
        return self.past.step(x, state, there, lambda kept: kept)[1]

    def why_no_kernel(self) -> str | None:
        """See :class:`KernelReader`."""
        if isinstance(self.past, TokenWindow):
            return "a Transformer that reads its window anew has no Triton kernel"
        return wide_heads(self.width // self.heads)

    def rewinder(self, state: State, tokens: int, *, trim: bool = False) -> Callable[[], State] | None:
        """See :class:`Backbone`.

        To put the count back is to forget what came after: a full cache with room has nothing written over, a
        ring has spare slots, and a window of tokens is a new tensor after each pass.
        """
        counts = {name: state[name].clone() for name in ("count", BOUND) if name in state}
        if self.cache == "full":
            used = int(counts["count"].max()) + tokens
            if self.window is not None and used > self.window:
                return None
            if trim:
                state = {
                    name: part if name in counts else _fitted(part, used) for name, part in state.items()
                }
        # Always at the same place: what was recorded for it is for an address.
        own = {name: count.clone() for name, count in counts.items()}

        def rewound() -> State:
            for name, count in counts.items():
                own[name].copy_(count)
            return {**state, **own}

        return rewound

    def with_room(self, state: State, tokens: int) -> State:
        """See :class:`Backbone`."""
        return self.past.with_room(state, tokens) if isinstance(self.past, KeyValueCache) else state

    def fitted_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :class:`Backbone`. Rows of a table that is too short are taken again from the first on."""
        fitted = dict(weights)
        table = fitted.get("wpe.weight")
        if self.wpe is not None and table is not None and len(table) < self.wpe.num_embeddings:
            rows = torch.arange(self.wpe.num_embeddings, device=table.device) % len(table)
            fitted["wpe.weight"] = table[rows]
        return fitted

    def step_parameters(self) -> Iterator[nn.Parameter]:
        """See :class:`Backbone`. Of the table of positions, one row is read for a token."""
        yield from (parameter for name, parameter in self.named_parameters() if name != "wpe.weight")

    def moved_bytes(self, state: State, tokens: int) -> tuple[int, int]:
        """See :class:`Backbone`. Of what it keeps, a pass reads the tokens that its own still see."""
        seen = state["count"]
        if self.cache == "recompute":
            assert self.window is not None
            seen = seen.clamp(max=self.window - tokens)
            token = self.width * state["tokens"].element_size()
        else:
            if self.cache == "ring":
                assert self.window is not None
                seen = seen.clamp(max=self.window - 1)  # a token's band has itself in it
            token = 2 * len(self.h) * self.width * state["keys"].element_size()
        return int(seen.sum()) * token, len(seen) * tokens * token

    def bytes_after(self, rows: int, tokens: int) -> int:
        """See :class:`Backbone`. A full cache begins with few slots; all but the count have as many."""
        kept: dict[str, Tensor] = dict(self.initial_state(rows))
        if self.cache != "full":
            return state_bytes(kept)
        counts = state_bytes([kept.pop(name) for name in ("count", BOUND) if name in kept])
        return counts + sum(state_bytes(one) // one.shape[-2] * tokens for one in kept.values())

    @property
    def _dropped(self) -> float:
        """The share that is zeroed now."""
        return self.dropout if self.training else 0.0

    def _read_cached(self, x: Tensor, past: CachedPass) -> Tensor:
        return self._read(x, past.position, cached_attention(past))

    def _read_causal(self, x: Tensor) -> Tensor:
        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=self._dropped, is_causal=True)

        return self._read(x, torch.arange(x.shape[1], device=x.device), attend)

    def _read_band(self, x: Tensor, width: int) -> Tensor:
        position = torch.arange(x.shape[1], device=x.device)
        distance = position.unsqueeze(-1) - position  # (S, S)
        band = (distance >= 0) & (distance < width)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=band, dropout_p=self._dropped)

        return self._read(x, position, attend)

    def _read(self, x: Tensor, position: Tensor, attend: Attend) -> Tensor:
        """Run the blocks over x (B, S, D), whose tokens are at ``position`` ((S,) or (B, S))."""
        cos_sin = None
        if self.positions == "rotary":
            cos_sin = rotary_angles(position, self.width // self.heads)
        elif self.wpe is not None:
            x = x + learned_positions(self.wpe, position)
        x = drop(x, self.dropout, self.training)
        for layer, block in enumerate(self.h):
            x = block(x, partial(attend, layer), cos_sin)
        y: Tensor = self.ln_f(x)
        return y

    def reset_parameters(self) -> None:
        """The rules of Hugging Face's GPT-2."""
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(self.h)))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class SelfAttention(nn.Module):
    """Projection to queries, keys and values, attention, projection back."""

    def __init__(self, width: int, heads: int, qk_norm: str = "") -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = Linear(width, 3 * width)
        self.c_proj = Linear(width, width)
        self.q_norm = make_norm(qk_norm, width // heads) if qk_norm else None
        self.k_norm = make_norm(qk_norm, width // heads) if qk_norm else None

    def forward(self, x: Tensor, attend: LayerAttend, cos_sin: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, S, D) -> the same."""
        heads = self.c_attn(x).view(*x.shape[:-1], 3, self.heads, -1)  # (B, S, 3, NH, DH)
        q, k, v = heads.transpose(1, 3).unbind(dim=2)  # (B, NH, S, DH)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if cos_sin is not None:
            q, k = rotate(q, *cos_sin), rotate(k, *cos_sin)
        y: Tensor = self.c_proj(attend(q, k, v).transpose(1, 2).flatten(-2))
        return y


class FeedForward(nn.Module):
    """Four times as wide, with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = Linear(width, 4 * width)
        self.c_proj = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> the same."""
        y: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return y


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); or, ``post``, the norms of the sums."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        norm: str = "layer",
        order: str = "pre",
        qk_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.post, self.dropout = order == "post", dropout
        self.ln_1 = make_norm(norm, width)
        self.attn = SelfAttention(width, heads, norm if qk_norm else "")
        self.ln_2 = make_norm(norm, width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor, attend: LayerAttend, cos_sin: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, S, D) -> the same."""
        if self.post:
            x = self.ln_1(x + self._drop(self.attn(x, attend, cos_sin)))
            z: Tensor = self.ln_2(x + self._drop(self.mlp(x)))
            return z
        x = x + self._drop(self.attn(self.ln_1(x), attend, cos_sin))
        y: Tensor = x + self._drop(self.mlp(self.ln_2(x)))
        return y

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)


def make_norm(kind: str, width: int) -> nn.Module:
    """Return a norm over the last dimension: ``layer`` (with a bias) or ``rms``."""
    return RootMeanSquareNorm(width, 1e-5) if kind == "rms" else nn.LayerNorm(width)


def _fitted(tensor: Tensor, slots: int) -> Tensor:
    """Return a cache's tensor with so many slots (its dimension before the last)."""
    there = tensor.shape[-2]
    if there >= slots:
        return tensor[..., :slots, :].clone()
    more = tensor.new_zeros(*tensor.shape[:-2], slots - there, tensor.shape[-1])
    return torch.cat([tensor, more], dim=-2)
