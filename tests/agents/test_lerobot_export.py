"""Stores written as LeRobot data sets: what comes back is what was there, in files as LeRobot has them.

LeRobot's own reading of such an export is compared by tests/benchmarks/read_lerobot.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.agents.trajectories.digests import trajectory_digest
from lram.agents.trajectories.exporters import Exported, ExportOptions, export_store
from lram.agents.trajectories.exporters import lerobot as exporter
from lram.agents.trajectories.exporters.lerobot import LAST, LOSSY, SUCCESS_LEFT_OUT
from lram.agents.trajectories.exporters.lerobot.statistics import RunningStatistics, of_images, of_numbers
from lram.agents.trajectories.readers import Imported, Note, Options, Problem, read
from lram.agents.trajectories.readers.lerobot import CHANGED

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra lerobot)")
pytest.importorskip("av", reason="PyAV is not installed (extra lerobot)")

GENUINE = Path(__file__).parents[1] / "data" / "lerobot" / "arm"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
REACH = TaskSpec("lab/reach", "lab", "vector", (5,), "continuous", 2, 3.5, 10.0)
PUSH = replace(REACH, id="lab/push", target_return=None)
SLIDE = TaskSpec("lab/slide", "lab", "vector", (1,), "continuous", 1, None, 1.0)
GAME = TaskSpec("atari/game", "atari", "image", (3, 64, 64), "discrete", 6, 1.0, 1.0)


def episode(task: TaskSpec, number: int, length: int = 8, **more: Any) -> Trajectory:
    rng = np.random.default_rng([number, len(task.id)])
    if task.observation == "image":
        seen: Any = np.zeros((length + 1, *task.observation_shape), np.uint8)
        for row in range(length + 1):  # a block that moves over a slope, so that a video can hold it
            seen[row] = np.arange(64, dtype=np.uint8) + 50
            place = (number * 17 + row * 11) % 48
            seen[row, :, place : place + 16, 20:40] = np.array([200, 90, 30], np.uint8)[:, None, None]
        actions: Any = rng.integers(0, task.action_size, length)
    else:
        seen = rng.normal(size=(length + 1, *task.observation_shape)).astype(np.float32)
        actions = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
    rewards = rng.normal(size=length)
    facts: dict[str, Any] = {
        "success": rng.random(length) < 0.5,
        "seed": number + (1 << 40),
        "policy": "scripted~0.2",
        "protocol": "lab:test@1",
        "origin": f"runs/0001|scripted|{task.id}|{number}",
        "record": '{"return": 1.0}',
    }
    ended = bool(number % 2)
    return Trajectory(
        task, seen, actions, rewards, rewards.astype(np.float32), ended, not ended, **{**facts, **more}
    )


def stored(path: Path, episodes: Sequence[Trajectory]) -> TrajectoryStore:
    with StoreWriter(path) as writer:
        for one in episodes:
            writer.append(one)
    return TrajectoryStore(path)


def exported(store: TrajectoryStore, folder: Path, **options: Any) -> Exported:
    return export_store(store, range(len(store.episodes)), folder, "lerobot", ExportOptions(**options))


@dataclass
class NoTasks:
    """An import that is asked for no name: our exports tell their tasks."""

    def find(self, names: tuple[str, ...]) -> str:
        return f"found/{names[0].replace('/', '-')}"

    def wanted(self, task_id: str) -> bool:
        return True

    def spec(self, task_id: str, shapes: Any) -> TaskSpec:
        return replace(REACH, id=task_id, domain="found")

    def horizon(self, task_id: str) -> int | None:
        return None


def imported(folder: Path) -> tuple[list[Trajectory], set[str]]:
    results = list(read(folder, NoTasks(), Options()))
    assert [one for one in results if isinstance(one, Problem)] == []
    notes = {one.text for one in results if isinstance(one, Note)}
    return [one.trajectory for one in results if isinstance(one, Imported)], notes


def assert_same(found: Trajectory, wanted: Trajectory) -> None:
    assert trajectory_digest(found) == trajectory_digest(wanted)
    for field in fields(Trajectory):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "observations":
            other = other[: wanted.length]
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert np.array_equal(one, other), field.name
        else:
            assert one == other, field.name


@pytest.mark.parametrize(
    "episodes",
    [
        [episode(REACH, 0), episode(PUSH, 1, 3), episode(REACH, 2, 5)],
        [episode(SLIDE, 0, success=None), episode(SLIDE, 1, 1, success=None, seed=None)],
        [episode(GAME, 0, context_starts=(0, 3)), episode(GAME, 1, success=None)],
    ],
    ids=["two tasks", "one number", "images"],
)
def test_what_is_imported_again_is_what_was_there(episodes: list[Trajectory], tmp_path: Path) -> None:
    made = exported(stored(tmp_path / "store", episodes), tmp_path / "out")
    assert (made.episodes, made.steps) == (len(episodes), sum(one.length for one in episodes))
    told = [one for one in episodes if one.success is not None]
    assert made.notes == {
        LAST: len(episodes),
        **({SUCCESS_LEFT_OUT: 1} if 0 < len(told) < len(episodes) else {}),
    }
    # An index has parts by task, so the store's order is not that of what was appended.
    found = {one.origin: one for one in imported(tmp_path / "out")[0]}
    for wanted in episodes:
        told = wanted if all(one.success is not None for one in episodes) else replace(wanted, success=None)
        assert_same(found[wanted.origin], told)


@pytest.mark.parametrize("signals", [[1, 0, 1], [1, -1, 0]], ids=["other sums", "the same sums"])
def test_rewards_as_agents_are_shown_them_come_back(signals: list[float], tmp_path: Path) -> None:
    clipped = replace(
        episode(GAME, 3, 3), rewards=np.array([5.0, -5.0, 0.0]), signals=np.array(signals, np.float32)
    )
    exported(stored(tmp_path / "store", [episode(GAME, 0), clipped]), tmp_path / "out")
    found = {one.origin: one for one in imported(tmp_path / "out")[0]}
    assert_same(found[clipped.origin], clipped)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".out")]


def test_files_have_the_columns_and_types_of_lerobots_own(tmp_path: Path) -> None:
    exported(stored(tmp_path / "store", [episode(REACH, 0), episode(PUSH, 1)]), tmp_path / "out")
    info, theirs = (json.loads((root / "meta/info.json").read_text()) for root in (tmp_path / "out", GENUINE))
    assert set(info) == set(theirs)
    assert {key: info["features"][key] for key in ("timestamp", "index", "task_index")} == {
        key: theirs["features"][key] for key in ("timestamp", "index", "task_index")
    }
    ours = pq.read_schema(str(tmp_path / "out" / EPISODES))
    genuine = pq.read_schema(str(GENUINE / EPISODES))
    common = set(ours.names) & set(genuine.names)
    assert {name for name in genuine.names if "stats/obs" not in name} <= common
    assert {name: ours.field(name).type for name in common} == {
        name: genuine.field(name).type for name in common
    }
    tasks = pq.read_table(str(tmp_path / "out/meta/tasks.parquet"))
    assert tasks.column_names == pq.read_table(str(GENUINE / "meta/tasks.parquet")).column_names


def test_files_that_are_full_are_followed_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "DATA_MEGABYTES", 0)
    monkeypatch.setattr(exporter, "VIDEO_MEGABYTES", 0)
    monkeypatch.setattr(exporter, "_ROWS", 1)
    episodes = [episode(GAME, number) for number in range(3)]
    exported(stored(tmp_path / "store", episodes), tmp_path / "out", images="video")
    for folder in ("data", "meta/episodes", "videos/observation.image"):
        assert len(list((tmp_path / "out" / folder).glob("*/*"))) == 3, folder
    found, _ = imported(tmp_path / "out")
    assert [one.origin for one in found] == [one.origin for one in episodes]


def test_a_video_is_near_and_keeps_episodes_apart(tmp_path: Path) -> None:
    episodes = [episode(GAME, number, 9) for number in range(3)]
    made = exported(stored(tmp_path / "store", episodes), tmp_path / "out", images="video", quality=10)
    assert made.notes[LOSSY] == 3
    (file,) = (tmp_path / "out/videos").rglob("*.mp4")
    assert file.stat().st_size < 27 * 3 * 64 * 64 / 10
    places = pq.read_table(str(tmp_path / "out" / EPISODES))
    begins, ends = (
        places[f"videos/observation.image/{side}_timestamp"].to_pylist() for side in ("from", "to")
    )
    assert begins == [0, 9 / 20, 18 / 20]
    assert ends == [9 / 20, 18 / 20, 27 / 20]
    assert places["dataset_to_index"].to_pylist() == [9, 18, 27]
    for found, wanted in zip(imported(tmp_path / "out")[0], episodes, strict=True):
        assert np.array_equal(found.actions, wanted.actions)
        away = np.abs(found.observations.astype(int) - wanted.observations[:9]).mean(axis=(1, 2, 3))
        assert away.max() < 3
        moved = np.abs(wanted.observations[:8].astype(int) - wanted.observations[1:9]).mean(axis=(1, 2, 3))
        assert moved.min() > 5  # a frame beside its own would be seen


def test_statistics_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    episodes = [rng.normal(size=(length, 3)).astype(np.float32) for length in (4, 9, 1)]
    running = RunningStatistics()
    for one in episodes:
        running.add({"action": of_numbers(one)})
    found, rows = running.result()["action"], np.concatenate(episodes).astype(np.float64)
    assert found["count"] == [14]
    assert np.array_equal(found["min"], rows.min(axis=0))
    assert np.array_equal(found["max"], rows.max(axis=0))
    assert np.allclose(found["mean"], rows.mean(axis=0))
    assert np.allclose(found["std"], rows.std(axis=0))
    assert np.allclose(of_numbers(episodes[1])["q90"], np.quantile(episodes[1], 0.9, axis=0))
    images = rng.integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    told = of_images(images)
    shares = images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert told["mean"].shape == (3, 1, 1)
    assert np.allclose(told["mean"][:, 0, 0], shares.mean(axis=1))
    assert np.allclose(told["std"][:, 0, 0], shares.std(axis=1))
    assert np.allclose(told["q50"][:, 0, 0], np.quantile(shares, 0.5, axis=1, method="inverted_cdf"))


def test_what_was_changed_since_is_read_as_a_strangers(tmp_path: Path) -> None:
    exported(stored(tmp_path / "store", [episode(REACH, 0), episode(REACH, 1)]), tmp_path / "out")
    file = tmp_path / "out/meta/lram.json"
    told = json.loads(file.read_text())
    told["episodes"].pop()
    file.write_text(json.dumps(told))
    found, notes = imported(tmp_path / "out")
    assert CHANGED in notes
    assert [one.policy for one in found] == ["", ""]
    assert {one.task.id for one in found} == {"found/lab-reach"}
    file.write_text("{")
    (problem,) = read(tmp_path / "out", NoTasks(), Options())
    assert "meta/lram.json cannot be read" in getattr(problem, "text", "")


def test_tasks_of_other_shapes_are_refused(tmp_path: Path) -> None:
    store = stored(tmp_path / "store", [episode(REACH, 0), episode(GAME, 0)])
    with pytest.raises(
        AgentError, match=r"lab/reach has vectors of 5 and actions of 2, atari/game images of 3"
    ):
        exported(store, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_folder_that_is_there_is_refused_and_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored(tmp_path / "store", [episode(GAME, 0), episode(GAME, 1)])
    (tmp_path / "out").mkdir()
    with pytest.raises(AgentError, match="is there already"):
        exported(store, tmp_path / "out")
    read_whole = store.trajectory

    def second_fails(number: int) -> Trajectory:
        if number:
            raise AgentError("it cannot be read")
        return read_whole(number)

    monkeypatch.setattr(store, "trajectory", second_fails)
    with pytest.raises(AgentError, match="it cannot be read"):
        exported(store, tmp_path / "new", images="video")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "store"]
