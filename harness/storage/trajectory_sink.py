"""Where a collection's episodes go: the trajectory first, and its record only when that is on disk.

So a record always has its trajectory. A process that is killed in between leaves trajectories without
a record; :mod:`lram.harness.collection.collect` then takes the record from the trajectory.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from lram.agents.signals import heeded
from lram.agents.trajectories import StoreWriter
from lram.agents.trajectories.trajectory import Trajectory
from lram.harness.storage.records import EpisodeRecord
from lram.harness.storage.run_folder import RunWriter

COMMIT_BYTES = 32 << 20
"""Uncompressed bytes that are held at most before they are committed."""

COMMIT_S = 30.0
"""Seconds that an episode is held at most, so that a crash costs no more than those."""


class TrajectorySink:
    """Takes the episodes of one run of a collection.

    Args:
        trajectories: The store.
        run: The run.
        name: The run's name in the store, such as ``runs/0001``.
        policies: What stands for each agent label in the trajectories.
    """

    def __init__(
        self, trajectories: StoreWriter, run: RunWriter, name: str, policies: Mapping[str, str]
    ) -> None:
        self._trajectories = trajectories
        self._run = run
        self._name = name
        self._policies = policies
        self._waiting: list[EpisodeRecord] = []
        self._due: float | None = None

    def append(self, record: EpisodeRecord, trajectory: Trajectory | None = None) -> None:
        """Take a record, of a scored episode with its trajectory.

        It is written as soon as every trajectory up to it is committed. Both are taken at once: a signal
        in between would leave a trajectory whose record only the next session writes.
        """
        self._trajectories.check_place()
        with undisturbed():
            self._waiting.append(record)
            if trajectory is not None:
                self._keep(trajectory, record)
            if not self._trajectories.held:
                self._write_records()

    def _keep(self, trajectory: Trajectory, record: EpisodeRecord) -> None:
        policy = self._policies[record.agent]
        self._trajectories.append(replace(trajectory, policy=policy, origin=origin_of(self._name, record)))
        if self._due is None:
            self._due = time.monotonic() + COMMIT_S

    def heartbeat(self) -> None:
        """Commit what has waited for long enough; AgentError where the store was moved."""
        self._trajectories.check_place()
        if self._due is not None and time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Commit every trajectory and write every record."""
        self._trajectories.check_place()
        with undisturbed():
            self._trajectories.commit()
            self._write_records()

    def _write_records(self) -> None:
        self._due = None
        while self._waiting:
            record = self._waiting[0]
            # A commit that the disk refused may have cost the trajectory; it is played again then.
            if record.status == "errored" or origin_of(self._name, record) in self._trajectories.committed:
                self._run.append(record)
            self._waiting.pop(0)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until the block is over, so that they find nothing half-done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in heeded()}
    caught = {number: handler for number, handler in before.items() if callable(handler)}
    for number in caught:
        signal.signal(number, lambda arrived, frame: came.append(arrived))
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def origin_of(run: str, record: EpisodeRecord) -> str:
    """Return how a trajectory of the run called ``run`` is named in its store."""
    return f"{run}|{record.item.id}"
