"""One decision of a model's backbone, at a context that it has really read.

A decision reads the tokens of one timestep (reward, state, return-to-go) of every row, in
``torch.inference_mode``. Every row has inputs of its own, and every decision new ones. Encoders and the
action head are not part of it: they are the same for all backbones.

* A recurrent model continues from decision to decision; its time does not depend on how many it has read.
* A Transformer is timed with the cache that its configuration names. What a timed decision appends is
  forgotten before the next, so that the context stays as long as it is said to be.

  * ``full``: the one thing that is changed is the cache's length: it holds the context and one decision,
    however long, and never starts again. A preset's own holds 1600 tokens, 533 timesteps.
  * ``ring``: its own band. The whole context is read; what is kept and attended to stays as it is once
    the band is full.
  * ``recompute``: its own window, which every decision reads anew. Timesteps that have left the window
    are not read before: nothing of them is kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.states import State, state_bytes, take
from lram.agents.backbones.stepping import StepFunction, make_stepper
from lram.agents.compute import Narrow, Precision, narrow
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model, without_memory
from lram.agents.model.rounding import bytes_of, round_weights
from lram.harness.timing.fitting import fit_backbone, grows
from lram.harness.timing.rounds import PreparedDecision, TimedCandidate

READ = 50
"""Timesteps that a recurrent model has read before it is timed."""

_INPUTS = 8  # different inputs, taken in turns
_CHUNK = 50  # timesteps of a pass that reads a context


@dataclass(frozen=True, slots=True)
class DecisionInputs:
    """What a decision is given, and how it is made.

    Attributes:
        rows, tokens, width: Of what it is given.
        seed: Of that, and of the weights.
        device: Where it is made.
        precision: Of the weights; what it is given is bfloat16 with ``bfloat16``, else float32.
    """

    rows: int
    tokens: int
    width: int
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "float32"

    @property
    def dtype(self) -> torch.dtype:
        """The type of what it is given."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def inputs(self) -> list[Tensor]:
        """Return embedded tokens (rows, tokens, width), distinct in every row and decision."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.rows, self.tokens, self.width)
        return [self._placed(torch.randn(shape, generator=generator)) for _ in range(_INPUTS)]

    def past(self, first: int, end: int) -> Iterable[Tensor]:
        """Yield the tokens of timesteps ``first`` to ``end`` (exclusive), some timesteps at a time.

        Each is (rows, tokens of those timesteps, width); a timestep's tokens depend on its number only.
        """
        generator, shape = torch.Generator(), (self.rows, self.tokens, self.width)
        for start in range(first, end, _CHUNK):
            timesteps = range(start, min(start + _CHUNK, end))
            chunk = [
                torch.randn(shape, generator=generator.manual_seed(self.seed + 1 + t)) for t in timesteps
            ]
            yield self._placed(torch.cat(chunk, dim=1))

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)


@dataclass(frozen=True, slots=True)
class BenchCase:
    """What a row of the table is about.

    Attributes:
        model: Name of the model.
        form: A step form, or how else it is computed.
        rows: Rows that decide at once.
        context: Timesteps read before; None for recurrent models.
        cache: How a Transformer keeps the past; None for recurrent models.
    """

    model: str
    form: str
    rows: int
    context: int | None
    cache: str | None = None

    @property
    def name(self) -> str:
        """Unique among the cases of a benchmark."""
        context = "" if self.context is None else f", context {self.context}"
        return f"{self.model}, {self.form}, rows {self.rows}{context}"


class TimedBackbone:
    """A model for ``work.rows`` rows, with random weights; built when it is first asked for.

    Attributes:
        name: Of the model.
        config: Of the model.
        work: What a decision is given.
        cache: A Transformer's, as its configuration names it; None for a recurrent model.
        contexts: Timesteps read before a decision, ascending; just ``READ`` for a recurrent model.
    """

    def __init__(self, name: str, config: ModelConfig, work: DecisionInputs, contexts: Sequence[int]) -> None:
        self.name, self.config, self.work = name, config, work
        self.cache = config.past.cache or None
        self.contexts = [READ] if self.cache is None else sorted(set(contexts))
        self._read: dict[int, tuple[Backbone, State]] = {}

    def case(self, form: str, context: int) -> BenchCase:
        """Return what a decision of ``form`` after ``context`` is called."""
        return BenchCase(self.name, form, self.work.rows, None if self.cache is None else context, self.cache)

    def candidates(self, forms: Sequence[str], context: int) -> dict[BenchCase, TimedCandidate]:
        """Return a candidate for every form."""
        cases = [self.case(form, context) for form in dict.fromkeys(forms)]
        return {case: TimedCandidate(case.name, partial(self.prepare, case.form, context)) for case in cases}

    def prepare(self, form: str, context: int, pass_tokens: int | None = None) -> PreparedDecision:
        """Return a decision of ``form``, after the timesteps of ``context`` were read.

        Args:
            form: A step form.
            context: Timesteps.
            pass_tokens: Tokens that a pass reads; None: all of a decision in one.
        """
        backbone, state = self.read(context)
        # A Transformer's serves all forms: what a decision appends is forgotten.
        own = take(state, range(self.work.rows)) if self.cache is None else state
        return prepare_decision(backbone, form, own, self.work, pass_tokens)

    def read(self, context: int) -> tuple[Backbone, State]:
        """Return a backbone, and what it keeps after the timesteps of ``context``."""
        if context not in self._read:
            backbone = self._variant(context)
            done = max((shorter for shorter in self._read if shorter < context), default=0)
            start = self._read[done][1] if done else backbone.initial_state(self.work.rows)
            state = take(start, range(self.work.rows))
            first, most = done, _CHUNK * self.work.tokens
            if self.window is not None:
                first, most = max(done, context - math.ceil(self.window / self.work.tokens)), self.window
            with torch.inference_mode():
                for tokens in self.work.past(first, context):
                    for part in tokens.split(most, dim=1):  # type: ignore[no-untyped-call]
                        _, state = backbone.step(part, state)
                if self._grows:  # so that there is room for a decision, and no form has to make it
                    state = backbone.with_room(state, self.work.tokens)
            self._read[context] = backbone, state
        return self._read[context]

    @property
    def window(self) -> int | None:
        """Tokens that every decision reads anew; None where they are not."""
        return self.config.past.tokens if self.config.past.anew else None

    @property
    def _grows(self) -> bool:
        """Whether it has a cache that is made as long as a context needs."""
        return self.window is None and grows(self.config)

    def holding(self, context: int, longest: int | None = None) -> ModelConfig:
        """Return the configuration, a growing cache made to hold ``context`` timesteps and one decision."""
        return self.config.holding(context, longest) if self._grows else self.config

    def state_bytes(self, context: int) -> int:
        """Return the bytes that all rows keep at ``context``, without keeping any."""
        with without_memory():
            backbone = build_backbone(self.holding(context))
        return backbone.bytes_after(self.work.rows, (context + 1) * self.work.tokens)

    @cached_property
    def backbone(self) -> Backbone:
        """With the weights that it has at every context."""
        return make_backbone(self.holding(self.contexts[-1]), self.work)

    def _variant(self, context: int) -> Backbone:
        """Return ``backbone``, a full cache as long as ``context`` needs."""
        if not self._grows:
            return self.backbone
        return fit_backbone(self.backbone, self.config, context, self.contexts[-1])


def make_backbone(config: ModelConfig, work: DecisionInputs) -> Backbone:
    """Return the backbone of ``config`` with weights drawn from the seed of ``work``."""
    with torch.inference_mode(False):
        backbone = build_model(config, work.seed).backbone
        if (weights := narrow(work.precision)) is not None:
            round_weights(backbone, weights)
        placed: Backbone = backbone.to(work.device, work.dtype)
    return placed


def prepare_decision(
    backbone: Backbone, form: str, state: State, work: DecisionInputs, pass_tokens: int | None = None
) -> PreparedDecision:
    """Return a decision of ``backbone`` from ``state`` on; ``state`` is used up.

    Args:
        backbone: With the weights to use.
        form: A step form.
        state: After what was read.
        work: What is decided.
        pass_tokens: Tokens that a pass reads; None: all of a decision in one.
    """
    pass_tokens = pass_tokens or work.tokens
    weights = narrow(work.precision)
    stepper = make_stepper(backbone, form, rows=work.rows, tokens=pass_tokens, weights=weights)
    read, update = moved_bytes(backbone, state, work, stepper.form)
    return PreparedDecision(
        decide=decision(
            stepper.call,
            state,
            work.inputs(),
            pass_tokens,
            backbone.rewinder(state, work.tokens),
        ),
        read_bytes=read,
        update_bytes=update,
        state_bytes=state_bytes(state),
        detail=stepper.detail,
    )


def decision(
    step: StepFunction,
    state: State,
    inputs: Sequence[Tensor],
    tokens: int,
    rewind: Callable[[], State] | None = None,
) -> Callable[[], Tensor]:
    """Return what reads the next of ``inputs`` in passes of ``tokens`` and returns the last hidden states.

    With ``rewind``, every decision begins at what it gives; otherwise at the state that the last one left.
    """
    turns = itertools.cycle([x.split(tokens, dim=1) for x in inputs])  # type: ignore[no-untyped-call]
    again = rewind or (lambda: state)

    def decide() -> Tensor:
        nonlocal state
        now = again()
        for x in next(turns):
            hidden, now = step(x, now, None)
        if rewind is None:
            state = now
        return hidden

    return decide


def moved_bytes(
    backbone: Backbone, state: State, work: DecisionInputs, form: str = "torch"
) -> tuple[int, int]:
    """Return what a decision must at least read, and read and write back, in bytes, by this step form."""
    read, update = backbone.moved_bytes(state, work.tokens)
    return weight_bytes(backbone, narrow(work.precision) if form == "fused" else None) + read, update


def weight_bytes(backbone: Backbone, weights: Narrow | None = None) -> int:
    """Return the bytes of the weights that a decision reads, the matrices kept in this form."""
    return bytes_of(backbone.step_parameters(), backbone, weights)
