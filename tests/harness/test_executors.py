"""Jobs on this machine: results stream, one that fails stops no other, and to stop reading is to cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lram.harness import LramError
from lram.harness.executors import local
from lram.harness.executors.contract import JobFailedError
from lram.harness.executors.local import LOCAL


@dataclass(eq=False)
class Counting:
    """Counts to ``number``, with a pause after each."""

    title: str
    number: int
    story: list[str]
    error: Exception | None = None
    pauses: int = field(default=1)

    def work(self) -> Iterator[int | None]:
        try:
            for one in range(self.number):
                yield one
                for _ in range(self.pauses):
                    yield None
            if self.error is not None:
                raise self.error
        finally:
            self.story.append(f"{self.title} over")

    def cancel(self) -> None:
        self.story.append(f"{self.title} cancelled")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_POLL_S", 0.0)


def told(jobs: list[Counting], at_once: int | None = None) -> list[tuple[str, str, Any]]:
    with LOCAL.open() as session:
        updates = [update for update in session.run(jobs, at_once) if update is not None]
    return [(update.job.title, update.state, update.result) for update in updates]


def test_results_come_as_they_are_made_and_one_job_follows_the_other() -> None:
    assert told([Counting("a", 2, []), Counting("b", 1, [])]) == [
        ("a", "started", None),
        ("a", "result", 0),
        ("a", "result", 1),
        ("a", "done", None),
        ("b", "started", None),
        ("b", "result", 0),
        ("b", "done", None),
    ]


def test_no_more_jobs_run_than_are_asked_for() -> None:
    states = [(title, state) for title, state, _ in told([Counting(one, 1, []) for one in "abc"], 2)]
    assert states[:2] == [("a", "started"), ("b", "started")]
    assert states.index(("c", "started")) > min(states.index(("a", "done")), states.index(("b", "done")))


def test_a_job_that_fails_stops_no_other() -> None:
    jobs = [Counting("a", 1, [], JobFailedError("it broke")), Counting("b", 1, [])]
    with LOCAL.open() as session:
        updates = [update for update in session.run(jobs) if update is not None]
    assert [(u.job.title, u.reason) for u in updates if u.state == "failed"] == [("a", "it broke")]
    assert [u.job.title for u in updates if u.state == "done"] == ["b"]


@pytest.mark.parametrize("how", ["closed", "nothing can be done any more"])
def test_what_runs_is_cancelled_all_at_once_and_then_waited_for(how: str) -> None:
    story: list[str] = []
    error = LramError("nothing goes") if how != "closed" else None
    jobs = [Counting("a", 9, story), Counting("b", 9, story), Counting("c", 1, story, error)]
    with LOCAL.open() as session:
        updates: Any = session.run(jobs, 3)
        if error is None:
            while (update := next(updates)) is None or update.state != "result":
                pass
            updates.close()
            assert story[:3] == ["a cancelled", "b cancelled", "c cancelled"]
            assert sorted(story[3:]) == ["a over", "b over", "c over"]
        else:
            with pytest.raises(LramError, match="nothing goes"):
                list(updates)
            assert [line for line in story if line.endswith("cancelled")] == [
                "a cancelled",
                "b cancelled",
                "c cancelled",
            ]
            assert story[-2:] == ["a over", "b over"]
