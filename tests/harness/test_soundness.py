"""Records that could not be read back are not written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lram.envs.workers.process import Deadlines
from lram.harness.evaluation import Machine, evaluate
from lram.harness.rollout import loop as rollout
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.measured_times import follow
from lram.harness.rollout.schedule import Attempt, WorkerSlot
from lram.harness.storage.records import EpisodeRecord, Failure, Measured, WorkItem
from lram.harness.storage.soundness import errored, flaw

NAN, INFINITE = float("nan"), float("inf")
RECORD = EpisodeRecord(
    schema=1,
    agent="random",
    task="toy/steps",
    episode=0,
    seed=1,
    protocol="toy:plain@1",
    status="scored",
    episode_return=1.5,
    length=20,
    success_any=None,
    success_last=None,
    terminated=False,
    truncated=True,
    trajectory="0000ffff",
    failures=0,
    failure=None,
    measured=Measured(started=1e9, wall_s=1.0, simulator_s=0.5, agent_s=0.25, lane=0, worker=7),
    parts=(1.0, 0.5),
    repeated=3,
)


def measured(**changes: Any) -> dict[str, Any]:
    return {"measured": replace(RECORD.measured, **changes)}


@pytest.mark.parametrize(
    "changes",
    [
        {"episode_return": NAN},
        {"episode_return": INFINITE},
        {"episode_return": None},
        {"length": None},
        {"length": -1},
        {"repeated": -1},
        {"parts": (1.0, -INFINITE)},
        {"failure": Failure("session", "it raised")},
        {"status": "errored"},
        {"failures": -1},
        measured(started=NAN),
        measured(started=-1.0),
        measured(wall_s=INFINITE),
        measured(wall_s=-0.1),
        measured(simulator_s=NAN),
        measured(agent_s=INFINITE),
        measured(held=-1),
    ],
)
def test_a_record_that_is_none_is_known_and_becomes_one_of_no_score(changes: dict[str, Any]) -> None:
    record = replace(RECORD, **changes)
    assert flaw(record)
    mended = errored(record, Failure("session", "it is wrong"))
    if "failures" not in changes:
        assert flaw(mended) == ""
        assert msgspec.json.decode(msgspec.json.encode(mended), type=EpisodeRecord) == mended
    assert (mended.status, mended.episode_return, mended.parts) == ("errored", None, ())


def test_a_sound_record_has_no_flaw() -> None:
    assert flaw(RECORD) == ""
    assert flaw(errored(RECORD, Failure("crash", "it died"))) == ""


def lane() -> Lane:
    attempt = Attempt(WorkItem("random", "toy/steps", 0))
    return Lane(number=0, worker_slot=WorkerSlot(), attempt=attempt, spec=None, seed=0)  # type: ignore[arg-type]


def test_sums_that_overflow_are_named() -> None:
    one = lane()
    assert one.overflow == ""
    one.total = INFINITE
    assert "the sum of the rewards is inf" in one.overflow
    one.total, one.parts = 0.0, [1.0, NAN]
    assert "inner episode" in one.overflow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "words"), [("total", "sum of the rewards is inf"), ("agent_s", "agent_s")]
)
def test_what_a_lane_cannot_tell_is_an_errored_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, words: str
) -> None:
    step = Lane.stepped

    def stepped(self: Lane, *given: Any) -> None:
        step(self, *given)
        setattr(self, broken, INFINITE)

    monkeypatch.setattr(Lane, "stepped", stepped)
    machine = Machine(lanes=1, workers=1, deadlines=Deadlines())
    (record,) = evaluate("random", "toy/blink", tmp_path / "run", episodes=1, machine=machine).records()
    assert (record.status, record.episode_return) == ("errored", None)
    assert record.failure is not None
    assert record.failure.kind == "session"
    assert words in record.failure.message
    assert record.measured.agent_s < 60


def test_an_episode_is_not_charged_with_time_for_which_nothing_ran() -> None:
    one = lane()
    one.began = rollout.time.perf_counter() - 100.0
    one.still_s = 99.0
    assert 1.0 <= one.record("toy:plain@1", None, Failure("crash", "it died")).measured.wall_s < 50.0


def test_of_very_many_incidents_the_first_and_the_last_are_told() -> None:
    attempt = Attempt(WorkItem("random", "toy/steps", 0))
    for number in range(1000):
        attempt.note(f"incident {number}")
    assert len(attempt.incidents) == 20
    assert attempt.incidents[18:] == ["incident 18", "and 981 more, the last: incident 999"]


def test_the_typical_time_of_a_step_stays_above_nothing() -> None:
    """What tells of no seconds at all was divided by, after some thousands of steps."""
    medians = {"toy": 1e-5}
    for _ in range(20_000):
        follow(medians, "toy", 0.0)
        follow(medians, "other", 0.0)
    assert min(medians.values()) > 0
