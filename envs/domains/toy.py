"""Tiny tasks without any simulator, so that the whole product can be tried and tested in seconds.

Five are real little tasks (``reach``, ``steps``, ``blink``, ``image``, ``lives``); the others are ``steps``
with one thing wrong that simulators do go wrong with: slowness, a dying or hanging process, an exception, a
value that is not a number, a missing score reference. Episode lengths vary with the seed. Those that are made
to fail or hang (``FAULTY``) are selected by their own names only, not by ``toy`` or ``toy/*``.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lram.envs.session import (
    Action,
    Domain,
    EvaluationProtocol,
    InterpreterRecipe,
    Observation,
    SessionError,
    Step,
)
from lram.envs.simulator import SimulatorSession, image_spec, vector_spec
from lram.envs.task import Task

FAULT_DECISION = 5  # the decision, counted from 1, at which crash, flaky, hang, nan and raise go wrong
FAULTY = ("crash", "flaky", "hang", "nan", "raise")
FLAKY_EVERY = 4  # flaky dies in the episodes whose seed this divides
LIFE_LENGTH = 8  # decisions of a life in lives
SLOW_SECONDS = 0.003


class ReachSession(SimulatorSession):
    """Move a point in the square [-1, 1]^2 to a goal; 25 to 35 decisions.

    Observation: position (2), goal (2), goal - position (2). An action moves the point by a tenth of it.
    Reward: 1 - min(1, distance after the move). Success: distance of at most 0.1.
    """

    def __init__(self, task_name: str) -> None:
        super().__init__(f"toy/{task_name}", vector_spec(6, "continuous", 2), limit=None)
        self._position = np.zeros(2)
        self._goal = np.zeros(2)

    def _begin(self, seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        self._position = rng.uniform(-1, 1, 2)
        self._goal = rng.uniform(-1, 1, 2)
        self._limit = 25 + seed % 11
        return self._observation()

    def _advance(self, action: Action) -> Step:
        self._position = np.clip(self._position + 0.1 * np.asarray(action, np.float64), -1, 1)
        distance = float(np.linalg.norm(self._goal - self._position))
        reward = 1.0 - min(1.0, distance)
        return Step(self._observation(), reward, False, False, distance <= 0.1, reward)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the square with the goal in green and the point in white, uint8 (64, 64, 3)."""
        image = np.zeros((64, 64, 3), np.uint8)
        for place, colour in ((self._goal, (0, 160, 0)), (self._position, (255, 255, 255))):
            column, row = np.clip((place + 1) * 32, 2, 61).astype(int)
            image[row - 2 : row + 3, column - 2 : column + 3] = colour
        return image

    def _observation(self) -> Observation:
        parts = [self._position, self._goal, self._goal - self._position]
        return np.array(np.concatenate(parts), dtype=np.float32)


class StepsSession(SimulatorSession):
    """Give the answer that is shown, one of four; 20 to 30 decisions, in ``blink`` 1 to 3.

    Observation (4): about 1 at the right answer and about 0 elsewhere. Reward: 1 for the right answer.
    ``lives`` pays 2 instead, of which agents are shown the sign, and every eighth decision starts a new
    context.
    """

    def __init__(self, task_name: str) -> None:
        super().__init__(f"toy/{task_name}", vector_spec(4, "discrete", 4), limit=None)
        self._kind = task_name
        self._seed = 0
        self._rng = np.random.default_rng(0)
        self._answer = 0

    def _begin(self, seed: int) -> Observation:
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._limit = 1 + seed % 3 if self._kind == "blink" else 20 + seed % 11
        return self._next_cue()

    def _advance(self, action: Action) -> Step:
        decision = self._decisions + 1
        if self._kind == "slow":
            time.sleep(SLOW_SECONDS)
        if decision == FAULT_DECISION:
            self._go_wrong()
        right = float(action == self._answer)
        observation = self._next_cue()
        if self._kind == "nan" and decision == FAULT_DECISION:
            observation[0] = np.nan
        if self._kind != "lives":
            return Step(observation, right, False, False, None, right)
        boundary = decision % LIFE_LENGTH == 0
        return Step(observation, 2.0 * right, False, False, None, right, context_reset=boundary)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the four answers as bars, the right one white, uint8 (64, 64, 3)."""
        image = np.zeros((64, 64, 3), np.uint8)
        image[:, self._answer * 16 : self._answer * 16 + 16] = 255
        return image

    def _go_wrong(self) -> None:
        if self._kind == "crash" or (self._kind == "flaky" and self._seed % FLAKY_EVERY == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._kind == "hang":
            while True:
                time.sleep(3600)
        if self._kind == "raise":
            raise RuntimeError("toy/raise raises this exception at its fifth decision")

    def _next_cue(self) -> Observation:
        self._answer = int(self._rng.integers(4))
        cue = self._rng.uniform(-0.1, 0.1, 4)
        cue[self._answer] += 1.0
        return cue.astype(np.float32)


class ImageSession(SimulatorSession):
    """Tell in which of five columns the bright bar stands; 15 to 21 decisions.

    Reward: 1 for the right column. The third wrong answer ends the episode.
    """

    def __init__(self, task_name: str) -> None:
        super().__init__(f"toy/{task_name}", image_spec(5), limit=None)
        self._rng = np.random.default_rng(0)
        self._column = 0
        self._wrong = 0
        self._image = np.zeros((3, 64, 64), np.uint8)

    def _begin(self, seed: int) -> Observation:
        self._rng = np.random.default_rng(seed)
        self._limit = 15 + seed % 7
        self._wrong = 0
        return self._next_image()

    def _advance(self, action: Action) -> Step:
        right = float(action == self._column)
        self._wrong += not right
        return Step(self._next_image(), right, self._wrong == 3, False, None, right)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the observation itself, uint8 (64, 64, 3)."""
        return np.ascontiguousarray(self._image.transpose(1, 2, 0))

    def _next_image(self) -> Observation:
        self._column = int(self._rng.integers(5))
        self._image = self._rng.integers(0, 100, (3, 64, 64), dtype=np.uint8)
        self._image[:, :, self._column * 12 : self._column * 12 + 12] = 255
        return self._image.copy()


def _tasks() -> tuple[Task, ...]:
    """Return the rows. Means are over the seeds 0 to 2309, which hold every episode length evenly."""
    counted = (
        ("score_random", "expectation: 25 decisions on average, one answer of four is right"),
        ("score_reference", "every answer right in 25 decisions on average"),
    )
    measured = (
        ("score_random", "measured: mean return of uniform actions over seeds 0 to 2309"),
        ("score_reference", "measured: mean return of the solution over seeds 0 to 2309"),
    )
    steps = Task(
        domain="toy",
        name="steps",
        split="extra",
        horizon=30,
        observation="vector",
        observation_size=4,
        action="discrete",
        action_size=4,
        target_return=25.0,
        reward_scale=1.0,
        score_random=6.25,
        score_reference=25.0,
        sources=counted,
    )
    reach = Task(
        domain="toy",
        name="reach",
        split="extra",
        horizon=35,
        observation="vector",
        observation_size=6,
        action="continuous",
        action_size=2,
        target_return=25.0,
        reward_scale=1.0,
        score_random=5.64,
        score_reference=25.42,
        sources=measured,
    )
    image = Task(
        domain="toy",
        name="image",
        split="extra",
        horizon=21,
        observation="image",
        observation_size=None,
        action="discrete",
        action_size=5,
        target_return=18.0,
        reward_scale=1.0,
        score_random=0.72,
        score_reference=18.0,
        sources=measured,
    )
    blink = replace(
        steps,
        name="blink",
        horizon=3,
        target_return=2.0,
        score_random=0.5,
        score_reference=2.0,
        sources=tuple((field, text.replace("25", "2")) for field, text in counted),
    )
    lives = replace(steps, name="lives", score_random=12.5, score_reference=50.0)
    faulty = [replace(steps, name=name) for name in ("slow", *FAULTY)]
    noscore = replace(steps, name="noscore", score_random=None, score_reference=None, sources=())
    return (reach, steps, blink, image, lives, *faulty, noscore)


def least_return(task: Task) -> float:
    """Return 0: no reward is negative."""
    return 0.0


def greatest_return(task: Task, protocol: str) -> float | None:
    """Return 1 for every decision in ``reach`` and ``image``; None for the others."""
    return float(task.horizon) if task.name in ("reach", "image") and task.horizon is not None else None


def make(task_name: str, protocol: EvaluationProtocol) -> SimulatorSession:
    """Return a session of the task; SessionError for an unknown one."""
    if task_name not in {task.name for task in DOMAIN.tasks}:
        raise SessionError(f"toy has no task {task_name!r}; it has {', '.join(t.name for t in DOMAIN.tasks)}")
    if task_name == "reach":
        return ReachSession(task_name)
    if task_name == "image":
        return ImageSession(task_name)
    return StepsSession(task_name)


DOMAIN = Domain(
    name="toy",
    protocols=(
        EvaluationProtocol("plain", 1, "Tiny deterministic tasks for trying and testing the harness.", {}),
    ),
    make=make,
    least_return=least_return,
    greatest_return=greatest_return,
    packages=("numpy",),
    interpreter=InterpreterRecipe(("numpy==1.26.4",), pythons=("3.11", "3.12", "3.10", "3.9")),
    tasks=_tasks(),
    faulty=FAULTY,
    step_s=0.00001,
    worker_mb=39.0,
    session_mb=0.1,
)
