"""Atari 2600 games on the Arcade Learning Environment, evaluated as in the LRAM reference.

The reference stacks Stable-Baselines3's wrappers on gym's ``<Game>NoFrameskip-v4`` (no-op reset, max
and skip, episodic life, fire reset, grey 64x64, sign of the reward). The same order of emulator calls is
made here on ``ale_py`` directly, so that one session is one emulator and no wrapper state is left over.

Where a frame is played that the agent did not choose (no-ops and FIRE at the start, the no-op, FIRE and
UP after a lost life), its reward is part of the game's score but not of the signal: it is added to the
``reward`` of the next step that is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from lram.envs.simulator import SimulatorSession, image_spec

NOOP, FIRE, UP = 0, 1, 2  # of the full set of 18 actions
ACTIONS = 18


@dataclass(frozen=True)
class AtariOptions:
    """What an Atari protocol sets.

    Attributes:
        repeat_action_probability: Chance, at each emulated frame, that the emulator repeats its last
            action (sticky actions).
        life_is_boundary: A lost life starts the agent's context anew.
        fire_reset: FIRE then UP are played at the start and after a boundary.
        max_noops: The start plays 1 to this many no-op frames.
        frame_skip: Emulated frames a decision.
        max_frames: Emulated frames, of any cause, after which a game is truncated.
    """

    repeat_action_probability: float = 0.0
    life_is_boundary: bool = True
    fire_reset: bool = True
    max_noops: int = 30
    frame_skip: int = 4
    max_frames: int = 27000


class AtariSession(SimulatorSession):
    """One game; ``game`` is the ROM's name, such as ``ms_pacman``. Made by ``DOMAIN.make``.

    A lost life that is a boundary gives the observation after the FIRE reset, with ``context_reset``.
    """

    def __init__(self, task_name: str, game: str, options: AtariOptions) -> None:
        import ale_py
        import cv2

        super().__init__(f"atari/{task_name}", image_spec(ACTIONS), limit=None)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._rom = ale_py.roms.get_rom_path(game)
        self._options = options
        self._cv2 = cv2
        self._emulator: Any = ale_py.ALEInterface()
        self._emulator.setFloat("repeat_action_probability", options.repeat_action_probability)
        self._emulator.setInt("frame_skip", 1)
        self._loaded = False
        self._screens = np.zeros((2, 210, 160, 3), np.uint8)
        self._frames = 0
        self._lives = 0
        self._unreported = 0.0

    def _begin(self, seed: int) -> Observation:
        # The ROM is loaded anew each time (about 70 ms). reset_game() leaves the console's memory as
        # the last game left it, and a restored state plays differently in some games (qbert). Loading
        # and then resetting is what gymnasium's reset(seed=...) does.
        self._emulator.setInt("random_seed", seed)
        self._emulator.loadROM(self._rom)
        self._emulator.reset_game()
        self._loaded = True
        height, width = self._emulator.getScreenDims()
        if self._screens.shape[1:3] != (height, width):
            self._screens = np.zeros((2, height, width, 3), np.uint8)
        self._frames = 0
        self._unreported = 0.0
        options = self._options
        if options.max_noops:
            for _ in range(int(np.random.default_rng(seed).integers(1, options.max_noops + 1))):
                self._unreported += self._frame(NOOP)
        self._show_last_frame()
        self._lives = self._emulator.lives()
        if options.fire_reset:
            self._fire()
        if self._over():
            raise SessionError(f"{self._name}: the game was over before the first decision (seed {seed})")
        return self._observation()

    def _advance(self, action: Action) -> Step:
        earned = self._play(int(action))
        boundary = self._lost_life() and self._options.life_is_boundary
        if boundary and not self._over():
            self._unreported += self._play(NOOP)
            self._lives = self._emulator.lives()
            if self._options.fire_reset:
                self._fire()
        reward = earned + self._unreported
        self._unreported = 0.0
        terminated = bool(self._emulator.game_over())
        truncated = not terminated and self._over()
        return Step(
            observation=self._observation(),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            success=None,
            signal=float(np.sign(earned)),
            context_reset=boundary and not (terminated or truncated),
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the console's screen, uint8 (210, 160, 3)."""
        if not self._loaded:
            raise SessionError(f"{self._name}: nothing to render before the first reset")
        screen: npt.NDArray[np.uint8] = self._emulator.getScreenRGB()
        return screen

    def _over(self) -> bool:
        return bool(self._emulator.game_over()) or self._frames >= self._options.max_frames

    def _frame(self, action: int) -> float:
        self._frames += 1
        return float(self._emulator.act(action))

    def _play(self, action: int) -> float:
        """Hold ``action`` for one decision's frames; return the reward. Fewer frames at the game's end."""
        earned = 0.0
        for index in range(self._options.frame_skip):
            earned += self._frame(action)
            if self._over():
                # No second frame to compare with may exist; the last screen alone is shown.
                self._show_last_frame()
                return earned
            if index == self._options.frame_skip - 2:
                self._emulator.getScreenRGB(self._screens[0])
        self._emulator.getScreenRGB(self._screens[1])
        return earned

    def _show_last_frame(self) -> None:
        self._emulator.getScreenRGB(self._screens[0])
        self._screens[1] = self._screens[0]

    def _lost_life(self) -> bool:
        """Tell whether a life was lost since the last look and some are left."""
        before, self._lives = self._lives, self._emulator.lives()
        return 0 < self._lives < before

    def _fire(self) -> None:
        for action in (FIRE, UP):
            if self._over():
                return
            self._unreported += self._play(action)
            # The reference's episodic-life wrapper lies under its fire reset: a life that is lost here
            # costs one more no-op, and no boundary is reported twice.
            if self._lost_life() and self._options.life_is_boundary and not self._over():
                self._unreported += self._play(NOOP)
                self._lives = self._emulator.lives()

    def _observation(self) -> Observation:
        # Maximum over colours first, then grey: the order of the reference's wrappers.
        grey = self._cv2.cvtColor(self._screens.max(axis=0), self._cv2.COLOR_RGB2GRAY)
        small = self._cv2.resize(grey, (64, 64), interpolation=self._cv2.INTER_AREA)
        return np.repeat(small[None], 3, axis=0)


def make(task_name: str, protocol: EvaluationProtocol) -> AtariSession:
    """Return a session of the game in kebab case (``ms-pacman``); SessionError for an unknown one."""
    from ale_py import roms

    game = task_name.replace("-", "_")
    if "_" in task_name or game not in roms.get_all_rom_ids():
        raise SessionError(f"atari has no game {task_name!r}; names look like 'ms-pacman'")
    return AtariSession(task_name, game, AtariOptions(**protocol.options))


DOMAIN = Domain(
    name="atari",
    protocols=(
        EvaluationProtocol(
            "lram",
            1,
            "The reference evaluation: grey 64x64, 18 actions, no sticky actions, a lost life ends the "
            "context, at most 27000 frames a game.",
            {},
        ),
        EvaluationProtocol(
            "sticky",
            1,
            "As lram, with sticky actions (each emulated frame repeats the last action with chance 0.25).",
            {"repeat_action_probability": 0.25},
        ),
        EvaluationProtocol(
            "whole-game",
            1,
            "As lram, but the agent's context lasts the whole game: a lost life is no boundary.",
            {"life_is_boundary": False},
        ),
        EvaluationProtocol(
            "nofire",
            1,
            "As lram, without pressing FIRE for the agent after a reset or a lost life.",
            {"fire_reset": False},
        ),
    ),
    make=make,
    trial_task="freeway",
    clipped_data=True,
    requires=("ale_py", "cv2"),
    install="lram-bench[atari]",
    packages=("ale-py", "opencv-python", "opencv-python-headless", "numpy"),
    interpreter=InterpreterRecipe(
        ("ale-py==0.12.1", "numpy==1.26.4", "opencv-python-headless==4.11.0.86"), pythons=("3.11", "3.12")
    ),
    step_s=0.0003,
    worker_mb=73.0,
    session_mb=1.0,
)
