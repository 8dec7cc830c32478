"""Baselines keep the Agent contract, and the scripted ones do solve what they claim to solve."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.playing import play, played

from lram.agents.api import Agent, AgentError, Episode, TaskSpec
from lram.agents.experts.baselines import ConstantAgent, RandomAgent, ScriptedAgent
from lram.agents.experts.heuristics import CONTROLLERS
from lram.envs.registry import benchmark_tasks, load_domain

DISCRETE = TaskSpec("atari/amidar", "atari", "image", (3, 64, 64), "discrete", 18, 10.0, 20.0)
PROCGEN = TaskSpec("procgen/maze", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
CONTINUOUS = TaskSpec("dmcontrol/walker-run", "dmcontrol", "vector", (204,), "continuous", 6, None, 100.0)


def acts(agent: Agent, episodes: dict[int, Episode], order: Sequence[int], count: int = 4) -> dict[int, Any]:
    state = agent.start(8)
    agent.reset(state, list(episodes), list(episodes.values()))
    out: dict[int, Any] = {lane: [] for lane in order}
    for _ in range(count):
        observations = [np.zeros(episodes[lane].task.observation_shape, np.float32) for lane in order]
        actions, state = agent.act(state, observations, [0.0] * len(order), order)
        for lane, action in zip(order, actions, strict=True):
            out[lane].append(action if isinstance(action, int) else action.tolist())
    return out


def test_random_actions_come_from_the_episodes_seed_whatever_the_other_lanes_hold() -> None:
    first, second = Episode(DISCRETE, 5), Episode(CONTINUOUS, 6)
    alone = acts(RandomAgent(), {0: first}, [0])[0]
    assert acts(RandomAgent(), {3: first, 1: second}, [1, 3])[3] == alone
    assert acts(RandomAgent(), {0: Episode(DISCRETE, 6)}, [0])[0] != alone


def test_random_actions_cover_the_tasks_actions_evenly() -> None:
    drawn = acts(RandomAgent(), {0: Episode(PROCGEN, 1), 1: Episode(CONTINUOUS, 1)}, [0, 1], count=1500)
    counts = np.bincount(drawn[0], minlength=15)
    assert len(counts) == 15
    assert counts.min() > 60
    continuous = np.array(drawn[1])
    assert continuous.shape == (1500, 6)
    assert np.abs(continuous).max() <= 1
    assert np.abs(continuous.mean(axis=0)).max() < 0.1
    assert continuous.std() == pytest.approx(1 / 3**0.5, rel=0.05)


def test_random_actions_have_the_types_of_the_contract() -> None:
    agent = RandomAgent()
    state = agent.start(2)
    agent.reset(state, [0, 1], [Episode(DISCRETE, 0), Episode(CONTINUOUS, 0)])
    observations = [np.zeros((3, 64, 64), np.uint8), np.zeros(204, np.float32)]
    (index, vector), state = agent.act(state, observations, [0.0, 0.0], [0, 1])
    assert type(index) is int
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    assert vector.shape == (6,)
    assert agent.state_bytes(state) == 64


def test_the_default_constant_does_nothing_in_each_kind_of_task() -> None:
    episodes = {lane: Episode(task, 0) for lane, task in enumerate((DISCRETE, PROCGEN, CONTINUOUS))}
    played = acts(ConstantAgent(), episodes, [2, 0, 1], count=1)
    assert played == {0: [0], 1: [4], 2: [[0.0] * 6]}


@pytest.mark.slow
def test_doing_nothing_in_procgen_is_told_right() -> None:
    pytest.importorskip("gym3", reason="needs lram-bench[procgen]")
    from procgen import ProcgenGym3Env

    environment = ProcgenGym3Env(num=1, env_name="coinrun", num_threads=0)
    assert environment.get_combos()[4] == ()
    assert environment.get_combos()[8] == ("RIGHT", "UP")


def test_a_constant_is_refused_where_it_is_no_action() -> None:
    assert ConstantAgent(17).refuses(DISCRETE) is None
    assert "none of the 15 actions of procgen/maze" in (ConstantAgent(17).refuses(PROCGEN) or "")
    assert "none of the 18" in (ConstantAgent(0.5).refuses(DISCRETE) or "")
    assert ConstantAgent(-0.5).refuses(CONTINUOUS) is None
    assert "not in [-1, 1]" in (ConstantAgent(2).refuses(CONTINUOUS) or "")
    for value in (-2.0, 1.5, float("nan"), float("inf")):
        with pytest.raises(AgentError, match="index or a number"):
            ConstantAgent(value)
    agent = ConstantAgent(17)
    with pytest.raises(AgentError, match="procgen/maze"):
        agent.reset(agent.start(1), [0], [Episode(PROCGEN, 0)])


def test_a_constant_action_is_the_callers_own_array() -> None:
    agent = ConstantAgent(0.25)
    state = agent.start(1)
    agent.reset(state, [0], [Episode(CONTINUOUS, 0)])
    (action,), state = agent.act(state, [np.zeros(204, np.float32)], [0.0], [0])
    assert isinstance(action, np.ndarray)
    action[:] = 9
    (action,), _ = agent.act(state, [np.zeros(204, np.float32)], [0.0], [0])
    assert (action == np.float32(0.25)).all()


def test_scripted_refuses_by_name_what_nobody_wrote_a_controller_for() -> None:
    agent = ScriptedAgent()
    assert agent.refuses(DISCRETE) == "there is no scripted controller for atari/amidar"
    with pytest.raises(AgentError, match="atari/amidar"):
        agent.reset(agent.start(1), [0], [Episode(DISCRETE, 0)])


def test_scripted_says_when_the_package_of_the_experts_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    task = TaskSpec("metaworld/reach-v3", "metaworld", "vector", (39,), "continuous", 4, None, 200.0)
    assert "not installed" in (ScriptedAgent().refuses(task) or "")


def test_scripted_has_an_expert_for_all_fifty_metaworld_tasks() -> None:
    pytest.importorskip("metaworld", reason="needs lram-bench[metaworld]")
    agent = ScriptedAgent()
    tasks = [task for task in benchmark_tasks() if task.domain == "metaworld"]
    assert len(tasks) == 50
    for task in tasks:
        assert (
            agent.refuses(TaskSpec(task.id, "metaworld", "vector", (39,), "continuous", 4, None, 1)) is None
        )
    unknown = TaskSpec("metaworld/juggle-v3", "metaworld", "vector", (39,), "continuous", 4, None, 1)
    assert "no scripted controller" in (agent.refuses(unknown) or "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    ["reach-v3", "door-close-v3", "drawer-open-v3", "button-press-v3", "window-open-v3", "pick-place-v3"],
)
def test_metaworld_experts_solve_their_tasks_within_the_protocols_200_steps(task: str) -> None:
    pytest.importorskip("metaworld", reason="needs lram-bench[metaworld]")
    plays = played(ScriptedAgent(), f"metaworld/{task}", (1100, 1101, 1102), until_solved=True)
    assert [solved for _, solved in plays] == [True] * 3


def test_metaworld_experts_of_two_lanes_do_not_share_their_memory() -> None:
    pytest.importorskip("metaworld", reason="needs lram-bench[metaworld]")
    agent = ScriptedAgent()
    state = agent.start(2)
    task = TaskSpec("metaworld/reach-v3", "metaworld", "vector", (39,), "continuous", 4, None, 1)
    agent.reset(state, [0, 1], [Episode(task, 0), Episode(task, 1)])
    assert state[0] is not state[1]


# Half of the gap between random and scripted play that the heuristics' table tells.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "least"),
    [
        ("dmcontrol/cartpole-balance", 950),
        ("dmcontrol/cartpole-swingup", 400),
        ("dmcontrol/finger-spin", 450),
        ("dmcontrol/pendulum-swingup", 400),
        ("dmcontrol/point_mass-easy", 400),
        ("dmcontrol/reacher-easy", 450),
        ("dmcontrol/reacher-hard", 400),
    ],
)
def test_dmcontrol_controllers_score_far_above_random_play(task: str, least: float) -> None:
    pytest.importorskip("dm_control", reason="needs lram-bench[dmcontrol]")
    assert min(play(ScriptedAgent(), task, (1100, 1101))) > least


@pytest.mark.slow
def test_walking_up_crosses_the_freeway() -> None:
    pytest.importorskip("ale_py", reason="needs lram-bench[atari]")
    assert 15 <= play(ScriptedAgent(), "atari/freeway", [1100])[0] <= 25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "least"), [("atari/breakout", 15), ("atari/road-runner", 480), ("atari/kangaroo", 200)]
)
def test_atari_controllers_score_far_above_random_play(task: str, least: float) -> None:
    pytest.importorskip("ale_py", reason="needs lram-bench[atari]")
    assert play(ScriptedAgent(), task, [1100])[0] > least


@pytest.mark.slow
@pytest.mark.parametrize(("task", "gap"), [("procgen/bigfish", 4), ("procgen/bossfight", 0.4)])
def test_procgen_controllers_score_above_random_play(task: str, gap: float) -> None:
    pytest.importorskip("gym3", reason="needs lram-bench[procgen]")
    seeds = range(1100, 1130)
    scripted = np.mean(play(ScriptedAgent(), task, seeds))
    chance = np.mean(play(RandomAgent(), task, seeds))
    assert scripted > chance + gap


def test_a_paddle_follows_the_ball_and_fires_where_there_is_none() -> None:
    breakout = CONTROLLERS["atari/breakout"]
    screen = np.zeros((3, 64, 64), np.uint8)
    screen[:, 57:59, 30:37] = 90
    assert breakout(screen) == 1
    for column, action in ((20, 4), (33, 0), (50, 3)):
        shown = screen.copy()
        shown[:, 40, column] = 100
        assert breakout(shown) == action


@pytest.mark.slow
def test_running_right_gets_the_coin_more_often_than_random_play() -> None:
    pytest.importorskip("gym3", reason="needs lram-bench[procgen]")
    seeds = range(1100, 1130)
    scripted = np.mean(play(ScriptedAgent(), "procgen/coinrun", seeds))
    chance = np.mean(play(RandomAgent(), "procgen/coinrun", seeds))
    assert scripted > chance + 2


@pytest.mark.parametrize("task", ["toy/reach", "toy/steps", "toy/image", "toy/lives"])
def test_toy_controllers_solve_the_toy_tasks(task: str) -> None:
    row = next(row for row in load_domain("toy").tasks if row.id == task)
    assert row.score_reference is not None
    mean = np.mean(play(ScriptedAgent(), task, range(77)))
    assert mean == pytest.approx(row.score_reference, rel=0.05)


@pytest.mark.parametrize("agent", [RandomAgent(), ConstantAgent(), ConstantAgent(3), ScriptedAgent()])
def test_every_baseline_says_that_it_is_one(agent: Agent) -> None:
    assert agent.info.kind == "baseline"
    assert agent.info.trained is None
    assert agent.info.parameters is None
    assert agent.info.description
