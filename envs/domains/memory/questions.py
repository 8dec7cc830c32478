"""Tasks in which the agent watches a stream and answers questions: everything is drawn before the first step.

Actions change nothing that is seen. The return is the share of the questions that were answered rightly, and
it is paid at the last step as a whole: a reward after each answer would tell what the state was, and an agent
could continue from there instead of remembering. An action at a step without a question is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lram.envs.domains.memory.family import Family, Kind, MemoryOptions, Questions
from lram.envs.domains.memory.layout import ASKED, WIDTH, Indices, Vectors
from lram.envs.session import Action, Observation, Step
from lram.envs.simulator import SimulatorSession, vector_spec

NOT_ASKED = -1
_CELL = 12  # pixels


@dataclass(frozen=True)
class Stream:
    """An episode.

    Attributes:
        observations: float32 (steps, 22).
        answers: The right action at each step, ``NOT_ASKED`` where no question is asked; (steps,).
    """

    observations: Vectors
    answers: Indices


Draw = Callable[[np.random.Generator, int, Questions], Stream]


def asked_steps(
    rng: np.random.Generator, steps: int, first: int, questions: Questions
) -> npt.NDArray[np.bool_]:
    """Return at which of the steps a question is asked, from ``first`` on; the last is always one of them."""
    asked = np.zeros(steps, np.bool_)
    if questions == "random":
        asked[first:] = rng.random(steps - first) < 0.5
    asked[-1] = True
    return asked


def stream_of(observations: Vectors, states: Indices, asked: npt.NDArray[np.bool_]) -> Stream:
    """Return the stream in which the right answer at each asked step is the state there."""
    observations[:, ASKED] = asked
    return Stream(observations, np.where(asked, states, NOT_ASKED))


class QuestionSession(SimulatorSession):
    """A stream and its questions.

    Observation (22): :mod:`lram.envs.domains.memory.layout`. Reward: 0, and at the last step, which ends the
    episode, the share of right answers. Success: at the last step, every answer was right.

    Args:
        name: ``memory/NAME-VALUE``.
        draw: Draws an episode.
        value: The dial's.
        actions: How many answers there are.
        options: The protocol's.
    """

    def __init__(self, name: str, draw: Draw, value: int, actions: int, options: MemoryOptions) -> None:
        super().__init__(name, vector_spec(WIDTH, "discrete", actions), None)
        self._draw, self._value, self._options = draw, value, options
        self._observations = np.zeros((1, WIDTH), np.float32)
        self._answers: list[int] = []
        self._step = self._right = self._asked = 0

    def _begin(self, seed: int) -> Observation:
        stream = self._draw(self._options.generator(seed), self._value, self._options.questions)
        self._observations, self._answers = stream.observations, stream.answers.tolist()
        self._step = self._right = self._asked = 0
        first: Observation = self._observations[0].copy()
        return first

    def _advance(self, action: Action) -> Step:
        answer = self._answers[self._step]
        if answer != NOT_ASKED:
            self._asked += 1
            self._right += answer == action
        self._step += 1
        over = self._step == len(self._answers)
        reward = self._right / self._asked if over else 0.0
        seen = self._observations[self._step - over].copy()
        return Step(seen, reward, over, False, over and self._right == self._asked, reward)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the whole stream, a column a step up to the present one, uint8 (264, 12 x steps, 3)."""
        seen = self._observations.copy()
        seen[self._step + 1 :] = 0.0
        shades = (np.abs(seen.T) * np.where(seen.T < 0, 96, 255)).astype(np.uint8)
        grey = np.kron(shades, np.ones((_CELL, _CELL), np.uint8))
        return np.repeat(grey[:, :, None], 3, axis=2)


def question_family(
    name: str,
    kind: Kind,
    unit: str,
    draw: Draw,
    *,
    answers: int,
    steps: Callable[[int], int],
    dials: tuple[tuple[int, ...], tuple[int, ...]],
    theory: str,
    bounds: tuple[int, int] = (1, 100_000),
) -> Family:
    """Return a family of questions with ``answers`` answers each.

    Chance is 1 in ``answers`` whatever the stream: a uniform action is right with that probability at each
    question, so the expected share is the same. The best answers everything.
    """

    def make(task: str, value: int, options: MemoryOptions) -> SimulatorSession:
        return QuestionSession(f"memory/{task}", draw, value, answers, options)

    return Family(
        name=name,
        kind=kind,
        unit=unit,
        theory=theory,
        trained=dials[0],
        longer=dials[1],
        least=bounds[0],
        most=bounds[1],
        actions=lambda value: answers,
        steps=steps,
        chance=lambda value: 1 / answers,
        optimum=lambda value: 1.0,
        greatest=lambda value: 1.0,
        chance_of=f"exact: each answer is right with probability 1/{answers}",
        optimum_of="exact: every answer right",
        make=make,
    )
