"""An evaluation gives the same records however it is spread, and another seed gives others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lram.harness.evaluation import Machine, evaluate
from lram.harness.records import EpisodeRecord, Measured

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
    run = evaluate("random", "toy/steps", tmp_path / "run", episodes=1, machine=Machine(lanes=2, workers=1))
    (provenance,) = run.provenance()
    assert provenance.settings["lanes"] == "2"
    assert provenance.settings["workers"] == "1"
    assert provenance.workers["toy"]["python"] == provenance.python
    assert provenance.packages["lram-bench"]
    assert provenance.cpu
    assert list((run.path / "logs").glob("worker-*-toy.log"))


def test_agents_may_be_objects_and_records_load_as_a_frame(tmp_path: Path) -> None:
    from lram.agents.baselines import RandomAgent

    run = evaluate({"mine": RandomAgent()}, ["toy/steps"], tmp_path / "run", episodes=2)
    frame = run.episodes()
    assert list(frame["agent"]) == ["mine", "mine"]
    assert frame["episode_return"].notna().all()
