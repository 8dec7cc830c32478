"""MimicGen sessions play the tasks, arms and grippers of the data, with 1 for success."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs lram-bench[robosuite]")
pytest.importorskip("robosuite", reason="needs lram-bench[robosuite]")

from lram.envs.conformance import check_session
from lram.envs.domains.mimicgen import DOMAIN, make
from lram.envs.domains.robosuite import suite as plain
from lram.envs.registry import benchmark_tasks
from lram.envs.session import EvaluationProtocol, SessionError

PROTOCOLS = [p for p in DOMAIN.protocols if all(version(name) == v for name, v in p.versions.items())]
PROTOCOL = PROTOCOLS[0] if PROTOCOLS else None
pytestmark = pytest.mark.skipif(PROTOCOL is None, reason="needs robosuite 1.4.1 and MuJoCo 2.3.2 or 3.3.0")
ROWS = {task.name: task for task in benchmark_tasks() if task.domain == "mimicgen"}


@pytest.fixture
def mimicgen(checkouts: Callable[..., None]) -> None:
    pytest.importorskip("six", reason="mimicgen needs six")
    checkouts("mimicgen")


@pytest.mark.parametrize("name", ["Stack_D0-Jaco", "Stack", "MugCleanup_O1"])
def test_unknown_tasks_are_named(name: str) -> None:
    with pytest.raises(SessionError, match=name):
        make(name, PROTOCOL)


def test_a_missing_checkout_is_named_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mimicgen", None)
    with pytest.raises(SessionError, match=r"lram env install mimicgen --source .*NVlabs/mimicgen"):
        make("Stack_D0", PROTOCOL)


@pytest.mark.parametrize("name", ["Kitchen_D0", "HammerCleanup_D1-UR5e"])
def test_tasks_of_the_task_zoo_ask_for_its_checkout(
    name: str, mimicgen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "robosuite_task_zoo", None)
    with pytest.raises(SessionError, match=r"robosuite_task_zoo.*ARISE-Initiative/robosuite-task-zoo"):
        make(name, PROTOCOL)


@pytest.mark.parametrize("name", ["Threading_D0-Sawyer", "Coffee_D0-IIWA"])
def test_sessions_keep_the_contract(name: str, mimicgen: None) -> None:
    check_session(lambda: make(name, PROTOCOL), steps=8)
    assert make(name, PROTOCOL).spec.observation_shape == (ROWS[name].observation_size,)


@pytest.mark.parametrize("name", ["Kitchen_D0", "HammerCleanup_D0"])
def test_tasks_whose_own_end_cannot_be_relied_upon_keep_the_contract(
    name: str, mimicgen: None, checkouts: Callable[..., None]
) -> None:
    checkouts("robosuite_task_zoo")
    check_session(lambda: make(name, PROTOCOL), steps=8)


@pytest.mark.parametrize(("name", "horizon"), [("Stack_D0", 400), ("PickPlace_D0", 1000)])
def test_the_limit_is_the_task_s_horizon(name: str, horizon: int, mimicgen: None) -> None:
    assert make(name, PROTOCOL)._limit == horizon == ROWS[name].horizon


@pytest.mark.parametrize(
    ("name", "robot", "gripper"),
    [
        ("Stack_D0", "Panda", "PandaGripper"),
        ("Stack_D0-Sawyer", "Sawyer", "RethinkGripper"),
        ("Stack_D0-UR5e", "UR5e", "Robotiq85Gripper"),
        ("Stack_D0-IIWA", "IIWA", "Robotiq85Gripper"),
        ("NutAssembly_D0", "Sawyer", "RethinkGripper"),
        ("PickPlace_D0", "Sawyer", "RethinkGripper"),
    ],
)
def test_robots_and_grippers_are_those_of_the_data(
    name: str, robot: str, gripper: str, mimicgen: None
) -> None:
    arm = make(name, PROTOCOL)._environment.robots[0]
    assert (type(arm.robot_model).__name__, type(arm.gripper).__name__) == (robot, gripper)


def test_one_protocol_keeps_the_reference_evaluation_s_gripper(mimicgen: None) -> None:
    named = DOMAIN.protocol("lram-robotiq140")
    assert dict(named.versions) == dict(DOMAIN.protocol("lram").versions)
    here = replace(named, versions=PROTOCOL.versions, options={**PROTOCOL.options, "grippers": {}})
    assert {**named.options, "grippers": {}} == {**DOMAIN.protocol("lram").options, "grippers": {}}
    arm = make("Stack_D0-IIWA", here)._environment.robots[0]
    assert type(arm.gripper).__name__ == "Robotiq140Gripper"


def test_success_pays_1_and_ends_the_episode(mimicgen: None) -> None:
    session = make("Stack_D0", PROTOCOL)
    session.reset(0)
    rest = np.zeros(7, np.float32)
    assert (session.step(rest).reward, session.step(rest).success) == (0.0, False)
    simulation = session._environment.sim
    on_top = simulation.data.get_joint_qpos("cubeB_joint0").copy()
    on_top[2] += 0.046
    simulation.data.set_joint_qpos("cubeA_joint0", on_top)
    step = session.step(rest)
    assert (step.reward, step.success, step.terminated, step.truncated) == (1.0, True, True, False)
    with pytest.raises(SessionError, match="outside an episode"):
        session.step(rest)


@pytest.mark.parametrize(("theirs", "name"), [("Stack_D0", "Stack"), ("Square_D0", "NutAssemblySquare")])
def test_robosuite_s_own_task_is_the_same_environment(theirs: str, name: str, mimicgen: None) -> None:
    options = {**PROTOCOL.options, "limit": 60, "end_on_success": False}
    protocol = EvaluationProtocol("same", 1, "", options, PROTOCOL.versions)
    one, other = make(theirs, protocol), plain.make(name, protocol)
    rng = np.random.default_rng(0)
    for seed in (1, 2):
        assert (one.reset(seed) == other.reset(seed)).all()
        for _ in range(60):
            action = rng.uniform(-1, 1, 7).astype(np.float32)
            here, there = one.step(action), other.step(action)
            assert (here.observation == there.observation).all()
            assert here._replace(observation=0) == there._replace(observation=0)


def test_an_import_is_silent_even_where_the_task_zoo_is_not_there(mimicgen: None) -> None:
    folder = Path(find_spec("mimicgen").origin).parents[1]
    program = (
        "import sys\n"
        f"sys.path.append({str(folder)!r})\n"
        "sys.modules['robosuite_task_zoo'] = None\n"
        "from lram.envs.domains.mimicgen import DOMAIN, make\n"
        f"make('Stack_D0', DOMAIN.protocol({PROTOCOL.name!r})).close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == done.stderr == ""
