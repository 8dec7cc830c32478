"""State tracking: each step changes a state that is never shown, and at random steps it is asked for.

The state before the steps that an agent still knows is uniformly distributed, whatever those steps were: the
start is drawn uniformly, and every change maps the uniform distribution to itself. So an agent that has
forgotten the start is at chance in parity, counting and swaps, however many of the last steps it knows. In
``brackets`` that holds of an agent that knows the present step only: changes are held back at both ends, so
the last steps tell something.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from lram.envs.domains.memory.family import Family, Questions
from lram.envs.domains.memory.layout import FIRST, MARK, SECOND, Indices, blank, show
from lram.envs.domains.memory.questions import Draw, Stream, asked_steps, question_family, stream_of

DEEPEST = 7
_DIALS = ((10, 20, 40), (80, 160, 320))
_START = np.zeros(1, np.int64)
_OPEN, _CLOSE, _OTHER = range(3)


def draw_parity(rng: np.random.Generator, steps: int, questions: Questions) -> Stream:
    """Parity: a bit a step; the answer is the sum of all bits up to the present one, modulo 2."""
    bits = rng.integers(2, size=steps)
    observations = blank(steps)
    show(observations, np.arange(steps), SECOND, bits)
    return stream_of(observations, np.cumsum(bits) % 2, asked_steps(rng, steps, 1, questions))


def draw_count(modulus: int) -> Draw:
    """Return how counting modulo ``modulus`` is drawn: a marked start, then a tick or none at each step."""

    def draw(rng: np.random.Generator, steps: int, questions: Questions) -> Stream:
        start = rng.integers(modulus, size=1)
        ticks = rng.integers(2, size=steps)
        observations = blank(steps + 1)
        observations[0, MARK] = 1.0
        show(observations, _START, FIRST, start)
        show(observations, np.arange(1, steps + 1), SECOND, ticks)
        states = np.cumsum(np.concatenate([start, ticks])) % modulus
        return stream_of(observations, states, asked_steps(rng, steps + 1, 1, questions))

    return draw


def draw_swaps(objects: int) -> Draw:
    """Return how a shell game of ``objects`` is drawn: where each begins, marked, then a swap at each step.

    A swap shows the two places whose objects change places. A question shows an object beside the swap of its
    step, and the answer is where that object is after the swap.
    """
    pairs = np.array(list(combinations(range(objects), 2)))

    def draw(rng: np.random.Generator, steps: int, questions: Questions) -> Stream:
        place_of = rng.permutation(objects)
        swaps = pairs[rng.integers(len(pairs), size=steps)]
        asked_for = rng.integers(objects, size=steps)
        total = objects + steps
        observations = blank(total)
        begins = np.arange(objects)
        observations[:objects, MARK] = 1.0
        show(observations, begins, FIRST, place_of)
        show(observations, begins, SECOND, begins)
        after = np.arange(objects, total)
        for column in range(2):
            show(observations, after, FIRST, swaps[:, column])
        asked = asked_steps(rng, total, objects, questions)
        shown = np.flatnonzero(asked)
        show(observations, shown, SECOND, asked_for[shown - objects])
        return stream_of(observations, _places(place_of, swaps, asked_for), asked)

    return draw


def _places(place_of: Indices, swaps: Indices, asked_for: Indices) -> Indices:
    """Return where the object that would be asked for is after each swap; 0 at the steps of the start."""
    place, states = place_of.tolist(), [0] * len(place_of)
    holds = [0] * len(place)
    for thing, where in enumerate(place):
        holds[where] = thing
    for (one, other), thing in zip(swaps.tolist(), asked_for.tolist()):
        first, second = holds[one], holds[other]
        holds[one], holds[other] = second, first
        place[first], place[second] = other, one
        states.append(place[thing])
    return np.array(states, np.int64)


def draw_brackets(rng: np.random.Generator, steps: int, questions: Questions) -> Stream:
    """Depth of a bracket string, 0 to 7: a marked depth, then a bracket, a letter, or a question a step.

    Each with probability 1/3: an opening bracket, a closing one, a letter; where the string would go below 0
    or above 7, a letter stands instead. Nothing else is shown at a question, for a bracket there would tell
    that the depth is not 0, or not 7.
    """
    depth = int(rng.integers(DEEPEST + 1))
    symbols = rng.integers(3, size=steps).tolist()
    asked = asked_steps(rng, steps + 1, 1, questions)
    observations = blank(steps + 1)
    observations[0, [MARK, FIRST + depth]] = 1.0
    states = [depth]
    for step, (symbol, question) in enumerate(zip(symbols, asked[1:].tolist()), start=1):
        if not question:
            if symbol == _OPEN and depth < DEEPEST:
                depth += 1
            elif symbol == _CLOSE and depth > 0:
                depth -= 1
            else:
                symbol = _OTHER
            observations[step, SECOND + symbol] = 1.0
        states.append(depth)
    return stream_of(observations, np.array(states, np.int64), asked)


_NOT_ALONE = (
    "linear recurrences with non-negative eigenvalues (mLSTM, Mamba) cannot at every length, attention of "
    "fixed depth not robustly; sLSTM can"
)


def _counting(modulus: int) -> Family:
    return question_family(
        f"mod{modulus}",
        "tracking",
        "steps with or without a tick",
        draw_count(modulus),
        answers=modulus,
        steps=lambda steps: steps + 1,
        dials=_DIALS,
        theory=f"{_NOT_ALONE}; negative real eigenvalues of diagonal or triangular recurrences do not help",
    )


def _swaps(objects: int, theory: str) -> Family:
    return question_family(
        f"swap{objects}",
        "tracking",
        "swaps",
        draw_swaps(objects),
        answers=objects,
        steps=lambda steps: steps + objects,
        dials=_DIALS,
        theory=theory,
    )


FAMILIES = (
    question_family(
        "parity",
        "tracking",
        "bits",
        draw_parity,
        answers=2,
        steps=lambda steps: steps,
        dials=_DIALS,
        theory=f"{_NOT_ALONE}, and so can linear recurrences with negative eigenvalues",
        bounds=(2, 100_000),
    ),
    _counting(3),
    _counting(5),
    _swaps(
        3,
        f"{_NOT_ALONE}, and so can steps that are Householder reflections (eigenvalue -1); the group is "
        "solvable",
    ),
    _swaps(
        5,
        "the group is not solvable, so the task is complete for NC1: attention and diagonal linear "
        "recurrences of fixed depth, which are in TC0, cannot at every length unless TC0 = NC1; sLSTM can, "
        "and so can steps that are Householder reflections",
    ),
    question_family(
        "brackets",
        "tracking",
        "steps with a bracket, a letter or a question",
        draw_brackets,
        answers=DEEPEST + 1,
        steps=lambda steps: steps + 1,
        dials=_DIALS,
        theory="the depth is bounded, so the language is star-free and non-negative eigenvalues are enough",
    ),
)
