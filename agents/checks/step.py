"""Equivalence of the step: the passes that act against ``Backbone.forward``, and rows against each other.

See :mod:`lram.agents.checks.equivalence`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.states import State, copied, take, tensors
from lram.agents.checks.basis import TwoForms
from lram.agents.checks.contract import Check

FORWARD = "step equals forward"
FRESH = "a reset row is fresh"
MASKED = "a masked token leaves the state"
HOLES = "masked tokens are as if not there"
PLACE = "a row's place does not matter"
NEIGHBOURS = "a row's neighbours do not matter"
KEPT = "a block's state is its own"
SOUND = "the state stays float32 and finite"
REWARD = "the reward reaches the next decision"

_PASSES = {1: 6, 2: 4, 3: 4, 11: 2}  # by the tokens of each
_REPLAYED = 4  # passes that are played again elsewhere
_WIDE = 256  # tokens of a pass that only makes the past longer
_AFTER = 4  # passes of a decision beyond a window, at least
_SCALE = "of the output's scale"
_BITS = "equal bit for bit"


BEYOND = 2000
"""The longest window that a thorough check leaves behind without being asked."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is checked.

    Attributes:
        lengths: Tokens of the streams on which the passes of a decision are compared with ``forward``.
        decisions: Decisions after which the state is looked at; at least those of the longest stream.
        window: Longest window of a cache that one more stream is to leave behind.
    """

    lengths: tuple[int, ...]
    decisions: int
    window: int = 200


@dataclass(slots=True)
class _Played:
    """A stream that all rows have read in passes of ``tokens`` tokens; the last row reads row 0's."""

    x: Tensor
    y: Tensor
    tokens: int
    state: State
    decisions: int
    finite: bool


class StepChecks(TwoForms):
    """The checks of one agent's step; each public method of this class is one."""

    def __init__(self, agent: ModelAgent, extent: Extent, seed: int) -> None:
        super().__init__(agent, seed)
        self.extent = extent
        self.exact = self.device.type == "cpu" and torch.get_num_threads() == 1
        self.replayed = _REPLAYED if self.window is None else 2

    def pass_sizes(self) -> list[Check]:
        """Short streams in passes of few and of many tokens."""
        most = 2 if self.window is not None else max(_PASSES.values())
        # A recomputed window is read in wider passes by ``lengths``, so that a decision's are missing there.
        wanted = [size for size in _PASSES if size != self.size or self.window is not None]
        sizes = {size: min(_PASSES[size], most) for size in wanted}
        if self.compiled:
            named = ", ".join(map(str, sizes))
            reason = f"the form {self.stepper.form} is compiled for the passes of a decision only"
            return [Check(FORWARD, f"passes of {named}", "skipped", "", "", reason)]
        longest = max(size * passes for size, passes in sizes.items())
        x = self.tokens(self.rows, math.ceil(longest / self.size), 1)[:, :longest]
        x = x[:, : self.window]
        reference, checks = self.forward(x), []
        allowed = self.allowed(x, reference)
        for size, passes in sizes.items():
            length = size * min(passes, x.shape[1] // size)
            if length:
                y, _ = self.read(x[:, :length], size)
                subject = f"{length} tokens in passes of {size}"
                checks.append(self._close(FORWARD, subject, y, reference[:, :length], allowed))
        return checks

    def lengths(self) -> list[Check]:
        """Streams as long as the trained context and longer, in the passes of a decision."""
        played, checks = self._played, []
        reference, allowed = self._usual
        most = played.x.shape[1]
        forgets = f"beyond {self.window} tokens the window has lost what forward reads"
        for place, length in enumerate(sorted(self.extent.lengths)):
            whole = self.whole(length)
            if whole > most and place:
                checks.append(Check(FORWARD, f"{length} tokens", "skipped", "", "", forgets))
                continue
            whole = min(whole, most)
            subject = f"{whole} tokens in passes of {played.tokens}"
            compared = played.y[:2, :whole], reference[:, :whole]
            checks.append(self._close(FORWARD, subject, *compared, allowed))
        return checks

    def beyond_window(self) -> list[Check]:
        """Streams that outrun a cache's window, where ``forward`` forgets as the cache does.

        Most is read in large passes; the window is left in those of a decision, by two rows at
        different passes.
        """
        window = self.kept
        if window is None:
            return []
        if window > self.extent.window:
            reason = f"a window of {window} tokens is left behind by 'lram check' only"
            if window > BEYOND:
                reason = f"so long a window is left behind only if asked for: lram check --tokens {window}"
            return [Check(FORWARD, f"more than {window} tokens", "skipped", "", "", reason)]
        rows, wide = (self.rows, self.size) if self.compiled else (min(2, self.rows), _WIDE)
        first = max(0, window // self.size - 2) * self.size
        # A cache may have spare slots; the last passes write over the first tokens' own.
        after = 2 + max(_AFTER, math.ceil(2 * self.model.config.past.spare / self.size))
        x = self.tokens(rows, first // self.size + after, 10)
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=self.device)
        valid[1:, : 2 * self.size - 1] = False
        y, state = self.read(x[:, :first], wide, None, valid[:, :first]) if first else (x[:, :0], None)
        end, _ = self.read(x[:, first:], self.size, state, valid[:, first:])
        y = torch.cat([y, end], dim=1)
        streams = [x[row : row + 1, valid[row]] for row in range(min(2, rows))]
        references = [self.forward(stream) for stream in streams]
        given = torch.cat([y[row, valid[row]] for row in range(len(streams))])
        subject = f"{x.shape[1]} tokens, beyond the window of {window}"
        allowed = self.allowed(streams[0], references[0])
        return [self._close(FORWARD, subject, given, torch.cat(references, dim=1)[0], allowed)]

    def reset(self) -> list[Check]:
        """A row in the midst of running ones is reset, and reads its stream once more."""
        played, row = self._played, self.rows // 2
        beside = [other for other in (row - 1, row + 1) if 0 <= other < self.rows]
        kept = take(played.state, beside)
        self.backbone.reset(played.state, [row])
        unlike = _unlike(take(played.state, [row]), self.backbone.initial_state(1))
        touched = _unlike(take(played.state, beside), kept)
        measured = f"{unlike} numbers differ from a fresh row, {touched} changed in the rows beside it"
        good = not unlike and not touched
        state = Check(FRESH, "its state", "passed" if good else "failed", measured, _BITS)

        again = played.x[:, : self.replayed * played.tokens].flip(0).contiguous()
        again[row] = played.x[row, : again.shape[1]]
        y, played.state = self.read(again, played.tokens, played.state)
        subject = f"its outputs over {again.shape[1]} tokens"
        return [state, self._equal(FRESH, subject, y[row], played.y[row, : again.shape[1]])]

    def masked(self) -> list[Check]:
        """Every other row of a pass is masked, with large tokens behind the mask."""
        played, rows = self._played, list(range(0, self.rows, 2))
        valid = torch.ones(self.rows, self.size, dtype=torch.bool, device=self.device)
        valid[rows] = False
        x = self.tokens(self.rows, 1, 2)
        x[rows] *= 1000
        before = take(played.state, [rows[0], rows[-1]])
        y, played.state = self.read(x, self.size, played.state, valid)
        unlike = _unlike(take(played.state, [rows[0], rows[-1]]), before)
        measured = f"{unlike} numbers of the state changed"
        if not torch.isfinite(y).all():
            measured += ", and the outputs are not finite"
        good = not unlike and bool(torch.isfinite(y).all())
        subject = f"{len(rows)} of {self.rows} rows"
        return [Check(MASKED, subject, "passed" if good else "failed", measured, _BITS)]

    def holes(self) -> list[Check]:
        """The first pass of an episode, which has no reward yet, then passes with holes anywhere."""
        passes = 3 if self.window is not None else 5
        x = self.tokens(self.rows, passes, 3)[:, : self.window]
        x = x[:, : x.shape[1] // self.size * self.size]
        valid = torch.rand(x.shape[:2], generator=self.generator(4)) < 0.6
        valid[:, : self.size] = torch.arange(self.size) >= self.size - self.model.config.fresh_tokens
        valid = valid.to(self.device)
        y, _ = self.read(x, self.size, None, valid)
        rows = range(min(2, self.rows))
        streams = [x[row : row + 1, valid[row]] for row in rows]
        references = [self.forward(stream) for stream in streams]
        given = torch.cat([y[row, valid[row]] for row in rows])
        allowed = max(map(self.allowed, streams, references))
        subject = f"{int(valid[:2].sum())} of {valid[:2].numel()} tokens"
        return [self._close(HOLES, subject, given, torch.cat(references, dim=1)[0], allowed)]

    def places(self) -> list[Check]:
        """One stream in the first and in the last row, and beside rows that wait."""
        played = self._played
        if self.rows == 1:
            reason = "a pass of this agent has one row"
            return [Check(name, "1 row", "skipped", "", "", reason) for name in (PLACE, NEIGHBOURS)]
        length = min(self.replayed * played.tokens, played.x.shape[1])
        x = played.x[:, :length].clone()
        x[1] = played.x[0, :length]
        valid = torch.zeros(x.shape[:2], dtype=torch.bool, device=self.device)
        valid[1] = True
        y, _ = self.read(x, played.tokens, None, valid)
        return [
            self._equal(PLACE, f"rows 1 and {self.rows}", played.y[-1], played.y[0]),
            self._equal(NEIGHBOURS, "all busy, all idle", y[1], played.y[0, :length]),
        ]

    def own_state(self) -> list[Check]:
        """Two blocks of lanes in turns: the passes of one leave the state that the other was given."""
        mine, theirs = (self.tokens(self.rows, 2, stream) for stream in (11, 12))
        _, state = self.read(mine[:, : self.size], self.size)
        given = copied(state)
        self.read(theirs, self.size)
        unlike = _unlike(state, given)
        measured = f"{unlike} numbers changed by two passes of another block"
        return [Check(KEPT, "2 blocks", "failed" if unlike else "passed", measured, _BITS)]

    def sound(self) -> list[Check]:
        """What many decisions leave behind."""
        played = self._played
        held = tensors(played.state)
        types = {str(tensor.dtype) for tensor in held if tensor.is_floating_point()}
        wrong = sorted(types - {"torch.float32"})
        finite = played.finite and all(bool(torch.isfinite(tensor).all()) for tensor in held)
        measured = f"holds {', '.join(wrong)}" if wrong else "float32"
        measured += ", finite" if finite else ", not finite"
        good = finite and not wrong
        subject = f"after {played.decisions} decisions"
        reason = ""
        if played.decisions < self.extent.decisions:
            reason = f"the whole state is the last {self.window} tokens; they have been read"
        return [Check(SOUND, subject, "passed" if good else "failed", measured, "float32, finite", reason)]

    def reward(self) -> list[Check]:
        """The second decision after a positive and a negative reward, and without any."""
        config = self.model.config
        if not config.rewards_in_context:
            reason = "the model has no rewards in context"
            return [Check(REWARD, "1 pass", "skipped", "", "", reason)]
        first, second = self.tokens(1, 1, 5), self.tokens(1, 1, 6).expand(3, -1, -1).clone()
        place = self.size - config.fresh_tokens - 1
        rewards = torch.tensor([1.0, -1.0], device=self.device)
        second[:2, place] = self.embed(rewards)[:, place]
        valid = torch.ones(3, self.size, dtype=torch.bool, device=self.device)
        valid[2, place] = False
        outputs = []
        for start in range(0, 3, self.rows):
            rows = torch.tensor([min(start + row, 2) for row in range(self.rows)], device=self.device)
            x = torch.cat([first.expand(self.rows, -1, -1), second[rows]], dim=1)
            mask = torch.cat([torch.ones_like(valid[rows]), valid[rows]], dim=1)
            outputs.append(self.read(x, self.size, None, mask)[0][:, -1])
        plus, minus, without = torch.cat(outputs)[:3]
        scale = float(plus.abs().max())
        token, sign = (float((plus - other).abs().max()) / scale for other in (without, minus))
        least = 1e-6 if self.type == torch.float32 else 5e-4
        measured = f"{token:.1e} {_SCALE} for the token, {sign:.1e} for the reward's sign"
        good = token > least
        reason = "the token alone: a trained model may have learnt to make nothing of rewards"
        return [Check(REWARD, "1 pass", "passed" if good else "failed", measured, f"> {least:g}", reason)]

    @cached_property
    def _played(self) -> _Played:
        tokens = self.whole(max(self.extent.lengths))
        if self.window is not None:
            tokens = min(tokens, self.whole(self.window))
        x = self.tokens(self.rows, tokens // self.size, 0)
        x[-1] = x[0]
        wide = self.size
        if self.window is not None and not self.compiled:
            wide *= max(n for n in range(1, 8) if (tokens // self.size) % n == 0)
        y, state = self.read(x, wide)
        decisions, finite = tokens // self.size, bool(torch.isfinite(y).all())
        while decisions < self.extent.decisions and self.window is None:
            place = decisions * self.size % tokens
            end, state = self.read(x[:, place : place + self.size], self.size, state)
            finite = finite and bool(torch.isfinite(end).all())
            decisions += 1
        return _Played(x, y, wide, state, decisions, finite)

    @cached_property
    def _usual(self) -> tuple[Tensor, tuple[float, str]]:
        """What ``forward`` makes of the played stream's first rows, and what is allowed there."""
        x = self._played.x[:2]
        reference = self.forward(x)
        return reference, self.allowed(x, reference)

    def _close(
        self, name: str, subject: str, y: Tensor, reference: Tensor, allowed: tuple[float, str]
    ) -> Check:
        scale = float(reference.abs().max()) or 1.0
        part, (limit, reason) = float((y - reference).abs().max()) / scale, allowed
        good = part <= limit  # false for NaN
        return Check(
            name=name,
            subject=subject,
            status="passed" if good else "failed",
            measured=f"{part:.1e} {_SCALE} ({scale:.3g})",
            allowed=f"{limit:.1g}",
            reason=reason,
            difference=part if math.isfinite(part) else None,
            limit=limit,
        )

    def _equal(self, name: str, subject: str, y: Tensor, other: Tensor) -> Check:
        if not self.exact:
            return self._close(name, subject, y, other, self._usual[1])
        good = torch.equal(y, other)
        measured = "equal" if good else f"differ by up to {float((y - other).abs().max()):.1e}"
        return Check(name, subject, "passed" if good else "failed", measured, _BITS)


def _unlike(state: State, other: State) -> int:
    """Count the numbers that differ; where a cache has grown more in one, the other has zeros there.

    Of a state on a GPU, what the host keeps in it is its own affair: how much room there may be.
    """
    count = 0
    devices = {tensor.device.type for tensor in tensors(state)}
    for one, two in zip(tensors(state), tensors(other), strict=True):
        if one.device.type == "cpu" and len(devices) > 1:
            continue
        shape = [max(sizes) for sizes in zip(one.shape, two.shape, strict=True)]
        both = one.new_zeros(2, *shape)
        both[0][tuple(map(slice, one.shape))] = one
        both[1][tuple(map(slice, two.shape))] = two
        count += int((both[0] != both[1]).sum())
    return count
