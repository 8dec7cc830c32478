"""The toy tasks are what they say, down to the way in which each faulty one goes wrong."""

import subprocess
import sys

import numpy as np
import pytest

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.toy import DOMAIN, FAULT_DECISION, FLAKY_EVERY, make
from lram.envs.errors import ConformanceError
from lram.envs.session import SessionError, Step
from lram.envs.simulator import SimulatorSession

SOUND = ("reach", "steps", "blink", "image", "slow", "noscore", "lives")


def session_of(task: str) -> SimulatorSession:
    return make(task, DOMAIN.protocol())


def solve(task: str, observation: np.ndarray) -> int | np.ndarray:
    if task == "reach":
        return np.clip(10 * observation[4:], -1, 1)
    if task == "image":
        return int(observation[0, :, :60].reshape(64, 5, 12).mean(axis=(0, 2)).argmax())
    return int(observation.argmax())


def play_out(task: str, seed: int) -> list[Step]:
    session = session_of(task)
    observation, steps = session.reset(seed), []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        steps.append(session.step(solve(task, observation)))
        observation = steps[-1].observation
    return steps


@pytest.mark.parametrize("task", SOUND)
def test_sound_tasks_keep_the_contract(task: str) -> None:
    horizon = next(row.horizon for row in DOMAIN.tasks if row.name == task)
    assert horizon is not None
    check_session(lambda: session_of(task), limit=horizon)


def test_another_process_plays_the_same_trajectory() -> None:
    program = (
        "from lram.envs.domains.toy import DOMAIN, make\n"
        "from lram.envs.conformance import trajectory_digest\n"
        "print(trajectory_digest(make('image', DOMAIN.protocol()), 11))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == trajectory_digest(session_of("image"), 11)


def test_toy_needs_no_package_but_numpy() -> None:
    program = "import lram.envs.domains.toy, sys; print({m.split('.')[0] for m in sys.modules})"
    names = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    for heavy in ("torch", "mujoco", "gymnasium", "pandas", "cv2"):
        assert f"'{heavy}'" not in names


@pytest.mark.parametrize("task", ["reach", "steps", "image", "lives"])
def test_score_references_are_what_the_solution_and_chance_do_earn(task: str) -> None:
    row = next(row for row in DOMAIN.tasks if row.name == task)
    assert row.score_random is not None
    assert row.score_reference is not None
    seeds = range(154)  # twice each pairing of the two cycles of lengths
    solved = np.mean([sum(step.reward for step in play_out(task, seed)) for seed in seeds])
    assert solved == pytest.approx(row.score_reference, rel=0.05)
    session, chance = session_of(task), []
    for seed in seeds:
        rng, total, ended = np.random.default_rng(seed + 10**6), 0.0, False
        session.reset(seed)
        while not ended:
            size = session.spec.action_size
            discrete = session.spec.action == "discrete"
            step = session.step(int(rng.integers(size)) if discrete else rng.uniform(-1, 1, size))
            total, ended = total + step.reward, step.terminated or step.truncated
        chance.append(total)
    spread = 4 * np.std(chance) / len(chance) ** 0.5
    assert np.mean(chance) == pytest.approx(row.score_random, abs=spread)


@pytest.mark.parametrize("task", ["reach", "steps", "image"])
def test_lengths_vary_with_the_seed_up_to_the_horizon(task: str) -> None:
    lengths = {len(play_out(task, seed)) for seed in range(22)}
    assert len(lengths) > 5
    assert max(lengths) == next(row.horizon for row in DOMAIN.tasks if row.name == task)


def test_three_wrong_answers_end_the_image_task() -> None:
    session = session_of("image")
    observation = session.reset(0)
    steps = []
    for _ in range(3):
        steps.append(session.step((int(solve("image", observation)) + 1) % 5))
        observation = steps[-1].observation
    assert [step.terminated for step in steps] == [False, False, True]


def test_a_life_of_lives_ends_in_the_middle_and_its_signal_is_not_its_reward() -> None:
    steps = play_out("lives", 0)
    assert [index + 1 for index, step in enumerate(steps) if step.context_reset] == [8, 16]
    assert {(step.reward, step.signal) for step in steps} == {(2.0, 1.0)}


@pytest.mark.parametrize("task", ["crash", "flaky"])
def test_dying_tasks_kill_their_process_at_the_fault_decision(task: str) -> None:
    program = (
        "from lram.envs.domains.toy import DOMAIN, make\n"
        f"session = make({task!r}, DOMAIN.protocol())\n"
        f"session.reset({FLAKY_EVERY})\n"
        "for count in range(1, 20):\n"
        "    print(count, flush=True)\n"
        "    session.step(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -9
    assert done.stdout.split()[-1] == str(FAULT_DECISION)


def test_flaky_is_sound_in_the_episodes_of_other_seeds() -> None:
    assert sum(step.reward for step in play_out("flaky", FLAKY_EVERY + 1)) == 20 + FLAKY_EVERY + 1


@pytest.mark.slow
def test_hang_never_comes_back() -> None:
    program = (
        "from lram.envs.domains.toy import DOMAIN, make\n"
        "session = make('hang', DOMAIN.protocol())\n"
        "session.reset(0)\n"
        "for _ in range(4):\n"
        "    session.step(0)\n"
        "print('four', flush=True)\n"
        "session.step(0)\n"
        "print('five', flush=True)\n"
    )
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=2)
    assert caught.value.stdout == b"four\n"


def test_nan_and_raise_break_the_contract_at_the_fault_decision() -> None:
    session = session_of("nan")
    session.reset(0)
    finite = [bool(np.isfinite(session.step(0).observation).all()) for _ in range(6)]
    assert finite == [True, True, True, True, False, True]
    with pytest.raises(ConformanceError, match="finite"):
        check_session(lambda: session_of("nan"))
    session = session_of("raise")
    session.reset(0)
    for _ in range(4):
        session.step(0)
    with pytest.raises(RuntimeError, match="fifth decision"):
        session.step(0)


def test_tasks_are_extra_and_unknown_ones_are_named() -> None:
    assert {task.split for task in DOMAIN.tasks} == {"extra"}
    assert {task.name for task in DOMAIN.tasks} >= {*SOUND, "crash", "flaky", "hang", "nan", "raise"}
    noscore = next(task for task in DOMAIN.tasks if task.name == "noscore")
    assert noscore.score_random is None
    assert noscore.score_reference is None
    with pytest.raises(SessionError, match="no-such-task"):
        session_of("no-such-task")


@pytest.mark.parametrize("task", ["reach", "steps", "image"])
def test_rendering_gives_a_picture(task: str) -> None:
    session = session_of(task)
    session.reset(1)
    image = session.render()
    assert image.shape == (64, 64, 3)
    assert image.max() == 255
