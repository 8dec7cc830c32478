"""Worker processes: events, blame, deadlines, and what is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lram.envs.workers.pool import Pool
from lram.envs.workers.process import Begun, Deadlines, Died, Event, Failed, Stepped, WorkerProcess

DEADLINES = Deadlines(begin_s=60, step_s=2)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool(log_folder=tmp_path, parked=1) as pool:
        yield pool


def next_event(pool: Pool) -> Event:
    events = pool.wait(60)
    assert events, "a worker must answer or be found dead"
    return events[0]


def begin(pool: Pool, worker: WorkerProcess, task: str, slot: int = 0, seed: int = 1) -> Begun:
    worker.begin(slot, task, "plain", seed, DEADLINES)
    event = next_event(pool)
    assert isinstance(event, Begun), event
    return event


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_slots_of_one_worker_hold_different_tasks_and_answer_in_order(pool: Pool) -> None:
    worker = pool.acquire("toy")
    assert begin(pool, worker, "steps", slot=0).spec.action == "discrete"
    assert begin(pool, worker, "image", slot=1).spec.observation == "image"
    worker.step(1, 0, DEADLINES)
    worker.step(0, 0, DEADLINES)
    events: list[Event] = []
    while len(events) < 2:
        events += pool.wait(60)
    assert [event.slot for event in events if isinstance(event, Stepped)] == [1, 0]


def test_requests_that_are_held_back_go_out_together_in_their_order(pool: Pool) -> None:
    worker = pool.acquire("toy")
    for slot in range(3):
        begin(pool, worker, "steps", slot=slot)
    worker.step(2, 0, DEADLINES, flush=False)
    worker.step(0, 0, DEADLINES, flush=False)
    assert worker.unsent
    worker.step(1, 0, DEADLINES)
    assert not worker.unsent
    events: list[Event] = []
    while len(events) < 3:
        events += pool.wait(60)
    assert [event.slot for event in events if isinstance(event, Stepped)] == [2, 0, 1]


def test_a_raising_simulator_fails_its_slot_and_not_the_worker(pool: Pool) -> None:
    worker = pool.acquire("toy")
    begin(pool, worker, "raise")
    event: Event | None = None
    for _ in range(20):
        worker.step(0, 0, DEADLINES)
        event = next_event(pool)
        if isinstance(event, Failed):
            break
    assert isinstance(event, Failed)
    assert "RuntimeError" in event.message
    begin(pool, worker, "steps")


def test_an_unknown_task_is_named(pool: Pool) -> None:
    worker = pool.acquire("toy")
    worker.begin(0, "nonsense", "plain", 1, DEADLINES)
    event = next_event(pool)
    assert isinstance(event, Failed)
    assert "nonsense" in event.message


def test_a_killed_worker_is_reported_with_the_slot_it_was_busy_with(pool: Pool) -> None:
    worker = pool.acquire("toy")
    begin(pool, worker, "slow", slot=0)
    begin(pool, worker, "slow", slot=3)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.step(3, 0, DEADLINES)
    worker.step(0, 0, DEADLINES)
    os.kill(worker.pid, signal.SIGKILL)
    event = next_event(pool)
    assert isinstance(event, Died)
    assert (event.reason, event.culprit) == ("crash", 3)
    assert "SIGKILL" in event.message


def test_a_worker_that_dies_while_it_owes_nothing_has_no_culprit(pool: Pool) -> None:
    worker = pool.acquire("toy")
    begin(pool, worker, "steps")
    os.kill(worker.pid, signal.SIGKILL)
    event = next_event(pool)
    assert isinstance(event, Died)
    assert event.culprit is None


def test_a_stopped_worker_is_killed_at_its_deadline(pool: Pool) -> None:
    worker = pool.acquire("toy")
    begin(pool, worker, "steps")
    os.kill(worker.pid, signal.SIGSTOP)
    worker.step(0, 0, Deadlines(begin_s=60, step_s=0.3))
    event = next_event(pool)
    assert isinstance(event, Died)
    assert event.reason == "timeout"
    assert "0.3 s" in event.message
    assert not alive(worker.pid)


class Clock:
    """Seconds that pass in selects only, and as many more as a test wants at the next one."""

    def __init__(self, pool: Pool) -> None:
        self.now, self.late = 0.0, 0.0
        self._select = pool._selector.select
        pool._selector.select = self.select  # type: ignore[method-assign]

    def __call__(self) -> float:
        return self.now

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None
        ready = self._select(0)
        self.now += self.late if ready else timeout + self.late
        self.late = 0.0
        return ready


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[tuple[Pool, Clock, WorkerProcess]]:
    """A pool with a clock, and a worker that is stopped while it owes a step within 10 s."""
    with Pool(log_folder=tmp_path) as pool:
        worker = pool.acquire("toy")
        begin(pool, worker, "steps")
        os.kill(worker.pid, signal.SIGSTOP)
        clock = worker.clock = pool._clock = Clock(pool)
        pool._left = 0.0
        worker.step(0, 0, Deadlines(begin_s=60, step_s=10))
        yield pool, clock, worker


def test_a_machine_that_stood_still_while_it_was_waited_is_not_charged_to_a_worker(
    stopped: tuple[Pool, Clock, WorkerProcess],
) -> None:
    pool, clock, worker = stopped
    assert pool.wait(4) == []
    for _ in range(3):
        clock.late = 3600.0
        assert pool.wait(1) == []
    assert pool.stood_still_s == 3 * 3600.0
    assert pool.wait(2) == []
    assert worker.deadline == clock.now + 1
    (event,) = pool.wait(5)
    assert isinstance(event, Died)
    assert event.reason == "timeout"


def test_a_worker_has_its_time_anew_once_after_this_process_was_away(
    stopped: tuple[Pool, Clock, WorkerProcess],
) -> None:
    pool, clock, _ = stopped
    clock.now += 60.0
    assert pool.wait(4) == []
    clock.now += 5.0
    assert pool.wait(0.5) == []
    clock.now += 60.0  # it would never be late if it always were
    (event,) = pool.wait(1)
    assert isinstance(event, Died)
    assert pool.stood_still_s == 0.0


def test_a_select_that_is_a_little_late_is_no_standstill(stopped: tuple[Pool, Clock, WorkerProcess]) -> None:
    pool, clock, _ = stopped
    for _ in range(5):
        clock.late = 1.9
        pool.wait(0.1)
    clock.late = 1.9
    (event,) = pool.wait(0.1)
    assert isinstance(event, Died)
    assert pool.stood_still_s == 0.0


def test_a_parked_worker_is_used_again_and_the_oldest_goes_first(pool: Pool) -> None:
    first, second = pool.acquire("toy"), pool.acquire("toy")
    begin(pool, first, "steps")
    begin(pool, second, "steps")
    pool.release(first)
    assert pool.acquire("toy") is first
    pool.release(first)
    pool.release(second)
    assert not alive(first.pid)
    assert pool.acquire("toy") is second


def test_no_process_is_left_when_the_pool_closes_even_a_stopped_one(tmp_path: Path) -> None:
    with Pool(log_folder=tmp_path) as pool:
        workers = [pool.acquire("toy") for _ in range(2)]
        for worker in workers:
            begin(pool, worker, "steps")
        os.kill(workers[0].pid, signal.SIGSTOP)
        workers[0].step(0, 0, DEADLINES)
    assert not any(alive(worker.pid) for worker in workers)


def test_a_domain_runs_in_another_interpreter_that_has_no_lram(tmp_path: Path) -> None:
    """The other interpreter sees numpy through its path, but no installed lram."""
    import numpy as np

    site = tmp_path / "site"
    site.mkdir()
    packages = Path(np.__file__).resolve().parent.parent
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{site}" exec {sys.base_prefix}/bin/python3 -S "$@"\n'
    )
    python.chmod(0o755)
    with Pool(log_folder=tmp_path, interpreters={"toy": str(python)}) as pool:
        worker = pool.acquire("toy")
        begin(pool, worker, "steps")
        assert pool.facts["toy"]["python"]
