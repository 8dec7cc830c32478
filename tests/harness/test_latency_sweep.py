"""A sweep of latencies: whatever a process does, the others are measured, and nothing is lost or doubled."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.files import edit
from support.held import HeldAgent
from support.ready import ready_children, ready_python

from lram.harness.errors import LramError
from lram.harness.latency import sweep as sweeping
from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.plan import LatencyRequest, make_plan
from lram.harness.latency.records import Effort, Job, LatencyPlan, LatencyPoint
from lram.harness.latency.sweep import resume, sweep
from lram.harness.timing import fresh_process

AGENTS = '''
import os
import time

import numpy as np

from lram.agents.experts.baselines import RandomAgent


class Counting(RandomAgent):
    def start(self, lanes):
        self.decisions = 0
        return super().start(lanes)

    def act(self, state, observations, rewards, lanes):
        self.decisions += 1
        if self.decisions == 99:
            self.at_the_end()
        return super().act(state, observations, rewards, lanes)


class Crashing(Counting):
    def at_the_end(self):
        os.kill(os.getpid(), 11)


class Raising(Counting):
    def at_the_end(self):
        raise ValueError("no more ideas")


class Hungry(Counting):
    def at_the_end(self):
        self.meal = np.ones(8 * 2**30)


class Slow(Counting):
    """Takes longer with many timesteps."""

    def act(self, state, observations, rewards, lanes):
        time.sleep(0.3 if self.decisions >= 100 else 0)
        return super().act(state, observations, rewards, lanes)

    def at_the_end(self):
        pass
'''
EFFORT = Effort(seconds=0.01, most=4, least=2, warm_up_s=0.01, give_up_s=0.25, slow_s=0.2)


@pytest.fixture
def _ready() -> Iterator[None]:
    with ready_children():
        yield


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_agents.py").write_text(AGENTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request(*agents: str, **changes: object) -> LatencyRequest:
    usual: dict[str, object] = {
        "agents": list(agents),
        "contexts": (4, 100, 120),
        "batches": (1,),
        "repeats": 2,
        "task": "toy/steps",
        "loop": False,
        "effort": EFFORT,
        "memory_gib": 6.0,
    }
    return LatencyRequest(**{**usual, **changes})  # type: ignore[arg-type]


def outcomes(run: LatencyRun, label: str, repeat: int) -> list[str]:
    return [p.outcome for p in run.points() if (p.job.agent, p.job.repeat) == (label, repeat)]


@pytest.mark.slow
@pytest.mark.usefixtures("_ready")
def test_every_end_of_a_process_is_a_data_point_and_the_sweep_goes_on(agents: Path) -> None:
    names = [f"own_agents:{name}" for name in ("Crashing", "Raising", "Hungry", "Slow")]
    run = sweep(request(*names, "random"), agents / "sweep")
    assert not run.missing()
    crashing, raising, hungry, slow = names
    for repeat in (0, 1):
        assert outcomes(run, "random", repeat) == ["ok"] * 3
        for label, words in (
            (crashing, "died (SIGSEGV): Fatal Python error: Segmentation fault"),
            (raising, "ValueError: no more ideas"),
        ):
            first, second, third = outcomes(run, label, repeat)
            assert first == "ok"
            assert second.startswith("failed: ")
            assert words in second
            assert third == "not tried: an earlier context failed"
    assert outcomes(run, hungry, 0) == ["ok", "out of memory", "not tried: out of memory at context 100"]
    assert outcomes(run, hungry, 1) == ["ok"] + ["not tried: out of memory at context 100"] * 2
    assert outcomes(run, slow, 0) == ["ok", "ok", "not tried: a decision took 0 s at context 100"]
    assert outcomes(run, slow, 1)[1].startswith("not tried: a decision took")
    (once,) = (p for p in run.points() if p.job.agent == slow and p.outcome == "ok" and p.context == 100)
    assert len(once.agent_ns) == 1


def test_a_process_that_says_nothing_is_a_data_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lram.harness.latency.records import end_of

    (tmp_path / "logs").mkdir()
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr("lram.harness.children.PYTHON", [str(silent)])
    monkeypatch.setattr(fresh_process, "SILENCE_S", 0.2)
    (point,) = sweeping.play(tmp_path, Job("a", "auto", 1, 0), (4, 100), 1)
    assert (point.context, point.outcome) == (4, "failed: nothing was heard of the process for 0 s")
    assert "nothing was heard" in end_of(point, EFFORT), "it is not waited for again"


def test_the_libraries_of_a_process_have_the_threads_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy's read a variable when they are loaded, and an agent may compute by NumPy."""
    (tmp_path / "logs").mkdir()
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\necho {' '.join('$' + name for name in names)} > {tmp_path}/told\ncat > /dev/null\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr("lram.harness.children.PYTHON", [str(python)])
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    list(sweeping.play(tmp_path, Job("a", "auto", 1, 0), (4,), 3))
    assert (tmp_path / "told").read_text().split() == ["3", "3", "3"]


def test_a_process_that_dies_before_it_reads_its_order_is_a_data_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr("lram.harness.children.PYTHON", [str(python)])
    # More than a pipe holds, so that the write meets the end of the process.
    contexts = tuple(range(1, 50_000))
    (point,) = sweeping.play(tmp_path, Job("a", "auto", 1, 0), contexts, 1)
    assert (point.context, point.outcome) == (1, "failed: the process died (exit code 3)")


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (
            "oom_kill 7",
            "oom_kill 7",
            "failed: the process died (SIGKILL): somebody ended it; the kernel killed no process for lack of "
            "memory meanwhile",
        ),
        ("oom_kill 7", "oom_kill 8", "out of memory"),
        ("pgfault 7", "pgfault 8", "out of memory"),
    ],
)
def test_a_process_that_was_killed_lacked_memory_only_where_the_kernel_may_have_killed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, outcome: str
) -> None:
    (tmp_path / "logs").mkdir()
    counts, python = tmp_path / "vmstat", tmp_path / "python"
    counts.write_text(f"nr_free_pages 3\n{before}\n")
    python.write_text(f'#!/bin/sh\necho "{after}" > {counts}\nkill -9 $$\n')
    python.chmod(0o755)
    monkeypatch.setattr("lram.harness.children.PYTHON", [str(python)])
    monkeypatch.setattr("lram.agents.memory._COUNTS", counts)
    (point,) = sweeping.play(tmp_path, Job("a", "auto", 1, 0), (4,), 1)
    assert point.outcome == outcome


def test_what_was_not_tried_tells_the_reason_of_its_own_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process ran out of memory at context 120, another one failed at 4."""
    plan, _ = make_plan(request("random"), lambda text: None)
    first, second = plan.jobs()

    def played(folder: Path, job: Job, contexts: tuple[int, ...], *rest: object) -> Iterator[LatencyPoint]:
        yield LatencyPoint(1, job, contexts[0], "failed: ValueError: no")

    monkeypatch.setattr(sweeping, "play", played)
    known = [LatencyPoint(1, first, 120, "out of memory")]
    found = sweeping.walk(tmp_path, plan, [(second, (4, 100, 120))], known)
    assert [point.outcome for point in found if isinstance(point, LatencyPoint)] == [
        "failed: ValueError: no",
        "not tried: an earlier context failed",
        "not tried: out of memory at context 120",
    ]


@pytest.mark.usefixtures("_ready")
def test_a_sweep_begun_on_another_machine_is_not_resumed_here(tmp_path: Path) -> None:
    run = sweep(request("random", contexts=(2,), repeats=1), tmp_path / "sweep")
    (segment,) = (run.path / "records").glob("*.jsonl")
    segment.write_bytes(b"")
    (file,) = (run.path / "provenance").glob("*.json")
    edit(file, lambda plain: plain.update(cpu="another processor"))
    with pytest.raises(LramError, match=r"begun on another processor, .* and this machine is"):
        resume(run.path)
    assert not run.points()


@pytest.mark.usefixtures("_ready")
def test_damaged_inputs_stop_a_resumed_sweep_before_any_process_fails(tmp_path: Path) -> None:
    run = sweep(request("random", contexts=(2,), repeats=1), tmp_path / "sweep")
    (segment,) = (tmp_path / "sweep" / "records").glob("*.jsonl")
    segment.write_bytes(b"")
    (run.path / "inputs.npz").write_bytes(b"no inputs")
    with pytest.raises(LramError, match=r"inputs\.npz cannot be read"):
        resume(run.path)
    assert not run.points()


def test_the_order_mixes_settings_and_visits_each_once_a_round() -> None:
    plan, _ = make_plan(
        request("random", "constant", batches=(1, 8, 16), repeats=4, contexts=(2,)), lambda text: None
    )
    jobs = plan.jobs()
    rounds = [jobs[first : first + 6] for first in range(0, 24, 6)]
    assert all(len({job.setting for job in one}) == 6 for one in rounds)
    assert all({job.repeat for job in one} == {number} for number, one in enumerate(rounds))
    assert len({tuple(job.setting for job in one) for one in rounds}) > 1, "the order is drawn for each round"
    assert jobs == plan.jobs()


COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "from lram.harness.cli import main; main()"
)


@pytest.mark.slow
@pytest.mark.usefixtures("_ready")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_that_is_ended_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, agent = tmp_path / "sweep", HeldAgent(tmp_path)
    words = [
        agent.spec,
        "-t",
        "toy/steps",
        "--contexts",
        "2,300",
        "--batch",
        "1",
        "--repeats",
        "3",
        "--no-loop",
        "--seconds",
        "0.05",
    ]
    process = subprocess.Popen(
        [*ready_python(), "-c", COMMAND, "latency", *words, "-o", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (found := list(folder.glob("records/*.jsonl"))) or b"\n" not in found[0].read_bytes():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    told = process.communicate(timeout=60)[0]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"lram latency --resume {folder}" in told
    before = {(p.job, p.context): p for p in LatencyRun(folder).points()}
    assert before
    assert LatencyRun(folder).missing(), "it was ended too late to test anything"
    _wait_for_none_left(str(folder))

    agent.let_go()
    run = resume(folder)
    assert not run.missing()
    points = run.points()
    assert len(points) == 6
    assert all(p.outcome == "ok" for p in points)
    for point in points:
        assert before.get((point.job, point.context), point) == point, "a point was measured again"
    assert len(run.provenance()) == 2


def _wait_for_none_left(folder: str) -> None:
    """Processes of a sweep that was killed end by themselves."""
    for _ in range(100):
        lines = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"lram.harness.latency.child" in words and _parent_is_gone(process):
                lines.append(words)
        if not lines:
            return
        time.sleep(0.1)
    raise AssertionError(f"left behind: {lines}")


def _parent_is_gone(process: Path) -> bool:
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return parent == 1 or not Path(f"/proc/{parent}").exists()


def test_what_cannot_be_measured_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for words, changes in {
        "there is no agent": {"agents": ["xlstn-1M"]},
        "contexts must be 1 or more": {"contexts": (0,)},
        "batch must be 1 or more": {"batches": ()},
        "repeats must be 1 or more": {"repeats": 0},
        "in GiB, must be 0 or more and at most 1e+100, not inf": {"memory_gib": math.inf},
        "seconds of the effort must be 0 or more": {"effort": Effort(seconds=math.inf)},
        "threads must be at most": {"threads": 2**63},
        "are 1,200,000 points, and a sweep has at most 1,000,000": {"repeats": 200_000, "batches": (1, 2)},
        "measured on one task, and toy/reach,toy/steps is 2": {"task": "toy/reach,toy/steps"},
        "there is no step 'fast'": {"agents": ["mamba-1M"], "steps": ("fast",)},
        "the device 'nowhere' cannot be used here": {"device": "nowhere"},
        "cannot play toy/steps": {"agents": ["planner"]},
    }.items():
        with pytest.raises(LramError, match=words.replace("(", r"\(").replace("+", r"\+")):
            sweep(
                request("random", **changes) if "agents" not in changes else request(**changes),
                tmp_path / "x",
            )
        assert not (tmp_path / "x").exists()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    with pytest.raises(LramError, match="not an empty folder"):
        sweep(request("random"), tmp_path / "x")
    with pytest.raises(LramError, match="holds no latencies"):
        resume(tmp_path / "x")


@pytest.mark.slow
@pytest.mark.usefixtures("_ready")
def test_a_sweep_is_not_gone_on_with_other_weights(tmp_path: Path) -> None:
    import shutil

    from lram.agents.checkpoints.shipped import shipped_checkpoints

    mine = tmp_path / "mine"
    shutil.copytree(shipped_checkpoints()["small-mamba"], mine)
    run = sweep(request(str(mine), contexts=(2,), repeats=1, task="toy/reach"), tmp_path / "sweep")
    (segment,) = (tmp_path / "sweep" / "records").glob("*.jsonl")
    segment.write_bytes(b"")
    shutil.rmtree(mine)
    shutil.copytree(shipped_checkpoints()["small-transformer"], mine)
    with pytest.raises(LramError, match="is not the one the sweep was started with"):
        resume(run.path)


@pytest.mark.usefixtures("_ready")
def test_a_torn_line_is_not_read_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    run = sweep(request("random", contexts=(2, 3), repeats=1), tmp_path / "sweep")
    (segment,) = (tmp_path / "sweep" / "records").glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-20])
    assert [point.context for point in run.points()] == [2]
    assert [contexts for _, contexts in run.missing()] == [(3,)]
    segment.write_bytes(b"{}\n" + whole)
    with pytest.raises(LramError, match="line 1 is damaged"):
        run.points()


def test_batches_are_passes_of_one_or_of_a_multiple_of_eight_rows() -> None:
    plan, _ = make_plan(request("random", contexts=(2,)), lambda text: None)
    rows = {batch: plan.compute("auto", batch).rows for batch in (1, 2, 8, 9, 16)}
    assert rows == {1: 1, 2: 8, 8: 8, 9: 16, 16: 16}
    assert isinstance(plan, LatencyPlan)
    assert LatencyPoint(1, Job("a", "auto", 1, 0), 5, "ok").agent_ns == ()
    assert os.environ.get("LRAM_HOME")


@pytest.mark.usefixtures("_ready")
def test_the_command_prints_every_point_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from lram.harness.cli.latency import SweepOptions, latency

    folder = tmp_path / "sweep"
    options = SweepOptions(contexts="2,3", repeats=1, task="toy/reach", quick=True)
    assert latency(["random", "still=constant"], output=folder, options=options) == 0
    told = capsys.readouterr()
    assert "recording" in told.err
    rows = [line.split() for line in told.out.splitlines() if line.startswith(("random ", "still "))]
    assert [row[:3] for row in rows[:4]] == [
        ["random", "1", "2"],
        ["random", "1", "3"],
        ["still", "1", "2"],
        ["still", "1", "3"],
    ]
    assert f"lram report {folder}" in told.out
    assert latency(resume=folder, json=True) == 0
    result = json.loads(capsys.readouterr().out)
    assert [spot["context"] for spot in result["spots"]] == [2, 3, 2, 3]
    with pytest.raises(LramError, match="leave out the agents beside --resume"):
        latency(["random"], resume=folder)
    with pytest.raises(LramError, match="with -o, or that of an old one with --resume"):
        latency(["random"])


def test_a_sweep_that_comes_along_names_agents_contexts_and_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lram.agents.factory import names_agent
    from lram.harness.cli.latency import SweepOptions, latency
    from lram.harness.latency import sweep as sweeping
    from lram.harness.latency.shipped import SWEEPS

    asked = []

    def taken(request: LatencyRequest, *more: object, **options: object) -> None:
        asked.append(request)
        raise LramError("measured elsewhere")

    monkeypatch.setattr(sweeping, "sweep", taken)
    for name, one in SWEEPS.items():
        assert all(names_agent(agent) for agent in one.agents)
        with pytest.raises(LramError, match="elsewhere"):
            latency(output=tmp_path / name, options=SweepOptions(name))
        request = asked[-1]
        assert (request.agents, tuple(request.contexts)) == (one.agents, one.contexts)
        assert (tuple(request.batches), request.loop, request.repeats) == (one.batches, False, 5)
    options = SweepOptions("lanes-small", contexts="3", repeats=1, loop=True)
    with pytest.raises(LramError, match="elsewhere"):
        latency(["random"], output=tmp_path / "x", options=options)
    request = asked[-1]
    assert (request.agents, tuple(request.contexts)) == (["random"], (3,))
    assert (request.repeats, request.loop) == (1, True)
    assert tuple(asked[-1].batches) == SWEEPS["lanes-small"].batches
    with pytest.raises(LramError, match="there is no sweep 'lanes'; choose one of contexts-small"):
        latency(output=tmp_path / "x", options=SweepOptions("lanes"))
    with pytest.raises(LramError, match="leave out --sweep beside --resume"):
        latency(resume=tmp_path / "x", options=SweepOptions("lanes-small"))
    settings = SweepOptions(step="auto", threads=1, seed=0, memory_limit=0.0, quick=True)
    with pytest.raises(LramError, match="leave out --step, --threads, --seed, --memory-limit, --quick"):
        latency(resume=tmp_path / "x", options=settings)
