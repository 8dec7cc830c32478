"""An evaluation gives the same records however it is spread, and another seed gives others."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support.files import edit, replace_text
from support.ready import ready_python

from lram.agents.backbones import stepping
from lram.agents.compute import PRECISIONS, Compute, Precision
from lram.agents.factory import create_agent
from lram.envs.workers.process import Deadlines
from lram.harness.cli.options import MachineOptions
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume, started_machine
from lram.harness.plan import RunRequest, labelled_specs, make_plan
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run, RunWriter
from lram.reports import summarise
from lram.reports.model import Caveat

pytestmark = pytest.mark.usefixtures("checked_once")

SPREADS = {
    "one by one": Machine(lanes=1, workers=1),
    "eight lanes in four workers, shuffled": Machine(lanes=8, workers=4, shuffle=True),
    "eight lanes in one worker": Machine(lanes=8, workers=1),
    "three lanes in two workers": Machine(lanes=3, workers=2),
}


def play(
    folder: Path, agents: list[str], tasks: str, machine: Machine, **options: int
) -> list[EpisodeRecord]:
    blank = Measured(0, 0, 0, 0, 0, 0)
    run = evaluate(agents, tasks, folder, machine=machine, **options)  # type: ignore[arg-type]
    return [replace(record, measured=blank) for record in run.records()]


@pytest.mark.slow
def test_toy_records_do_not_depend_on_lanes_workers_or_order(tmp_path: Path) -> None:
    tasks = "toy/reach,toy/steps,toy/image,toy/lives,toy/slow,toy/noscore"
    runs = [
        play(tmp_path / str(place), ["random", "constant"], tasks, machine, episodes=2, seed=3)
        for place, machine in enumerate(SPREADS.values())
    ]
    assert len(runs[0]) == 2 * 6 * 2
    assert all(run == runs[0] for run in runs[1:])


def test_a_folder_does_not_hide_the_agent_that_is_called_as_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("random", "random~0.5", "constant=0.5", "small-mamba", "mamba-1M"):
        Path(name).mkdir()
        assert labelled_specs(name) == {name: name}
        assert labelled_specs(f"x={name}") == {"x": name}
    Path("runs/x/checkpoint").mkdir(parents=True)
    assert labelled_specs("runs/x/checkpoint") == {"x": str(tmp_path / "runs/x/checkpoint")}
    spec = str(tmp_path / "runs/x/checkpoint@window=5~0.1")
    assert labelled_specs("runs/x/checkpoint@window=5~0.1") == {"x@window=5~0.1": spec}
    evaluate(["random", "random~0.5"], "toy/reach", "run", episodes=1)
    assert labelled_specs("./random") == {"random": str(tmp_path / "random")}
    with pytest.raises(LramError, match="no checkpoint"):
        evaluate("./random", "toy/reach", "other", episodes=1)


@pytest.mark.slow
def test_a_models_trajectories_do_not_depend_on_lanes_workers_or_order(
    tmp_path: Path, shallow: dict[str, str]
) -> None:
    """Bit for bit: every network pass has the same shape, whichever lanes are ready."""
    agents = [f"{name}={folder}" for name, folder in shallow.items()]
    runs = [
        play(tmp_path / str(place), agents, "toy/reach,toy/image,toy/lives", machine, episodes=3)
        for place, machine in enumerate((*SPREADS.values(), Machine(lanes=11, workers=2)))
    ]
    assert len({record.trajectory for record in runs[0]}) > 9
    assert all(run == runs[0] for run in runs[1:])


@pytest.mark.slow
@pytest.mark.parametrize("module", ["ale_py", "procgen", "dm_control", "metaworld"])
def test_real_records_do_not_depend_on_lanes_workers_or_order(tmp_path: Path, module: str) -> None:
    pytest.importorskip(module, reason=f"{module} is not installed")
    tasks, agents = {
        "ale_py": ("atari/breakout,atari/seaquest", ["random"]),
        "procgen": ("procgen/starpilot,procgen/coinrun", ["random"]),
        "dm_control": ("dmcontrol/cartpole-balance,dmcontrol/reacher-easy", ["random"]),
        "metaworld": ("metaworld/reach-v3,metaworld/button-press-v3", ["random", "scripted"]),
    }[module]
    # A worker imports its simulator for seconds; the toy tasks are played by more of them.
    spreads = [SPREADS["one by one"], Machine(lanes=4, workers=2, shuffle=True)]
    runs = [
        play(tmp_path / str(place), agents, tasks, machine, episodes=2)
        for place, machine in enumerate(spreads)
    ]
    assert runs[0] == runs[1]
    assert {record.status for record in runs[0]} == {"scored"}


def test_another_seed_gives_other_episodes_and_agents_share_initial_states(tmp_path: Path) -> None:
    machine = Machine(lanes=4, workers=1)
    first = play(tmp_path / "1", ["random", "constant"], "toy/reach", machine, episodes=3, seed=1)
    second = play(tmp_path / "2", ["random", "constant"], "toy/reach", machine, episodes=3, seed=2)
    assert {r.seed for r in first}.isdisjoint(r.seed for r in second)
    assert [r.seed for r in first if r.agent == "random"] == [r.seed for r in first if r.agent == "constant"]


def test_the_run_says_where_and_how_it_was_made(tmp_path: Path) -> None:
    run = evaluate("random", "toy/steps", tmp_path / "run", episodes=2, machine=Machine(lanes=2, workers=1))
    (provenance,) = run.provenance()
    assert provenance.settings["lanes"] == "2"
    assert provenance.settings["workers"] == "1"
    assert provenance.workers["toy"]["python"] == provenance.python
    assert provenance.packages["lram-bench"]
    assert provenance.cpu
    assert list((run.path / "logs").glob("0001/worker-*-toy.log"))


def test_agents_may_be_objects_and_records_load_as_a_frame(tmp_path: Path) -> None:
    from lram.agents.experts.baselines import RandomAgent

    run = evaluate({"mine": RandomAgent()}, ["toy/steps"], tmp_path / "run", episodes=2)
    frame = run.episodes()
    assert list(frame["agent"]) == ["mine", "mine"]
    assert frame["episode_return"].notna().all()


def test_a_run_is_not_resumed_under_another_protocol_version(tmp_path: Path) -> None:
    machine = Machine(lanes=1, workers=1)
    evaluate("random", "toy/steps", tmp_path / "run", episodes=1, machine=machine)
    replace_text(tmp_path / "run" / "run.json", "toy:plain@1", "toy:plain@7")
    (segment,) = (tmp_path / "run" / "records").iterdir()
    segment.unlink()
    with pytest.raises(
        LramError, match="started with the protocol toy:plain@7, and this version has toy:plain@1"
    ):
        resume(tmp_path / "run", machine=machine)


def test_a_run_whose_protocol_is_no_id_is_not_resumed(tmp_path: Path) -> None:
    machine = Machine(lanes=1, workers=1)
    evaluate("random", "toy/steps", tmp_path / "run", episodes=1, machine=machine)
    replace_text(tmp_path / "run" / "run.json", "toy:plain@1", "toy-plain-1")
    (segment,) = (tmp_path / "run" / "records").iterdir()
    segment.unlink()
    with pytest.raises(LramError, match="'toy-plain-1' is no id of a protocol; one is domain:name@version"):
        resume(tmp_path / "run", machine=machine)


def test_a_run_is_not_resumed_with_other_weights(tmp_path: Path, shallow: dict[str, str]) -> None:
    machine = Machine(lanes=1, workers=1)
    evaluate(shallow["mamba"], "toy/steps", tmp_path / "run", episodes=1, machine=machine)
    replace_text(tmp_path / "run" / "run.json", '"digest":"[0-9a-f]{8}', '"digest":"00000000')
    (segment,) = (tmp_path / "run" / "records").iterdir()
    segment.unlink()
    with pytest.raises(LramError, match="is not the one the run was started with"):
        resume(tmp_path / "run", machine=machine)


def test_domains_and_agents_of_other_packages_come_in_by_entry_point(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "guest-1.0.dist-info").mkdir(parents=True)
    (site / "guest-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n"
    )
    (site / "guest-1.0.dist-info" / "entry_points.txt").write_text(
        "[lram.domains]\nguest = guest:DOMAIN\n[lram.agents]\nguest-agent = guest:agent\n"
    )
    (site / "guest.py").write_text(
        "from dataclasses import replace\n"
        "from lram.envs.domains.toy import DOMAIN as TOY\n"
        "TASK = next(task for task in TOY.tasks if task.name == 'steps')\n"
        "DOMAIN = replace(TOY, name='guest', tasks=(replace(TASK, domain='guest'),))\n"
        "def agent():\n"
        "    from lram.agents.experts.baselines import ConstantAgent\n"
        "    return ConstantAgent()\n"
    )
    answer = subprocess.run(
        [
            *ready_python(),
            "-m",
            "lram.harness.cli",
            "eval",
            "guest-agent",
            "--tasks",
            "guest",
            "-o",
            "run",
            "-q",
        ],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    records = Run(tmp_path / "run").records()
    assert {(record.agent, record.task, record.status) for record in records} == {
        ("guest-agent", "guest/steps", "scored")
    }


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_named(tmp_path: Path, shallow: dict[str, str], device: str) -> None:
    with pytest.raises(LramError, match=f"the device '{device}' cannot be used here"):
        evaluate(shallow["mamba"], "toy/steps", tmp_path / "run", machine=Machine(device=device))
    assert not (tmp_path / "run").exists()
    run = interrupted(tmp_path / "run", [shallow["mamba"]], Machine(lanes=1, workers=1))
    with pytest.raises(LramError, match=f"the device '{device}' cannot be used here"):
        resume(run, machine=Machine(device=device))


def test_folders_beside_the_user_do_not_shadow_what_simulators_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "select", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    run = evaluate("random", "toy/steps", tmp_path / "run", episodes=1, machine=Machine(lanes=1, workers=1))
    assert [record.status for record in run.records()] == ["scored"]


def test_the_commit_is_that_of_the_source_and_never_of_a_repository_around_it(tmp_path: Path) -> None:
    from lram.harness.storage.commits import commit_of

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "own.py").write_text("")
    subprocess.run([*git, "-C", str(tmp_path), "add", "own.py"], check=True)
    subprocess.run([*git, "-C", str(tmp_path), "commit", "-q", "-m", "first"], check=True)
    (tmp_path / "installed.py").write_text("")
    assert re.fullmatch("[0-9a-f]{40}", commit_of(tmp_path, tracked="own.py"))
    assert commit_of(tmp_path, tracked="installed.py") == ""
    (tmp_path / "own.py").write_text("changed")
    assert commit_of(tmp_path).endswith("+changes")


def interrupted(folder: Path, agents: list[str], machine: Machine, keep: int = 1) -> Run:
    """Return a run of two episodes an agent of which only ``keep`` records are left."""
    run = evaluate(agents, "toy/steps", folder, episodes=2, machine=machine)
    segment = run.path / "records" / "0001.jsonl"
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:keep]))
    return run


def without_compute(run: Run) -> None:
    """Make the run's plan one of a version that did not keep how models compute."""
    edit(run.path / "run.json", lambda plan: [plan.pop("compute"), plan.pop("threads")])


def mixed_computing(run: Run) -> list[Caveat]:
    return [caveat for caveat in summarise([run]).caveats if caveat.kind == "mixed computing"]


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_a_run_goes_on_computing_as_it_was_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shallow: dict[str, str], older: bool
) -> None:
    machine = Machine(lanes=1, workers=1, precision="bfloat16", step="torch", rows=16, threads=2)
    run = interrupted(tmp_path / "run", [f"m={shallow['xlstm']}"], machine)
    if older:
        without_compute(run)
    finished = resume(run.path)
    assert {record.status for record in finished.records()} == {"scored"}
    assert len(finished.records()) == 2
    first, second = finished.provenance()
    assert second.settings["step"] == "torch"
    assert second.compute == first.compute
    facts = second.compute["m"]
    assert (facts["precision"], facts["rows a pass"], facts["threads"]) == ("bfloat16", "16", "2")
    assert capsys.readouterr().err == ""
    assert not mixed_computing(finished)


def test_a_run_goes_on_failing_as_it_was_started(tmp_path: Path) -> None:
    plan, _ = make_plan(RunRequest(agents="random", tasks="toy/steps", episodes=1))
    RunWriter.create(tmp_path / "run", plan).close()
    run = Run(tmp_path / "run")
    assert started_machine(run) == Machine(), "where nothing is noted, it is as usual"
    machine = Machine(attempts=5, quarantine_after=9, deadlines=Deadlines(7.0, 1.5), shuffle=True)
    for one in (machine, Machine(attempts=1)):  # what a later session was told holds for that session
        with RunWriter(run) as writer:
            writer.write_provenance(collect(asdict(replace(one, lanes=3)), {}))
            writer.log_folder()
    assert started_machine(run) == machine
    given = MachineOptions(attempts=4).machine(run)
    assert (given.attempts, given.quarantine_after, given.deadlines) == (4, 9, Deadlines(7.0, 1.5))
    edit(run.path / "provenance" / "0001.json", lambda told: told["settings"].update(attempts="many"))
    with pytest.raises(LramError, match="notes attempts 'many', which is no setting"):
        started_machine(run)


def test_agents_take_the_devices_of_a_list_in_turn_and_a_resumed_run_has_the_same(
    tmp_path: Path, shallow: dict[str, str]
) -> None:
    # The processor under two names.
    machine = Machine(lanes=1, workers=1, step="torch", rows=1, device="cpu,cpu:0")
    agents = [f"{label}={shallow['mamba']}" for label in "abc"]
    run = interrupted(tmp_path / "run", agents, machine)
    first, second = resume(run.path).provenance()
    told = {label: facts["device"] for label, facts in first.compute.items()}
    assert told == {"a": "cpu", "b": "cpu:0", "c": "cpu"}
    assert {label: facts["device"] for label, facts in second.compute.items()}.items() <= told.items()
    assert "changed since the run's start" not in second.settings
    with pytest.raises(LramError, match="the devices 'cpu,cpu' name one twice"):
        evaluate(shallow["mamba"], "toy/steps", tmp_path / "twice", machine=Machine(device="cpu,cpu"))


def test_a_list_of_devices_is_of_one_machine_and_refused_on_a_cluster() -> None:
    ray = pytest.importorskip("lram.harness.executors.ray")
    machine = Machine(device="cuda:0,cuda:1")
    with (
        pytest.raises(
            LramError, match="names devices of one machine; with --backend ray give --device cuda,"
        ),
        ray.RayExecutor().open(machine),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("started", "later"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_run_is_not_resumed_in_another_precision(
    tmp_path: Path, shallow: dict[str, str], started: Precision, later: Precision
) -> None:
    run = interrupted(tmp_path / "run", [shallow["mamba"]], Machine(lanes=1, workers=1, precision=started))
    with pytest.raises(LramError, match=f"^the run was started with --precision {started}, and {later} "):
        resume(run, machine=Machine(lanes=1, workers=1, precision=later))
    assert len(run.records()) == 1


def test_another_precision_is_named_as_the_cause_where_only_the_agent_shows_it(
    tmp_path: Path, shallow: dict[str, str]
) -> None:
    machine = Machine(lanes=1, workers=1)
    agents = {
        precision: create_agent(shallow["mamba"], compute=Compute(precision=precision))
        for precision in PRECISIONS
    }
    run = evaluate({"m": agents["bfloat16"]}, "toy/steps", tmp_path / "run", episodes=1, machine=machine)
    (run.path / "records" / "0001.jsonl").unlink()
    with pytest.raises(LramError, match="agent m was started with --precision bfloat16 and is float32 now"):
        resume(run, agents={"m": agents["float32"]}, machine=machine)


@pytest.mark.slow
def test_a_session_that_computes_otherwise_says_so_and_the_report_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shallow: dict[str, str]
) -> None:
    agents = [f"m={shallow['xlstm']}", "random"]
    run = interrupted(tmp_path / "run", agents, Machine(lanes=1, workers=1, step="torch"))
    finished = resume(run, machine=Machine(lanes=1, workers=1, step="torch", rows=16, threads=2))
    said = "rows a pass 16 instead of 8 (m); threads 2 instead of 1 (m)"
    assert said in capsys.readouterr().err
    first, second = finished.provenance()
    assert "changed since the run's start" not in first.settings
    assert second.settings["changed since the run's start"] == said
    (caveat,) = mixed_computing(finished)
    assert caveat.text.startswith("The episodes of 1 agent were not all computed alike")
    assert caveat.items == ("m: rows a pass 8 and 16; threads 1 and 2",)


@pytest.mark.slow
def test_a_step_that_resolves_to_another_form_is_a_difference(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    shallow: dict[str, str],
) -> None:
    pytest.importorskip("numba")
    run = interrupted(tmp_path / "run", [f"m={shallow['mamba']}"], Machine(lanes=1, workers=1))
    monkeypatch.setattr(stepping, "why_not_fused", lambda backbone: "numba is not installed")
    finished = resume(run)
    assert re.search(r"step plain PyTorch \S+ instead of fused kernels, numba", capsys.readouterr().err)
    (caveat,) = mixed_computing(finished)
    assert re.fullmatch(r"m: step fused kernels, .* and plain PyTorch \S+", caveat.items[0])


@pytest.mark.slow
def test_sessions_without_a_model_or_without_a_record_make_no_caveat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shallow: dict[str, str]
) -> None:
    plain, other = Machine(lanes=1, workers=1), Machine(lanes=1, workers=1, rows=16, threads=2)
    run = resume(interrupted(tmp_path / "baseline", ["random"], plain), machine=other)
    assert capsys.readouterr().err == ""
    assert not mixed_computing(run)
    run = resume(interrupted(tmp_path / "model", [shallow["mamba"]], plain, keep=0), machine=other)
    assert "threads 2 instead of 1" in capsys.readouterr().err
    assert not mixed_computing(run)
