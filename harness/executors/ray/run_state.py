"""What the driver of a run on a cluster knows of its episodes, and how records come about."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lram.agents.trajectories.trajectory import Trajectory
from lram.harness.executors.contract import RecordSink, RolloutJob
from lram.harness.rollout.failures import Tally
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.schedule import Attempt, WorkerSlot
from lram.harness.rollout.translation import task_spec
from lram.harness.storage import seeds
from lram.harness.storage.records import EpisodeRecord, Failure, WorkItem


class RunState:
    """Hands records to the sink, makes those of episodes that nobody played, and tells what to give up.

    Attributes:
        tasks: The plan's, by id.
        own_seeds: What agents have instead of the run's seed, by label.
    """

    def __init__(self, job: RolloutJob, sink: RecordSink, quarantine_after: int, slots: int) -> None:
        """Begin with what was settled before, as :class:`lram.harness.rollout.failures.Tally` does."""
        self.tasks = {planned.task.id: planned for planned in job.plan.tasks}
        self.own_seeds = seeds.own_seeds(job.plan)
        self._seed, self._sink, self._limit = job.plan.seed, sink, quarantine_after
        self._tally = Tally(quarantine_after, slots)
        self._failed: dict[str, list[tuple[str, int, Failure | None]]] = {}
        self._scored: dict[str, dict[str, int]] = {}
        for item, failure in job.settled:
            self._settle(item, failure)

    def write(self, record: EpisodeRecord, trajectory: Mapping[str, Any] | None = None) -> None:
        """Take a record, with the arrays of its trajectory where its job has sent them."""
        self._sink.record(record, None if trajectory is None else self._trajectory(record, trajectory))
        self._settle(record.item, record.failure)

    def settled(self, task: str) -> tuple[tuple[str, int, Failure | None], ...]:
        """Return what a job must know to give up ``task`` when one machine would: label, episode, failure."""
        scored = [(label, episode, None) for label, episode in self._scored.get(task, {}).items()]
        return (*self._failed.get(task, ()), *scored)

    def given_up(self, item: WorkItem) -> Failure | None:
        """Return why an episode is not worth trying; None when it is."""
        return self._tally.given_up(item)

    def give_up(self, attempt: Attempt, failure: Failure) -> None:
        """Write the record of an episode that nobody plays any more."""
        item, planned = attempt.item, self.tasks[attempt.item.task]
        seed = self.own_seeds.get(item.agent, self._seed)
        lane = Lane(
            number=0,
            worker_slot=WorkerSlot(),
            attempt=attempt,
            spec=task_spec(planned),
            seed=seeds.simulator_seed(seed, item.task, item.episode),
            started=time.time(),
            began=time.perf_counter(),
        )
        self.write(lane.record(planned.protocol, None, failure))

    def quarantine(self, attempts: Iterable[Attempt], failure: Failure) -> None:
        """Give up several, for the same reason."""
        for attempt in attempts:
            self.give_up(attempt, failure)

    def _trajectory(self, record: EpisodeRecord, trajectory: Mapping[str, Any]) -> Trajectory:
        """Return the trajectory of a record, from the arrays that its job has sent."""
        return Trajectory(
            task=task_spec(self.tasks[record.task]),
            observations=trajectory["observations"],
            actions=trajectory["actions"],
            rewards=trajectory["rewards"],
            signals=trajectory["signals"],
            terminated=record.terminated,
            truncated=record.truncated,
            success=trajectory["success"],
            context_starts=tuple(trajectory["context_starts"]),
            seed=record.seed,
            protocol=record.protocol,
            record=msgspec.json.encode(record).decode(),
        )

    def _settle(self, item: WorkItem, failure: Failure | None) -> None:
        self._tally.count(item, failure)
        if failure is None:
            self._scored.setdefault(item.task, {}).setdefault(item.agent, item.episode)
        elif failure.kind != "quarantine" and item.episode < self._limit:
            self._failed.setdefault(item.task, []).append((item.agent, item.episode, failure))
