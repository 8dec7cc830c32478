"""Names of tasks that hold a pattern's letters, an @ or a space: every reader takes what the loader took."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import TaskSpec
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.selection import select as select_episodes
from lram.agents.training.selection import selection_of
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.envs import registry
from lram.envs.errors import AnnouncedError, SelectionError
from lram.envs.registry import add_file, select
from lram.envs.task_ids import is_task_id, is_task_name
from lram.harness.collection.exporting import _named
from lram.harness.collection.importing import ImportTasks
from lram.harness.domain_files import named, with_absolute_files
from lram.harness.errors import LramError
from lram.harness.training import task_patterns
from lram.harness.watching.folder import WatchFolder, begin
from lram.harness.watching.records import WatchPlan

NAMES = ("reach[1]", "reach1", "x@y", "push block", "a/b")
PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"^```python\n(# number_line.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the domain ``odd``, whose tasks are called so; it is forgotten after the test."""
    monkeypatch.setattr(registry, "_in_files", {})
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "odd.py"
    write(file, *NAMES)
    yield file
    for cached in (registry.all_tasks, registry.load_domain, registry._faulty):
        cached.cache_clear()


def write(file: Path, *names: str) -> None:
    text = EXAMPLE.replace('"number_line', f'"{file.stem}')
    assert "tasks=(STAY,)" in text
    text = text.replace("tasks=(STAY,)", f"tasks=tuple(replace(STAY, name=name) for name in {names!r})")
    file.write_text(f"from dataclasses import replace\n{text}")


def test_a_name_goes_before_the_pattern_that_it_looks_like(odd: Path) -> None:
    add_file(odd)
    for name in NAMES:
        assert [task.name for task in select(f"odd/{name}")] == [name]
    assert [task.name for task in select("odd/reach[0-9]")] == ["reach1"]
    assert {task.name for task in select("odd,!odd/reach[1]")} == {*NAMES} - {"reach[1]"}
    assert len(select("odd@extra")) == len(NAMES)
    with pytest.raises(SelectionError, match="no split 'y'"):
        select("odd/z@y")


def test_a_file_s_tasks_of_a_split_are_selected_as_a_domain_s_are(odd: Path) -> None:
    assert named(["odd.py@extra"]) == ["odd@extra"]
    assert len(select(named(["odd.py@extra"]))) == len(NAMES)
    assert named(["odd.py:x@y"]) == ["odd/x@y"]
    assert with_absolute_files(["odd.py@extra,!odd.py:a*"], odd.parent) == (f"{odd}@extra,!{odd}:a*",)
    with pytest.raises(SelectionError, match=r"no task matches 'odd@train'"):
        select(named(["odd.py@train"]))


def test_recipes_and_exports_take_the_names_of_a_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store") as writer:
        for name in NAMES:
            task = TaskSpec(f"odd/{name}", "odd", "vector", (3,), "continuous", 2, 1.0, 1.0)
            seen, actions = rng.uniform(-1, 1, (5, 3)), rng.uniform(-1, 1, (4, 2))
            rewards = np.ones(4, np.float32)
            writer.append(
                Trajectory(
                    task,
                    seen.astype(np.float32),
                    actions.astype(np.float32),
                    rewards,
                    rewards,
                    False,
                    True,
                    policy="mine:make([1])",
                )
            )
    store = TrajectoryStore(tmp_path / "store")
    recipe = read_recipe(None, ['data.tasks=["odd/reach[1]"]', 'data.policies=["mine:make([1])"]'])
    assert "odd/reach[1]" in {
        task.id for task in select_episodes([store], selection_of(recipe), "train", state_width=8).tasks
    }
    assert "odd/reach[1]" in _named(store, ["odd/reach[1]"])
    assert task_patterns(["odd/x@y", "odd/push block"]) == ("odd/x@y", "odd/push block")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_domain_calls_a_task_can_be_watched_and_imported(name: str, tmp_path: Path) -> None:
    plan = WatchPlan(1, "t", "r", 10, (f"odd/{name}",), 2, 0)
    begin(tmp_path / "watch", plan).close()
    assert WatchFolder(tmp_path / "watch").plan.tasks == plan.tasks
    assert ImportTasks(task=f"odd/{name}", reward_scale=1.0).task == f"odd/{name}"


@pytest.mark.parametrize("name", ["", "a|b", "a,b", " a", "a ", "a\nb", "x" * 201])
def test_what_cannot_be_selected_or_recorded_is_refused_when_it_is_loaded(name: str, odd: Path) -> None:
    assert not is_task_name(name)
    write(odd, name)
    with pytest.raises(AnnouncedError, match="whose name is no printable text of 1 to 200 characters"):
        add_file(odd)
    with pytest.raises(LramError, match=r"is no task; write domain/name, .* the name printable text"):
        ImportTasks(task=f"odd/{name}", reward_scale=1.0)


def test_an_id_has_a_domain_and_a_name() -> None:
    assert [text for text in ("a/b", "a b/c", "a", "/a", "a/", "gym/ALE/Pong-v5") if is_task_id(text)] == [
        "a/b",
        "gym/ALE/Pong-v5",
    ]
