"""Procgen sessions map seeds to levels, tell success, and keep the Session contract."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("gym3", reason="needs lram-bench[procgen]")

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.procgen import DOMAIN, TIME_CAPS, ProcgenSession, import_procgen, make
from lram.envs.registry import benchmark_tasks
from lram.envs.session import EvaluationProtocol, SessionError, Step

NOOP, UP, RIGHT_UP = 4, 5, 8


def play_out(session: ProcgenSession, seed: int, action: int) -> list[Step]:
    session.reset(seed)
    steps = [session.step(action)]
    while not (steps[-1].terminated or steps[-1].truncated):
        steps.append(session.step(action))
    return steps


@pytest.mark.parametrize(("game", "limit"), [("coinrun", 1000), ("maze", 500), ("bigfish", 6000)])
@pytest.mark.parametrize("protocol", ["lram", "unseen"])
def test_sessions_keep_the_contract(game: str, limit: int, protocol: str) -> None:
    check_session(lambda: make(game, DOMAIN.protocol(protocol)), limit=limit)


@pytest.mark.slow
def test_another_process_plays_the_same_trajectory() -> None:
    program = (
        "from lram.envs.domains.procgen import DOMAIN, make\n"
        "from lram.envs.conformance import trajectory_digest\n"
        "print(trajectory_digest(make('starpilot', DOMAIN.protocol('unseen')), 11, 100))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == trajectory_digest(make("starpilot", DOMAIN.protocol("unseen")), 11, 100)
    assert "Gym has been" not in there.stderr


def test_a_seed_is_a_level_of_the_training_set_or_never_one_of_them() -> None:
    seen = make("maze", DOMAIN.protocol())
    digest = trajectory_digest(seen, 3)
    assert trajectory_digest(seen, 203) == digest
    assert trajectory_digest(seen, 2**31 - 1) == trajectory_digest(seen, (2**31 - 1) % 200)
    unseen = make("maze", DOMAIN.protocol("unseen"))
    assert trajectory_digest(unseen, 3) != digest
    options = DOMAIN.protocol("unseen").options
    assert options["first_level"] == 200
    assert options["first_level"] + (options["levels"] - 1) == 2**31 - 2
    unseen.reset(2**31 - 1)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["ninja", "maze", "coinrun", "leaper"])
def test_no_unseen_level_begins_as_one_that_is_trained_on(game: str) -> None:
    trained = make(game, DOMAIN.protocol())
    frames = {trained.reset(seed).tobytes() for seed in range(200)}
    seeds = range(120)
    repeats = EvaluationProtocol("old", 1, "", {"first_level": 200, "levels": 1000})
    old, new = make(game, repeats), make(game, DOMAIN.protocol("unseen"))
    repeated = [seed for seed in seeds if old.reset(seed).tobytes() in frames]
    assert repeated or game == "leaper"
    assert not any(new.reset(seed).tobytes() in frames for seed in seeds)
    kept = next(seed for seed in seeds if seed not in repeated)
    assert trajectory_digest(new, kept, 50) == trajectory_digest(old, kept, 50)


def test_frames_are_the_packages_own_in_colour() -> None:
    session = make("coinrun", DOMAIN.protocol())
    observation = session.reset(5)
    environment = import_procgen().ProcgenGym3Env(
        num=1, env_name="coinrun", distribution_mode="easy", num_levels=1, start_level=5, num_threads=0
    )
    for action in (7, 7, 8, 3):
        _, seen, _ = environment.observe()
        assert (observation.transpose(1, 2, 0) == seen["rgb"][0]).all()
        observation = session.step(action).observation
        environment.act(np.array([action]))
    assert not (observation[0] == observation[1]).all()


def test_success_is_told_at_the_end_of_a_completed_level_only() -> None:
    session = make("coinrun", DOMAIN.protocol())
    ends = [play_out(session, seed, RIGHT_UP) for seed in range(8)]
    assert all(step.success is False for steps in ends for step in steps[:-1])
    solved = [steps for steps in ends if steps[-1].success]
    assert 0 < len(solved) < len(ends)
    for steps in solved:
        assert steps[-1].reward == 10.0
        assert steps[-1].terminated
    for steps in ends:
        if not steps[-1].success:
            assert sum(step.reward for step in steps) == 0.0


def test_the_last_observation_is_the_one_before_it_as_the_package_shows_no_other() -> None:
    *_, before, last = play_out(make("coinrun", DOMAIN.protocol()), 1, RIGHT_UP)
    assert (last.observation == before.observation).all()


@pytest.mark.parametrize("game", ["heist", "maze", "leaper"])
def test_the_games_own_time_cap_truncates(game: str) -> None:
    steps = play_out(make(game, DOMAIN.protocol()), 1, NOOP)
    assert len(steps) == TIME_CAPS.get(game, 1000)
    assert steps[-1].truncated
    assert not steps[-1].terminated


def test_all_games_of_the_paper_exist_and_unknown_ones_are_named() -> None:
    games = {task.name for task in benchmark_tasks() if task.domain == "procgen"}
    assert len(games) == 16
    for game in games:
        make(game, DOMAIN.protocol()).close()
    with pytest.raises(SessionError, match="no-such-game"):
        make("no-such-game", DOMAIN.protocol())


def test_rendering_enlarges_the_frame() -> None:
    session = make("coinrun", DOMAIN.protocol())
    with pytest.raises(SessionError, match="render"):
        session.render()
    observation = session.reset(0)
    assert (session.render()[::8, ::8] == observation.transpose(1, 2, 0)).all()
