"""Tasks as Gymnasium environments: the episodes are an evaluation's, and Gymnasium's own check passes."""

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs lram-bench[gym]")

from gymnasium.utils.env_checker import check_env

from lram.envs.domains.toy import DOMAIN
from lram.envs.errors import SelectionError, SessionError
from lram.envs.gymnasium import SessionEnv, make, make_vector


@pytest.mark.filterwarnings("ignore:.*:UserWarning:gymnasium")  # of bounds of observations, which have none
@pytest.mark.parametrize("task", ["toy/reach", "toy/image", "toy/lives"])
def test_gymnasiums_own_check_passes(task: str) -> None:
    environment = make(task, render_mode="rgb_array" if task == "toy/reach" else None)
    check_env(environment, skip_render_check=task != "toy/reach")
    environment.close()


@pytest.mark.filterwarnings("ignore:.*:UserWarning:gymnasium")
def test_a_simulator_passes_gymnasiums_check() -> None:
    pytest.importorskip("metaworld", reason="needs lram-bench[metaworld]")
    check_env(make("metaworld/reach-v3"), skip_render_check=True)


def test_an_episode_is_the_sessions_of_the_same_seed() -> None:
    environment, session = make("toy/reach"), DOMAIN.make("reach", DOMAIN.protocol())
    seen, info = environment.reset(seed=13)
    assert info == {}
    assert (seen == session.reset(13)).all()
    ever = over = False
    while not over:
        action = np.clip((-10 if ever else 10) * seen[4:], -1, 1)  # to the goal, and away from it
        seen, reward, terminated, truncated, info = environment.step(action)
        step = session.step(action)
        assert (seen == step.observation).all()
        assert (reward, terminated, truncated) == (step.reward, step.terminated, step.truncated)
        ever |= bool(step.success)
        assert info["success"] == step.success
        assert info["is_success"] == ever
        over = terminated or truncated
    assert ever
    assert not info["success"]
    with pytest.raises(SessionError, match="outside an episode"):
        environment.step(action)


def test_without_a_seed_episodes_differ_and_follow_the_last_seed() -> None:
    def starts(environment: SessionEnv) -> list[bytes]:
        first = environment.reset(seed=5)[0]
        return [first.tobytes(), *(environment.reset()[0].tobytes() for _ in range(3))]

    one, other = starts(make("toy/reach")), starts(make("toy/reach"))
    assert one == other
    assert len(set(one)) == 4


def test_the_signal_is_the_reward_where_it_is_asked_for() -> None:
    both = [make("toy/lives", reward=reward) for reward in ("score", "signal")]
    rewards: list[tuple[float, float]] = []
    for environment in both:
        seen, _ = environment.reset(seed=1)
        _, reward, _, _, info = environment.step(np.int64(seen.argmax()))
        rewards.append((reward, info["score"]))
        assert info["signal"] == 1.0
    assert rewards == [(2.0, 2.0), (1.0, 2.0)]


def test_a_vector_steps_all_its_environments() -> None:
    lanes = make_vector("toy/reach", 3)
    seen, _ = lanes.reset(seed=4)
    assert seen.shape == (3, 6)
    for place in range(3):
        assert (seen[place] == make("toy/reach").reset(seed=4 + place)[0]).all()
    after, rewards, *_ = lanes.step(np.zeros((3, 2), np.float32))
    assert after.shape == (3, 6)
    assert rewards.shape == (3,)
    lanes.close()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"task": "toy/rich"}, "did you mean"),
        ({"task": "toy"}, "tasks; an environment has one"),
        ({"task": "toy/reach", "protocol": "none"}, "has no protocol 'none'"),
        ({"task": "toy/reach", "reward": "both"}, "no reward 'both'"),
        ({"task": "toy/reach", "render_mode": "human"}, "no render mode 'human'"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(asked: dict[str, str], words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        make(**asked)


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(SessionError, match=r"from 0 to 2\*\*31 - 1, not -1"):
        make("toy/reach").reset(seed=-1)
    with pytest.raises(SelectionError, match="1 or more"):
        make_vector("toy/reach", 0)
