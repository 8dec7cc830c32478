"""An evaluation gives the same records however it is spread, and another seed gives others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.records import EpisodeRecord, Measured
from lram.harness.store import Run

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


def test_toy_records_do_not_depend_on_lanes_workers_or_order(tmp_path: Path) -> None:
    tasks = "toy/reach,toy/steps,toy/image,toy/lives,toy/slow,toy/noscore"
    runs = [
        play(tmp_path / str(place), ["random", "constant"], tasks, machine, episodes=4, seed=3)
        for place, machine in enumerate(SPREADS.values())
    ]
    assert len(runs[0]) == 2 * 6 * 4
    assert all(run == runs[0] for run in runs[1:])


def test_a_models_trajectories_do_not_depend_on_lanes_workers_or_order(tmp_path: Path) -> None:
    """Bit for bit: every network pass has the same shape, whichever lanes are ready."""
    agents = ["xlstm[7:1]-1M", "mamba-1M", "transformer-1M"]
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
        "ale_py": ("atari/breakout,atari/boxing", ["random"]),
        "procgen": ("procgen/starpilot,procgen/coinrun", ["random"]),
        "dm_control": ("dmcontrol/cartpole-balance,dmcontrol/reacher-easy", ["random"]),
        "metaworld": ("metaworld/reach-v3,metaworld/button-press-v3", ["random", "scripted"]),
    }[module]
    spreads = list(SPREADS.values())[:2]
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
    from lram.agents.baselines import RandomAgent

    run = evaluate({"mine": RandomAgent()}, ["toy/steps"], tmp_path / "run", episodes=2)
    frame = run.episodes()
    assert list(frame["agent"]) == ["mine", "mine"]
    assert frame["episode_return"].notna().all()


def test_a_run_is_not_resumed_under_another_protocol_version(tmp_path: Path) -> None:
    machine = Machine(lanes=1, workers=1)
    evaluate("random", "toy/steps", tmp_path / "run", episodes=1, machine=machine)
    plan = tmp_path / "run" / "run.json"
    plan.write_text(plan.read_text().replace("toy:plain@1", "toy:plain@7"))
    (segment,) = (tmp_path / "run" / "records").iterdir()
    segment.unlink()
    with pytest.raises(
        LramError, match="started with the protocol toy:plain@7, and this version has toy:plain@1"
    ):
        resume(tmp_path / "run", machine=machine)


def test_a_run_is_not_resumed_with_other_weights(tmp_path: Path) -> None:
    machine = Machine(lanes=1, workers=1)
    evaluate("mamba-1M", "toy/steps", tmp_path / "run", episodes=1, machine=machine)
    plan = tmp_path / "run" / "run.json"
    plan.write_text(re.sub(r'"digest": "[0-9a-f]{8}', '"digest": "00000000', plan.read_text()))
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
        "from lram.envs.toy import DOMAIN as TOY\n"
        "TASK = next(task for task in TOY.tasks if task.name == 'steps')\n"
        "DOMAIN = replace(TOY, name='guest', tasks=(replace(TASK, domain='guest'),))\n"
        "def agent():\n"
        "    from lram.agents.baselines import ConstantAgent\n"
        "    return ConstantAgent()\n"
    )
    answer = subprocess.run(
        [
            sys.executable,
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


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="the device 'nonsense' cannot be used here"):
        evaluate("mamba-1M", "toy/steps", tmp_path / "run", machine=Machine(device="nonsense"))
    assert not (tmp_path / "run").exists()


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
    from lram.harness.provenance import _git

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "own.py").write_text("")
    subprocess.run([*git, "-C", str(tmp_path), "add", "own.py"], check=True)
    subprocess.run([*git, "-C", str(tmp_path), "commit", "-q", "-m", "first"], check=True)
    (tmp_path / "installed.py").write_text("")
    assert re.fullmatch("[0-9a-f]{40}", _git(tmp_path, tracked="own.py"))
    assert _git(tmp_path, tracked="installed.py") == ""
    (tmp_path / "own.py").write_text("changed")
    assert _git(tmp_path).endswith("+changes")
