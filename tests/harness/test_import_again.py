"""The same source, imported into the same store once more: with the same options, and with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lram.agents.api import AgentError
from lram.agents.trajectories import TrajectoryStore
from lram.agents.trajectories.readers import Options
from lram.harness.collection.importing import ImportTasks, import_data
from lram.harness.errors import LramError

STEPS = 12
MINE = ImportTasks(task="lab/x", reward_scale=1.0)


def write(folder: Path, *, seed: int = 0, task: str = "task", episodes: int = 2, **arrays: Any) -> Path:
    """An npz folder of the reference's layout, its actions within [-2, 2]."""
    (folder / task).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(episodes):
        held = {
            "states": rng.standard_normal((STEPS, 6)).astype(np.float32),
            "actions": rng.uniform(-2, 2, (STEPS, 3)).astype(np.float32),
            "rewards": rng.random(STEPS),
            "dones": np.arange(STEPS) == STEPS - 1,
        }
        np.savez(folder / task / f"{number}.npz", **{**held, **arrays})
    lengths = {str(number): STEPS for number in range(episodes)}
    (folder / task / "episode_lengths.json").write_text(json.dumps(lengths))
    return folder


def count(store: Path) -> int:
    return len(TrajectoryStore(store).episodes)


def test_the_same_options_add_nothing(tmp_path: Path) -> None:
    source, store = write(tmp_path / "raw"), tmp_path / "store"
    clipped = Options(clip_actions=True)
    assert import_data(source, store, MINE, clipped).episodes == 2
    again = import_data(source / "task", store, MINE, clipped)
    assert (again.episodes, again.known, count(store)) == (0, 2, 2)


def test_a_corrected_option_wants_another_store(tmp_path: Path) -> None:
    source, store = write(tmp_path / "raw"), tmp_path / "store"
    import_data(source, store, MINE, Options(clip_actions=True))
    mapped = Options(action_bounds=(-2.0, 2.0))
    for where in (source, source / "task"):
        with pytest.raises(
            LramError, match=r"0\.npz is in .*store already, with other actions .*another store"
        ):
            import_data(where, store, MINE, mapped)
    report = import_data(write(tmp_path / "raw", episodes=3), store, MINE, mapped, skip_bad=True)
    assert (report.episodes, len(report.problems), count(store)) == (1, 2, 3), "the third is new"
    assert import_data(source, tmp_path / "other", MINE, mapped).episodes == 3


def test_rewards_that_were_left_alone_are_not_a_second_demonstration(tmp_path: Path) -> None:
    source, store, rng = tmp_path / "lift.hdf5", tmp_path / "store", np.random.default_rng(0)
    with h5py.File(source, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["rewards"] = rng.uniform(-1, 1, (STEPS, 7)), rng.random(STEPS)
        for group in ("obs", "next_obs"):
            for key in ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object"):
                demo[f"{group}/{key}"] = rng.standard_normal((STEPS, 3))
    import_data(source, store, MINE, Options())
    with pytest.raises(LramError, match=r"lift\.hdf5#demo_0 is in .* already, with other rewards "):
        import_data(source, store, MINE, Options(keep_rewards=True))
    assert count(store) == 1


def test_several_corrections_at_once_are_noticed_by_the_observations(tmp_path: Path) -> None:
    source, store = write(tmp_path / "raw", episodes=1), tmp_path / "store"
    import_data(source, store, MINE, Options(clip_actions=True))
    with np.load(source / "task" / "0.npz") as held:
        arrays = {**held, "rewards": held["rewards"] * 2}
    write(source, episodes=1, **arrays)
    with pytest.raises(LramError, match="with other actions and rewards "):
        import_data(source, store, MINE, Options(action_bounds=(-2.0, 2.0)))


def test_other_episodes_of_the_same_names_are_other_episodes(tmp_path: Path) -> None:
    store, sparse = tmp_path / "store", np.arange(STEPS) == STEPS - 1
    clipped = Options(clip_actions=True)
    import_data(write(tmp_path / "a" / "raw", rewards=sparse * 1.0), store, MINE, clipped)
    other = write(tmp_path / "b" / "raw", seed=1, rewards=sparse * 1.0)
    assert import_data(other, store, MINE, clipped).episodes == 2
    assert count(store) == 4


def test_a_stored_episode_that_cannot_be_compared_is_named(tmp_path: Path) -> None:
    source, store = write(tmp_path / "raw"), tmp_path / "store"
    import_data(source, store, MINE, Options(clip_actions=True))
    part = next((store / "parts").rglob("*.hdf5"))
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1] + b"\xff")
    with pytest.raises(AgentError, match=str(part)):
        import_data(source, store, MINE, Options(action_bounds=(-2.0, 2.0)))
