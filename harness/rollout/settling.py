"""How an episode is settled: tried once more, or recorded, as scored or as errored by its last failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lram.envs.workers.process import Stepped
from lram.harness.rollout.failures import Tally
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.recorder import TrajectoryRecorder
from lram.harness.rollout.schedule import Queue
from lram.harness.storage.records import EpisodeRecord, Failure, PlannedTask
from lram.harness.storage.soundness import errored, flaw


class Settling:
    """Hands out a record for each episode that ended, and gives back to the queue what is tried again."""

    def __init__(
        self,
        tasks: Mapping[str, PlannedTask],
        attempts: int,
        queue: Queue,
        tally: Tally,
        on_record: Callable[[EpisodeRecord], None],
        on_trajectory: Callable[[TrajectoryRecorder, EpisodeRecord], None] | None,
    ) -> None:
        """Say where things go.

        Args:
            tasks: By task id.
            attempts: How often an episode is tried before it is recorded as errored.
            queue: Given what is tried again.
            tally: Counts each record.
            on_record: Given each record.
            on_trajectory: Given a scored episode step by step with its record, in place of ``on_record``.
        """
        self._tasks, self._attempts = tasks, attempts
        self._queue, self._tally = queue, tally
        self._on_record, self._on_trajectory = on_record, on_trajectory

    def fail(self, lane: Lane, failure: Failure) -> bool:
        """Try the episode of ``lane`` again, or record its failure; return whether it is recorded.

        What the agent did wrong is not tried again: it would do the same.
        """
        attempt, worker = lane.attempt, lane.worker_slot.worker
        attempt.failures += 1
        where = f" (process {worker.pid})" if worker is not None else ""
        attempt.note(f"attempt {attempt.failures}: {failure.message}{where}")
        if failure.kind != "agent" and attempt.failures < self._attempts:
            self._queue.give_back(attempt)
            return False
        self.record(lane, failure=failure)
        return True

    def repeat(self, lane: Lane, why: str) -> None:
        """Play the episode of ``lane`` again at no charge: another one is to blame."""
        lane.attempt.note(f"repeated: {why}")
        lane.attempt.losses += 1
        self._queue.give_back(lane.attempt)

    def record(self, lane: Lane, *, event: Stepped | None = None, failure: Failure | None = None) -> None:
        """Hand out the record of an episode that ended by ``event``, or by ``failure``."""
        record = lane.record(self._tasks[lane.item.task].protocol, event, failure)
        if wrong := flaw(record):
            event, failure = None, failure or Failure("session", f"the record of the episode {wrong}")
            record = errored(record, failure)
        if event is not None and lane.recorder is not None and self._on_trajectory is not None:
            self._on_trajectory(lane.recorder, record)
        else:
            self._on_record(record)
        self._tally.count(lane.item, failure)
