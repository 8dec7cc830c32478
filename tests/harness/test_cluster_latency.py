"""A sweep of latencies on one node of a Ray cluster: the same plan and points as here, times aside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.files import edit
from support.held import HeldAgent
from support.ready import ready_driver

from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.harness import LramError
from lram.harness.cli import app
from lram.harness.executors.ray import RayExecutor
from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.plan import LatencyRequest
from lram.harness.latency.records import Effort
from lram.harness.latency.sweep import resume, sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # two clusters' processes on two cores
pytest.importorskip("ray", reason="Ray is not installed: pip install 'lram-bench[ray]'")

EFFORT = Effort(seconds=0.01, most=4, least=2, warm_up_s=0.01)
HEED_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from lram.harness.cli import main; main()"
)
OWN = """
import os
from lram.agents.experts.baselines import RandomAgent
class Crashing(RandomAgent):
    decisions = 0
    def act(self, state, observations, rewards, lanes):
        self.decisions += 1
        if self.decisions == 7:
            os.kill(os.getpid(), 11)
        return super().act(state, observations, rewards, lanes)
"""


def request(*agents: str, **changes: Any) -> LatencyRequest:
    usual: dict[str, Any] = {
        "agents": list(agents),
        "contexts": (3, 8),
        "batches": (1, 8),
        "repeats": 1,
        "task": "toy/reach",
        "loop": False,
        "effort": EFFORT,
        "memory_gib": 6.0,
    }
    return LatencyRequest(**{**usual, **changes})


def points(run: LatencyRun) -> list[tuple[object, ...]]:
    return [
        (p.job, p.context, p.outcome, p.read, p.held, p.state_bytes, p.weight_bytes, p.actions, p.facts)
        for p in run.points()
    ]


def test_a_node_gives_the_plan_and_the_points_of_this_machine(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_agent.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine"
    shutil.copytree(shipped_checkpoints()["small-mamba"], mine)
    asked = request(str(mine), "crashing_agent:Crashing", loop=True, batches=(8,))
    here = sweep(asked, tmp_path / "here")
    said: list[str] = []
    executor = RayExecutor(cluster.address)
    there = sweep(asked, tmp_path / "there", say=said.append, executor=executor)
    assert there.plan == here.plan
    assert points(there) == points(here)
    assert {p.outcome for p in there.points()} >= {"ok"}
    assert any("died (SIGSEGV): Fatal Python error: Seg" in p.outcome for p in there.points())
    assert all(p.loop_ns for p in there.points() if p.outcome == "ok")
    [made] = there.provenance()
    assert made.cpu == here.provenance()[0].cpu
    assert made.settings["backend"] == "ray"
    assert os.uname().nodename in made.settings["node"]
    assert any(line.startswith("measuring on the node ") for line in said)
    assert sum(line.startswith(("1 of 2", "2 of 2")) for line in said) == 2
    assert "Segmentation fault" in (there.path / "logs" / "processes.log").read_text()


def test_what_the_node_finds_wrong_is_a_sentence_and_nothing_is_written(tmp_path: Path, cluster: Any) -> None:
    executor = RayExecutor(cluster.address)
    for words, asked in {
        "cannot play toy/reach": request("planner"),
        "contexts must be 1 or more": request("random", contexts=(0,)),
        "no node that can play the task offers a GPU": request("random", device="cuda"),
    }.items():
        with pytest.raises(LramError, match=words):
            sweep(asked, tmp_path / "x", executor=executor)
        assert not (tmp_path / "x").exists()
    with pytest.raises(LramError, match="--node elsewhere: there is no such node"):
        sweep(request("random"), tmp_path / "x", executor=RayExecutor(cluster.address), node="elsewhere")


def lram(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ready_driver(), "-c", HEED_CTRL_C, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def recorded(folder: Path) -> int:
    return sum(part.read_bytes().count(b"\n") for part in (folder / "records").glob("*.jsonl"))


def children() -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lram.harness.latency.child" in words and words[0] == sys.executable.encode():
            found.append(int(process.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_ended_goes_on_and_its_processes_end_with_it(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, agent = tmp_path / "sweep", HeldAgent(tmp_path)
    where = ["--backend", "ray", "--address", cluster.address]
    words = [agent.spec, "-t", "toy/steps", "--contexts", "2,300", "--batch", "1", "--repeats", "3"]
    driver = lram("latency", *words, "--no-loop", "--seconds", "0.05", *where, "-o", str(folder))
    wait_for(lambda: recorded(folder) or driver.poll() is not None, "points")
    driver.send_signal(number)
    output, errors = driver.communicate(timeout=240)
    if number == signal.SIGINT:
        assert driver.returncode == 130, errors
        assert f"lram latency --resume {folder}" in output
    before = {(p.job, p.context): p for p in LatencyRun(folder).points()}
    assert 0 < len(before) < 6, errors
    wait_for(lambda: not children(), "processes to end")
    agent.let_go()
    again = lram("latency", "--resume", str(folder), *where, "--json")
    output, errors = again.communicate(timeout=400)
    assert again.returncode == 0, errors
    assert [spot["context"] for spot in json.loads(output)["spots"]] == [2, 300]
    run = LatencyRun(folder)
    assert [p.outcome for p in run.points()] == ["ok"] * 6
    assert all(before.get((p.job, p.context), p) == p for p in run.points()), "measured again"
    assert len(run.provenance()) == 2


def test_a_node_that_is_lost_leaves_a_sweep_that_goes_on(tmp_path: Path, cluster: Any) -> None:
    cluster.mend()
    node = cluster.second.node_id if hasattr(cluster.second, "node_id") else cluster.second.unique_id
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("1 of 3"):
            cluster.kill(cluster.second)

    folder = tmp_path / "sweep"
    asked = request("random", contexts=(2, 300), batches=(1,), repeats=3, task="toy/steps")
    with pytest.raises(LramError, match=r"was lost .*what is recorded stands: lram latency --resume"):
        sweep(asked, folder, say=say, executor=RayExecutor(cluster.address), node=node)
    assert 2 <= len(LatencyRun(folder).points()) < 6
    run = resume(folder, executor=RayExecutor(cluster.address))
    assert [p.outcome for p in run.points()] == ["ok"] * 6


def test_a_sweep_goes_on_only_where_the_machine_is_of_the_same_kind(tmp_path: Path, cluster: Any) -> None:
    executor = RayExecutor(cluster.address)
    run = sweep(
        request("random", contexts=(2,), batches=(1,), repeats=1), tmp_path / "sweep", executor=executor
    )
    [segment] = (run.path / "records").glob("*.jsonl")
    segment.write_bytes(b"")
    [file] = (run.path / "provenance").glob("*.json")
    made = file.read_bytes()
    edit(file, lambda plain: plain.update(cpu="another processor"))
    for where in ({"executor": executor}, {}):
        with pytest.raises(LramError, match=r"begun on another processor, .* times of two machines"):
            resume(run.path, **where)
    file.write_bytes(made)
    assert not resume(run.path).missing(), "begun on a node, resumed here"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--node", "x"], "--node belongs to a cluster: add --backend ray"),
        (["--backend", "ray", "--job-cpus", "2"], "--job-cpus has no meaning here: a sweep has one node"),
        (["--address", "10.0.0.1:1"], "--address belongs to a cluster"),
    ],
)
def test_options_without_a_meaning_are_one_sentence(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(LramError, match=message):
        app(["latency", "random", "-o", str(tmp_path / "x"), *words], exit_on_error=False, print_error=False)
