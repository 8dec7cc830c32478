"""Atari sessions play what the reference's wrappers play, and keep the Session contract."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ale_py", reason="needs lram-bench[atari]")
pytest.importorskip("cv2", reason="needs lram-bench[atari]")

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.atari import DOMAIN, make
from lram.envs.registry import benchmark_tasks
from lram.envs.session import EvaluationProtocol, SessionError


def actions(count: int, seed: int = 0) -> list[int]:
    return [int(a) for a in np.random.default_rng(seed).integers(18, size=count)]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [p.name for p in DOMAIN.protocols])
def test_every_protocol_keeps_the_contract(protocol: str) -> None:
    check_session(lambda: make("breakout", DOMAIN.protocol(protocol)), limit=6750, steps=120)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["qbert", "amidar", "assault"])
def test_games_that_remember_or_do_not_restore_still_play_the_same_after_a_reset(game: str) -> None:
    check_session(lambda: make(game, DOMAIN.protocol()), steps=150)


def test_another_process_plays_the_same_sticky_trajectory() -> None:
    program = (
        "from lram.envs.domains.atari import DOMAIN, make\n"
        "from lram.envs.conformance import trajectory_digest\n"
        "print(trajectory_digest(make('seaquest', DOMAIN.protocol('sticky')), 11, 100))"
    )
    there = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    here = trajectory_digest(make("seaquest", DOMAIN.protocol("sticky")), 11, 100)
    assert there.stdout.split()[-1] == here


class ReferenceStack:
    """The reference's order of wrappers (Stable-Baselines3's), written out on gymnasium's environment."""

    def __init__(self, env_id: str, seed: int) -> None:
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        self.env: Any = gymnasium.make(env_id, full_action_space=True).unwrapped
        self.score, self.frames, self.over = 0.0, 0, False
        self.screen, _ = self.env.reset(seed=seed)
        for _ in range(int(np.random.default_rng(seed).integers(1, 31))):
            self.frame(0)
        self.lives = self.env.ale.lives()
        self.fire()

    def frame(self, action: int) -> float:
        self.screen, reward, self.over, _, _ = self.env.step(action)
        self.score += reward
        self.frames += 1
        return float(reward)

    def skip(self, action: int) -> float:
        earned, screens = 0.0, []
        for _ in range(4):
            earned += self.frame(action)
            screens.append(self.screen)
            if self.over:
                break
        self.screen = np.max(screens[-2:], axis=0)
        return earned

    def episodic(self, action: int) -> tuple[float, bool]:
        earned = self.skip(action)
        lives = self.env.ale.lives()
        lost = self.over or 0 < lives < self.lives
        self.lives = lives
        return earned, lost

    def fire(self) -> None:
        for action in (1, 2):
            _, lost = self.episodic(action)
            if lost:
                self.skip(0)
                self.lives = self.env.ale.lives()

    def decide(self, action: int) -> tuple[float, bool]:
        earned, lost = self.episodic(action)
        if lost and not self.over:
            self.skip(0)
            self.lives = self.env.ale.lives()
            self.fire()
        return earned, lost

    def image(self) -> Any:
        import cv2

        return cv2.resize(
            cv2.cvtColor(self.screen, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("game", "env_id"),
    [
        ("breakout", "BreakoutNoFrameskip-v4"),
        ("space-invaders", "SpaceInvadersNoFrameskip-v4"),
        # No lives; 2000 decisions.
        ("freeway", "FreewayNoFrameskip-v4"),
        # Shows no life left for some frames before the game is over.
        ("bank-heist", "BankHeistNoFrameskip-v4"),
        # Scores while FIRE is pressed for the agent after a lost life.
        ("riverraid", "RiverraidNoFrameskip-v4"),
    ],
)
def test_the_default_protocol_plays_bit_for_bit_what_the_reference_wrappers_play(
    game: str, env_id: str
) -> None:
    reference, session = ReferenceStack(env_id, seed=3), make(game, DOMAIN.protocol())
    observation = session.reset(3)
    assert observation.shape == (3, 64, 64)
    assert (observation == reference.image()).all()
    score, boundaries = 0.0, 0
    for action in actions(700, seed=3):
        step = session.step(action)
        earned, lost = reference.decide(action)
        score += step.reward
        boundaries += step.context_reset
        assert score == reference.score
        assert step.signal == np.sign(earned)
        assert step.terminated == reference.over
        if step.terminated:
            break
        assert step.context_reset == lost
        assert (step.observation == reference.image()).all()
    if game != "freeway":
        assert boundaries > 0
        assert score > 0


def test_only_the_whole_game_protocol_lets_a_context_outlive_a_life() -> None:
    counts = {}
    for name in ("lram", "whole-game", "nofire"):
        session = make("breakout", DOMAIN.protocol(name))
        session.reset(5)
        steps = []
        for action in actions(1500, seed=1):
            steps.append(session.step(action))
            if steps[-1].terminated:
                break
        assert steps[-1].terminated
        counts[name] = sum(step.context_reset for step in steps)
    assert counts == {"lram": 4, "whole-game": 0, "nofire": 4}


def test_without_fire_reset_the_ball_of_breakout_waits_for_the_agent() -> None:
    session = make("breakout", DOMAIN.protocol("nofire"))
    session.reset(5)
    assert not any(session.step(0).context_reset for _ in range(100))
    session = make("breakout", DOMAIN.protocol())
    session.reset(5)
    assert any(session.step(0).context_reset for _ in range(100))


def test_sticky_actions_change_the_game_and_hang_on_the_seed() -> None:
    digests = {
        (name, seed): trajectory_digest(make("freeway", DOMAIN.protocol(name)), seed, 40, [2, 5])
        for name, seed in (("lram", 7), ("sticky", 7), ("sticky", 8))
    }
    assert len(set(digests.values())) == 3


def test_every_frame_counts_towards_the_frame_limit_no_ops_and_fire_too() -> None:
    protocol = EvaluationProtocol("short", 1, "A game of 100 frames.", {"max_frames": 100})
    session = make("freeway", protocol)
    for seed in range(4):
        session.reset(seed)
        before = int(np.random.default_rng(seed).integers(1, 31)) + 8
        count, step = 1, session.step(0)
        while not step.truncated:
            count, step = count + 1, session.step(0)
        assert not step.terminated
        assert count == -(-(100 - before) // 4)
        with pytest.raises(SessionError, match="outside an episode"):
            session.step(0)


def test_all_games_of_the_paper_exist_and_unknown_ones_are_named() -> None:
    names = [task.name for task in benchmark_tasks() if task.domain == "atari"]
    assert len(names) == 46
    for name in names:
        make(name, DOMAIN.protocol()).close()
    for name in ("no-such-game", "ms_pacman", "MsPacman"):
        with pytest.raises(SessionError, match=name):
            make(name, DOMAIN.protocol())


def test_rendering_shows_the_console_screen() -> None:
    session = make("freeway", DOMAIN.protocol())
    with pytest.raises(SessionError, match="render"):
        session.render()
    session.reset(0)
    image = session.render()
    assert image.shape == (210, 160, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10
