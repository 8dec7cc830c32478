"""Readers of public data sets, on small files in exactly their layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.agents.trajectories.readers import Imported, Note, Options, Problem, Shapes, detect, read
from lram.agents.trajectories.readers.conversion import MAPPED

WIDTHS = {"reach-v2": (39, 4), "IIWA_Box_None_Push": (93, 8), "Panda_Stack_D0": (23, 7)}


@dataclass
class AnyTask:
    """Takes every name as a task of its own; sizes from ``WIDTHS``, or from what is seen."""

    fixed: TaskSpec | None = None
    only: str = ""
    limit: int | None = None

    def find(self, names: tuple[str, ...]) -> str:
        if "unknown" in names:
            raise AgentError("no task goes by the name 'unknown'; say which with --task")
        known = [name for name in names if name in WIDTHS]
        return self.fixed.id if self.fixed else f"some/{(known or names)[0]}"

    def wanted(self, task_id: str) -> bool:
        return not self.only or task_id == self.only

    def spec(self, task_id: str, shapes: Shapes) -> TaskSpec:
        width, size = WIDTHS.get(task_id.partition("/")[2], (shapes.observation_shape[0], shapes.action_size))
        shape = shapes.observation_shape if shapes.observation == "image" else (width,)
        domain = task_id.partition("/")[0]
        made = TaskSpec(task_id, domain, shapes.observation, shape, shapes.action, size or 9, None, 1.0)
        return self.fixed or made

    def horizon(self, task_id: str) -> int | None:
        return self.limit


def results(path: Path, layout: str = "", tasks: AnyTask | None = None, **options: Any) -> list[Any]:
    return list(read(path, tasks or AnyTask(), Options(**options), layout))


def trajectories(
    path: Path, layout: str = "", tasks: AnyTask | None = None, **options: Any
) -> list[Trajectory]:
    found = results(path, layout, tasks, **options)
    assert [item for item in found if isinstance(item, Problem)] == []
    return [item.trajectory for item in found if isinstance(item, Imported)]


def notes(found: list[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in found:
        if isinstance(item, Note):
            counts[item.text] = counts.get(item.text, 0) + item.count
    return counts


def episode(length: int, width: int, size: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "states": rng.normal(size=(length, width)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (length, size)).astype(np.float32),
        "rewards": rng.normal(size=length).astype(np.float32),
    }


# --- the layout of the reference implementation ---


def lram_file(file: Path, arrays: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz":
        np.savez(file, **arrays)
        return
    with h5py.File(file, "w") as group:
        for key, value in arrays.items():
            compress = {"compression": "gzip", "compression_opts": 1} if np.ndim(value) else {}
            group.create_dataset(key, data=value, **compress)


def lram_task(folder: Path, episodes: list[dict[str, Any]], ending: str = ".hdf5") -> Path:
    """Write a task's folder; episodes lack what is derived: returns-to-go, dones and the JSON files."""
    lengths, returns = {}, {}
    for number, arrays in enumerate(episodes):
        togo = np.cumsum(arrays["rewards"][::-1])[::-1].astype(np.float32)
        lram_file(folder / f"{number}{ending}", {"returns_to_go": togo, "dones": True, **arrays})
        lengths[str(number)] = float(len(arrays["actions"]))
        returns[str(number)] = float(arrays["rewards"].sum())
    (folder / "episode_lengths.json").write_text(json.dumps(lengths))
    (folder / "episode_returns.json").write_text(json.dumps(returns))
    (folder / "episode_trjids.json").write_text(json.dumps({name: int(name) for name in lengths}))
    (folder / "stats.json").write_text(json.dumps({"episodes": len(lengths)}))
    return folder


@pytest.fixture
def lram(tmp_path: Path) -> Path:
    lram_task(tmp_path / "base" / "reach-v2", [episode(200, 39, 4, 1), episode(7, 39, 4, 2)])
    return tmp_path / "base"


def change(file: Path, key: str, value: Callable[[Any], Any] | None) -> None:
    """Replace a data set of an HDF5 file (None: remove it)."""
    with h5py.File(file, "r+") as group:
        old = group[key][()]
        del group[key]
        if value is not None:
            group[key] = value(old)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("ending", [".hdf5", ".npz"])
def test_lram_episodes_come_as_they_are(tmp_path: Path, ending: str) -> None:
    first, second = episode(5, 39, 4, 1), episode(3, 39, 4, 2)
    base = lram_task(tmp_path / "base" / "reach-v2", [first, second], ending).parent
    found = trajectories(base)
    assert [t.length for t in found] == [5, 3]
    np.testing.assert_array_equal(found[0].observations, first["states"])
    np.testing.assert_array_equal(found[1].actions, second["actions"])
    np.testing.assert_array_equal(found[1].rewards, second["rewards"])
    assert found[0].task.id == "some/reach-v2"
    assert found[0].signals.tolist() == found[0].rewards.tolist()
    assert (found[0].terminated, found[0].truncated) == (True, False)


def test_lram_episodes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    base = lram_task(tmp_path / "reach-v2", [episode(1 + n, 39, 4, n) for n in range(12)])
    assert [t.length for t in trajectories(base)] == list(range(1, 13))


def test_lram_states_padded_to_the_width_of_the_model_are_cut_to_the_task(tmp_path: Path) -> None:
    plain = episode(5, 39, 4)
    padded = {**plain, "states": np.pad(plain["states"], ((0, 0), (0, 204 - 39)))}
    (found,) = trajectories(lram_task(tmp_path / "reach-v2", [padded]))
    np.testing.assert_array_equal(found.observations, plain["states"])


def test_lram_an_end_at_the_horizon_is_a_truncation(lram: Path) -> None:
    ends = [(t.terminated, t.truncated) for t in trajectories(lram, tasks=AnyTask(limit=200))]
    assert ends == [(False, True), (True, False)]


def test_lram_dones_may_be_one_a_step(tmp_path: Path) -> None:
    arrays = episode(5, 39, 4)
    base = lram_task(
        tmp_path / "reach-v2", [{**arrays, "dones": np.eye(5)[4]}, {**arrays, "dones": np.zeros(5, np.uint8)}]
    )
    assert [(t.terminated, t.truncated) for t in trajectories(base)] == [(True, False), (False, False)]


def test_two_files_of_one_episode_are_named_and_neither_is_read(tmp_path: Path) -> None:
    folder = lram_task(tmp_path / "reach-v2", [episode(5, 39, 4, seed) for seed in (0, 1)])
    with h5py.File(folder / "0.hdf5") as file:
        np.savez(folder / "0.npz", **{key: file[key][()] for key in file})
    found = results(folder)
    (problem,) = [one.text for one in found if isinstance(one, Problem)]
    assert "0.hdf5 and " in problem
    assert problem.endswith("which episode_lengths.json calls by one name; leave one of them, or rename it")
    assert [one.trajectory.origin.partition("@")[0] for one in found if isinstance(one, Imported)] == [
        "reach-v2/1.hdf5"
    ]


def test_lram_images_and_discrete_actions(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 64, 64), dtype=np.uint8)
    arrays = {"states": images, "actions": np.array([0, 3, 14, 2], np.uint8), "rewards": np.ones(4)}
    bigfish = TaskSpec("procgen/bigfish", "procgen", "image", (3, 64, 64), "discrete", 15, None, 1.0)
    (found,) = trajectories(lram_task(tmp_path / "bigfish", [arrays]), tasks=AnyTask(bigfish))
    np.testing.assert_array_equal(found.observations, images)
    assert found.actions.dtype == np.int64
    assert found.actions.tolist() == [0, 3, 14, 2]


def test_bounds_of_actions_are_refused_for_a_task_that_takes_an_index(tmp_path: Path) -> None:
    arrays = {**episode(4, 39, 1), "actions": np.array([0, 3, 1, 2])}
    steps = TaskSpec("some/steps", "some", "vector", (39,), "discrete", 4, None, 1.0)
    (problem,) = results(
        lram_task(tmp_path / "steps", [arrays]), tasks=AnyTask(steps), action_bounds=(-1.0, 1.0)
    )
    assert "some/steps, which takes an index; leave out --action-bounds" in problem.text


def test_lram_returns_that_are_not_the_sum_are_said(tmp_path: Path) -> None:
    arrays = {**episode(5, 39, 4), "returns_to_go": np.full(5, 99.0, np.float32)}
    found = results(lram_task(tmp_path / "reach-v2", [arrays]))
    assert [count for text, count in notes(found).items() if "another return" in text] == [1]


def test_an_origin_tells_the_episode_and_its_content_but_no_path(lram: Path) -> None:
    origins = [t.origin for t in trajectories(lram)]
    assert origins[0].startswith("base/reach-v2/0.hdf5@")
    change(lram / "reach-v2" / "0.hdf5", "states", lambda states: states + 1)
    changed = [t.origin for t in trajectories(lram)]
    assert changed[0] != origins[0]
    assert changed[1] == origins[1]


def nan(values: Any) -> Any:
    values = np.array(values)
    values[2] = np.nan
    return values


LRAM_FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "truncated": (lambda f: cut_short(f / "0.hdf5"), ["0.hdf5 is no whole HDF5 file", "fetch it again"]),
    "no HDF5": (lambda f: (f / "0.hdf5").write_text("hello"), ["0.hdf5 is no whole HDF5 file"]),
    "narrow": (lambda f: change(f / "0.hdf5", "states", lambda s: s[:, :30]), ["0.hdf5", "(30,)", "(39,)"]),
    "wide": (
        lambda f: change(f / "0.hdf5", "states", lambda s: np.pad(s, ((0, 0), (0, 9)), constant_values=1)),
        ["0.hdf5", "(48,)", "(39,)"],
    ),
    "few dimensions": (
        lambda f: change(f / "0.hdf5", "actions", lambda a: a[:, :3]),
        ["0.hdf5 has actions", "(200, 3)"],
    ),
    "NaN state": (lambda f: change(f / "0.hdf5", "states", nan), ["0.hdf5", "not finite at row 2"]),
    "NaN action": (lambda f: change(f / "0.hdf5", "actions", nan), ["0.hdf5", "not finite at row 2"]),
    "NaN reward": (lambda f: change(f / "0.hdf5", "rewards", nan), ["0.hdf5", "not finite at row 2"]),
    "text": (
        lambda f: change(f / "0.hdf5", "states", lambda s: "hello"),
        ["0.hdf5 cannot be read (states has values of type object, which are no plain numbers)"],
    ),
    "empty": (
        lambda f: (
            [
                change(f / "0.hdf5", key, lambda v: v[:0])
                for key in ("states", "actions", "rewards", "returns_to_go")
            ]
            and (f / "episode_lengths.json").write_text('{"0": 0, "1": 7}')
        ),
        ["0.hdf5 is empty"],
    ),
    "no states": (
        lambda f: change(f / "0.hdf5", "states", None),
        ["0.hdf5 has no data set 'states'", "it holds actions, dones"],
    ),
    "no dones": (lambda f: change(f / "0.hdf5", "dones", None), ["0.hdf5 has no data set 'dones'"]),
    "short rewards": (
        lambda f: change(f / "0.hdf5", "rewards", lambda r: r[:-1]),
        ["0.hdf5", "200 actions and rewards of shape (199,)"],
    ),
    "short states": (
        lambda f: change(f / "0.hdf5", "states", lambda s: s[:-1]),
        ["0.hdf5", "200 actions and 199 observations"],
    ),
    "done in between": (
        lambda f: change(f / "0.hdf5", "dones", lambda d: np.arange(200) == 50),
        ["0.hdf5 is done at step 50 of 200"],
    ),
    "dones of another length": (
        lambda f: change(f / "0.hdf5", "dones", lambda d: np.ones(3)),
        ["0.hdf5 has 200 actions and 3 dones"],
    ),
    "not the noted length": (
        lambda f: (f / "episode_lengths.json").write_text('{"0": 150, "1": 7}'),
        ["0.hdf5 has 200 actions", "says 150"],
    ),
    "action out of range": (
        lambda f: change(f / "0.hdf5", "actions", lambda a: a + 3),
        ["0.hdf5 has an action outside [-1, 1] at decision 0", "--action-bounds", "--clip-actions"],
    ),
    "named, not there": (lambda f: (f / "0.hdf5").unlink(), ["reach-v2/0 is named in episode_lengths.json"]),
    "there, not named": (
        lambda f: (f / "episode_lengths.json").write_text('{"1": 7}'),
        ["0.hdf5 is not named in", "episode_lengths.json"],
    ),
    "pickle beside": (
        lambda f: (f / "0.hdf5").rename(f / "0.pkl") and (f / "episode_lengths.json").write_text('{"1": 7}'),
        ["holds 1 pickled episodes", "can run code"],
    ),
}


@pytest.mark.parametrize("fault", LRAM_FAULTS)
def test_lram_a_bad_episode_is_named_and_the_other_one_still_read(lram: Path, fault: str) -> None:
    damage, said = LRAM_FAULTS[fault]
    damage(lram / "reach-v2")
    found = results(lram)
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert all(text in problem for text in said), problem
    assert "\n" not in problem
    assert [item.trajectory.length for item in found if isinstance(item, Imported)] == [7]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "episode_lengths.json is missing"), ("{", "is no JSON"), ("[1]", "does not give one number")],
)
def test_lram_a_bad_list_of_lengths_costs_its_folder_only(lram: Path, content: str | None, said: str) -> None:
    lram_task(lram / "push-v2", [episode(3, 39, 4)])
    file = lram / "push-v2" / "episode_lengths.json"
    file.unlink() if content is None else file.write_text(content)
    found = results(lram)
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert said in problem
    assert "push-v2" in problem
    assert sum(isinstance(item, Imported) for item in found) == 2


def test_lram_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    arrays = {**episode(3, 39, 4), "states": np.array([None, {}, 1], dtype=object)}
    (problem,) = results(lram_task(tmp_path / "reach-v2", [arrays], ".npz"))
    assert "0.npz is no whole .npz file (it holds pickled objects)" in problem.text


def test_an_unknown_task_is_said_once(tmp_path: Path) -> None:
    base = lram_task(tmp_path / "unknown", [episode(3, 39, 4), episode(4, 39, 4)])
    (problem,) = results(base)
    assert "cannot be placed: no task goes by the name" in problem.text


def test_limit_and_tasks_leave_episodes_out(lram: Path) -> None:
    lram_task(lram / "push-v2", [episode(3, 39, 4, n) for n in range(3)])
    assert len(trajectories(lram, limit=1)) == 2
    assert len(trajectories(lram, tasks=AnyTask(only="some/push-v2"))) == 3


def test_roundings_beyond_one_are_clipped_and_counted_and_options_do_more(tmp_path: Path) -> None:
    arrays = episode(5, 39, 4)
    arrays["actions"][1, 2] = 1.0005
    found = results(lram_task(tmp_path / "a" / "reach-v2", [arrays]))
    assert found[0].trajectory.actions.max() == 1
    assert list(notes(found).values()) == [1]
    wide = {**arrays, "actions": arrays["actions"] * 2}
    base = lram_task(tmp_path / "b" / "reach-v2", [wide])
    assert isinstance(results(base)[0], Problem)
    (clipped,) = trajectories(base, clip_actions=True)
    np.testing.assert_allclose(clipped.actions, np.clip(wide["actions"], -1, 1))
    (mapped,) = trajectories(base, action_bounds=(-4.0, 4.0))
    np.testing.assert_allclose(mapped.actions, wide["actions"] / 4, atol=1e-7)


# --- CompoSuite ---


def composuite_file(file: Path, ends: str, width: int = 93) -> dict[str, Any]:
    """Write N steps; in ``ends``, t is a terminal, o a timeout, - neither."""
    arrays = episode(len(ends), width, 8)
    held = {
        "observations": arrays["states"].astype(np.float64),
        "actions": arrays["actions"],
        "rewards": arrays["rewards"],
        "terminals": np.array([end == "t" for end in ends]),
        "timeouts": np.array([end == "o" for end in ends]),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as group:
        for key, value in held.items():
            group[key] = value
    return held


def test_composuite_is_cut_at_ends_and_the_rest_is_left_out_and_counted(tmp_path: Path) -> None:
    held = composuite_file(tmp_path / "raw" / "IIWA_Box_None_Push" / "data.hdf5", "--t---o--")
    found = results(tmp_path / "raw")
    first, second = (item.trajectory for item in found if isinstance(item, Imported))
    assert first.task.id == "some/IIWA_Box_None_Push"
    assert (first.length, first.terminated, first.truncated) == (3, True, False)
    assert (second.length, second.terminated, second.truncated) == (4, False, True)
    np.testing.assert_array_equal(second.observations, held["observations"][3:7].astype(np.float32))
    np.testing.assert_array_equal(second.actions, held["actions"][3:7])
    assert [(count, "last whole episode" in text) for text, count in notes(found).items()] == [(2, True)]


def test_composuite_a_file_may_carry_the_tasks_name(tmp_path: Path) -> None:
    composuite_file(tmp_path / "IIWA_Box_None_Push.hdf5", "-t")
    (found,) = trajectories(tmp_path / "IIWA_Box_None_Push.hdf5")
    assert found.task.id == "some/IIWA_Box_None_Push"
    assert found.origin.startswith("IIWA_Box_None_Push.hdf5#0@")


COMPOSUITE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut_short, "is no whole HDF5 file"),
    "no end": (lambda f: composuite_file(f, "----"), "holds no whole episode (4 steps"),
    "no timeouts": (lambda f: change(f, "timeouts", None), "has no data set 'timeouts'"),
    "lengths": (lambda f: change(f, "rewards", lambda r: r[:-1]), "columns of different lengths"),
    "width": (lambda f: composuite_file(f, "-t", width=60), "(60,), which the task has as float32(93,)"),
    "NaN": (lambda f: change(f, "observations", nan), "episode 0 has an observation that is not finite"),
    "empty": (lambda f: composuite_file(f, ""), "holds no whole episode (0 steps"),
}


@pytest.mark.parametrize("fault", COMPOSUITE_FAULTS)
def test_composuite_a_bad_file_is_named_and_the_other_one_still_read(tmp_path: Path, fault: str) -> None:
    bad = tmp_path / "IIWA_Box_None_Push" / "data.hdf5"
    composuite_file(bad, "--t")
    composuite_file(tmp_path / "Jaco_Box_None_Push" / "data.hdf5", "-o")
    damage, said = COMPOSUITE_FAULTS[fault]
    damage(bad)
    found = results(tmp_path, "composuite")
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert said in problem
    assert str(bad) in problem
    assert [item.name for item in found if isinstance(item, Imported)] == ["Jaco_Box_None_Push"]


# --- robomimic ---

KEYS = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 14}
ENV_ARGS = {"env_name": "Stack_D0", "type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}


def robomimic_file(
    file: Path, lengths: dict[str, int], env_args: object = ENV_ARGS, next_obs: bool = True
) -> dict[str, dict[str, Any]]:
    file.parent.mkdir(parents=True, exist_ok=True)
    written = {}
    with h5py.File(file, "w") as group:
        data = group.create_group("data")
        data.attrs["total"] = sum(lengths.values())
        if env_args is not None:
            data.attrs["env_args"] = env_args if isinstance(env_args, str) else json.dumps(env_args)
        for name, length in lengths.items():
            rng = np.random.default_rng(length)
            demo = data.create_group(name)
            demo.attrs["num_samples"] = length
            stream = {key: rng.normal(size=(length + 1, size)) for key, size in KEYS.items()}
            actions = rng.uniform(-1, 1, (length, 7))
            demo["actions"], demo["states"] = actions, rng.normal(size=(length, 45))
            demo["rewards"] = (np.arange(length) >= length - 3).astype(np.float64)
            demo["dones"] = (np.arange(length) >= length - 3).astype(np.int64)
            for key, values in stream.items():
                demo[f"obs/{key}"] = values[:-1]
                if next_obs:
                    demo[f"next_obs/{key}"] = values[1:]
            demo["obs/robot0_joint_pos"] = rng.normal(size=(length, 7))
            demo["obs/agentview_image"] = np.zeros((length, 8, 8, 3), np.uint8)
            states = np.concatenate([stream[key] for key in KEYS], axis=1).astype(np.float32)
            written[name] = {"states": states, "actions": actions.astype(np.float32)}
        group.create_group("mask")
    return written


def test_robomimic_demos_become_low_dimensional_trajectories_that_end_in_success(tmp_path: Path) -> None:
    file = tmp_path / "core" / "stack_d0.hdf5"
    written = robomimic_file(file, {"demo_0": 8, "demo_10": 5, "demo_2": 6})
    found = results(tmp_path / "core")
    ts = [item.trajectory for item in found if isinstance(item, Imported)]
    assert [t.length for t in ts] == [8, 6, 5]
    assert ts[0].task.id == "some/Panda_Stack_D0"
    np.testing.assert_array_equal(ts[0].observations, written["demo_0"]["states"])
    np.testing.assert_array_equal(ts[0].actions, written["demo_0"]["actions"])
    assert ts[0].rewards.tolist() == [0] * 7 + [1]
    assert ts[0].success is not None
    assert ts[0].success.tolist() == [False] * 7 + [True]
    assert (ts[0].terminated, ts[0].truncated) == (True, False)
    assert list(notes(found).values()) == [3]


def test_robomimic_without_next_observations_has_one_observation_less(tmp_path: Path) -> None:
    robomimic_file(tmp_path / "stack_d0.hdf5", {"demo_0": 8}, next_obs=False)
    assert len(trajectories(tmp_path / "stack_d0.hdf5")[0].observations) == 8


def test_robomimic_failed_demos_are_no_successes(tmp_path: Path) -> None:
    robomimic_file(tmp_path / "demo_src_stack_task_D0" / "demo_failed.hdf5", {"demo_0": 4})
    (found,) = trajectories(tmp_path)
    assert found.rewards.tolist() == [0] * 4
    assert (found.terminated, found.truncated) == (False, True)


@pytest.mark.parametrize(("version", "read"), [("1.4.1", True), ("1.5.1", False), ("2.0", False), ("", True)])
def test_robomimic_of_another_robosuite_is_refused(tmp_path: Path, version: str, read: bool) -> None:
    robomimic_file(tmp_path / "stack_d0.hdf5", {"demo_0": 5}, {**ENV_ARGS, "env_version": version})
    (first, *_) = results(tmp_path)
    assert isinstance(first, Imported) is read
    assert read or "whose 'object' observation has another order" in first.text


def test_robomimic_rewards_may_be_kept(tmp_path: Path) -> None:
    robomimic_file(tmp_path / "stack_d0.hdf5", {"demo_0": 8})
    (found,) = trajectories(tmp_path / "stack_d0.hdf5", keep_rewards=True)
    assert found.rewards.tolist() == [0] * 5 + [1] * 3


def test_robomimic_demos_without_any_reward_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "stack_d0.hdf5"
    robomimic_file(file, {"demo_0": 8, "demo_1": 7})
    change(file, "data/demo_1/rewards", np.zeros_like)
    assert sorted(notes(results(file)).values()) == [1, 2]


@pytest.mark.parametrize(
    ("env_args", "names"),
    [
        (ENV_ARGS, "Panda_Stack_D0"),
        ({"env_name": "Stack_D0", "env_kwargs": {"robots": "IIWA"}}, "IIWA_Stack_D0"),
        ({"env_name": "Lift", "env_kwargs": {}}, "Lift"),
        (None, "stack_d0"),
    ],
)
def test_robomimic_the_task_is_told_by_the_environment_or_by_the_file(
    tmp_path: Path, env_args: object, names: str
) -> None:
    robomimic_file(tmp_path / "stack_d0.hdf5", {"demo_0": 3}, env_args)
    (found,) = results(tmp_path / "stack_d0.hdf5", tasks=AnyTask(), limit=1, keep_rewards=True)
    assert found.name == names


ROBOMIMIC_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no observations": (lambda f: delete(f, "data/demo_0/obs"), "has no group 'obs'"),
    "no object": (lambda f: change(f, "data/demo_0/obs/object", None), "has no data set 'object'"),
    "no actions": (lambda f: change(f, "data/demo_0/actions", None), "has no data set 'actions'"),
    "no rewards": (lambda f: change(f, "data/demo_0/rewards", None), "has no data set 'rewards'"),
    "observation lengths": (
        lambda f: change(f, "data/demo_0/obs/object", lambda v: v[:-1]),
        "observations of different lengths",
    ),
    "width": (
        lambda f: [change(f, f"data/demo_0/{g}/object", lambda v: v[:, :9]) for g in ("obs", "next_obs")],
        "(18,), which the task has as float32(23,)",
    ),
    "NaN": (lambda f: change(f, "data/demo_0/actions", nan), "not finite at row 2"),
    "short actions": (lambda f: change(f, "data/demo_0/actions", lambda a: a[:-1]), "demo_0"),
    "short dones": (
        lambda f: change(f, "data/demo_0/dones", lambda d: d[:-1]),
        "has 8 actions and 7 dones",
    ),
}


def delete(file: Path, key: str) -> None:
    with h5py.File(file, "r+") as group:
        del group[key]


@pytest.mark.parametrize("fault", ROBOMIMIC_FAULTS)
def test_robomimic_a_bad_demo_is_named_and_the_other_one_still_read(tmp_path: Path, fault: str) -> None:
    file = tmp_path / "stack_d0.hdf5"
    robomimic_file(file, {"demo_0": 8, "demo_1": 5})
    damage, said = ROBOMIMIC_FAULTS[fault]
    damage(file)
    found = results(file)
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert said in problem
    assert f"{file}, demo_0" in problem
    assert [item.trajectory.length for item in found if isinstance(item, Imported)] == [5]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_short, "is no whole HDF5 file"),
        (lambda f: robomimic_file(f, {}), "has no demonstrations"),
        (lambda f: robomimic_file(f, {"demo_0": 3}, "{"), "env_args that is no JSON"),
        (lambda f: robomimic_file(f, {"demo_0": 3}, "[1]"), "env_args that is no JSON"),
    ],
)
def test_robomimic_a_bad_file_is_named_and_the_other_one_still_read(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    robomimic_file(tmp_path / "coffee_d0.hdf5", {"demo_0": 8})
    robomimic_file(tmp_path / "stack_d0.hdf5", {"demo_0": 5})
    damage(tmp_path / "coffee_d0.hdf5")
    found = results(tmp_path, "robomimic")
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert said in problem
    assert "coffee_d0.hdf5" in problem
    assert [item.trajectory.length for item in found if isinstance(item, Imported)] == [5]


# --- Minari (checked against data sets that Minari 0.5.4 itself wrote) ---


def minari_dataset(
    folder: Path,
    lengths: list[int],
    action_space: dict[str, Any] | None = None,
    observations: dict[str, int] | None = None,
) -> Path:
    """Write a data set as Minari 0.5 does, at FOLDER/data; returns its HDF5 file."""
    data = folder / "data"
    data.mkdir(parents=True)
    space = action_space or {
        "type": "Box",
        "dtype": "float32",
        "shape": [2],
        "low": [-1.0] * 2,
        "high": [1.0] * 2,
    }
    metadata = {
        "total_episodes": len(lengths),
        "total_steps": sum(lengths),
        "data_format": "hdf5",
        "observation_space": json.dumps({"type": "Box", "dtype": "float64", "shape": [3]}),
        "action_space": json.dumps(space),
        "env_spec": json.dumps({"id": "line/Reach-v0", "kwargs": {}}),
        "dataset_id": "line/reach/random-v0",
        "algorithm_name": "random",
        "minari_version": "0.5.4",
    }
    (data / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for number, length in enumerate(lengths):
            rng = np.random.default_rng(number)
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "seed": np.int64(40 + number), "total_steps": length})
            for key, size in (observations or {"": 3}).items():
                group["/".join(filter(None, ("observations", key)))] = rng.normal(size=(length + 1, size))
            discrete = space["type"] == "Discrete"
            group["actions"] = (
                rng.integers(0, space["n"], length) if discrete else rng.uniform(-1, 1, (length, 2))
            )
            group["rewards"] = rng.normal(size=length)
            last = np.arange(length) == length - 1
            group["terminations"], group["truncations"] = last & (number == 0), last & (number > 0)
            group["infos/success"] = np.r_[False, last]
    return data / "main_data.hdf5"


def test_minari_episodes_come_with_seed_policy_success_and_their_last_observation(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "line" / "reach", [4, 3])
    first, second = trajectories(tmp_path)
    with h5py.File(file) as group:
        np.testing.assert_array_equal(
            first.observations, group["episode_0/observations"][()].astype(np.float32)
        )
        assert first.rewards.tolist() == group["episode_0/rewards"][()].tolist()
    assert first.task.id == "some/line/Reach-v0"
    assert (first.length, len(first.observations), first.seed, first.policy) == (4, 5, 40, "random")
    assert (first.terminated, first.truncated) == (True, False)
    assert (second.terminated, second.truncated) == (False, True)
    assert first.success is not None
    assert first.success.tolist() == [False, False, False, True]


def test_minari_goals_are_put_side_by_side_in_the_order_of_their_names(tmp_path: Path) -> None:
    sizes = {"observation": 3, "desired_goal": 2, "achieved_goal": 2}
    file = minari_dataset(tmp_path / "d", [4], observations=sizes)
    (found,) = trajectories(file.parent)
    with h5py.File(file) as group:
        held = group["episode_0/observations"]
        expected = np.concatenate([held["achieved_goal"], held["desired_goal"], held["observation"]], axis=1)
    np.testing.assert_array_equal(found.observations, expected.astype(np.float32))


def test_minari_elements_of_a_tuple_are_put_side_by_side_in_its_order(tmp_path: Path) -> None:
    names = [f"_index_{number}" for number in range(11)]
    file = minari_dataset(tmp_path / "d", [4], observations=dict.fromkeys(names, 1))
    (found,) = trajectories(file.parent)
    with h5py.File(file) as group:
        expected = np.concatenate([group[f"episode_0/observations/{name}"] for name in names], axis=1)
    np.testing.assert_array_equal(found.observations, expected.astype(np.float32))


def test_minari_discrete_actions_take_their_number_from_the_space(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "d", [4], {"type": "Discrete", "n": 5, "start": 0, "dtype": "int64"})
    (found,) = trajectories(file)
    assert (found.task.action, found.task.action_size, found.actions.dtype) == ("discrete", 5, np.int64)


def test_minari_without_metadata_goes_by_its_folder_and_by_options(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "mine", [4])
    (file.parent / "metadata.json").unlink()
    (found,) = results(tmp_path, policy="me")
    assert found.name == "mine"
    assert found.trajectory.policy == "me"


def box(low: list[float], high: list[float]) -> dict[str, Any]:
    return {"type": "Box", "dtype": "float32", "shape": [len(low)], "low": low, "high": high}


def test_minari_actions_are_mapped_from_the_range_that_the_metadata_tell(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "d", [4], box([-2.0, -1.0], [2.0, 3.0]))
    with h5py.File(file) as group:
        actions = group["episode_0/actions"][()]
    found = results(file)
    expected = np.stack([actions[:, 0] / 2, (actions[:, 1] - 1) / 2], axis=1)
    np.testing.assert_allclose(found[0].trajectory.actions, expected, atol=1e-6)
    assert notes(found) == {MAPPED: 1}
    (asked,) = trajectories(file, action_bounds=(-4, 4))
    np.testing.assert_allclose(asked.actions, actions / 4, atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [box([-1.0, -1.0], [1.0, 1.0]), {"type": "Box", "shape": [2]}, box([-np.inf, -1.0], [np.inf, 1.0])],
)
def test_minari_actions_within_one_or_without_bounds_stay_as_they_are(
    tmp_path: Path, space: dict[str, Any]
) -> None:
    file = minari_dataset(tmp_path / "d", [4], space)
    with h5py.File(file) as group:
        actions = group["episode_0/actions"][()].astype(np.float32)
    (found,) = trajectories(file)
    np.testing.assert_array_equal(found.actions, actions)


def test_minari_a_box_of_whole_numbers_is_no_index_and_an_index_may_be_a_float(
    tmp_path: Path,
) -> None:
    file = minari_dataset(tmp_path / "box", [4], box([-1.0], [1.0]))
    change(file, "episode_0/actions", lambda _: np.array([[-1], [1], [0], [1]]))
    (found,) = trajectories(file)
    assert (found.task.action, found.task.action_size) == ("continuous", 1)
    assert found.actions.tolist() == [[-1], [1], [0], [1]]
    file = minari_dataset(tmp_path / "floats", [4])
    (file.parent / "metadata.json").unlink()
    change(file, "episode_0/actions", lambda _: np.array([0.0, 1.0, 0.0, 1.0]))
    (found,) = trajectories(file, discrete_actions=2)
    assert (found.task.action, found.task.action_size) == ("discrete", 2)
    assert found.actions.tolist() == [0, 1, 0, 1]


PONG = TaskSpec("atari/pong", "atari", "vector", (3,), "discrete", 18, 20.0, 20.0)
ARM = TaskSpec("own/arm", "own", "vector", (3,), "continuous", 2, None, 1.0)
DISCRETE_6 = {"type": "Discrete", "n": 6, "start": 0, "dtype": "int64"}


@pytest.mark.parametrize(
    ("task", "space", "options", "said"),
    [
        (PONG, DISCRETE_6, {}, "6 actions by its metadata, and atari/pong has 18; an index does not mean"),
        (
            PONG,
            box([-1.0] * 2, [1.0] * 2),
            {},
            "has a Box of actions by its metadata, and atari/pong takes",
        ),
        (ARM, DISCRETE_6, {}, "has an index of actions by its metadata, and own/arm takes a vector"),
        (ARM, None, {"discrete_actions": 2}, "leave out --discrete-actions 2"),
        (None, DISCRETE_6, {"discrete_actions": 5}, "has 6 discrete actions by its metadata; leave out"),
        (None, box([-1.0] * 3, [1.0, 2.0, 1.0]), {}, "has actions of width 2, by its metadata 3"),
        (None, box([1.0] * 2, [1.0] * 2), {}, "without a range"),
        (None, box([0.0] * 2, [1.0] * 3), {}, "do not fit its shape"),
        (None, {"type": "Box", "shape": "wide"}, {}, "a Box of actions that cannot be read"),
    ],
)
def test_minari_actions_that_are_not_the_tasks_are_refused(
    tmp_path: Path, task: TaskSpec | None, space: dict[str, Any] | None, options: dict[str, Any], said: str
) -> None:
    file = minari_dataset(tmp_path / "d", [4], space)
    (problem,) = results(file, "minari", AnyTask(fixed=task), **options)
    assert isinstance(problem, Problem)
    assert said in problem.text


def test_another_number_of_discrete_actions_than_the_task_has_is_refused(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "d", [4])
    (file.parent / "metadata.json").unlink()
    change(file, "episode_0/actions", lambda _: np.array([0, 1, 0, 1]))
    (problem,) = results(file, "minari", AnyTask(fixed=PONG), discrete_actions=5)
    assert isinstance(problem, Problem)
    assert "filed under atari/pong, which has 18 actions; leave out --discrete-actions" in problem.text
    (found,) = trajectories(file, tasks=AnyTask(fixed=PONG), discrete_actions=18)
    assert found.task == PONG


MINARI_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no actions": (lambda f: change(f, "episode_0/actions", None), "has no data set 'actions'"),
    "no observations": (lambda f: change(f, "episode_0/observations", None), "has no observations"),
    "no terminations": (lambda f: change(f, "episode_0/terminations", None), "no data set 'terminations'"),
    "NaN": (lambda f: change(f, "episode_0/observations", nan), "not finite at row 2"),
    "lengths": (lambda f: change(f, "episode_0/rewards", lambda r: r[:-1]), "rewards of shape (3,)"),
    "short ends": (
        lambda f: [change(f, f"episode_0/{key}", lambda v: v[1:]) for key in ("terminations", "truncations")],
        "has 4 actions and 3 terminations",
    ),
    "continues": (
        lambda f: change(f, "episode_0/terminations", np.ones_like),
        "ends at step 0 and continues",
    ),
    "empty": (
        lambda f: [
            change(f, f"episode_0/{key}", lambda v: v[:0])
            for key in ("actions", "rewards", "terminations", "truncations")
        ],
        "is empty",
    ),
    "success of NaN": (
        lambda f: change(f, "episode_0/infos/success", lambda s: np.full(len(s), np.nan)),
        "has successes that are neither yes nor no",
    ),
    "end of NaN": (
        lambda f: change(f, "episode_0/terminations", lambda t: np.where(t, np.nan, 0.0)),
        "has terminations that are neither yes nor no",
    ),
    "encoded images": (
        lambda f: change(f, "episode_0/observations", lambda o: np.array([b"jpeg"] * 5, dtype="S4")),
        "which are no plain numbers",
    ),
}


@pytest.mark.parametrize("fault", MINARI_FAULTS)
def test_minari_a_bad_episode_is_named_and_the_other_one_still_read(tmp_path: Path, fault: str) -> None:
    file = minari_dataset(tmp_path / "d", [4, 3])
    damage, said = MINARI_FAULTS[fault]
    damage(file)
    found = results(tmp_path)
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert said in problem
    assert f"{file}, episode_0" in problem
    assert [item.trajectory.length for item in found if isinstance(item, Imported)] == [3]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_short, "is no whole HDF5 file"),
        (lambda f: h5py.File(f, "w").close(), "has no episodes"),
        (lambda f: (f.parent / "metadata.json").write_text("{"), "metadata.json is no JSON"),
        (
            lambda f: (f.parent / "metadata.json").write_text('{"action_space": "{\\"type\\": \\"Text\\"}"}'),
            "only a Box and a Discrete",
        ),
    ],
)
def test_minari_a_bad_data_set_is_named_and_the_other_one_still_read(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    bad = minari_dataset(tmp_path / "a", [4])
    minari_dataset(tmp_path / "b", [3])
    damage(bad)
    found = results(tmp_path, "minari")
    (problem,) = [item.text for item in found if isinstance(item, Problem)]
    assert said in problem
    assert str(bad.parent) in problem
    assert [item.trajectory.length for item in found if isinstance(item, Imported)] == [3]


# --- our own stores ---


def own(tmp_path: Path) -> Iterator[Trajectory]:
    rng = np.random.default_rng(0)
    task = TaskSpec("atari/pong", "atari", "image", (3, 64, 64), "discrete", 18, 20.0, 20.0)
    for number in range(2):
        rewards = rng.integers(-3, 3, 6).astype(np.float64)
        yield Trajectory(
            task=task,
            observations=rng.integers(0, 255, (7, 3, 64, 64), dtype=np.uint8),
            actions=rng.integers(0, 18, 6),
            rewards=rewards,
            signals=np.sign(rewards).astype(np.float32),
            terminated=True,
            truncated=False,
            success=None if number else rewards > 0,
            context_starts=(0, 2, 4),
            seed=None if number else 12,
            policy="random",
            protocol="atari:lram@1",
            record='{"episode": 1}',
            origin=f"runs/0001|random|atari/pong|{number}",
        )


def test_a_store_of_ours_comes_back_as_it_was(tmp_path: Path) -> None:
    written = list(own(tmp_path))
    with StoreWriter(tmp_path / "store") as writer:
        for trajectory in written:
            writer.append(trajectory)
    found = trajectories(tmp_path / "store")
    for before, after in zip(written, found, strict=True):
        assert replace(before, observations=0, actions=0, rewards=0, signals=0, success=0).__repr__() == (  # type: ignore[arg-type]
            replace(after, observations=0, actions=0, rewards=0, signals=0, success=0).__repr__()  # type: ignore[arg-type]
        )
        for name in ("observations", "actions", "rewards", "signals", "success"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
            if getattr(before, name) is not None:
                assert getattr(before, name).dtype == getattr(after, name).dtype


@pytest.mark.parametrize("named", ["the store", "its parent"])
def test_a_part_that_is_not_what_the_index_says_is_refused(tmp_path: Path, named: str) -> None:
    with StoreWriter(tmp_path / "stores" / "one") as writer:
        for trajectory in own(tmp_path):
            writer.append(trajectory)
    part = min((tmp_path / "stores" / "one").rglob("part-*.hdf5"))
    source = tmp_path / "stores" / "one" if named == "the store" else tmp_path / "stores"
    assert trajectories(source)
    content = bytearray(part.read_bytes())
    content[-9] ^= 1
    part.write_bytes(content)
    (problem,) = [item for item in results(source) if isinstance(item, Problem)]
    assert "is damaged" in problem.text
    assert str(part) in problem.text


@pytest.mark.parametrize("layout", ["lram", "composuite", "robomimic", "minari"])
def test_what_is_imported_comes_back_from_the_store(tmp_path: Path, layout: str) -> None:
    source = tmp_path / "source"
    if layout == "lram":
        lram_task(source / "reach-v2", [episode(5, 39, 4)])
    elif layout == "composuite":
        composuite_file(source / "IIWA_Box_None_Push" / "data.hdf5", "--t")
    elif layout == "robomimic":
        robomimic_file(source / "stack_d0.hdf5", {"demo_0": 4})
    else:
        minari_dataset(source / "d", [4])
    assert detect(source) == layout
    (read_once,) = trajectories(source)
    with StoreWriter(tmp_path / "store") as writer:
        writer.append(read_once)
    stored = TrajectoryStore(tmp_path / "store").trajectory(0)
    (again,) = trajectories(tmp_path / "store")
    for other in (stored, again):
        for name in ("observations", "actions", "rewards", "signals", "success"):
            np.testing.assert_array_equal(getattr(read_once, name), getattr(other, name))
        assert other.origin == read_once.origin
        assert other.task == read_once.task


# --- which layout ---


def test_what_is_no_data_set_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"there is nothing at .*nowhere"):
        detect(tmp_path / "nowhere")
    with pytest.raises(AgentError, match="is in no known layout; name one with --format"):
        detect(tmp_path)
    (tmp_path / "a.hdf5").write_text("hello")
    with pytest.raises(AgentError, match=r"a\.hdf5 is no whole HDF5 file"):
        detect(tmp_path)


def test_folders_of_pickles_are_refused_not_read(tmp_path: Path) -> None:
    (tmp_path / "reach-v2").mkdir()
    (tmp_path / "reach-v2" / "0.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    (problem,) = results(tmp_path)
    assert "can run code" in problem.text


def test_a_single_episode_of_the_reference_is_no_source(lram: Path) -> None:
    (problem,) = results(lram / "reach-v2" / "0.hdf5")
    assert "give the folder of the task" in problem.text


def changed_metadata(file: Path, **facts: object) -> None:
    beside = file.with_name("metadata.json")
    told = json.loads(beside.read_text())
    told.update({name: json.dumps(v) if isinstance(v, dict) else v for name, v in facts.items()})
    beside.write_text(json.dumps(told))


def notes_of(path: Path, **options: Any) -> list[str]:
    return [item.text for item in results(path, **options) if isinstance(item, Note)]


def test_minari_facts_of_the_environment_are_said_once_an_episode(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "d", [4, 5])
    assert notes_of(tmp_path / "d") == []
    changed_metadata(
        file,
        env_spec={
            "id": "ALE/Pong-v5",
            "kwargs": {"frameskip": 4, "render_mode": None},
            "max_episode_steps": 100,
            "additional_wrappers": [{"name": "TransformReward"}, {"name": "TimeLimit"}],
        },
        requirements=["ale-py==0.10"],
    )
    said = (
        "episodes are of an environment with options frameskip=4; wrappers TransformReward; versions "
        "ale-py==0.10 by their metadata, which no task here was held to"
    )
    assert notes_of(tmp_path / "d", tasks=AnyTask(limit=100)) == [said] * 2
    cut = "episodes were cut off after 100 decisions by their metadata, and some/ALE/Pong-v5 is after 50"
    assert notes_of(tmp_path / "d", tasks=AnyTask(limit=50)) == [said, cut] * 2


def test_minari_episodes_that_the_metadata_count_and_the_file_lacks_are_said(tmp_path: Path) -> None:
    file = minari_dataset(tmp_path / "d", [4, 5])
    changed_metadata(file, total_episodes=7)
    (note,) = [item for item in results(tmp_path / "d") if isinstance(item, Note)]
    assert (note.text, note.count) == ("episodes that the metadata count are not in the file", 5)


@pytest.mark.parametrize(
    ("space", "steps", "said"),
    [
        ({"type": "Box", "shape": [4]}, 4, "observations of shape (3,), by its metadata (4,)"),
        ({"type": "Box", "shape": [3], "dtype": "uint8"}, 4, "of type float64, by its metadata uint8"),
        ({}, 9, "has 4 actions, and its attribute total_steps says 9"),
    ],
)
def test_minari_arrays_that_are_not_as_the_metadata_say_are_refused(
    tmp_path: Path, space: dict[str, Any], steps: int, said: str
) -> None:
    file = minari_dataset(tmp_path / "d", [4])
    changed_metadata(file, observation_space=space)
    with h5py.File(file, "r+") as opened:
        opened["episode_0"].attrs["total_steps"] = steps
    (problem,) = [item for item in results(tmp_path / "d") if isinstance(item, Problem)]
    assert said in problem.text


def test_robosuite_rates_and_controllers_of_other_kinds_are_said(tmp_path: Path) -> None:
    options = {"robots": ["Panda"], "control_freq": 10, "controller_configs": {"type": "JOINT_POSITION"}}
    robomimic_file(tmp_path / "a.hdf5", {"demo_0": 3}, {"env_name": "Stack_D0", "env_kwargs": options})
    said = notes_of(tmp_path / "a.hdf5")
    assert "demonstrations were recorded at 10 decisions a second, and the tasks have 20" in said
    assert any("with the controller JOINT_POSITION, whose actions do not mean" in text for text in said)
    with h5py.File(tmp_path / "a.hdf5", "r+") as opened:
        opened["data/demo_0"].attrs["num_samples"] = 4
    (problem,) = [item for item in results(tmp_path / "a.hdf5") if isinstance(item, Problem)]
    assert "has 3 actions, and its attribute num_samples says 4" in problem.text
