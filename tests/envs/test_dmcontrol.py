"""DMControl sessions lay observations out as the reference does, and keep the Session contract."""

import os
import subprocess
import sys
from ctypes.util import find_library
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("dm_control", reason="needs lram-bench[dmcontrol]")

from dm_control import suite
from dm_control.rl.control import PhysicsError

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.dmcontrol import DOMAIN, WIDTH, make, observation_slots
from lram.envs.registry import benchmark_tasks
from lram.envs.session import SessionError


@pytest.mark.parametrize("task", ["walker-run", "ball_in_cup-catch", "finger-turn_easy"])
def test_sessions_keep_the_contract(task: str) -> None:
    check_session(lambda: make(task, DOMAIN.protocol()), limit=1000)


def test_another_process_plays_the_same_trajectory() -> None:
    program = (
        "from lram.envs.domains.dmcontrol import DOMAIN, make\n"
        "from lram.envs.conformance import trajectory_digest\n"
        "print(trajectory_digest(make('cheetah-run', DOMAIN.protocol()), 11, 100))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == trajectory_digest(make("cheetah-run", DOMAIN.protocol()), 11, 100)


def test_a_reused_session_plays_what_a_fresh_suite_environment_plays() -> None:
    session = make("point_mass-easy", DOMAIN.protocol())
    session.reset(1)
    session.step(np.ones(2, np.float32))
    observation = session.reset(9)
    environment: Any = suite.load("point_mass", "easy", task_kwargs={"random": 9})
    timestep = environment.reset()
    for action in np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32):
        expected = np.zeros(WIDTH, np.float32)
        expected[41:43] = timestep.observation["position"]
        expected[14:16] = timestep.observation["velocity"]
        assert (observation == expected).all()
        timestep = environment.step(action)
        step = session.step(action)
        assert step.reward == timestep.reward
        observation = step.observation


def test_the_layout_gives_each_key_a_slot_of_its_own_over_204_values() -> None:
    slots = sorted(observation_slots().values(), key=lambda slot: slot.start)
    assert slots[0].start == 0
    assert slots[-1].stop == WIDTH
    assert all(left.stop == right.start for left, right in pairwise(slots))


# Key starts and sizes as the reference's own layout gives them for these tasks.
@pytest.mark.parametrize(
    ("task", "filled"),
    [
        ("walker-run", {(0, 14), (203, 1), (14, 9)}),
        ("finger-turn_easy", {(41, 4), (14, 3), (49, 2), (54, 2), (56, 1)}),
        ("fish-upright", {(57, 7), (78, 1), (14, 13)}),
        ("pendulum-swingup", {(140, 2), (14, 1)}),
        ("reacher-hard", {(41, 2), (142, 2), (14, 2)}),
    ],
)
def test_observations_lie_where_the_reference_puts_them(task: str, filled: set[tuple[int, int]]) -> None:
    session = make(task, DOMAIN.protocol())
    session.reset(0)
    rng = np.random.default_rng(0)
    size = session.spec.action_size
    seen = np.zeros(WIDTH, bool)
    for _ in range(100):
        seen |= session.step(rng.uniform(-1, 1, size).astype(np.float32)).observation != 0
    allowed = {start + i for start, length in filled for i in range(length)}
    assert set(np.flatnonzero(seen)) <= allowed
    # The finger may not find the spinner in a few random steps: its touch and the spinner's speed.
    by_contact = {49, 50, 16} if task.startswith("finger") else set()
    assert set(np.flatnonzero(seen)) >= allowed - by_contact


def test_an_episode_is_truncated_after_1000_steps() -> None:
    session = make("cartpole-balance", DOMAIN.protocol())
    session.reset(0)
    steps = [session.step(np.zeros(1, np.float32)) for _ in range(1000)]
    assert not any(step.terminated or step.truncated for step in steps[:-1])
    assert steps[-1].truncated
    assert not steps[-1].terminated
    assert all(step.success is None for step in steps)


def test_actions_are_mapped_to_the_simulators_own_bounds() -> None:
    session = make("cartpole-balance", DOMAIN.protocol())
    native: list[float] = []
    environment = session._environment
    original = environment.step
    environment.step = lambda action: native.append(float(action[0])) or original(action)
    session._low, session._span = np.array([-1.0]), np.array([2.1])
    session.reset(0)
    for action in (-1.0, 0.0, 1.0, 3.0):
        session.step(np.array([action], np.float32))
    assert native == pytest.approx([-1.0, 0.05, 1.1, 1.1])


def test_diverged_physics_end_the_episode_with_a_session_error() -> None:
    session = make("cartpole-balance", DOMAIN.protocol())
    session.reset(0)

    def diverge(action: Any) -> Any:
        raise PhysicsError("Physics state has diverged")

    session._environment.step, original = diverge, session._environment.step
    with pytest.raises(SessionError, match="cartpole-balance: the physics diverged"):
        session.step(np.zeros(1, np.float32))
    session._environment.step = original
    with pytest.raises(SessionError, match="outside an episode"):
        session.step(np.zeros(1, np.float32))
    session.reset(0)


@pytest.mark.slow
def test_all_tasks_of_the_paper_fit_the_layout() -> None:
    tasks = [task for task in benchmark_tasks() if task.domain == "dmcontrol"]
    assert len(tasks) == 16
    for task in tasks:
        session = make(task.name, DOMAIN.protocol())
        assert session.spec.action_size == task.action_size
        session.close()


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("walker-fly", "has no task 'walker-fly'"),
        ("walker", "has no task 'walker'"),
        ("lqr-lqr_2_1", "unbounded"),
        ("humanoid_CMU-run", "does not fit"),
    ],
)
def test_tasks_that_cannot_be_run_are_named_with_the_reason(task: str, why: str) -> None:
    with pytest.raises(SessionError, match=why):
        make(task, DOMAIN.protocol())


@pytest.mark.slow
@pytest.mark.skipif(find_library("EGL") is None, reason="rendering needs a GL library (libegl1)")
def test_rendering_shows_the_scene_and_leaves_the_trajectory_as_it_was() -> None:
    # In a process of its own: a GL context here would hang the workers that later tests fork.
    program = (
        "import numpy as np\n"
        "from lram.envs.domains.dmcontrol import DOMAIN, make\n"
        "session = make('walker-run', DOMAIN.protocol())\n"
        "action = np.full(session.spec.action_size, 0.3, np.float32)\n"
        "ends = []\n"
        "for show in (False, True):\n"
        "    session.reset(4)\n"
        "    for _ in range(4):\n"
        "        image = session.render() if show else None\n"
        "        step = session.step(action)\n"
        "    ends.append(step.observation.tobytes())\n"
        "session.close()\n"
        "print(image.shape, image.dtype, image.std() > 10, ends[0] == ends[1])"
    )
    headless = {**os.environ, "MUJOCO_GL": "egl"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=headless, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "(240, 320, 3) uint8 True True"
