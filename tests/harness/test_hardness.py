"""Rough treatment: each of these once lost records, hung, or ended in a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.ready import ready_python

from lram.envs.registry import load_domain
from lram.envs.workers.pool import Pool
from lram.envs.workers.process import Begun, Deadlines, Died, WorkerProcess
from lram.envs.workers.wire import HEADER, Kind, pack_step
from lram.envs.workers.worker import Worker, _answer
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.rollout.failures import Tally
from lram.harness.rollout.schedule import WorkerSlot
from lram.harness.storage.records import EpisodeRecord, Failure, WorkItem
from lram.harness.storage.run_folder import Run, RunWriter


def settled(run: Run) -> list[tuple[str, str, str | None]]:
    return [(r.item.id, r.status, r.failure.kind if r.failure else None) for r in run.records()]


def test_more_lanes_than_a_socket_holds_requests_do_not_block_each_other(tmp_path: Path) -> None:
    run = evaluate(
        "random", "toy/image", tmp_path / "run", episodes=320, machine=Machine(lanes=320, workers=1)
    )
    assert [record.status for record in run.records()] == ["scored"] * 320


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 5, 8])
def test_episodes_that_could_be_played_are_not_lost_to_their_neighbours_crashes(
    tmp_path: Path, seed: int
) -> None:
    runs = [
        evaluate("random", "toy/flaky", tmp_path / str(machine.lanes), episodes=8, seed=seed, machine=machine)
        for machine in (Machine(lanes=1, workers=1), Machine(lanes=8, workers=2))
    ]
    statuses = [[(r.item, r.status) for r in run.records()] for run in runs]
    assert statuses[0] == statuses[1]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [1, 2, 5])
def test_a_resumed_run_gives_up_what_a_whole_one_does(tmp_path: Path, kept: int) -> None:
    machine = Machine(lanes=1, workers=1)
    whole = evaluate("random", "toy/raise,toy/steps", tmp_path / "run", episodes=6, machine=machine)
    before = settled(whole)
    assert [kind for _, _, kind in before if kind] == ["session"] * 3 + ["quarantine"] * 3
    segment = tmp_path / "run" / "records" / "0001.jsonl"
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:kept]))
    assert settled(resume(tmp_path / "run", machine=machine)) == before


def test_the_tally_judges_by_the_first_episodes_and_never_a_task_that_scored() -> None:
    crash = Failure("crash", "gone")
    tally = Tally(limit=2, worker_slots=1)
    for episode in (5, 6, 7):
        tally.count(WorkItem("a", "x/y", episode), crash)
    assert tally.given_up(WorkItem("a", "x/y", 8)) is None
    tally.count(WorkItem("a", "x/y", 0), crash)
    tally.count(WorkItem("a", "x/z", 1), None)
    tally.count(WorkItem("a", "x/y", 1), crash)
    given_up = tally.given_up(WorkItem("a", "x/y", 8))
    assert given_up
    assert "first 2 episodes errored" in given_up.message
    assert given_up.by_agent is False
    for episode in (0, 2, 3):
        tally.count(WorkItem("a", "x/z", episode), crash)
    assert tally.given_up(WorkItem("a", "x/z", 4)) is None


def test_a_domain_whose_workers_never_live_is_given_up() -> None:
    tally = Tally(limit=3, worker_slots=2)
    for _ in range(7):
        assert tally.given_up(WorkItem("a", "dead/x", 0)) is None
        tally.died("dead")
    assert "the domain dead was given up" in str(tally.given_up(WorkItem("a", "dead/y", 0)))
    tally.begun("dead")
    assert tally.given_up(WorkItem("a", "dead/y", 0)) is None


def test_slots_are_used_again_so_that_a_worker_holds_few_sessions() -> None:
    worker_slot = WorkerSlot(playing={0: "x/one", 1: "x/one", 3: "x/two"})
    assert worker_slot.free_slot() == 2


@pytest.mark.parametrize("text", ["\udcff lone surrogate", "x" * 5_000_000])
def test_a_simulators_message_is_made_readable_and_short(text: str) -> None:
    class Session:
        spec = load_domain("toy").make("steps", load_domain("toy").protocol()).spec

        def reset(self, seed: int) -> None:
            raise RuntimeError(text)

        def close(self) -> None:
            pass

    from dataclasses import replace

    domain = replace(load_domain("toy"), make=lambda task, protocol: Session())
    request = b'{"slot": 0, "task": "steps", "protocol": "plain", "seed": 1}'
    answer = _answer(Worker(domain), Kind.BEGIN, request)
    assert answer[HEADER.size :].decode("utf-8", "strict")
    assert len(answer) < 10_000


@pytest.mark.parametrize(
    "garbage", [HEADER.pack(0, 250), HEADER.pack(3, Kind.FAILED) + b"{no", pack_step(0, 1)]
)
def test_what_is_no_answer_counts_as_the_end_of_the_worker(garbage: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs, subprocess.Popen(["true"]) as process:
        worker = WorkerProcess("toy", process, ours, Path(os.devnull))
        theirs.sendall(garbage)
        assert worker.receive() == ([], True)


def test_a_worker_that_died_while_parked_is_not_handed_out(tmp_path: Path) -> None:
    deadlines = Deadlines(begin_s=60, step_s=2)
    with Pool(log_folder=tmp_path) as pool:
        first = pool.acquire("toy")
        first.begin(0, "steps", "plain", 1, deadlines)
        assert isinstance(pool.wait(60)[0], Begun)
        pool.release(first)
        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        assert pool.acquire("toy") is not first
        (event,) = pool.wait(60)
        assert isinstance(event, Died)
        assert event.worker is first


def run_lram(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*ready_python(), "-m", "lram.harness.cli", *arguments]
    return subprocess.run(command, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.slow
def test_a_reader_of_the_progress_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    answer = run_lram(
        *("eval", "random", "--tasks", "toy/raise,toy/steps", "-n", "4", "-o", str(tmp_path / "run")),
        stdout=subprocess.DEVNULL,
        stderr=writing,
    )
    os.close(writing)
    assert answer.returncode == 1, "toy/raise has no score"
    assert Run(tmp_path / "run").missing() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([" =random"], "cannot label an agent"),
        (["random", "-s", "-1"], "the seed is -1"),
        (["random", "-s", "99999999999999999999"], "below 2**63"),
    ],
)
def test_odd_labels_and_seeds_are_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    answer = run_lram(
        "eval", *arguments, "--tasks", "toy/steps", "-o", str(tmp_path / "run"), capture_output=True
    )
    assert answer.returncode == 2
    assert words in answer.stderr
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, written = RunWriter.append, []

    def full(self: RunWriter, record: EpisodeRecord) -> None:
        written.append(record)
        if len(written) == 3:
            monkeypatch.setattr(
                os, "fdatasync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left"))
            )
        append(self, record)

    monkeypatch.setattr(RunWriter, "append", full)
    with pytest.raises(LramError, match="No space left; make room, then 'lram resume"):
        evaluate("random", "toy/steps", tmp_path / "run", episodes=6, machine=Machine(lanes=1, workers=1))
    monkeypatch.undo()
    run = resume(tmp_path / "run", machine=Machine(lanes=1, workers=1))
    assert [record.status for record in run.records()] == ["scored"] * 6


def test_folders_of_a_run_that_went_missing_are_made_again(tmp_path: Path) -> None:
    import shutil

    machine = Machine(lanes=1, workers=1)
    evaluate("random", "toy/steps", tmp_path / "run", episodes=2, machine=machine)
    for folder in ("logs", "records", "provenance"):
        shutil.rmtree(tmp_path / "run" / folder)
    assert len(resume(tmp_path / "run", machine=machine).records()) == 2


def test_resuming_a_whole_run_writes_nothing(tmp_path: Path) -> None:
    machine = Machine(lanes=1, workers=1)
    evaluate("random", "toy/steps", tmp_path / "run", episodes=2, machine=machine)
    before = sorted(tmp_path.rglob("*"))
    resume(tmp_path / "run", machine=machine)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_broken_package_does_not_take_the_others_away(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "broken-1.0.dist-info").mkdir(parents=True)
    (site / "broken-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    )
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[lram.domains]\nbroken = nowhere:DOMAIN\n"
    )
    options = {"env": {**os.environ, "PYTHONPATH": str(site)}, "capture_output": True}
    assert run_lram("tasks", "toy/steps", **options).returncode == 0
    listing = run_lram("domains", **options)
    assert listing.returncode == 0
    assert "the domain broken (nowhere:DOMAIN) cannot be loaded" in listing.stdout
    answer = run_lram("tasks", "broken", **options)
    assert answer.returncode == 2
    assert "cannot be loaded: ModuleNotFoundError" in answer.stderr
