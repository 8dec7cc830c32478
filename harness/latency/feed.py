"""What each lane is shown at each decision of a process: never the same observation twice.

An agent that keeps what it computed for an observation would look fast on one that it has seen, so no lane
reads what another lane reads or has read, and no context repeats the inputs of another. The recording is too
short for that (16 lanes and contexts to 1,600 need 100,000 observations), so each observation that is shown
is a recorded one with a number of its own worked into it:

* an **image** has its rows and columns shifted around by an amount that follows from the number, and the
  number in the lowest bits of a few dozen pixels: the same type, values between 0 and 255, hardly another
  histogram;
* in a **vector** the coordinates that vary most in the recording take values that spell the number, evenly
  spread over the range that was recorded of each: the same type and range. There are as many of them, and as
  few steps each, as the numbers need, so that two inputs differ by a visible part of the range wherever there
  are enough coordinates.

Which number stands where follows from the plan: from the context, the kind of decision and its place. So
processes with the same settings are shown the same, however many decisions each has time for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.api import Observation
from lram.harness.errors import LramError
from lram.harness.latency.records import LatencyPlan
from lram.harness.timing.inputs import Inputs, Shown

TURNS = 20
"""Decisions with repeated and with distinct inputs at a context, at most."""

_STEPS = (64, 1024, 1 << 16, 1 << 22)
"""Values of a coordinate: the fewest with which the coordinates of a vector spell all numbers."""

_SETTLING = 8  # decisions before the warm-up, at most
_WARMING = 128  # decisions of the warm-ups, and what asks whether there is a model step
_LEAST_GAP = 4  # units in the last place between two values of a coordinate


class Feed:
    """The inputs of one process.

    Args:
        inputs: What was recorded.
        contexts: All contexts of the sweep.
        batch: Lanes.
        decisions: Timed decisions at a context, at most, of all clocks together.
        distinct: No observation is shown twice; False: as versions before this rule showed them, where lane i
            later reads what lane i + 1 has read and each context begins anew.
        task: Named where its observations cannot be made distinct.

    Raises:
        LramError: They cannot.
    """

    def __init__(
        self,
        inputs: Inputs,
        contexts: Sequence[int],
        batch: int,
        decisions: int,
        *,
        distinct: bool,
        task: str = "the task",
    ) -> None:
        self._inputs, self._batch = inputs, batch
        self._decisions = decisions + _WARMING
        sizes = [context + self._decisions + _SETTLING + 1 for context in contexts]
        begins = [0, *accumulate(sizes)]
        self._begin = dict(zip(contexts, begins, strict=False))
        self._context = contexts[0]
        self._vary: _Variation | None = None
        if distinct:
            self._vary = _variation(inputs.observations, begins[-1] * batch, task)

    def at(self, context: int) -> None:
        """Hand out the inputs of this context from now on."""
        self._context = context

    def past(self, timestep: int) -> Shown:
        """Return what is read on the way to the context."""
        return self._shown(timestep, timestep)

    def decision(self, timestep: int) -> Shown:
        """Return what is shown at ``timestep``, the context or later."""
        number = timestep - self._context
        assert 0 <= number < self._decisions, "there are more decisions than inputs"
        return self._shown(self._context + number, timestep)

    def settling(self, number: int) -> Shown:
        """Return what is shown at a decision that is made in vain, before the warm-up."""
        assert number < _SETTLING, "there are more decisions than inputs"
        return self._shown(self._context + self._decisions + number, self._context + number)

    def repeated(self) -> Shown:
        """Return what is shown again and again at this context."""
        return self._shown(self._context + self._decisions + _SETTLING, 0)

    def _shown(self, slot: int, timestep: int) -> Shown:
        observations, rewards = self._inputs.seen(self._inputs.places(timestep, self._batch))
        if self._vary is None:  # copies: an agent may change in place what it is shown
            return [seen.copy() for seen in observations], rewards
        first = (self._begin[self._context] + slot) * self._batch
        return [self._vary(seen, first + lane) for lane, seen in enumerate(observations)], rewards


def feed_of(plan: LatencyPlan, batch: int, inputs: Inputs) -> Feed:
    """Return the inputs of a process of ``plan``; LramError where they cannot be made distinct."""
    effort = plan.effort
    decisions = 2 * max(effort.most, effort.least) + max(TURNS, effort.least)
    return Feed(inputs, plan.contexts, batch, decisions, distinct=plan.distinct, task=plan.task.task.id)


class _Variation:
    """Works a number into an observation; other numbers give other observations."""

    def __call__(self, seen: Observation, number: int) -> Observation:
        raise NotImplementedError


class _Image(_Variation):
    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self._bits = max(1, (count - 1).bit_length())
        size = int(np.prod(shape))
        self._fits = size >= self._bits
        self._places = np.linspace(0, size - 1, self._bits).astype(np.int64)
        self._weights = 1 << np.arange(self._bits)

    def __call__(self, seen: Observation, number: int) -> Observation:
        height, width = seen.shape[-2:]
        made: npt.NDArray[Any] = np.roll(seen, (number % height, number // height % width), axis=(-2, -1))
        flat = made.reshape(-1)
        bits = (number & self._weights) > 0
        flat[self._places] = (flat[self._places] & 254) | bits
        return made


class _Vector(_Variation):
    def __init__(self, observations: npt.NDArray[Any], count: int) -> None:
        flat = observations.reshape(len(observations), -1).astype(np.float64)
        low, high = flat.min(axis=0), flat.max(axis=0)
        # A coordinate that does not vary has no range: it may take values of one unit.
        high = np.where(high > low, high, low + np.maximum(1.0, np.abs(low)))
        gap = _LEAST_GAP * np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(observations.dtype))
        finite = np.isfinite(low) & np.isfinite(high)
        varies = flat.max(axis=0) > flat.min(axis=0)
        with np.errstate(invalid="ignore"):  # of infinities, which are not used
            width = np.where(finite, high - low, -1.0)
        order = np.lexsort((-width, ~varies))  # those that vary first, the widest of them first
        self._fits = False
        for steps in _STEPS:
            able = [int(j) for j in order if finite[j] and width[j] / steps > gap[j]]
            needed, product = 0, 1
            while product < count and needed < len(able):
                needed, product = needed + 1, product * steps
            if product >= count:
                self._places, self._steps, self._fits = np.array(able[:needed], np.int64), steps, True
                self._low, self._high = low[self._places], high[self._places]
                return

    def __call__(self, seen: Observation, number: int) -> Observation:
        made: npt.NDArray[Any] = seen.copy()
        digits = number // self._steps ** np.arange(len(self._places)) % self._steps
        values = self._low + (self._high - self._low) * (digits + 0.5) / self._steps
        made.reshape(-1)[self._places] = values
        return made


def _variation(observations: npt.NDArray[Any], count: int, task: str) -> _Variation:
    """Return what makes ``count`` distinct observations of those that were recorded; LramError."""
    shape = observations.shape[1:]
    is_image = observations.dtype == np.uint8 and len(shape) >= 2
    made = _Image(shape, count) if is_image else _Vector(observations, count)
    if not made._fits:
        raise LramError(
            f"the observations of {task} have too few values for the {count:,} distinct inputs that these "
            "contexts and lanes take; choose another --task, or a smaller --batch"
        )
    return made
