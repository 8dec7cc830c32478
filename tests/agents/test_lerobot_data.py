"""LeRobot data sets, read from files that LeRobot's package wrote (tests/benchmarks/record_lerobot.py)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import TaskSpec
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.run import start
from lram.agents.trajectories import StoreWriter, Trajectory
from lram.agents.trajectories.readers import Imported, Note, Options, Problem, Shapes, detect, read
from lram.agents.trajectories.readers.areas import area_mean
from lram.agents.trajectories.readers.lerobot.reading import AT_END, CONSTANT, SUCCEEDED, UNREWARDED

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra lerobot)")
av = pytest.importorskip("av", reason="PyAV is not installed (extra lerobot)")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra lerobot)")

DATA = Path(__file__).parents[1] / "data" / "lerobot"
PUSHT, ARM = DATA / "pusht", DATA / "arm"
ROWS = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.image/chunk-000/file-000.mp4"
PIXELS = {"action_bounds": (0.0, 512.0)}


@dataclass
class OwnTasks:
    """Takes every name as a task of its own."""

    limit: int | None = None

    def find(self, names: tuple[str, ...]) -> str:
        return f"lab/{names[0]}"

    def wanted(self, task_id: str) -> bool:
        return True

    def spec(self, task_id: str, shapes: Shapes) -> TaskSpec:
        assert shapes.action_size is not None
        shape, size = shapes.observation_shape, shapes.action_size
        return TaskSpec(task_id, "lab", shapes.observation, shape, shapes.action, size, None, 1.0)

    def horizon(self, task_id: str) -> int | None:
        return self.limit


@pytest.fixture(scope="module")
def expected() -> Mapping[str, Any]:
    with np.load(DATA / "expected.npz") as file:
        return dict(file)


@pytest.fixture
def pusht(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(PUSHT, tmp_path / "pusht")


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    return shutil.copytree(ARM, tmp_path / "arm")


def results(path: Path, tasks: OwnTasks | None = None, **options: Any) -> list[Any]:
    return list(read(path, tasks or OwnTasks(), Options(**options)))


def trajectories(path: Path, tasks: OwnTasks | None = None, **options: Any) -> list[Trajectory]:
    found = results(path, tasks, **options)
    assert [item for item in found if isinstance(item, Problem)] == []
    return [item.trajectory for item in found if isinstance(item, Imported)]


def notes(found: list[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in found:
        if isinstance(item, Note):
            counts[item.text] = counts.get(item.text, 0) + item.count
    return counts


def problem(path: Path, **options: Any) -> str:
    """The only problem of a source: one sentence."""
    (text,) = (item.text for item in results(path, **options) if isinstance(item, Problem))
    assert isinstance(text, str)
    assert "\n" not in text
    return text


def together(found: list[Trajectory], name: str) -> Any:
    return np.concatenate([getattr(one, name) for one in found])


def rewrite(file: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """Change the columns of a parquet file, its types as they were."""
    table = pq.read_table(str(file))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), str(file))


def edit(file: Path, **values: Any) -> None:
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | values))


# --- what comes in ---


def test_numbers_are_those_that_lerobot_gives(expected: Mapping[str, Any]) -> None:
    found = trajectories(PUSHT, **PIXELS)
    assert [one.length for one in found] == [12, 9, 15]
    assert np.array_equal(together(found, "observations"), expected["pusht.observation.state"])
    assert np.array_equal(together(found, "rewards"), expected["pusht.next.reward"].reshape(-1))
    assert np.array_equal(together(found, "success"), expected["pusht.next.success"].reshape(-1))
    mapped = expected["pusht.action"].astype(np.float64) / 256 - 1
    assert np.allclose(together(found, "actions"), mapped, atol=1e-6, rtol=0)
    assert {one.task.id for one in found} == {f"lab/{expected['pusht.task'][0]}"}


def test_vectors_are_put_side_by_side_in_the_order_asked_for(expected: Mapping[str, Any]) -> None:
    keys = ("observation.environment_state", "observation.state")
    found = trajectories(ARM, observation=keys)
    assert np.array_equal(
        together(found, "observations"), np.concatenate([expected[f"arm.{key}"] for key in keys], axis=1)
    )
    assert np.array_equal(together(found, "actions"), expected["arm.action"])
    assert [one.task.id for one in found] == ["lab/Pick up the cube.", "lab/Open the drawer."]


def test_a_video_gives_each_row_its_own_frame(expected: Mapping[str, Any]) -> None:
    found = trajectories(PUSHT, observation=("observation.image",), **PIXELS)
    seen = together(found, "observations").astype(float)
    assert seen.shape == (36, 3, 64, 64)
    shown = np.stack([area_mean(image) for image in expected["pusht.observation.image"]]).astype(float)
    away = np.abs(seen[:, None] - shown[None]).mean(axis=(2, 3, 4))
    assert np.array_equal(away.argmin(axis=1), np.arange(36))
    assert away.diagonal().max() < 6  # LeRobot's video is lossy


def test_single_images_are_exact_but_for_their_size(expected: Mapping[str, Any]) -> None:
    found = trajectories(ARM, observation=("observation.images.top",))
    images = expected["arm.observation.images.top"].transpose(0, 2, 3, 1)
    assert np.array_equal(together(found, "observations"), np.stack([area_mean(one) for one in images]))


def test_what_is_left_out_and_changed_is_said() -> None:
    said = notes(results(PUSHT, **PIXELS))
    assert said == {
        "episodes are observed as observation.state; left out: observation.image (--observation chooses)": 3,
        "episodes were recorded at 10 frames a second": 3,
    }
    said = notes(results(PUSHT, observation=("observation.image",), **PIXELS))
    assert said["episodes have images of 96 x 96, made 64 x 64 by the mean over areas"] == 3


def test_an_end_is_a_limit_of_time_only_where_the_task_has_that_limit() -> None:
    ends = [(one.terminated, one.truncated) for one in trajectories(PUSHT, OwnTasks(limit=15), **PIXELS)]
    assert ends == [(True, False), (True, False), (False, True)]
    # Nothing in this data set says how an episode ended.
    assert {(one.terminated, one.truncated) for one in trajectories(ARM)} == {(False, False)}


def test_rewards_are_invented_only_where_success_is_marked_or_it_is_asked_for(arm: Path, pusht: Path) -> None:
    assert not together(trajectories(arm), "rewards").any()
    assert notes(results(arm))[UNREWARDED] == 2
    asked = trajectories(arm, reward_at_end=True)
    assert [one.rewards.tolist() for one in asked] == [[0] * 6 + [1], [0] * 4 + [1]]
    assert all(one.success is not None and one.success[-1] and one.terminated for one in asked)
    assert notes(results(arm, reward_at_end=True))[AT_END] == 2
    assert "leave out --reward-at-end" in results(pusht, reward_at_end=True, **PIXELS)[0].text
    told = json.loads((pusht / "meta/info.json").read_text())
    del told["features"]["next.reward"]
    (pusht / "meta/info.json").write_text(json.dumps(told))
    marked = trajectories(pusht, **PIXELS)
    assert [one.episode_return for one in marked] == [1, 0, 1]
    said = notes(results(pusht, **PIXELS))
    assert (said[SUCCEEDED], said[UNREWARDED]) == (2, 1)


def test_actions_beyond_are_refused_and_mapped_from_the_statistics_only_when_asked(
    pusht: Path, expected: Mapping[str, Any]
) -> None:
    refused = [item.text for item in results(pusht) if isinstance(item, Problem)]
    assert "outside [-1, 1]" in refused[0]
    assert "--action-bounds" in refused[0]
    actions = together(trajectories(pusht, action_bounds="stats"), "actions")
    raw = expected["pusht.action"].astype(np.float64)
    low, high = raw.min(axis=0), raw.max(axis=0)
    assert np.allclose(actions, (raw - low) / (high - low) * 2 - 1, atol=1e-6, rtol=0)
    stats = json.loads((pusht / "meta/stats.json").read_text())
    stats["action"]["max"][1] = stats["action"]["min"][1]
    rewrite(
        pusht / ROWS,
        lambda columns: columns.update(action=[[x, stats["action"]["min"][1]] for x, _ in columns["action"]]),
    )
    (pusht / "meta/stats.json").write_text(json.dumps(stats))
    assert not together(trajectories(pusht, action_bounds="stats"), "actions")[:, 1].any()
    assert notes(results(pusht, action_bounds="stats"))[CONSTANT] == 3
    (pusht / "meta/stats.json").write_text("{}")
    assert "does not tell min and max of 'action'" in results(pusht, action_bounds="stats")[0].text


def test_episodes_in_one_row_group_and_in_several_files_are_the_same(pusht: Path, tmp_path: Path) -> None:
    before = trajectories(pusht, **PIXELS)
    table = pq.read_table(str(pusht / ROWS))
    assert pq.ParquetFile(str(pusht / ROWS)).num_row_groups == 3
    pq.write_table(table, str(pusht / ROWS))
    assert pq.ParquetFile(str(pusht / ROWS)).num_row_groups == 1
    one = trajectories(pusht, **PIXELS)
    pq.write_table(table.slice(0, 12), str(pusht / ROWS))
    pq.write_table(table.slice(12), str(pusht / "data/chunk-000/file-001.parquet"))
    rewrite(pusht / EPISODES, lambda columns: columns.update({"data/file_index": [0, 1, 1]}))
    several = trajectories(pusht, **PIXELS)
    for other in (one, several):
        assert [t.origin for t in other] == [t.origin for t in before]
        assert np.array_equal(together(other, "actions"), together(before, "actions"))


def test_a_folder_of_data_sets_is_read_whole() -> None:
    assert detect(DATA) == "lerobot"
    found = results(DATA, action_bounds="stats")
    assert len([item for item in found if isinstance(item, Imported)]) == 5


# --- what does not ---


def _version(root: Path) -> None:
    edit(root / "meta/info.json", codebase_version="v2.1")


def _later(root: Path) -> None:
    edit(root / "meta/info.json", codebase_version="v4.0")


def _no_rows(root: Path) -> None:
    (root / ROWS).unlink()


def _half_of_the_rows(root: Path) -> None:
    content = (root / ROWS).read_bytes()
    (root / ROWS).write_bytes(content[: len(content) // 2])


def _longer(root: Path) -> None:
    rewrite(root / EPISODES, lambda columns: columns["length"].__setitem__(2, 19))


def _shifted(root: Path) -> None:
    rewrite(root / EPISODES, lambda columns: columns["dataset_from_index"].__setitem__(1, 11))


def _nan(root: Path) -> None:
    rewrite(root / ROWS, lambda columns: columns["action"].__setitem__(13, [float("nan"), 1.0]))


def _empty_place(root: Path) -> None:
    rewrite(root / ROWS, lambda columns: columns["next.reward"].__setitem__(13, None))


def _out_of_order(root: Path) -> None:
    rewrite(root / ROWS, lambda columns: columns["frame_index"].__setitem__(13, 5))


def _done_early(root: Path) -> None:
    rewrite(root / ROWS, lambda columns: columns["next.done"].__setitem__(13, True))


def _outside(root: Path) -> None:
    edit(root / "meta/info.json", data_path="../chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")


def _wide_template(root: Path) -> None:
    edit(root / "meta/info.json", data_path="data/{chunk_index:0999999999d}/{file_index:03d}.parquet")


def _no_action(root: Path) -> None:
    told = json.loads((root / "meta/info.json").read_text())
    told["features"].pop("action")
    edit(root / "meta/info.json", features=told["features"])


def _other_width(root: Path) -> None:
    told = json.loads((root / "meta/info.json").read_text())
    told["features"]["action"]["shape"] = [3]
    edit(root / "meta/info.json", features=told["features"])


def _no_tasks(root: Path) -> None:
    (root / "meta/tasks.parquet").unlink()


def _no_fps(root: Path) -> None:
    edit(root / "meta/info.json", fps=0)


ROW_FAULTS: dict[Callable[[Path], None], tuple[str, str]] = {
    _version: (
        "meta/info.json",
        "is a LeRobot data set of version v2.1, and version 3 is read; convert it with",
    ),
    _later: ("meta/info.json", "does not know"),
    _no_rows: (ROWS, "is missing"),
    _half_of_the_rows: (ROWS, "is no whole parquet file"),
    _longer: (ROWS, "has 19 rows from row 21 on by meta/episodes, and the file has 36"),
    _shifted: (ROWS, "episode 1 has rows of episode 0"),
    _nan: (ROWS, "episode 1 has an action that is not finite at row 1"),
    _empty_place: (ROWS, "has a column 'next.reward' with empty places"),
    _out_of_order: (ROWS, "episode 1 has rows out of order"),
    _done_early: (ROWS, "episode 1 is done at row 1 and continues"),
    _outside: ("meta/info.json", "is no path within the data set"),
    _wide_template: ("meta/info.json", "is no path within the data set"),
    _no_action: ("", "has no feature 'action'; it has"),
    _other_width: (ROWS, "has a column 'action' of other lengths than 3"),
    _no_tasks: ("meta/tasks.parquet", "is missing"),
    _no_fps: ("meta/info.json", "has fps 0"),
}


@pytest.mark.parametrize("damage", ROW_FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_what_is_wrong_is_one_sentence_that_names_the_file(
    damage: Callable[[Path], None], pusht: Path
) -> None:
    damage(pusht)
    file, cause = ROW_FAULTS[damage]
    texts = [item.text for item in results(pusht, **PIXELS) if isinstance(item, Problem)]
    assert len(set(texts)) in (1, 3)  # of the data set, or of each episode
    assert cause in texts[0]
    assert str(pusht) in texts[0]
    assert file in texts[0] or damage in (_version, _later)


def _no_video(root: Path) -> None:
    (root / VIDEO).unlink()


def _cut_video(root: Path) -> None:
    content = (root / VIDEO).read_bytes()
    (root / VIDEO).write_bytes(content[:-1500])


def _no_video_at_all(root: Path) -> None:
    (root / VIDEO).write_text("#EXTM3U\n/etc/passwd\n")


def _beyond(root: Path) -> None:
    key = "videos/observation.image/from_timestamp"
    rewrite(root / EPISODES, lambda columns: columns[key].__setitem__(2, 2.6))


def _between(root: Path) -> None:
    key = "videos/observation.image/from_timestamp"
    rewrite(root / EPISODES, lambda columns: columns[key].__setitem__(2, 2.15))


def _other_size(root: Path) -> None:
    told = json.loads((root / "meta/info.json").read_text())
    told["features"]["observation.image"]["shape"] = [84, 84, 3]
    edit(root / "meta/info.json", features=told["features"])


VIDEO_FAULTS: dict[Callable[[Path], None], str] = {
    _no_video: "which is missing",
    _cut_video: "",
    _no_video_at_all: "is no video that can be decoded",
    _beyond: "which is not in it (it ends at 3.500 s)",
    _between: "which is not in it (frames on both sides of it are there)",
    _other_size: "of 84 x 84 by its metadata",
}


@pytest.mark.parametrize("damage", VIDEO_FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_video_that_lacks_frames_is_one_sentence(damage: Callable[[Path], None], pusht: Path) -> None:
    damage(pusht)
    found = results(pusht, observation=("observation.image",), **PIXELS)
    texts = [item.text for item in found if isinstance(item, Problem)]
    assert texts
    assert VIDEO_FAULTS[damage] in texts[-1]
    assert VIDEO in texts[-1]
    assert "episode 2" in texts[-1]


def test_a_choice_that_makes_no_observation_is_refused() -> None:
    mixed = problem(PUSHT, observation=("observation.state", "observation.image"))
    assert "either one camera or vectors" in mixed
    assert "has no feature 'state'; it has observation.image, observation.state" in problem(
        PUSHT, observation=("state",)
    )


def test_images_outside_the_rows_are_refused(arm: Path) -> None:
    def without_bytes(columns: dict[str, list[Any]]) -> None:
        columns["observation.images.top"][3]["bytes"] = None

    rewrite(arm / ROWS, without_bytes)
    assert "row 3 has an image 'observation.images.top' that is not in its parquet file" in problem(
        arm, observation=("observation.images.top",)
    )


def test_without_pyarrow_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert problem(PUSHT).endswith("run: pip install 'lram-bench[lerobot]'")


# --- what is done with it ---


@pytest.mark.parametrize("key", ["observation.state", "observation.image"])
def test_a_model_is_trained_on_it(key: str, tmp_path: Path) -> None:
    found = trajectories(PUSHT, observation=(key,), **PIXELS)
    with StoreWriter(tmp_path / "store") as writer:
        for one in found:
            writer.append(one)
    settings = ("model.width=16", "model.layers=1", "model.xlstm.heads=2", "model.xlstm.slstm_at=[]")
    short = (
        "sampling.sequences=2",
        "sampling.context=4",
        "optimizer.updates=3",
        "optimizer.warmup_updates=1",
    )
    recipe = read_recipe(None, [f"data.stores={tmp_path / 'store'}", "saving.trackers=[]", *settings, *short])
    start(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()
