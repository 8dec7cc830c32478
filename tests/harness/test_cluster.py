"""Runs on a real Ray cluster of two nodes on this machine: the records are those of one machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ready import ready_driver

from lram.agents.trajectories import TrajectoryStore
from lram.envs.workers.process import Deadlines
from lram.harness import LramError, Machine, evaluate, resume
from lram.harness.collection.collect import collect
from lram.harness.executors.ray import RayExecutor, ResourceRequest
from lram.harness.executors.ray.node import scratch
from lram.harness.progress import Progress
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # two clusters' processes on two cores
    pytest.mark.usefixtures("checked_once"),
]
pytest.importorskip("ray", reason="Ray is not installed: pip install 'lram-bench[ray]'")

MACHINE = Machine(lanes=4, workers=2)
TASKS = "toy/reach,toy/steps,toy/image,toy/lives"
HEED_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from lram.harness.cli import main; main()"
)


@pytest.fixture
def said() -> list[str]:
    return []


def executor(cluster: Any, said: list[str] | None = None, **request: Any) -> RayExecutor:
    return RayExecutor(cluster.address, ResourceRequest(**request), (said if said is not None else []).append)


def comparable(run: Run, *, failures: bool = True) -> list[EpisodeRecord]:
    """Return the records without what depends on the machine and the moment."""
    blank = Measured(0, 0, 0, 0, 0, 0)
    records = [replace(record, measured=blank) for record in run.records()]
    return records if failures else [replace(record, failures=0) for record in records]


def nodes_of(run: Run) -> set[str]:
    """Return the nodes that a run's last session used, as its provenance names them."""
    return {name for name in run.provenance()[-1].settings if name.startswith("node ")}


@pytest.fixture(scope="module")
def agents(shallow: dict[str, str]) -> dict[str, str]:
    return {"random": "random", "model": shallow["xlstm"]}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, agents: dict[str, str]) -> Run:
    return evaluate(
        agents, TASKS, tmp_path_factory.mktemp("local") / "run", episodes=4, seed=3, machine=MACHINE
    )


def test_two_nodes_give_the_records_of_one_machine(
    tmp_path: Path, cluster: Any, local: Run, agents: dict[str, str]
) -> None:
    run = evaluate(
        agents,
        TASKS,
        tmp_path / "run",
        episodes=4,
        seed=3,
        machine=MACHINE,
        executor=executor(cluster, episodes=2),
    )
    assert comparable(run) == comparable(local)
    assert run.plan == local.plan
    assert len(nodes_of(run)) == 2
    assert {record.measured.node for record in run.records()} == {os.uname().nodename}
    assert run.provenance()[0].settings["jobs"] == "16"
    by_node = run.provenance()[0].settings["jobs by node"].split(", ")
    assert len(by_node) == 2
    assert sum(int(text.rpartition(": ")[2]) for text in by_node) == 16
    assert run.provenance()[0].workers == local.provenance()[0].workers


def test_the_number_of_episodes_in_a_job_changes_nothing(
    tmp_path: Path, cluster: Any, local: Run, agents: dict[str, str]
) -> None:
    run = evaluate(
        agents, TASKS, tmp_path / "run", episodes=4, seed=3, machine=MACHINE, executor=executor(cluster)
    )
    assert comparable(run) == comparable(local)


class At:
    """Does something once, when so many records have come."""

    def __init__(self, records: int, deed: Callable[[], None]) -> None:
        self.left, self.deed = records, deed

    def __call__(self, items: Any, planned: int) -> Any:
        return self

    def __enter__(self) -> At:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def record(self, record: EpisodeRecord) -> None:
        self.left -= 1
        if self.left == 0:
            self.deed()

    def heartbeat(self, active: int, decisions: int) -> None:
        pass


def slow_run(folder: Path, machine: Machine = MACHINE, **more: Any) -> Run:
    return evaluate(["random"], "toy/slow,toy/reach", folder, episodes=60, seed=5, machine=machine, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return slow_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def whole_summary(whole: Run) -> str:
    return summary(whole.path)


def test_a_node_that_is_lost_costs_its_unfinished_episodes_a_retry(
    tmp_path: Path, cluster: Any, whole: Run, whole_summary: str, said: list[str]
) -> None:
    progress: Progress = At(15, lambda: cluster.kill(cluster.second))
    run = slow_run(tmp_path / "run", executor=executor(cluster, said, episodes=20), progress=progress)
    assert comparable(run) == comparable(whole)
    repeated = [record for record in run.records() if record.measured.incidents]
    assert repeated
    assert all("was lost" in record.measured.incidents[0] for record in repeated)
    assert any("was lost" in line for line in said)
    assert summary(run.path) == whole_summary
    written = sum(part.read_bytes().count(b"\n") for part in (tmp_path / "run" / "records").glob("*.jsonl"))
    assert written == len(run.plan.items())


def test_a_node_that_joins_is_used(tmp_path: Path, cluster: Any, whole: Run, said: list[str]) -> None:
    cluster.kill(cluster.second)
    time.sleep(3)
    progress: Progress = At(5, cluster.mend)
    run = slow_run(
        tmp_path / "run",
        machine=replace(MACHINE, lanes=1),
        executor=executor(cluster, said, episodes=4),
        progress=progress,
    )
    assert comparable(run) == comparable(whole)
    assert any("has joined" in line for line in said)


def lram(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ready_driver(), "-c", HEED_CTRL_C, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def summary(folder: Path) -> str:
    output, errors = (report := lram("report", str(folder), "--json")).communicate(timeout=400)
    assert report.returncode == 0, errors
    return output


def recorded(folder: Path) -> int:
    return sum(part.read_bytes().count(b"\n") for part in (folder / "records").glob("*.jsonl"))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_ended_resumes_to_the_same_run(
    tmp_path: Path, cluster: Any, whole: Run, whole_summary: str, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    arguments = ["random", "-t", "toy/slow,toy/reach", "-n", "60", "-s", "5", "-l", "4", "-q"]
    where = ["--backend", "ray", "--address", cluster.address, "--job-episodes", "10"]
    driver = lram("eval", *arguments, *where, "-o", str(folder))
    wait_for(lambda: (folder / "records").is_dir() and recorded(folder) >= 25, "records")
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=240)
    before = recorded(folder)
    assert 25 <= before < 120
    if number == signal.SIGINT:
        assert driver.returncode == 130
        assert "lram resume" in output
    wait_for(lambda: not cluster.simulators(), "the simulators to follow their driver")
    again = lram("resume", str(folder), *where, "-q")
    _, errors = again.communicate(timeout=400)
    assert again.returncode == 0, errors
    assert comparable(Run(folder)) == comparable(whole)
    assert summary(folder) == whole_summary
    assert recorded(folder) == 120


def test_a_run_begun_on_a_cluster_goes_on_locally_and_the_other_way_round(
    tmp_path: Path, cluster: Any, local: Run, agents: dict[str, str]
) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    for place, first, then in (
        ("wide", {"executor": executor(cluster, episodes=2)}, {}),
        ("here", {}, {"executor": executor(cluster)}),
    ):
        folder = tmp_path / place
        with pytest.raises(StopError):
            evaluate(
                agents, TASKS, folder, episodes=4, seed=3, machine=MACHINE, progress=At(7, stop), **first
            )
        assert 7 <= len(Run(folder).records()) < 32
        assert comparable(resume(folder, machine=MACHINE, **then)) == comparable(local)


def test_failures_are_retried_recorded_and_given_up_as_on_one_machine(tmp_path: Path, cluster: Any) -> None:
    machine = Machine(lanes=2, workers=1, deadlines=Deadlines(30, 2))
    tasks = "toy/flaky,toy/raise,toy/crash,toy/hang,toy/steps"
    here = evaluate(["random"], tasks, tmp_path / "here", episodes=8, machine=machine)
    wide = evaluate(
        ["random"],
        tasks,
        tmp_path / "wide",
        episodes=8,
        machine=machine,
        executor=executor(cluster, episodes=4),
    )
    for task in ("toy/steps", "toy/flaky"):
        mine = [record for record in comparable(here) if record.task == task]
        assert [record for record in comparable(wide) if record.task == task] == mine
    for task in ("toy/raise", "toy/crash", "toy/hang"):
        both = [[r for r in run.records() if r.task == task] for run in (here, wide)]
        for records in both:
            assert all(record.status == "errored" and record.failure for record in records)
            assert any(record.failure.kind == "quarantine" for record in records if record.failure)
        first = [[(r.failure.kind, r.failure.message) for r in rs[:3] if r.failure] for rs in both]
        assert first[0] == first[1]


def test_a_job_whose_process_is_killed_is_played_again_episode_by_episode(
    tmp_path: Path, cluster: Any, whole: Run, said: list[str]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        killed.append(min(cluster.simulators().values()))
        os.kill(killed[0], signal.SIGKILL)

    run = slow_run(tmp_path / "run", executor=executor(cluster, said, episodes=20), progress=At(4, kill))
    assert killed
    assert comparable(run) == comparable(whole)
    incidents = [record.measured.incidents for record in run.records() if record.measured.incidents]
    assert incidents
    assert all("its process died while it played" in one[0] for one in incidents)
    assert [line for line in said if "asks for no token" not in line] == []


def test_an_agent_that_raises_ends_the_run_with_its_traceback(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        "from lram.agents.experts.baselines import RandomAgent\n"
        "class Bad(RandomAgent):\n"
        "    def act(self, state, observations, rewards, lanes):\n"
        "        raise ValueError('no idea')\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LramError, match=r"agent own:Bad raised ValueError: no idea \(own.py, line 4"):
        evaluate(["own:Bad"], "toy/reach", tmp_path / "run", executor=executor(cluster), machine=MACHINE)
    assert "no idea" in (tmp_path / "run/logs/0001/agent-error.log").read_text()


def test_a_checkpoint_and_a_policys_file_are_shipped_and_named_as_on_one_machine(
    tmp_path: Path, cluster: Any
) -> None:
    from lram.agents.checkpoints.shipped import shipped_checkpoints

    folder = tmp_path / "mine"
    folder.symlink_to(shipped_checkpoints()["small-mamba"])
    agents = {
        "plain": str(folder),
        "noisy": f"{folder}~0.2",
        "short": f"{folder}@reset=10",
        "new": "xlstm[7:1]-1M",
        "policy": f"sb3:{tmp_path / 'policies' / 'ppo.zip'}(low=-2, high=2)~0.1",
    }
    (tmp_path / "policies").mkdir()
    shutil.copy(Path(__file__).parents[1] / "data" / "sb3" / "ppo.zip", tmp_path / "policies")
    here = evaluate(agents, "toy/reach", tmp_path / "here", episodes=2, machine=MACHINE)
    wide = evaluate(
        agents, "toy/reach", tmp_path / "wide", episodes=2, machine=MACHINE, executor=executor(cluster)
    )
    assert wide.plan == here.plan
    assert comparable(wide) == comparable(here)
    assert list((scratch() / "checkpoints").glob("*/files/ppo.zip"))


def test_a_collection_keeps_the_same_trajectories(tmp_path: Path, cluster: Any) -> None:
    stores = []
    for place, more in (("here", {}), ("wide", {"executor": executor(cluster, episodes=3)})):
        collect(
            ["random"], "toy/image,toy/lives,toy/reach", tmp_path / place, episodes=6, machine=MACHINE, **more
        )
        stores.append(TrajectoryStore(tmp_path / place))
    both = []
    for store in stores:
        held = {}
        for episode in store.episodes:
            one = store.trajectory(episode.number)
            held[one.origin] = (
                one.observations.tobytes(),
                one.actions.tobytes(),
                one.rewards.tobytes(),
                one.signals.tobytes(),
                one.context_starts,
                one.seed,
                one.policy,
                one.protocol,
                one.terminated,
                one.truncated,
            )
        both.append(held)
    assert len(both[0]) == 18
    assert both[0] == both[1]


def test_a_python_object_cannot_be_sent(tmp_path: Path, cluster: Any) -> None:
    from lram.agents.experts.baselines import RandomAgent

    with pytest.raises(LramError, match="given as a Python object, which cannot be sent"):
        evaluate({"mine": RandomAgent()}, "toy/reach", tmp_path / "run", executor=executor(cluster))
    assert not (tmp_path / "run").exists()


def test_a_job_that_asks_for_too_much_is_refused(tmp_path: Path, cluster: Any) -> None:
    for request, words in (({"cpus": {"": 64}}, "64 cores"), ({"memory_gib": {"toy": 1e6}}, "GiB memory")):
        with pytest.raises(LramError, match=words):
            evaluate(["random"], "toy/reach", tmp_path / "run", executor=executor(cluster, **request))


def test_an_address_where_nobody_answers(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(LramError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        evaluate(["random"], "toy/reach", tmp_path / "run", executor=RayExecutor("127.0.0.1:9"))
    assert not (tmp_path / "run").exists()
    assert time.monotonic() - started < 120
