"""Real simulators in their worker processes: to record inputs, and to close the loop around an agent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lram.agents.api import Action, Observation
from lram.envs.protocol_id import ProtocolId
from lram.envs.workers.pool import Pool
from lram.envs.workers.process import Begun, Deadlines, Died, Failed, Stepped, WorkerProcess
from lram.harness.errors import LramError, as_lram_error
from lram.harness.rollout.translation import checked_action, contradiction, task_spec
from lram.harness.storage import seeds
from lram.harness.storage.records import PlannedTask

_WAIT_S = 1.0


class Simulators:
    """One session a lane, spread over as many workers as there are cores.

    Attributes:
        observations: What each lane shows now.
        rewards: What its last action earned, as agents are shown it; 0 where an episode has just begun.
    """

    def __init__(
        self,
        planned: PlannedTask,
        lanes: int,
        seed: int,
        log_folder: Path,
        interpreters: Mapping[str, str],
    ) -> None:
        """Start the workers; sessions begin with :meth:`renew`."""
        self._planned, self._seed, self._spec = planned, seed, task_spec(planned)
        self._deadlines = Deadlines()
        self._episode = 0
        self._over = [True] * lanes
        self.observations: list[Observation] = [None] * lanes  # type: ignore[list-item]
        self.rewards = [0.0] * lanes
        self._pool = Pool(log_folder=log_folder, interpreters=interpreters)
        count = min(lanes, len(os.sched_getaffinity(0)))
        try:
            with as_lram_error():
                workers = [self._pool.acquire(planned.task.domain) for _ in range(count)]
        except LramError:
            self._pool.close()
            raise
        self._worker_slots = [(workers[lane % count], lane // count) for lane in range(lanes)]
        self._lane = {worker_slot: lane for lane, worker_slot in enumerate(self._worker_slots)}

    def renew(self) -> None:
        """Begin a new episode in every lane whose last one has ended."""
        with as_lram_error():
            protocol = ProtocolId.parse(self._planned.protocol).name
        waiting = 0
        for lane, (worker, slot) in enumerate(self._worker_slots):
            if self._over[lane]:
                seed = seeds.simulator_seed(self._seed, self._spec.id, self._episode)
                self._episode += 1
                worker.begin(slot, self._planned.task.name, protocol, seed, self._deadlines)
                waiting += 1
        self._gather(waiting)

    def step(self, actions: Sequence[Action]) -> None:
        """Step every lane and wait for all of them; LramError for what is no action."""
        for (worker, slot), action in zip(self._worker_slots, actions, strict=True):
            sent, wrong = checked_action(self._spec, action)
            if wrong:
                raise LramError(f"the agent {wrong}")
            worker.step(slot, sent, self._deadlines)
        self._gather(len(self._worker_slots))

    def _gather(self, waiting: int) -> None:
        while waiting:
            for event in self._pool.wait(_WAIT_S):
                if isinstance(event, Begun):
                    if wrong := contradiction(self._spec, event.spec):
                        raise LramError(f"{self._spec.id} cannot be played: {wrong}")
                    lane = self._of(event.worker, event.slot)
                    self.observations[lane], self.rewards[lane] = event.observation, 0.0
                    self._over[lane] = False
                elif isinstance(event, Stepped):
                    lane, step = self._of(event.worker, event.slot), event.step
                    self.observations[lane], self.rewards[lane] = step.observation, step.signal
                    self._over[lane] = step.terminated or step.truncated
                elif isinstance(event, Failed | Died):
                    raise LramError(f"{self._spec.id} failed while it was played: {event.message}")
                waiting -= 1

    def _of(self, worker: WorkerProcess, slot: int) -> int:
        return self._lane[worker, slot]

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def __enter__(self) -> Simulators:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
