"""A LeRobot policy as an agent: its process is asked lane by lane."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lram.agents.adapters.lerobot.folder import LeRobotFolder, LeRobotOptions
from lram.agents.adapters.lerobot.process import PolicyProcess
from lram.agents.adapters.lerobot.pythons import choose_python
from lram.agents.adapters.prompt import prompt_of
from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.shown import shown
from lram.agents.sums import files_digest


@dataclass(slots=True, weakref_slot=True)
class LeRobotState:
    """Lanes in the policy's process.

    Attributes:
        number: By which the process knows this state.
        tasks: By lane, of the episode that it holds.
        resets: By lane, seeds of the episodes of which no decision was asked yet.
    """

    number: int
    tasks: dict[int, TaskSpec] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)


class LeRobotAgent(Agent):
    """A policy of LeRobot in a process of its own.

    Args:
        folder: What is known of it.
        options: Arguments of its name.
        device: As torch names it, on which it computes.

    Raises:
        AgentError: No Python has LeRobot, or the policy cannot be loaded; one sentence.
    """

    rows = 1  # each lane has a copy of the policy, which is asked with a batch of one

    def __init__(self, folder: LeRobotFolder, options: LeRobotOptions, device: str) -> None:
        self._folder, self._options = folder, options
        self._states, self._dropped = 0, list[int]()
        self._names = list(folder.images or folder.vectors)
        digest = files_digest(*(folder.folder / name for name in folder.files))
        python = choose_python(options.python)
        self._process = PolicyProcess(python, str(folder.folder), options.threads)
        order = {
            "folder": str(folder.folder.absolute()),
            "device": device,
            "threads": options.threads,
            "processors": folder.processors,
            "images": {name: list(size) for name, size in folder.images.items()},
        }
        try:
            facts, _ = self._process.ask(order, [], options.load_s, "load_s")
            self._info = self._described(facts, device, digest)
        except BaseException:
            self._process.close()
            raise

    @property
    def info(self) -> AgentInfo:
        """What a report says of this policy."""
        return self._info

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where the task shows or takes something else than the policy knows."""
        return self._folder.refuses(task)

    def start(self, lanes: int) -> LeRobotState:
        """Return a state whose lanes hold no episode."""
        self._states += 1
        state = LeRobotState(self._states)
        weakref.finalize(state, self._dropped.append, state.number).atexit = False
        return state

    def reset(self, state: LeRobotState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Note which lanes begin with the next question."""
        for lane, episode in zip(lanes, episodes, strict=True):
            state.tasks[lane], state.resets[lane] = episode.task, episode.seed

    def act(
        self,
        state: LeRobotState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], LeRobotState]:
        """Ask the policy for each lane.

        Raises:
            AgentError: Its process died, said nothing in time, or gave no action; the run can be resumed.
        """
        arrays = [array for seen in observations for array in self._features(seen)]
        question = {
            **self._question("act", state),
            "resets": [[int(lane), str(state.resets[lane])] for lane in lanes if lane in state.resets],
            "lanes": [int(lane) for lane in lanes],
            "tasks": [prompt_of(state.tasks[lane], self._options.prompt) for lane in lanes],
            "features": self._names,
        }
        _, found = self._process.ask(question, arrays, self._options.answer_s, "answer_s")
        for lane in lanes:
            state.resets.pop(lane, None)
        size = self._folder.fit.size
        if len(found) != len(lanes) or any(action.shape != (size,) for action in found):
            shapes = ", ".join(str(action.shape) for action in found[:4])
            raise AgentError(
                f"{self._folder.folder} gave actions of shape {shapes or 'none'} for {len(lanes)} lanes, and "
                f"its config.json says {size} numbers each; see whether LeRobot itself plays it"
            )
        bounds = self._folder.bounds
        return [bounds.to_task(bounds.clip(action)) for action in found], state

    def took(self, state: LeRobotState, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Do nothing: a policy of LeRobot does not read its past actions."""

    def state_bytes(self, state: LeRobotState) -> int:
        """Return the bytes of the lanes' queues, buffers and draws in the policy's process."""
        answer, _ = self._process.ask(self._question("bytes", state), [], self._options.answer_s, "answer_s")
        return int(answer["bytes"])

    def close(self) -> None:
        """End the policy's process; it ends by itself with this object."""
        self._process.close()

    def _question(self, ask: str, state: LeRobotState) -> dict[str, Any]:
        dropped = self._dropped[:]
        del self._dropped[: len(dropped)]
        return {"ask": ask, "state": state.number, "drop": dropped}

    def _features(self, seen: Observation) -> list[Any]:
        if self._folder.images:
            return [np.asarray(seen, np.uint8)]
        vector = np.asarray(seen, np.float32)
        return [vector[first:end] for first, end in self._folder.vectors.values()]

    def _described(self, facts: dict[str, Any], device: str, digest: str) -> AgentInfo:
        folder, bounds = self._folder, self._folder.bounds
        try:
            python, lerobot, torch = (shown(str(facts[name]), 40) for name in ("python", "lerobot", "torch"))
            parameters = int(facts["parameters"])
        except (KeyError, TypeError, ValueError):
            raise AgentError(f"the process of {folder.folder} does not tell what it loaded") from None
        processed = "by the policy's processors" if folder.processors else "none"
        actions = (
            f"of the {'post-processor' if folder.processors else 'policy'}, put within {bounds.describe()}"
        )
        mapped = "" if bounds.plain else ", mapped to [-1, 1]"
        details = (
            ("sees", folder.sees()),
            ("normalization", processed),
            ("actions", f"{folder.fit.size} numbers {actions}{mapped}; draws begin with the episode's seed"),
            ("interpreter", f"Python {python}, lerobot {lerobot}, torch {torch}"),
            ("computes", f"on {device.partition(':')[0]}, {self._options.threads} threads, a lane a pass"),
        )
        return AgentInfo(
            "model",
            shown(f"LeRobot {folder.kind}, {parameters / 1e6:.3g}M parameters ({folder.folder.name})", 300),
            parameters=parameters,
            digest=digest,
            details=details,
        )
