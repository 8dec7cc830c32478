"""The run folder: torn lines, locks, the last record wins, and errors as sentences."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from lram.agents.api import AgentInfo
from lram.agents.compute import Compute
from lram.envs.registry import all_tasks
from lram.harness.computing import started_with
from lram.harness.errors import LramError
from lram.harness.storage.records import (
    SCHEMA,
    AgentEntry,
    EpisodeRecord,
    Failure,
    Measured,
    PlannedTask,
    RunPlan,
    Skipped,
)
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.storage.seeds import simulator_seed

PLAN = RunPlan(
    schema=SCHEMA,
    seed=0,
    episodes=2,
    agents=(
        AgentEntry("a", "random", AgentInfo("baseline", "x")),
        AgentEntry("b", "random", AgentInfo("baseline", "x")),
    ),
    tasks=(
        PlannedTask(all_tasks()["toy/steps"], "toy:plain@1"),
        PlannedTask(all_tasks()["toy/reach"], "toy:plain@1"),
    ),
    skipped=(Skipped("b", "toy/reach", "no policy"),),
)


def record(agent: str, task: str, episode: int, value: float = 1.0) -> EpisodeRecord:
    return EpisodeRecord(
        schema=SCHEMA,
        agent=agent,
        task=task,
        episode=episode,
        seed=simulator_seed(0, task, episode),
        protocol="toy:plain@1",
        status="scored",
        episode_return=value,
        length=20,
        success_any=None,
        success_last=None,
        terminated=False,
        truncated=True,
        trajectory="00000000",
        failures=0,
        failure=None,
        measured=Measured(0.0, 1.0, 0.5, 0.1, 0, 42),
    )


def test_the_plan_leaves_out_what_an_agent_cannot_play() -> None:
    assert [item.id for item in PLAN.items()] == [
        "a|toy/steps|0",
        "a|toy/steps|1",
        "a|toy/reach|0",
        "a|toy/reach|1",
        "b|toy/steps|0",
        "b|toy/steps|1",
    ]


def test_records_come_back_in_plan_order_and_equal(tmp_path: Path) -> None:
    written = [record("b", "toy/steps", 1), record("a", "toy/reach", 0, 0.1 + 0.2)]
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        for one in written:
            writer.append(one)
    run = Run(tmp_path / "run")
    assert run.plan == PLAN
    assert run.records() == written[::-1]
    assert [item.id for item in run.missing()] == [
        "a|toy/steps|0",
        "a|toy/steps|1",
        "a|toy/reach|1",
        "b|toy/steps|0",
    ]


def test_a_later_segment_replaces_an_errored_record(tmp_path: Path) -> None:
    failed = replace(
        record("a", "toy/steps", 0),
        status="errored",
        episode_return=None,
        length=None,
        failure=Failure("crash", "gone"),
    )
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        writer.append(failed)
    with RunWriter(Run(tmp_path / "run")) as writer:
        writer.append(record("a", "toy/steps", 0))
    run = Run(tmp_path / "run")
    assert [r.status for r in run.records()] == ["scored"]
    assert list(run.outcomes()) == [(failed.item, None)]


def test_outcomes_are_those_of_the_records_in_plan_order(tmp_path: Path) -> None:
    failure = Failure("crash", "gone")
    failed = replace(
        record("a", "toy/reach", 1), status="errored", episode_return=None, length=None, failure=failure
    )
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        for one in (record("b", "toy/steps", 1), failed, record("a", "toy/steps", 0)):
            writer.append(one)
    run = Run(tmp_path / "run")
    assert list(run.outcomes()) == [(one.item, one.failure) for one in run.records()]
    assert [found for _, found in run.outcomes()] == [None, failure, None]


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_last_line_is_not_read_and_does_not_harm_what_follows(tmp_path: Path, cut: int) -> None:
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        writer.append(record("a", "toy/steps", 0))
        writer.append(record("a", "toy/steps", 1))
    segment = tmp_path / "run" / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes()[:-cut])
    with RunWriter(Run(tmp_path / "run")) as writer:
        writer.append(record("a", "toy/reach", 0))
    assert [r.item.id for r in Run(tmp_path / "run").records()] == ["a|toy/steps|0", "a|toy/reach|0"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        writer.append(record("a", "toy/steps", 0))
    segment = tmp_path / "run" / "records" / "0001.jsonl"
    segment.write_bytes(b'{"schema": 1}\n' + segment.read_bytes())
    with pytest.raises(LramError, match=r"0001\.jsonl, line 1 is damaged"):
        Run(tmp_path / "run").records()


def test_a_run_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", PLAN):
        pass
    hold = (
        "import sys; from lram.harness.storage.run_folder import Run, RunWriter; "
        "w = RunWriter(Run(sys.argv[1])); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LramError, match="in use by another process"):
            RunWriter(Run(tmp_path / "run"))
        holder.kill()
    with RunWriter(Run(tmp_path / "run")):  # the lock dies with its holder
        pass


def test_a_new_run_never_goes_into_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LramError, match="not an empty folder"):
        RunWriter.create(tmp_path, PLAN)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]
    with RunWriter.create(tmp_path / "run", PLAN):
        pass
    with pytest.raises(LramError, match="lram resume"):
        RunWriter.create(tmp_path / "run", PLAN)


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="is not a run"):
        Run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(LramError, match="cannot be read"):
        Run(tmp_path)
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(replace(PLAN, schema=99)))
    with pytest.raises(LramError, match="has layout 99"):
        Run(tmp_path)
    for compute in ({"rows": 3}, {"precision": "float7"}):
        damaged = {**msgspec.to_builtins(PLAN), "compute": compute}
        (tmp_path / "run.json").write_bytes(msgspec.json.encode(damaged))
        with pytest.raises(LramError, match="cannot be read"):
            Run(tmp_path)


def test_a_plan_of_a_version_that_did_not_note_how_models_compute_opens(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "run", PLAN).close()
    file = tmp_path / "run" / "run.json"
    older = msgspec.json.decode(file.read_bytes())
    del older["compute"], older["threads"], older["checksum"]
    file.write_bytes(msgspec.json.encode(older))
    assert Run(tmp_path / "run").plan == PLAN
    assert started_with(Run(tmp_path / "run")) == (Compute(), 1)


def test_frames_hold_a_row_a_record_and_a_row_a_task(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        writer.append(record("a", "toy/steps", 0, 2.5))
    run = Run(tmp_path / "run")
    episodes = run.episodes()
    assert episodes[["agent", "domain", "episode_return", "measured_worker"]].to_dict("records") == [
        {"agent": "a", "domain": "toy", "episode_return": 2.5, "measured_worker": 42}
    ]
    assert list(run.tasks()["task"]) == ["toy/steps", "toy/reach"]


def test_a_process_killed_before_its_first_record_does_not_share_its_logs_with_the_next(
    tmp_path: Path,
) -> None:
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        (writer.log_folder() / "worker-001-toy.log").write_text("last words of another")
    with RunWriter(Run(tmp_path / "run")) as writer:
        assert list(writer.log_folder().iterdir()) == []
