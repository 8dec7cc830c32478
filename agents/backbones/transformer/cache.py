"""What a Transformer keeps of the tokens it has read, and how the next ones attend to it.

:class:`KeyValueCache` is for ``cache: ring`` and ``cache: full``, :class:`TokenWindow` for ``cache:
recompute``. They keep the books of positions, slots and masked tokens; the blocks are run by the
``read`` that they are given, plain or fused.

Shapes: B rows, k new tokens, D width, NH heads of keys and values, DH width of a head, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.gpu import WIDEST_HEAD, gpu_kernels_for, too_large
from lram.agents.backbones.layers import order_of, places
from lram.agents.backbones.recording import is_recording
from lram.agents.backbones.spec import ModelShape
from lram.agents.backbones.transformer import RING_PASS
from lram.agents.backbones.uncompiled import uncompiled

# Attention: layer, queries, keys, values (B, NH, S, DH) -> as the queries. These may have a multiple of the
# heads that keys and values have.
Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]
State: TypeAlias = dict[str, Tensor]

FULL_PASS = 512
"""The same of a full cache: more would need masks of many megabytes, and gain nothing."""

FIRST_SLOTS = 64
"""Slots of a full cache at first; each time it is full it is given twice as many."""

BOUND = "bound"
"""The name in a state of no more tokens than a row has, kept by the host (B,): see ``KeyValueCache``."""


@dataclass(frozen=True, slots=True)
class CachedPass:
    """The past of one pass, with slots for its own keys and values, which attention writes.

    Attributes:
        keys: (B, L, NH, slots, DH); the token at position p is in slot p % slots.
        values: The same.
        position: Of each new token: (B, k); for masked ones, distinct numbers after the last.
        valid: (B, k).
        count: Tokens of each row after the pass: (B,).
        band: A token sees itself and the ``band - 1`` before it; None: all before it.
    """

    keys: Tensor
    values: Tensor
    position: Tensor
    valid: Tensor
    count: Tensor
    band: int | None


# Runs the blocks over new tokens (B, k, D), in whose attention ``past`` is read and written.
ReadCached: TypeAlias = Callable[[Tensor, CachedPass], Tensor]
# Runs the blocks over whole sequences (B, S, D), whose tokens are at positions 0, 1, ...
ReadWhole: TypeAlias = Callable[[Tensor], Tensor]


class KeyValueCache:
    """Keys and values of the last ``window`` tokens (ring), or of all tokens (full).

    The semantics are described in :class:`lram.agents.backbones.transformer.TransformerConfig`.

    Whether a full cache has room for a pass is for the host to say, and on a GPU it would have to wait for
    the counts at every decision. There the state also has a ``bound`` of each row's count, on the host: every
    pass adds its tokens, the masked ones too. The counts themselves are asked for only where the bound says
    that there may be no room, and the bound is them from then on.
    """

    def __init__(
        self, layers: int, heads: int, head_width: int, window: int | None, *, ring: bool, width: int = 0
    ) -> None:
        """Make one.

        Args:
            layers: That share the positions.
            heads: Of keys and values; of queries there may be a multiple of them.
            head_width: Width of a key, and of a value.
            window: Tokens that it holds; None for all, in a full one.
            ring: Whether the oldest token goes when it is full.
            width: Of a token, to restart a full one from.
        """
        self.ring, self.window = ring, window
        self.width, self.layers, self.heads, self.head_width = width, layers, heads, head_width
        self.most = RING_PASS if self.ring else min(FULL_PASS, self.window or FULL_PASS)

    @classmethod
    def of(cls, config: ModelShape) -> KeyValueCache:
        """Return that of a Transformer."""
        section, width = config.backbone, config.width
        ring, head_width = section.cache == "ring", width // section.heads
        return cls(config.layers, section.heads, head_width, section.window, ring=ring, width=width)

    def initial_state(self, rows: int, device: torch.device) -> State:
        """``count`` of tokens (B,), ``keys`` and ``values``, and ``tokens`` (B, slots, D) to restart from."""
        if self.ring:
            assert self.window is not None
            slots = self.window + RING_PASS - 1
        else:
            slots = min(FIRST_SLOTS, self.window or FIRST_SLOTS)
        shape = (rows, self.layers, self.heads, slots, self.head_width)
        state = {
            "count": torch.zeros(rows, dtype=torch.int64, device=device),
            "keys": torch.zeros(shape, dtype=torch.float32, device=device),
            "values": torch.zeros(shape, dtype=torch.float32, device=device),
        }
        if not self.ring and self.window is not None:
            state["tokens"] = torch.zeros(rows, slots, self.width, dtype=torch.float32, device=device)
        if not self.ring and device.type not in ("cpu", "meta"):  # neither has to be waited for
            state[BOUND] = torch.from_numpy(np.zeros(rows, dtype=np.int64))
        return state

    def step(self, x: Tensor, state: State, valid: Tensor, read: ReadCached) -> tuple[Tensor, State]:
        """Read the next tokens x (B, k, D) into ``state``, which is changed; see ``Backbone.step``."""
        outputs = []
        for first in range(0, x.shape[1], self.most):
            part = slice(first, first + self.most)
            ready = self.ready(state, x[:, part].shape[1])
            if ready is None:
                y, state = self._append_or_restart(x[:, part], state, valid[:, part], read)
            else:
                y, state = self.append(x[:, part], ready, valid[:, part], read)
            outputs.append(y)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)), state

    @uncompiled
    def ready(self, state: State, tokens: int) -> State | None:
        """Return ``state`` with room for ``tokens`` more of every row, which :meth:`append` reads next.

        None where they are too many, or a row may have to forget before: that is for :meth:`step`.
        """
        if tokens > self.most:
            return None
        if self.ring:
            return state
        if not self._fits(state, tokens):
            return None
        state = self.with_room(state, tokens)
        if BOUND in state:
            state[BOUND].numpy()[:] += tokens
        return state

    def _fits(self, state: State, tokens: int) -> bool:
        return self.window is None or most_tokens(state, self.window - tokens) + tokens <= self.window

    def _append_or_restart(
        self, x: Tensor, state: State, valid: Tensor, read: ReadCached
    ) -> tuple[Tensor, State]:
        """Append each row's tokens while there is room; rows without room are read anew in between."""
        assert self.window is not None
        state = self.with_room(state, x.shape[1])
        y, left = None, valid
        while True:
            self._restart_rows(state, (state["count"] == self.window) & left.any(dim=1), x.dtype, read)
            now = left & (left.cumsum(1) <= (self.window - state["count"]).unsqueeze(-1))
            outputs, state = self.append(x, state, now, read)
            y = outputs if y is None else torch.where(now.unsqueeze(-1), outputs, y)
            left = left & ~now
            if not left.any():
                break
        most_tokens(state, -1)
        return y, state

    @uncompiled
    def _restart_rows(self, state: State, rows: Tensor, dtype: torch.dtype, read: ReadCached) -> None:
        """Make ``rows`` (B,) what fresh rows are after reading the newest half of their tokens."""
        assert self.window is not None
        for row in rows.nonzero().flatten().tolist():
            # Alone, whatever the other rows do: rounding depends on the shapes of a pass.
            alone = {name: tensor[row : row + 1] for name, tensor in state.items()}
            kept = alone["tokens"][:, self.window - self.window // 2 :].to(dtype, copy=True)
            alone["count"].zero_()
            valid = torch.ones(kept.shape[:2], dtype=torch.bool, device=kept.device)
            for first in range(0, kept.shape[1], self.most):
                part = slice(first, first + self.most)
                self.append(kept[:, part], alone, valid[:, part], read)

    def append(self, x: Tensor, state: State, valid: Tensor, read: ReadCached) -> tuple[Tensor, State]:
        """Read tokens that all have room; nothing depends on what the tensors hold."""
        position = state["count"].unsqueeze(-1) + places(valid)
        state["count"] += valid.sum(dim=1)
        if "tokens" in state:
            _write(state["tokens"], position, x, valid)
        band = self.window if self.ring else None
        # Of parts of them, kernels would be compiled once more.
        position, valid = position.contiguous(), valid.contiguous()
        past = CachedPass(state["keys"], state["values"], position, valid, state["count"], band)
        return read(x, past), state

    @uncompiled
    def with_room(self, state: State, free: int) -> State:
        """Return the state with ``free`` slots after each row's last, or as many as the window allows.

        A ring has the slots that it needs.
        """
        if self.ring:
            return state
        slots = state["keys"].shape[3]
        if slots == self.window:
            return state
        needed = most_tokens(state, slots - free) + free
        if slots >= needed:
            return state
        while slots < needed:
            slots *= 2
        slots = min(slots, self.window or slots)
        grown = dict(state)
        for name in state.keys() - {"count", BOUND}:
            old = state[name]
            grown[name] = old.new_zeros(*old.shape[:-2], slots, old.shape[-1])
            grown[name][..., : old.shape[-2], :] = old
        return grown


def most_tokens(state: State, enough: int) -> int:
    """Return how many tokens the longest row has; or a bound of it, where that is no more than ``enough``."""
    if BOUND not in state:
        return int(state["count"].max())
    bound = state[BOUND].numpy()
    if bound.max() > enough:
        bound[:] = state["count"].cpu().numpy()
    return int(bound.max())


def cached_attention(past: CachedPass) -> Attend:
    """Return the attention of one pass: write keys and values, then read what is seen.

    In plain PyTorch, or by the kernel of :mod:`lram.agents.backbones.gpu` where that is asked for.
    """
    if gpu_kernels_for(past.position.shape[1]):
        return _kernel_attention(past)
    slots = past.keys.shape[3]
    newest = past.count.unsqueeze(-1) - 1
    # Of each row, only the slots in use are read, one row after the other: its results must not depend
    # on how long other rows are. Compiled code and GPUs want fixed shapes and few calls instead.
    on_processor = past.keys.device.type == "cpu"
    by_row = on_processor and not torch.compiler.is_compiling() and not is_recording()
    used = past.count.clamp(1, slots).tolist() if by_row else [slots]

    # The position whose key each slot holds after this pass; below 0: none yet.
    held = newest - (newest - torch.arange(max(used), device=newest.device)) % slots  # (B, slots)
    distance = past.position.unsqueeze(-1) - held.unsqueeze(-2)  # (B, k, slots)
    seen = (held >= 0).unsqueeze(-2) & (distance >= 0)
    if past.band is not None:
        seen &= distance < past.band
    # A masked token sees nothing; let it see everything, so that its output is finite.
    seen = (seen | ~past.valid.unsqueeze(-1)).unsqueeze(1)  # (B, 1, k, slots)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = past.keys[:, layer], past.values[:, layer]
        shared = k.shape[1] != q.shape[1]
        _write(keys.transpose(1, 2), past.position, k.transpose(1, 2), past.valid)
        _write(values.transpose(1, 2), past.position, v.transpose(1, 2), past.valid)
        if not by_row:
            return F.scaled_dot_product_attention(
                q, keys.to(q.dtype), values.to(q.dtype), attn_mask=seen, enable_gqa=shared
            )
        y = torch.empty_like(q)
        for row, count in enumerate(used):
            one, first = slice(row, row + 1), slice(count)
            row_keys, row_values = keys[one, :, first].to(q.dtype), values[one, :, first].to(q.dtype)
            y[one] = F.scaled_dot_product_attention(
                q[one], row_keys, row_values, attn_mask=seen[one, ..., first], enable_gqa=shared
            )
        return y

    return attend


def wide_heads(width: int) -> str | None:
    """Return why the kernel of :func:`cached_attention` cannot take heads of ``width``, or None."""
    return too_large("its heads of attention have the width", width, WIDEST_HEAD)


def _kernel_attention(past: CachedPass) -> Attend:
    from lram.agents.backbones.gpu import attention

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = past.keys[:, layer], past.values[:, layer]
        return attention.attend(q, k, v, keys, values, past.position, past.valid, past.count, past.band)

    return attend


class TokenWindow:
    """The last ``window`` embedded tokens, read anew at each decision."""

    def __init__(self, config: ModelShape) -> None:
        assert config.backbone.window is not None
        self.window, self.width = config.backbone.window, config.width

    def initial_state(self, rows: int, device: torch.device) -> State:
        """``count`` of tokens (B,), and ``tokens`` (B, window, D)."""
        tokens = torch.zeros(rows, self.window, self.width, dtype=torch.float32, device=device)
        return {"count": torch.zeros(rows, dtype=torch.int64, device=device), "tokens": tokens}

    def step(self, x: Tensor, state: State, valid: Tensor, read: ReadWhole) -> tuple[Tensor, State]:
        """See ``Backbone.step``. All tokens of a pass see the window as it is after the pass."""
        count, tokens = state["count"].unsqueeze(-1), state["tokens"]
        if x.shape[1] > self.window:
            raise AgentError(f"a pass of {x.shape[1]} tokens is longer than the window of {self.window}")
        new = valid.sum(dim=1, keepdim=True)
        dropped = (count + new - self.window).clamp(min=0)  # (B, 1)

        # Each slot takes an old token (shifted by those that drop out), a new one, or stays as it is.
        slot = torch.arange(self.window, device=x.device)
        ordinal = slot + dropped - count  # (B, window): which of the new tokens, if 0 <= ordinal < new
        order = order_of(places(valid))  # valid tokens first
        from_new = self.window + order.gather(1, ordinal.clamp(0, x.shape[1] - 1))
        source = torch.where(ordinal < 0, slot + dropped, torch.where(ordinal < new, from_new, slot))
        both = torch.cat([tokens, x.to(tokens.dtype)], dim=1)  # (B, window + k, D)
        tokens = both.gather(1, source.unsqueeze(-1).expand(-1, -1, self.width))
        count = count - dropped + new

        y = read(tokens.to(x.dtype))
        place = (count - new + places(valid)).clamp(max=self.window - 1)  # (B, k)
        y = y.gather(1, place.unsqueeze(-1).expand(-1, -1, self.width))
        return y, {"count": count.squeeze(-1), "tokens": tokens}


def _write(memory: Tensor, position: Tensor, new: Tensor, valid: Tensor) -> None:
    """Put the valid ones of ``new`` (B, k, ...) into the slots of ``memory`` (B, slots, ...)."""
    row = torch.arange(len(new), device=new.device).unsqueeze(-1)
    slot = position % memory.shape[1]
    valid = valid.view(*valid.shape, *[1] * (new.dim() - 2))
    memory[row, slot] = torch.where(valid, new.to(memory.dtype), memory[row, slot])
