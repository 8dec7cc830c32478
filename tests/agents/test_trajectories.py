"""The trajectory store: what goes in comes out, what is committed stays, what is damaged is told."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import traceback
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories import (
    StoreWriter,
    Trajectory,
    TrajectoryStore,
    check_trajectory,
    returns_to_go,
)
from lram.agents.trajectories.folder import StoreFolder

VECTOR = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, 25.0, 1.0)
DISCRETE = TaskSpec("toy/lives", "toy", "vector", (4,), "discrete", 4, 25.0, 1.0)
IMAGE = TaskSpec("toy/image", "toy", "image", (3, 64, 64), "discrete", 5, None, 2.0)


def made(task: TaskSpec = VECTOR, length: int = 30, seed: int = 0, **changes: object) -> Trajectory:
    rng = np.random.default_rng(seed)
    shape = (length + 1, *task.observation_shape)
    if task.observation == "image":
        observations = rng.integers(0, 256, shape, dtype=np.uint8)
    else:
        observations = rng.standard_normal(shape).astype(np.float32)
    if task.action == "discrete":
        actions = rng.integers(0, task.action_size, length)
    else:
        actions = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
    rewards = rng.normal(size=length)
    usual = Trajectory(
        task=task,
        observations=observations,
        actions=actions,
        rewards=rewards,
        signals=np.sign(rewards).astype(np.float32),
        terminated=bool(seed % 2),
        truncated=not seed % 2,
        seed=seed,
        policy="random",
        protocol="toy:plain@1",
        record=json.dumps({"episode": seed}),
        origin=f"{task.id}|{seed}",
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def same(one: Trajectory, other: Trajectory) -> bool:
    for field in fields(Trajectory):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or not np.array_equal(a, b):
                return False
        elif a != b:
            return False
    return True


def stored(path: Path, *trajectories: Trajectory, **options: int) -> TrajectoryStore:
    with StoreWriter(path, **options) as writer:  # type: ignore[arg-type]
        for trajectory in trajectories:
            writer.append(trajectory)
    return TrajectoryStore(path)


EXAMPLES = {
    "vector": made(),
    "image": made(IMAGE, 20),
    "lives": made(DISCRETE, 30, context_starts=(0, 8, 16)),
    "success": made(success=np.arange(30) == 12),
    "no last observation": made(observations=np.ones((30, 6), np.float32)),
    "float32 rewards": made(rewards=np.linspace(0, 1, 30, dtype=np.float32)),
    "cut off, nothing known": replace(
        made(), terminated=False, truncated=False, seed=None, policy="", protocol="", record="", origin=""
    ),
    "one decision": made(length=1),
    "long": made(length=3000),
}


@pytest.mark.parametrize("trajectory", EXAMPLES.values(), ids=EXAMPLES)
def test_a_trajectory_comes_back_as_it_was(tmp_path: Path, trajectory: Trajectory) -> None:
    store = stored(tmp_path / "store", trajectory)
    assert same(store.trajectory(0), trajectory)
    assert store.record(0) == trajectory.record
    assert store.tasks == {trajectory.task.id: trajectory.task}


def test_the_facts_of_an_episode_are_those_of_its_trajectory(tmp_path: Path) -> None:
    lives = made(DISCRETE, 30, 3, context_starts=(0, 8, 16))
    solved = made(seed=4, success=np.arange(30) == 12)
    store = stored(tmp_path / "store", lives, solved, part_bytes=1)
    first, second = store.episodes
    assert (first.number, first.task, first.policy, first.seed) == (0, "toy/lives", "random", 3)
    assert first.context_starts == (0, 8, 16)
    assert second.context_starts == (0,)
    assert first.length == 30
    assert first.episode_return == lives.episode_return
    assert first.signal_return == float(lives.signals.sum())
    assert (first.success_any, first.success_last) == (None, None)
    assert (second.success_any, second.success_last) == (True, False)
    assert (first.terminated, first.truncated) == (True, False)
    assert first.origin == "toy/lives|3"
    assert store.steps == 60
    assert len(store) == 2


def test_the_return_is_summed_as_a_simulator_does() -> None:
    rewards = np.random.default_rng(0).normal(size=1000)
    total = 0.0
    for reward in rewards:
        total += float(reward)
    assert made(length=1000, rewards=rewards).episode_return == total


@pytest.mark.parametrize("task", [VECTOR, IMAGE, DISCRETE], ids=["vector", "image", "discrete"])
def test_any_window_is_a_slice_of_the_trajectory(tmp_path: Path, task: TaskSpec) -> None:
    starts = (0, 11, 30)
    trajectories = [made(task, 40, seed, context_starts=starts) for seed in range(3)]
    store = stored(tmp_path / "store", *trajectories)
    rng = np.random.default_rng(0)
    for _ in range(60):
        number = int(rng.integers(3))
        start, stop = sorted(rng.choice(41, 2, replace=False).tolist())
        window, whole = store.window(number, start, stop), trajectories[number]
        np.testing.assert_array_equal(window.observations, whole.observations[start:stop])
        np.testing.assert_array_equal(window.actions, whole.actions[start:stop])
        np.testing.assert_array_equal(window.rewards, whole.rewards[start:stop].astype(np.float32))
        np.testing.assert_array_equal(window.signals, whole.signals[start:stop])
        expected = returns_to_go(whole.signals, starts)[start:stop]
        np.testing.assert_array_equal(window.returns_to_go, expected)
        assert window.rewards.dtype == window.returns_to_go.dtype == np.float32


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 5), (6, 5), (0, 31)])
def test_a_window_outside_its_episode_is_refused(tmp_path: Path, start: int, stop: int) -> None:
    store = stored(tmp_path / "store", made())
    with pytest.raises(AgentError, match="no window"):
        store.window(0, start, stop)
    with pytest.raises(AgentError, match="no number 1"):
        store.window(1, 0, 1)


def test_a_window_cannot_be_written_to(tmp_path: Path) -> None:
    window = stored(tmp_path / "store", made()).window(0, 0, 5)
    with pytest.raises(ValueError, match="read-only"):
        window.actions[0] = 0


def test_the_cache_keeps_to_its_budget_and_changes_no_window(tmp_path: Path) -> None:
    trajectories = [made(length=200, seed=seed) for seed in range(20)]
    stored(tmp_path / "store", *trajectories)
    store = TrajectoryStore(tmp_path / "store", cache_bytes=30_000)
    for number in np.random.default_rng(0).integers(20, size=200).tolist():
        window = store.window(number, 50, 100)
        np.testing.assert_array_equal(window.observations, trajectories[number].observations[50:100])
        kept = list(store._cache.values())
        assert sum(columns.nbytes for columns in kept) == store._cached <= 30_000


def test_returns_to_go_start_anew_with_each_context() -> None:
    signals = np.array([1, 2, 3, 4, 5], np.float32)
    np.testing.assert_array_equal(returns_to_go(signals), [15, 14, 12, 9, 5])
    np.testing.assert_array_equal(returns_to_go(signals, (0, 2)), [3, 2, 12, 9, 5])


def test_a_part_has_minaris_layout(tmp_path: Path) -> None:
    solved = made(success=np.arange(30) == 12)
    store = stored(tmp_path / "store", solved, made(IMAGE, 40))
    with h5py.File(tmp_path / "store" / store.episodes[0].part) as file:
        assert file.attrs["total_episodes"] == 1
        assert file.attrs["total_steps"] == 30
        group = file["episode_0"]
        assert {name: (array.shape, array.dtype) for name, array in group.items() if name != "infos"} == {
            "observations": ((31, 6), np.float32),
            "actions": ((30, 2), np.float32),
            "rewards": ((30,), np.float64),
            "terminations": ((30,), np.bool_),
            "truncations": ((30,), np.bool_),
        }
        assert {name: (array.shape, array.dtype) for name, array in group["infos"].items()} == {
            "signals": ((30,), np.float32),
            "returns_to_go": ((30,), np.float32),
            "success": ((30,), np.bool_),
        }
        assert dict(group.attrs)["id"] == 0
        assert group.attrs["total_steps"] == 30
        assert group.attrs["seed"] == 0
        assert group["truncations"][-1]
        assert not group["truncations"][:-1].any()
        assert not group["terminations"][:].any()
    with h5py.File(tmp_path / "store" / store.episodes[1].part) as file:
        images = file["episode_0/observations"]
        assert (images.dtype, images.shape) == (np.uint8, (41, 3, 64, 64))
        assert (images.compression, images.compression_opts, images.shuffle) == ("gzip", 1, False)
        assert images.chunks[0] < 41
        assert images.chunks[1:] == (3, 64, 64)


def test_a_store_is_added_to_and_its_earlier_parts_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "store"
    first = stored(path, made(seed=1))
    part = (path / first.episodes[0].part).read_bytes()
    second = stored(path, made(seed=2), made(DISCRETE, seed=3))
    assert [episode.origin for episode in second.episodes] == ["toy/reach|1", "toy/reach|2", "toy/lives|3"]
    assert (path / first.episodes[0].part).read_bytes() == part
    assert first.digest != second.digest
    assert len(first) == 1
    assert same(first.trajectory(0), made(seed=1))
    second.verify()


def test_the_same_trajectories_give_the_same_digest(tmp_path: Path) -> None:
    one, other = (stored(tmp_path / name, made(), made(IMAGE)) for name in ("one", "other"))
    assert one.digest == other.digest


def test_an_origin_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with StoreWriter(path) as writer:
        writer.append(made())
        with pytest.raises(AgentError, match="already"):
            writer.append(made())
    with StoreWriter(path) as writer:
        assert writer.committed == {"toy/reach|0"}
        with pytest.raises(AgentError, match="already"):
            writer.append(made())
        writer.append(made(origin=""))
        writer.append(made(origin=""))
    assert len(TrajectoryStore(path)) == 3


def test_a_writer_commits_by_itself_beyond_its_size(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", part_bytes=3 * made().nbytes) as writer:
        committed = [writer.append(made(seed=seed)) for seed in range(7)]
        assert committed == [False, False, True, False, False, True, False]
        assert writer.held == 1
        assert len(TrajectoryStore(tmp_path / "store")) == 6


def test_what_was_appended_before_an_error_is_kept(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path / "store") as writer:
            writer.append(made())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(TrajectoryStore(tmp_path / "store")) == 1


def test_the_card_says_each_thing_once_and_replaces_what_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for episodes in (1, 2):
        with StoreWriter(path, card={"made_by": "a script", "license": "CC0"}) as writer:
            writer.describe({"name": "runs/0001", "episodes": episodes})
    additions = TrajectoryStore(path).card["additions"]
    assert [one.get("made_by") for one in additions].count("a script") == 1
    assert [one.get("episodes") for one in additions if "name" in one] == [2]
    assert all(one["added"] and "lram-bench" in one for one in additions)


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store"):
        with pytest.raises(AgentError, match="in use by another process"):
            StoreWriter(tmp_path / "store")
        TrajectoryStore(tmp_path / "store")
    StoreWriter(tmp_path / "store").close()


def test_a_folder_with_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(AgentError, match="is no trajectory store"):
        StoreWriter(tmp_path)
    with pytest.raises(AgentError, match=r"has no card\.json"):
        TrajectoryStore(tmp_path)
    with pytest.raises(AgentError, match=r"has no card\.json"):
        StoreWriter(tmp_path / "absent", create=False)


def test_a_task_keeps_its_form_but_may_change_its_target(tmp_path: Path) -> None:
    path = tmp_path / "store"
    stored(path, made())
    store = stored(path, made(replace(VECTOR, target_return=7.0), seed=1))
    assert store.tasks["toy/reach"].target_return == 7.0
    with (
        StoreWriter(path) as writer,
        pytest.raises(AgentError, match="put it into another store"),
    ):
        writer.append(made(replace(VECTOR, observation_shape=(9,)), seed=2))


WRONG = {
    "is empty": made(length=0),
    "rewards of shape": made(rewards=np.zeros(29)),
    "32 observations": made(observations=np.zeros((32, 6), np.float32)),
    "has observations float64": made(observations=np.zeros((31, 6))),
    r"has observations float32\(5,\)": made(observations=np.zeros((31, 5), np.float32)),
    "an observation that is not finite at row 30": made(
        observations=np.concatenate([np.zeros((30, 6)), np.full((1, 6), np.nan)]).astype(np.float32)
    ),
    r"actions int64\(30,\)": made(actions=np.zeros(30, np.int64)),
    "outside": made(actions=np.full((30, 2), 1.1, np.float32)),
    "an action that is not finite": made(actions=np.full((30, 2), np.inf, np.float32)),
    "action 4 at decision 0": made(DISCRETE, actions=np.full(30, 4)),
    "action -1 at decision 0": made(DISCRETE, actions=np.full(30, -1)),
    "a reward that is not finite": made(rewards=np.full(30, np.nan)),
    "a signal that is not finite": made(signals=np.full(30, np.nan, np.float32)),
    "contexts that start": made(context_starts=(0, 30)),
    "contexts that start at": made(context_starts=(3,)),
    "rise": made(context_starts=(0, 9, 9)),
    "successes": made(success=np.zeros(3, np.bool_)),
    "signals float64": made(signals=np.zeros(30)),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_trajectory_that_is_none_of_its_tasks_is_refused_in_one_sentence(words: str) -> None:
    with pytest.raises(AgentError, match=words) as caught:
        check_trajectory(WRONG[words], "file.hdf5, episode 3")
    assert str(caught.value).startswith("file.hdf5, episode 3 ")
    assert "\n" not in str(caught.value)


def test_a_store_is_read_after_a_fork_and_pickled(tmp_path: Path) -> None:
    trajectories = [made(IMAGE, 20, seed) for seed in range(4)]
    store = stored(tmp_path / "store", *trajectories)
    store.window(0, 0, 5)  # the parent has the part open
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap(_digest_of_window, [(store, number) for number in range(4)])
    expected = [int(trajectory.observations[3:9].sum()) for trajectory in trajectories]
    assert found == expected
    again = pickle.loads(pickle.dumps(store))
    assert _digest_of_window(again, 2) == expected[2]
    # Inherited, not pickled: what a forked loader worker does.
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str([_digest_of_window(store, number) for number in range(4)]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1000).decode() == str(expected)
    os.close(read)
    os.close(write)
    assert _digest_of_window(store, 1) == expected[1]


def _digest_of_window(store: TrajectoryStore, number: int) -> int:
    return int(store.window(number, 3, 9).observations.sum())


# Damage


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    stored(tmp_path / "store", *(made(IMAGE, 30, seed) for seed in range(3)))
    return tmp_path / "store"


def part_of(store: Path) -> Path:
    (part,) = (store / "parts").rglob("*.hdf5")
    return part


def test_a_missing_part_is_named(damaged: Path) -> None:
    part_of(damaged).unlink()
    with pytest.raises(AgentError, match=r"misses its part parts/toy/image/part-00000\.hdf5"):
        TrajectoryStore(damaged)


def test_a_truncated_part_is_told_at_opening(damaged: Path) -> None:
    part = part_of(damaged)
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(AgentError, match="the index has"):
        TrajectoryStore(damaged)


def test_a_part_that_is_truncated_while_it_is_used_gives_a_sentence(damaged: Path) -> None:
    store, part = TrajectoryStore(damaged), part_of(damaged)
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(AgentError, match=r"part-00000\.hdf5 is damaged: it has"):
        store.window(0, 0, 5)
    with pytest.raises(AgentError, match=r"part-00000\.hdf5 is damaged: it has"):
        store.trajectory(0)


def test_changed_bytes_are_found_by_the_checksum_before_a_number_is_read(damaged: Path) -> None:
    part = part_of(damaged)
    content = bytearray(part.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    part.write_bytes(content)
    store = TrajectoryStore(damaged)
    for read in (
        store.verify,
        lambda: store.trajectory(0),
        lambda: store.window(0, 0, 5),
        lambda: store.record(0),
    ):
        with pytest.raises(AgentError, match=r"its checksum is .* put the file back"):
            read()


@pytest.mark.parametrize("line", [b"{]\n", b"{}\n", b"\xff\n"])
def test_a_damaged_line_is_named(damaged: Path, line: bytes) -> None:
    with (damaged / "index.jsonl").open("ab") as index:
        index.write(line)
    with pytest.raises(AgentError, match=r"index\.jsonl, line 2 is damaged"):
        TrajectoryStore(damaged)
    with pytest.raises(AgentError, match=r"index\.jsonl, line 2 is damaged"):
        StoreWriter(damaged)


def test_a_missing_index_and_a_damaged_card_are_told(damaged: Path) -> None:
    (damaged / "index.jsonl").rename(damaged / "away")
    with pytest.raises(AgentError, match=r"index\.jsonl cannot be read"):
        TrajectoryStore(damaged)
    (damaged / "card.json").write_text("{")
    with pytest.raises(AgentError, match=r"card\.json cannot be read"):
        TrajectoryStore(damaged)


def test_a_store_of_another_version_is_refused(damaged: Path) -> None:
    card = json.loads((damaged / "card.json").read_text())
    del card["checksum"]
    (damaged / "card.json").write_text(json.dumps({**card, "version": 99}))
    with pytest.raises(AgentError, match="of version 99, and this lram-bench reads version 1"):
        TrajectoryStore(damaged)
    with pytest.raises(AgentError, match="of version 99"):
        StoreWriter(damaged)
    (damaged / "card.json").write_text(json.dumps({**card, "format": "cake"}))
    with pytest.raises(AgentError, match="no card of a trajectory store"):
        TrajectoryStore(damaged)


@pytest.mark.parametrize("step", ["create", "replace"])
def test_a_full_disk_loses_nothing_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "store"
    stored(path, made())

    def full(folder: StoreFolder, name: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with StoreWriter(path) as writer:
        writer.append(made(seed=1))
        with monkeypatch.context() as patched:
            patched.setattr(StoreFolder, step, full)
            with pytest.raises(AgentError, match="No space left on device"):
                writer.commit()
        assert len(TrajectoryStore(path)) == 1
    assert len(TrajectoryStore(path)) == 2  # there was room again when the writer was closed


def killed_at(path: Path, call: str, moment: int) -> set[str]:
    """Write in a fork that is killed at a call; return what it said last to be committed."""
    readable, writable = os.pipe()
    child = os.fork()
    if child:
        os.close(writable)
        with os.fdopen(readable) as pipe:
            said = pipe.read().splitlines()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (-9, 0), said
        return set(json.loads(said[-1])) if said else set()
    status = 1
    try:
        tell, real, left = os.write, getattr(os, call), moment

        def die_at(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, call, die_at)
        with StoreWriter(path) as store:
            for seed in range(100, 104):
                store.append(made(seed=seed))
                store.commit()
                tell(writable, f"{json.dumps(sorted(store.committed))}\n".encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "moment"),
    [("fsync", 0), ("fsync", 1), ("fsync", 2), ("fsync", 5), ("fdatasync", 1), ("write", 0), ("write", 2)],
)
@pytest.mark.parametrize("begun", [True, False])
def test_a_writer_killed_at_any_step_loses_only_what_was_not_committed(
    tmp_path: Path, call: str, moment: int, begun: bool
) -> None:
    path = tmp_path / "store"
    if begun:
        stored(path, made())
    promised = killed_at(path, call, moment)

    expected = {f"toy/reach|{seed}" for seed in range(100, 104)}
    with StoreWriter(path) as writer:
        kept = set(writer.committed)
        files = [file for file in path.rglob("*") if file.is_file()]
        assert promised <= kept
        for seed in range(100, 104):
            if f"toy/reach|{seed}" not in kept:
                writer.append(made(seed=seed))
    store = TrajectoryStore(path)
    store.verify()
    assert len(store) == 4 + begun
    for episode in store.episodes:
        assert episode.seed is not None
        assert same(store.trajectory(episode.number), made(seed=episode.seed))
    assert {episode.origin for episode in store.episodes} >= expected
    parts = {path / line.part for line in store.parts}
    assert {file for file in files if file.parent.parent.parent.name == "parts"} <= parts | {
        file for file in files if "set-aside" in file.parts
    }
    assert {file.name for file in files if "set-aside" not in file.parts} - {part.name for part in parts} <= {
        "card.json",
        ".card.json.lram-new",
        ".pending.json.lram-new",
        "index.jsonl",
        "pending.json",
        "lock",
    }


def test_a_store_may_be_moved(tmp_path: Path) -> None:
    stored(tmp_path / "store", made())
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    TrajectoryStore(tmp_path / "elsewhere").verify()
