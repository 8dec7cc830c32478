"""Recall: what was shown is asked for later. Five families; the dial is a delay, or how much is to be kept.

In each of them what is seen at a question, without what was seen before, says nothing about the answer.
"""

from __future__ import annotations

import numpy as np

from lram.envs.domains.memory.family import Questions
from lram.envs.domains.memory.layout import BLOCK, FIRST, MARK, SECOND, Indices, blank, show
from lram.envs.domains.memory.questions import Stream, asked_steps, question_family, stream_of

SYMBOLS = 4
SHAPES = 8
KEYS = 1 << BLOCK
ANSWERABLE = 64  # steps of repeat_previous at which there is something to repeat
_DELAYS = ((10, 20, 40), (80, 160, 320))
_WINDOW = (
    "a window of C steps cannot hold what is more than C - 1 steps back; recurrent state and attention can"
)


def draw_tmaze(rng: np.random.Generator, delay: int, questions: Questions) -> Stream:
    """T-maze (Bakker 2001; passive as in Ni et al. 2023): the cue at the first step says where to turn.

    The corridor carries the agent on by itself, one step a decision: so the cue is ``delay`` steps back at
    the junction whatever the agent does, and uniformly random actions are right half of the time, as is an
    agent that turns without remembering. Its walls, one of four at each step, are drawn at random, so that
    there are many episodes to train on and to hold out, and not two.
    """
    cue = rng.integers(2, size=1)
    observations = blank(delay + 1)
    observations[0, MARK] = 1.0
    show(observations, np.zeros(1, np.int64), FIRST, cue)
    show(observations, np.arange(1, delay), SECOND, rng.integers(SYMBOLS, size=delay - 1))
    return stream_of(observations, np.full(delay + 1, cue[0]), _only_the_last(delay + 1))


def draw_match(rng: np.random.Generator, delay: int, questions: Questions) -> Stream:
    """Delayed match to sample: a marked shape, others for ``delay`` - 1 steps, then which of two it was.

    The two are the sample and another shape, in random order; the action tells the place of the sample.
    """
    shapes = rng.integers(SHAPES, size=delay + 1)
    foil = (shapes[0] + rng.integers(1, SHAPES)) % SHAPES
    place = rng.integers(2)
    first, second = (shapes[0], foil) if place == 0 else (foil, shapes[0])
    observations = blank(delay + 1)
    observations[0, MARK] = 1.0
    show(observations, np.arange(delay), FIRST, shapes[:delay])
    observations[delay, [FIRST + first, SECOND + second]] = 1.0
    return stream_of(observations, np.full(delay + 1, place), _only_the_last(delay + 1))


def draw_repeat_first(rng: np.random.Generator, steps: int, questions: Questions) -> Stream:
    """Repeat first (POPGym, Morad et al. 2023): the first symbol is asked for during ``steps`` others."""
    symbols = rng.integers(SYMBOLS, size=steps + 1)
    observations = blank(steps + 1)
    observations[0, MARK] = 1.0
    show(observations, np.arange(steps + 1), FIRST, symbols)
    asked = asked_steps(rng, steps + 1, 1, questions)
    return stream_of(observations, np.full(steps + 1, symbols[0]), asked)


def draw_repeat_previous(rng: np.random.Generator, back: int, questions: Questions) -> Stream:
    """Repeat previous (POPGym, Morad et al. 2023): the symbol of ``back`` steps ago is asked for."""
    steps = back + ANSWERABLE
    symbols = rng.integers(SYMBOLS, size=steps)
    observations = blank(steps)
    show(observations, np.arange(steps), FIRST, symbols)
    asked = asked_steps(rng, steps, back, questions)
    return stream_of(observations, np.roll(symbols, back), asked)


def draw_recall(rng: np.random.Generator, pairs: int, questions: Questions) -> Stream:
    """Associative recall (MQAR, Arora et al. 2023): ``pairs`` keys with their values, then each key once.

    A key is a number of ten bits, shown as +1 and -1; no two are the same. The queries come in an order of
    their own.
    """
    keys = rng.permutation(KEYS)[:pairs]
    values = rng.integers(SYMBOLS, size=pairs)
    order = rng.permutation(pairs)
    observations = blank(2 * pairs)
    observations[:, SECOND:] = _bits(np.concatenate([keys, keys[order]]))
    observations[:pairs, MARK] = 1.0
    show(observations, np.arange(pairs), FIRST, values)
    asked = np.arange(2 * pairs) >= pairs
    return stream_of(observations, np.concatenate([values, values[order]]), asked)


def _only_the_last(steps: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    asked = np.zeros(steps, np.bool_)
    asked[-1] = True
    return asked


def _bits(numbers: Indices) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return 2 * (numbers[:, None] >> np.arange(BLOCK) & 1) - 1


FAMILIES = (
    question_family(
        "tmaze",
        "recall",
        "steps from the cue to the choice",
        draw_tmaze,
        answers=2,
        steps=lambda delay: delay + 1,
        dials=((10, 20, 50), (100, 200, 500, 1000)),
        theory=_WINDOW,
    ),
    question_family(
        "match",
        "recall",
        "steps from the sample to the choice",
        draw_match,
        answers=2,
        steps=lambda delay: delay + 1,
        dials=_DELAYS,
        theory=f"{_WINDOW}; it must not be written over by what is seen between",
    ),
    question_family(
        "repeat_first",
        "recall",
        "steps after the first symbol",
        draw_repeat_first,
        answers=SYMBOLS,
        steps=lambda steps: steps + 1,
        dials=_DELAYS,
        theory=f"{_WINDOW}; one symbol is enough to keep",
    ),
    question_family(
        "repeat_previous",
        "recall",
        "steps back",
        draw_repeat_previous,
        answers=SYMBOLS,
        steps=lambda back: back + ANSWERABLE,
        dials=((2, 4, 8), (16, 32, 64)),
        theory="attention over K + 1 steps suffices; a recurrent state must hold the last K symbols in order",
    ),
    question_family(
        "recall",
        "recall",
        "pairs of a key and a value",
        draw_recall,
        answers=SYMBOLS,
        steps=lambda pairs: 2 * pairs,
        dials=((4, 8, 16), (32, 64, 128)),
        theory="attention recalls what it sees; a fixed state holds pairs in proportion to its size",
        bounds=(1, KEYS),
    ),
)
