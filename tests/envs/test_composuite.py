"""CompoSuite sessions are the environments of ``composuite.make``, and keep the Session contract."""

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs lram-bench[robosuite]")
pytest.importorskip("robosuite", reason="needs lram-bench[robosuite]")

from lram.envs.conformance import check_session
from lram.envs.domains.composuite import DOMAIN, OBJECTIVES, OBJECTS, OBSTACLES, ROBOTS, make
from lram.envs.domains.robosuite.models import ModelShelf
from lram.envs.registry import benchmark_tasks
from lram.envs.session import SessionError

PROTOCOLS = [p for p in DOMAIN.protocols if all(version(name) == v for name, v in p.versions.items())]
PROTOCOL = PROTOCOLS[0] if PROTOCOLS else None
pytestmark = pytest.mark.skipif(PROTOCOL is None, reason="needs robosuite 1.4.1 and MuJoCo 2.3.2 or 3.3.0")


def test_the_names_are_the_paper_s() -> None:
    names = {"_".join(parts) for parts in itertools.product(ROBOTS, OBJECTS, OBSTACLES, OBJECTIVES)}
    assert names == {task.name for task in benchmark_tasks() if task.domain == "composuite"}


@pytest.mark.parametrize("name", ["IIWA_Box_None", "IIWA_Box_None_Throw", "IIWA_Box_None_Push_Push", "Lift"])
def test_unknown_tasks_are_named(name: str) -> None:
    with pytest.raises(SessionError, match=name):
        make(name, PROTOCOL)


def test_a_missing_checkout_is_named_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "composuite", None)
    with pytest.raises(SessionError, match=r"lram env install composuite --source .*Lifelong-ML/CompoSuite"):
        make("IIWA_Box_None_PickPlace", PROTOCOL)


def test_sessions_keep_the_contract(checkouts: Callable[..., None]) -> None:
    checkouts("composuite")
    check_session(lambda: make("Kinova3_Hollowbox_ObjectWall_Trashcan", PROTOCOL), steps=10)
    session = make("IIWA_Box_None_PickPlace", PROTOCOL)
    assert session.spec.observation_shape == (93,)
    assert session.spec.action_size == 8
    assert PROTOCOL.options["limit"] == 500


@pytest.mark.parametrize("task", ["Jaco_Plate_None_Shelf", "Panda_Dumbbell_GoalWall_Push"])
def test_a_session_plays_as_composuite_s_own_environment_does(
    task: str, checkouts: Callable[..., None]
) -> None:
    checkouts("composuite")
    session = make(task, PROTOCOL)
    import composuite

    with ModelShelf(corrections=PROTOCOL.options.get("corrections", False), reuse=False).used():
        robot, thing, obstacle, objective = task.split("_")
        theirs = composuite.make(robot, thing, obstacle, objective, use_task_id_obs=True, ignore_done=False)
        rng = np.random.default_rng(0)
        for seed in (3, 4):
            np.random.seed(seed)
            random.seed(seed)
            expected, _ = theirs.reset()
            assert (session.reset(seed) == expected.astype(np.float32)).all()
            for _ in range(25):
                action = rng.uniform(-1, 1, 8).astype(np.float32)
                expected, reward, terminated, _, info = theirs.step(action.astype(np.float64))
                step = session.step(action)
                assert step.terminated is bool(terminated)
                assert (step.observation == expected.astype(np.float32)).all()
                assert step.reward == reward
                assert step.success is bool(info["Success"])


def test_lifting_what_is_to_be_pushed_ends_the_episode(checkouts: Callable[..., None]) -> None:
    checkouts("composuite")
    session = make("Panda_Box_None_Push", PROTOCOL)
    session.reset(1)
    assert not session.step(np.zeros(8, np.float32)).terminated
    environment = session._environment
    joint = environment.object.joints[0]
    place = environment.sim.data.get_joint_qpos(joint).copy()
    place[2] += 0.5
    environment.sim.data.set_joint_qpos(joint, place)
    environment.sim.forward()
    step = session.step(np.zeros(8, np.float32))
    assert (step.terminated, step.truncated) == (True, False)
    with pytest.raises(SessionError, match="outside an episode"):
        session.step(np.zeros(8, np.float32))
    session.reset(1)
    assert not session.step(np.zeros(8, np.float32)).terminated
    session.close()


def test_an_import_leaves_no_stand_in_for_gym_behind(checkouts: Callable[..., None]) -> None:
    checkouts("composuite")
    folder = Path(find_spec("composuite").origin).parents[1]
    program = (
        "import sys\n"
        f"sys.path.append({str(folder)!r})\n"
        "from lram.envs.domains.composuite import DOMAIN, make\n"
        f"make('Jaco_Box_None_Push', DOMAIN.protocol({PROTOCOL.name!r})).close()\n"
        "print('gym' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
    assert done.stderr == ""
