"""Environments of Gymnasium as tasks: what is understood of them, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs lram-bench[gym]")

import gymnasium
from gymnasium import spaces

from lram.envs import score_file
from lram.envs.conformance import check_session
from lram.envs.domains.gym import names, probing
from lram.envs.domains.gym.domain import DOMAIN
from lram.envs.domains.gym.images import area_mean
from lram.envs.domains.gym.session import GymnasiumSession, make
from lram.envs.domains.gym.spaces import ActionMapper, ObservationReader
from lram.envs.errors import AnnouncedError, SelectionError, SessionError
from lram.envs.registry import load_domain, select
from lram.envs.scores import audit
from lram.envs.session import Domain
from lram.envs.task import Task

AREA = DOMAIN.protocol()
FACTS = {
    "observation": "vector",
    "observation_size": 4,
    "action": "discrete",
    "action_size": 2,
    "horizon": 500,
    "entry_point": "somewhere:Else",
}


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were probed; no process is started."""
    asked: list[str] = []
    monkeypatch.setattr(probing, "facts", lambda name: asked.append(name) or FACTS)
    return asked


# A name is an id with options.


@pytest.mark.parametrize(
    ("text", "identifier", "options"),
    [
        ("CartPole-v1", "CartPole-v1", {}),
        ("ALE/Pong-v5?frameskip=(2%2C 5)", "ALE/Pong-v5", {"frameskip": (2, 5)}),
        ("mine.envs:Mine-v0?a=1&b=text&c=None", "mine.envs:Mine-v0", {"a": 1, "b": "text", "c": None}),
    ],
)
def test_a_name_is_an_id_with_options(text: str, identifier: str, options: dict[str, Any]) -> None:
    assert names.parse(text) == names.EnvironmentName(text, identifier, options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CartPole-*", "no list to match patterns"),
        ("a/b/c", "no id"),
        ("Pendulum-v1?g", "name=value"),
        ("Pendulum-v1?", "name=value"),
        ("Pendulum-v1?g=1&g=2", "each name once"),
        ("Pendulum-v1?render_mode=human", "set by lram-bench"),
        ("A" * 201, "longer than 200"),
    ],
)
def test_what_is_no_name_is_refused(text: str, words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        names.parse(text)


def test_a_selection_makes_the_row_of_the_task(probed: list[str]) -> None:
    tasks = select("gym:CartPole-v1,gym/ALE/Pong-v5,toy/reach,gym:Gone-v1,!gym:Gone-v1")
    assert [task.id for task in tasks] == ["toy/reach", "gym/CartPole-v1", "gym/ALE/Pong-v5"]
    assert (tasks[1].horizon, tasks[1].action_size, tasks[1].split) == (500, 2, "extra")
    assert audit(tasks[1]) == "no score reference"
    assert dict(tasks[1].sources) == {"environment": "gymnasium, entry point somewhere:Else"}
    assert select(tasks[1]) == [tasks[1]]
    assert set(probed) == {"CartPole-v1", "ALE/Pong-v5", "Gone-v1"}


def test_a_domain_that_makes_tasks_cannot_be_selected_whole() -> None:
    for term in ("gym", "gym:", "gym/"):
        with pytest.raises(SelectionError, match="makes its tasks from their names"):
            select(term)


# Observations.


@pytest.mark.parametrize(
    ("space", "seen", "read"),
    [
        (spaces.Box(-1, 1, (2, 2)), np.array([[1, 2], [3, 4]]), [1, 2, 3, 4]),
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (spaces.MultiBinary(3), np.array([1, 0, 1]), [1, 0, 1]),
        (spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 9, (1,)))), (1, np.array([7])), [0, 1, 7]),
        (
            spaces.Dict([("z", spaces.Box(0, 9, (1,))), ("a", spaces.Dict({"b": spaces.Discrete(2)}))]),
            {"z": np.array([3.0]), "a": {"b": 0}},
            [1, 0, 3],
        ),
        (spaces.Box(0, 255, (2, 2, 1), np.uint8), np.arange(4).reshape(2, 2, 1), [0, 1, 2, 3]),
    ],
)
def test_observations_become_one_vector(space: Any, seen: Any, read: list[float]) -> None:
    reader = ObservationReader("gym/x", space)
    found = reader(seen)
    assert (reader.kind, reader.shape) == ("vector", (len(read),))
    assert found.dtype == np.float32
    assert found.tolist() == read


@pytest.mark.parametrize("shape", [(210, 160, 3), (3, 210, 160), (210, 160), (210, 160, 1), (16, 100, 3)])
def test_images_become_area_means(shape: tuple[int, ...]) -> None:
    reader = ObservationReader("gym/x", spaces.Box(0, 255, shape, np.uint8))
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = reader(image)
    assert reader.kind == "image"
    assert (found.shape, found.dtype) == ((3, 64, 64), np.uint8)
    first = image.transpose(2, 0, 1) if len(shape) == 3 and shape[2] in (1, 3) else image
    for colour in range(3):
        plane = first if first.ndim == 2 else first[min(colour, len(first) - 1)]
        assert abs(int(found[colour, 63, 63]) - corner_mean(plane)) <= 0.5 + 1e-9


def corner_mean(plane: np.ndarray) -> float:
    """The mean over the area that the last of 64 x 64 pixels covers, by repeating each pixel 64 times."""
    height, width = plane.shape
    fine = np.repeat(np.repeat(plane, 64, axis=0)[-height:], 64, axis=1)[:, -width:]
    return float(fine.mean())


def test_a_half_is_rounded_up_and_no_pixel_is_shifted() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 1
    stripes[64:, :, 1] = 200
    found = area_mean(stripes)
    assert (found[0] == 1).all()
    assert (found[1, 32:] == 200).all()
    assert (found[1, :32] == 1).all()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Text(5), "Text"),
        (spaces.Dict({"seen": spaces.Box(0, 255, (64, 64, 3), np.uint8)}), r"in \['seen'\]"),
        (spaces.Box(0, 1, (70_000,)), "70000 numbers"),
        (spaces.Box(0, 255, (5000, 20, 3), np.uint8), "4096 pixels"),
    ],
)
def test_observations_that_cannot_be_shown_are_refused(space: Any, words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        ObservationReader("gym/x", space)


def test_an_observation_out_of_its_space_is_told() -> None:
    for space, seen in ((spaces.Discrete(3), 3), (spaces.Box(-np.inf, np.inf, (1,)), np.array([1e39]))):
        with pytest.raises(SessionError, match="not finite"):
            ObservationReader("gym/x", space)(seen)


# Actions.


def test_actions_are_scaled_to_the_bounds() -> None:
    act = ActionMapper("gym/x", spaces.Box(np.array([-2, 0], np.float32), np.array([2, 1], np.float32)))
    assert (act.kind, act.size) == ("continuous", 2)
    assert act(np.array([-1, -1], np.float32)).tolist() == [-2, 0]
    assert act(np.array([0, 1], np.float32)).tolist() == [0, 1]
    assert act(np.zeros(2, np.float32)).dtype == np.float32
    discrete = ActionMapper("gym/x", spaces.Discrete(4, start=-1))
    assert (discrete.kind, discrete.size, discrete(0), discrete(3)) == ("discrete", 4, -1, 2)


@pytest.mark.parametrize(
    ("space", "words"),
    [(spaces.Box(-np.inf, np.inf, (2,)), "finite bounds"), (spaces.MultiDiscrete([2, 2]), "MultiDiscrete")],
)
def test_actions_that_cannot_be_given_are_refused(space: Any, words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        ActionMapper("gym/x", space)


# Sessions.


@pytest.mark.parametrize(
    ("name", "limit"), [("Pendulum-v1?g=9.0", 200), ("CartPole-v1", 500), ("FrozenLake-v1", 100)]
)
def test_sessions_keep_the_contract(name: str, limit: int) -> None:
    check_session(lambda: make(name, AREA), limit=limit, seeds=(7, 9), steps=20)


def test_a_games_images_keep_the_contract() -> None:
    pytest.importorskip("ale_py", reason="needs lram-bench[atari]")
    session = make("ALE/Freeway-v5?max_episode_steps=3", AREA)
    assert session.spec.observation_shape == (3, 64, 64)
    one = [session.reset(3), *(session.step(1) for _ in range(3))]
    two = [session.reset(3), *(session.step(1) for _ in range(3))]
    assert (one[0] == two[0]).all()
    assert (one[3].observation == two[3].observation).all()  # type: ignore[union-attr]
    assert one[3].truncated  # type: ignore[union-attr]


def test_options_reach_the_environment() -> None:
    heavy, light = (make(f"Pendulum-v1?g={g}", AREA) for g in (10.0, 1.0))
    assert (heavy.reset(3) == light.reset(3)).all()
    still = np.zeros(1, np.float32)
    assert (heavy.step(still).observation != light.step(still).observation).any()


class Told(gymnasium.Env):  # type: ignore[misc]
    """Tells success under ``key`` from decision ``since`` on."""

    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

    def __init__(self, key: str, since: int) -> None:
        self.key, self.since, self.made = key, since, 0

    def reset(self, **_: Any) -> tuple[int, dict[str, Any]]:
        self.made = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.made += 1
        return 1, 1, self.made == 3, self.made == 3, {self.key: True} if self.made >= self.since else {}


@pytest.mark.parametrize(
    ("key", "since", "told"),
    [
        ("is_success", 1, [True] * 3),
        ("success", 1, [True] * 3),
        ("is_success", 2, [None] * 3),
        ("x", 1, [None] * 3),
    ],
)
def test_success_is_told_where_the_first_step_tells_it(key: str, since: int, told: list[bool | None]) -> None:
    session = GymnasiumSession(names.parse("Told-v0"), Told(key, since))
    session.reset(0)
    steps = [session.step(1) for _ in range(3)]
    assert [step.success for step in steps] == told
    assert (steps[-1].terminated, steps[-1].truncated) == (True, False)
    with pytest.raises(SessionError, match="no render mode"):
        session.render()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Carpole-v1", "there is no environment gym:Carpole-v1"),
        ("no_such_module:Mine-v0", "cannot be imported"),
        ("CartPole-v1?colour=red", "cannot be made.*colour"),
    ],
)
def test_an_environment_that_is_not_there_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(SelectionError, match=words) as caught:
        make(name, AREA)
    assert "\n" not in str(caught.value)


# What an environment is, is found out in a process of its own.


def test_probing_tells_sizes_and_survives_what_an_environment_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rough.py").write_text(ROUGH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probing.facts("rough:Loud-v0") == {
        "observation": "vector",
        "observation_size": 2,
        "action": "discrete",
        "action_size": 3,
        "horizon": 7,
        "entry_point": "rough:Loud",
    }
    with pytest.raises(SelectionError, match=r"ends the process that makes it.*exit status 5.*last words"):
        probing.facts("rough:Dead-v0")
    with pytest.raises(SelectionError, match="there is no environment gym:rough:Gone-v0"):
        probing.facts("rough:Gone-v0")


ROUGH = """
import os, sys
import gymnasium
from gymnasium.spaces import Discrete

class Loud(gymnasium.Env):
    observation_space, action_space = Discrete(2), Discrete(3)
    def __init__(self):
        print("{}", flush=True)

class Dead(gymnasium.Env):
    def __init__(self):
        print("last words", file=sys.stderr, flush=True)
        os._exit(5)

gymnasium.register("Loud-v0", "rough:Loud", max_episode_steps=7)
gymnasium.register("Dead-v0", "rough:Dead")
"""


# References.


def test_scores_come_from_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: list[str]
) -> None:
    file = tmp_path / "scores.toml"
    file.write_text('["Pendulum-v1?g=9.0"]\nrandom = -1200\nreference = -150.0\ntarget_return = -140\n')
    monkeypatch.setenv(score_file.VARIABLE, str(file))
    scored, other = select(["gym:Pendulum-v1?g=9.0", "gym:Pendulum-v1"])
    assert audit(scored) is None
    assert (scored.score_random, scored.score_reference, scored.target_return) == (-1200.0, -150.0, -140.0)
    assert dict(scored.sources)["score"] == "scores.toml of the user"
    assert audit(other) == "no score reference"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["Pendulum-v1"', "no TOML.*; correct that place"),
        ('"Pendulum-v1" = 3', "no table"),
        ('["Pendulum-v1"]\nrandm = 3', "no field 'randm'"),
        ('["Pendulum-v1"]\nrandom = nan', "a finite number"),
        ('["Pendulum-v1"]\nreward_scale = 0', "above 0"),
        ('["Pendulum-v1"]\nrandom_error = -1', "0 or more"),
        ('["Pendulum-v1"]\n["gym/Pendulum-v1"]', "two entries for gym/Pendulum-v1"),
        (None, "which is not there"),
    ],
)
def test_a_file_of_scores_that_is_none_is_refused(
    text: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: list[str]
) -> None:
    file = tmp_path / "scores.toml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(score_file.VARIABLE, str(file))
    with pytest.raises(SelectionError, match=words):
        select(["gym:Pendulum-v1"])


# Domains of others that make tasks on demand.


@pytest.mark.parametrize(
    ("on_demand", "words"),
    [
        (lambda name: None, "gave a NoneType"),
        (lambda name: 1 / 0, "raised ZeroDivisionError"),
        (
            lambda name: Task("else", name, "extra", None, "vector", 1, "discrete", 2, None, 1.0),
            "of the domain",
        ),
        (
            lambda name: Task("mine", "b", "extra", None, "vector", 1, "discrete", 2, None, 1.0),
            "not asked for",
        ),
    ],
)
def test_a_domain_that_makes_no_task_is_named(on_demand: Callable[[str], Any], words: str) -> None:
    from lram.envs.announced import made_on_demand

    domain = Domain("mine", (AREA,), make, on_demand=on_demand)
    with pytest.raises(AnnouncedError, match=words):
        made_on_demand(domain, "a")


def test_the_domain_is_loaded_without_gymnasium() -> None:
    program = (
        "import json, sys\nfrom lram.envs.registry import load_domain\nload_domain('gym')\n"
        "print(json.dumps('gymnasium' in sys.modules))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert json.loads(there.stdout) is False
    assert load_domain("gym") is DOMAIN
