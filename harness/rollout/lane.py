"""An episode in flight: what was seen of it, what is still to be sent, and the record it ends in."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from lram.agents.api import Action, TaskSpec
from lram.agents.model.tokens import BINS
from lram.envs.session import Observation, Step
from lram.envs.workers.process import Stepped
from lram.harness.rollout.recorder import TrajectoryRecorder
from lram.harness.rollout.schedule import Attempt, WorkerSlot
from lram.harness.storage.records import SCHEMA, EpisodeRecord, Failure, Measured, WorkItem

LONGEST = 10_000_000
"""Decisions after which an episode of a task without a horizon is taken for one without an end."""
_ONE, _BINS_PER_UNIT, _LAST_BIN = np.float32(1), np.float32(BINS / 2), np.float32(BINS - 1)


@dataclass(slots=True, eq=False)
class Lane:
    """An episode in flight.

    Attributes:
        signal: What the agent is shown at its next decision: the reward since its last one.
        needs_reset: The agent begins anew at its next decision.
        part: Return of the inner episode so far.
        last, bins: What the world was stepped with last, and its bins; None before the first step.
        pending: What the agent decided while the world continues with the action before (``--realtime``).
        hold: Steps that the world still takes until then.
        longest: Decisions after which the episode is taken for one without an end.
        still_s: Seconds of it for which the machine stood still.
        ending: The step that ended the episode, while an image of its end is still to come.
    """

    number: int
    worker_slot: WorkerSlot
    attempt: Attempt
    spec: TaskSpec
    seed: int
    slot: int = -1
    longest: int = LONGEST
    started: float = 0.0
    began: float = 0.0
    observation: Observation | None = None
    signal: float = 0.0
    total: float = 0.0
    length: int = 0
    contexts: int = 0
    success_any: bool | None = None
    success_last: bool | None = None
    simulator_s: float = 0.0
    agent_s: float = 0.0
    still_s: float = 0.0
    needs_reset: bool = True
    part: float = 0.0
    parts: list[float] = field(default_factory=list)
    last: Action | None = None
    bins: int | bytes | None = None
    repeated: int = 0
    pending: Action | None = None
    hold: int = 0
    held: int = 0
    recorder: TrajectoryRecorder | None = None
    ending: Stepped | None = None

    @property
    def item(self) -> WorkItem:
        """What is played."""
        return self.attempt.item

    @property
    def ready(self) -> bool:
        """Whether the agent may decide: nothing that it decided is still to be sent."""
        return self.pending is None

    def decided(self, action: Action, delay: int) -> Action:
        """Take a decision that came ``delay`` steps late; return what to send now.

        Until the decision is there the world continues with the action before; before the first one, with
        no movement (zeros, or the discrete action 0).
        """
        self.signal = 0.0
        if not delay:
            return action
        self.pending, self.hold = action, delay
        return self.next_action()

    def next_action(self) -> Action:
        """Return what to send while a decision is under way, or the decision when its time has come."""
        assert self.pending is not None
        if self.hold:
            self.hold, self.held = self.hold - 1, self.held + 1
            return self.last if self.last is not None else still(self.spec)
        action, self.pending = self.pending, None
        return action

    def sent(self, action: Action) -> None:
        """Take note of what the world is stepped with."""
        bins = bins_of(action)
        self.repeated += bins == self.bins
        self.last, self.bins = action, bins
        if self.recorder is not None:
            self.recorder.actions.append(action)

    def stepped(self, step: Step, seconds: float) -> None:
        """Take what an action led to."""
        self.simulator_s += seconds
        self.total += step.reward
        self.part += step.reward
        self.signal += step.signal
        self.length += 1
        if self.recorder is not None:
            self.recorder.add(step)
        if step.success is not None:
            self.success_any = bool(self.success_any) or step.success
            self.success_last = step.success
        if step.inner_episode_ends:
            self.parts.append(self.part)
            self.part = 0.0
        self.observation = step.observation
        if step.context_reset and not (step.terminated or step.truncated):
            self.contexts += 1
            self.needs_reset = True

    @property
    def overflow(self) -> str:
        """What keeps the episode's sums from being a score, a sentence; empty when nothing does."""
        sums = {"rewards": self.total, "inner episode's rewards": math.fsum(map(abs, self.parts))}
        for what, value in sums.items():
            if not math.isfinite(value):
                return f"the sum of the {what} is {value}, not a finite number; scale the task's rewards"
        return ""

    def record(self, protocol: str, event: Stepped | None, failure: Failure | None) -> EpisodeRecord:
        """Return the record: scored by its last ``event``, or errored by a ``failure``."""
        scored = event is not None
        return EpisodeRecord(
            schema=SCHEMA,
            agent=self.item.agent,
            task=self.item.task,
            episode=self.item.episode,
            seed=self.seed,
            protocol=protocol,
            status="scored" if scored else "errored",
            episode_return=self.total if scored else None,
            length=self.length if scored else None,
            success_any=self.success_any if scored else None,
            success_last=self.success_last if scored else None,
            terminated=event is not None and event.step.terminated,
            truncated=event is not None and event.step.truncated,
            trajectory=f"{event.trajectory:08x}" if event is not None else "",
            failures=self.attempt.failures,
            failure=failure,
            measured=Measured(
                started=self.started,
                wall_s=max(0.0, time.perf_counter() - self.began - self.still_s),
                simulator_s=self.simulator_s,
                agent_s=self.agent_s,
                lane=self.number,
                worker=event.worker.pid if event is not None else 0,
                incidents=tuple(self.attempt.incidents),
                held=self.held,
            ),
            parts=tuple(self.parts) if scored else (),
            repeated=self.repeated if scored else None,
        )


def still(spec: TaskSpec) -> Action:
    """Return the action of a world in which nobody has acted yet."""
    return 0 if spec.action == "discrete" else np.zeros(spec.action_size, dtype=np.float32)


def bins_of(action: Action) -> int | bytes:
    """Return what is equal for two actions of one task where they are, or lie in the same bins in every
    dimension.
    """
    if isinstance(action, int):
        return action
    # As :func:`lram.agents.model.tokens.action_to_classes`, for what lies in [-1, 1]; it is asked at each
    # decision.
    return np.minimum((action + _ONE) * _BINS_PER_UNIT, _LAST_BIN).astype(np.uint8).tobytes()
