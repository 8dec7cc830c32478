"""Meta-World sessions show seeded goals, tell success, and keep the Session contract."""

import os
import subprocess
import sys
from ctypes.util import find_library

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="needs lram-bench[metaworld]")

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.metaworld import DOMAIN, make
from lram.envs.registry import benchmark_tasks
from lram.envs.session import SessionError


@pytest.mark.slow
@pytest.mark.parametrize("task", ["door-open-v3", "pick-place-v3"])
def test_sessions_keep_the_contract(task: str) -> None:
    check_session(lambda: make(task, DOMAIN.protocol()), limit=200)


@pytest.mark.slow
def test_another_process_plays_the_same_trajectory() -> None:
    program = (
        "from lram.envs.domains.metaworld import DOMAIN, make\n"
        "from lram.envs.conformance import trajectory_digest\n"
        "print(trajectory_digest(make('hammer-v3', DOMAIN.protocol()), 11, 100))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == trajectory_digest(make("hammer-v3", DOMAIN.protocol()), 11, 100)


@pytest.mark.parametrize(("protocol", "limit"), [("lram", 200), ("full", 500)])
def test_the_protocol_sets_the_length(protocol: str, limit: int) -> None:
    session = make("reach-v3", DOMAIN.protocol(protocol))
    session.reset(0)
    for count in range(1, limit + 1):
        step = session.step(np.zeros(4, np.float32))
        assert step.truncated == (count == limit)
        assert not step.terminated
    with pytest.raises(SessionError, match="outside an episode"):
        session.step(np.zeros(4, np.float32))


def test_the_goal_is_visible_at_every_step_and_drawn_anew_from_each_seed() -> None:
    session = make("reach-v3", DOMAIN.protocol())
    goals = []
    for seed in (1, 2, 1):
        goal = session.reset(seed)[-3:]
        assert np.abs(goal).max() > 0
        assert (goal == session._environment._target_pos.astype(np.float32)).all()
        for _ in range(3):
            assert (session.step(np.ones(4, np.float32)).observation[-3:] == goal).all()
        goals.append(goal.tolist())
    assert goals[0] == goals[2] != goals[1]


def test_success_is_told_at_each_step_as_it_comes_and_goes() -> None:
    session = make("reach-v3", DOMAIN.protocol())
    observation = session.reset(3)
    told = []
    for index in range(150):
        away = np.array([0.0, 0.2, 0.0])
        goal = observation[-3:] if index < 100 else observation[:3] + away
        action = np.append(np.clip(10 * (goal - observation[:3]), -1, 1), 0.0).astype(np.float32)
        step = session.step(action)
        told.append(step.success)
        observation = step.observation
    assert told[0] is False
    assert any(told[:100])
    assert told[-1] is False


def test_actions_beyond_the_range_are_clipped() -> None:
    ends = []
    for size in (1.0, 7.0):
        session = make("reach-v3", DOMAIN.protocol())
        session.reset(0)
        ends.append([session.step(np.full(4, size, np.float32)).observation for _ in range(5)][-1])
    assert (ends[0] == ends[1]).all()


def test_a_simulation_that_went_unstable_is_an_error_not_a_zero_reward() -> None:
    session = make("reach-v3", DOMAIN.protocol())
    session.reset(0)
    session._environment._did_see_sim_exception = True
    session._environment._last_stable_obs = np.zeros(39)
    with pytest.raises(SessionError, match="diverged"):
        session.step(np.zeros(4, np.float32))


def test_all_tasks_of_the_paper_exist_and_unknown_ones_are_named() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    names = {task.name for task in benchmark_tasks() if task.domain == "metaworld"}
    assert names == set(ALL_V3_ENVIRONMENTS)
    with pytest.raises(SessionError, match="door-open-v2"):
        make("door-open-v2", DOMAIN.protocol())


@pytest.mark.slow
@pytest.mark.skipif(find_library("EGL") is None, reason="rendering needs a GL library (libegl1)")
def test_rendering_shows_the_scene_and_leaves_the_trajectory_as_it_was() -> None:
    # In a process of its own: a GL context here would hang the workers that later tests fork.
    program = (
        "import numpy as np\n"
        "from lram.envs.domains.metaworld import DOMAIN, make\n"
        "session = make('door-open-v3', DOMAIN.protocol())\n"
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
    assert done.stdout.strip() == "(480, 480, 3) uint8 True True"
