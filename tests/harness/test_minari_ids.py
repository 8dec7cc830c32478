"""Minari data sets by their ids: what its own collector wrote, found on this machine and read as by it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError
from lram.agents.trajectories import Trajectory
from lram.agents.trajectories.readers import Imported, Note, Options, located, read
from lram.agents.trajectories.readers.conversion import MAPPED
from lram.agents.trajectories.readers.minari_ids import dataset_folder, datasets_folder, environment_id
from lram.envs.domains.gym.names import parse
from lram.harness.cli import app
from lram.harness.collection.importing import ImportTasks
from lram.harness.errors import LramError

DATA = Path(__file__).parents[1] / "data" / "minari"


@pytest.fixture(autouse=True)
def minaris_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(DATA))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(DATA / "expected.npz") as arrays:
        return dict(arrays)


def results(name: str, tasks: ImportTasks | None = None) -> list[Any]:
    return list(read(located(f"minari:{name}")[0], tasks or ImportTasks(), Options()))


def trajectories(name: str, tasks: ImportTasks | None = None) -> list[Trajectory]:
    return [one.trajectory for one in results(name, tasks) if isinstance(one, Imported)]


def notes(name: str) -> dict[str, int]:
    return {one.text: one.count for one in results(name) if isinstance(one, Note)}


@pytest.mark.parametrize("name", ["pendulum/random-v0", "pendulum/heavy-v0", "cartpole/random-v1"])
def test_episodes_are_those_that_minari_reads_with_actions_mapped_from_their_bounds(
    name: str, expected: dict[str, Any]
) -> None:
    found = trajectories(name)
    assert len(found) == len([key for key in expected if key.startswith(name) and key.endswith("rewards")])
    for number, one in enumerate(found):
        whole = {
            key.rpartition("/")[2]: expected[key] for key in expected if key.startswith(f"{name}/{number}/")
        }
        np.testing.assert_array_equal(one.observations, whole["observations"])
        np.testing.assert_array_equal(one.rewards, whole["rewards"])
        actions = whole["actions"] / 2 if "pendulum" in name else whole["actions"]
        np.testing.assert_allclose(one.actions, actions, atol=1e-7)
        assert (one.terminated, one.truncated) == (whole["terminations"][-1], whole["truncations"][-1])
    if "pendulum" in name:
        assert np.abs(expected[f"{name}/0/actions"]).max() > 1
        assert MAPPED in notes(name)


def test_an_episodes_task_is_its_environments_own_with_its_options() -> None:
    assert {one.task.id for one in trajectories("pendulum/random-v0")} == {"gym/Pendulum-v1"}
    assert {one.task.id for one in trajectories("pendulum/heavy-v0")} == {"gym/Pendulum-v1?g=12.0"}
    task = trajectories("cartpole/random-v1")[0].task
    assert (task.id, task.action, task.action_size) == ("gym/CartPole-v1", "discrete", 2)
    said = notes("pendulum/heavy-v0")
    assert any("were cut off after 6 decisions" in text for text in said)
    assert not any("options" in text for text in said)  # the task has them


def test_a_task_of_ones_own_and_an_environment_by_name_take_the_data_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = ImportTasks("mine/swing", reward_scale=10.0)
    assert trajectories("pendulum/heavy-v0", own)[0].task.id == "mine/swing"
    said = [one.text for one in results("pendulum/heavy-v0", own) if isinstance(one, Note)]
    assert any("an environment with options g=12.0 by their metadata" in text for text in said)
    assert trajectories("pendulum/heavy-v0", ImportTasks("gym:Pendulum-v1"))[0].task.id == "gym/Pendulum-v1"
    unknown = ImportTasks("gym/Crane-v0", reward_scale=2.0, target_return=5.0)  # its package is elsewhere
    task = trajectories("pendulum/heavy-v0", unknown)[0].task
    assert (task.id, task.observation_shape, task.reward_scale) == ("gym/Crane-v0", (3,), 2.0)
    with pytest.raises((AgentError, LramError), match=r"gym/Crane-v0 cannot be made here .*--reward-scale 1"):
        ImportTasks("gym:Crane-v0")


def test_the_pages_command_imports_a_data_set_that_is_here(tmp_path: Path, capsys: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text(encoding="utf-8")
    words = re.findall(r"lram (data import minari:\S+ -o \S+)", page)[0].split()
    assert words[2] == "minari:D4RL/door/human-v2"
    with pytest.raises(AgentError, match="nothing is downloaded here"):
        app(words, exit_on_error=False, result_action="return_value")
    words[2], words[4] = "minari:pendulum/random-v0", str(tmp_path / "store")
    assert not app(words, exit_on_error=False, result_action="return_value")
    assert "imported: 3 episodes, 36 steps" in capsys.readouterr().out
    card = (tmp_path / "store" / "card.json").read_text()
    assert '"source": "minari:pendulum/random-v0"' in card


def test_an_id_that_is_not_here_is_refused_with_near_ones_and_the_command_that_fetches_it() -> None:
    with pytest.raises(AgentError) as refusal:
        dataset_folder("pendulum/randm-v0")
    assert str(refusal.value).startswith(
        f"there is no Minari data set pendulum/randm-v0 in {DATA} (did you mean"
    )
    assert "minari:pendulum/random-v0" in str(refusal.value)
    assert str(refusal.value).endswith("so fetch it with Minari: minari download pendulum/randm-v0")
    for name in ("../minari/pendulum/random-v0", "", "/etc", "a b", "pendulum//random-v0"):
        with pytest.raises(AgentError, match="is no id of a Minari data set"):
            dataset_folder(name)


def test_another_format_of_minari_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(DATA / "pendulum", tmp_path / "pendulum")) / "random-v0"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    file = folder / "data" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data_format": "arrow"}))
    with pytest.raises(AgentError, match="in Minari's format arrow, and hdf5 is read"):
        dataset_folder("pendulum/random-v0")


def test_minaris_folder_is_its_variables_or_that_of_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    assert datasets_folder() == Path.home() / ".minari" / "datasets"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({"id": "Pendulum-v1"}, "gym/Pendulum-v1"),
        ({"id": "ALE/Pong-v5", "kwargs": {"mode": 1, "obs_type": "ram", "render_mode": "human"}},
         "gym/ALE/Pong-v5?mode=1&obs_type=ram"),
        ({"id": "Maze-v1", "kwargs": {"level": "3", "easy": True, "gap": None, "far": -1.5}},
         "gym/Maze-v1?level=%273%27&easy=True&gap=None&far=-1.5"),
        ({"id": "evil_module:Mine-v0"}, ""),
        ({"id": "Ant-v5", "kwargs": {"xml_file": "/tmp/ant.xml"}}, ""),
        ({"id": "Maze-v1", "kwargs": {"map": [[1, 0]]}}, ""),
        ({"id": "Maze-v1", "kwargs": {"a=b&c": 1}}, ""),
        ({"id": "Pong-v5", "additional_wrappers": [{"name": "FrameStack"}]}, ""),
        ({"id": "x" * 300}, ""),
        ({"id": 3}, ""),
        ("no spec", ""),
    ],
)  # fmt: skip
def test_an_environments_name_is_what_gymnasium_makes_it_from_or_nothing(spec: Any, name: str) -> None:
    assert environment_id({"env_spec": spec}) == name
    if name and isinstance(spec, dict):
        parsed = parse(name.removeprefix("gym/"))
        options = {key: value for key, value in spec.get("kwargs", {}).items() if key != "render_mode"}
        assert (parsed.id, dict(parsed.options)) == (spec["id"], options)
