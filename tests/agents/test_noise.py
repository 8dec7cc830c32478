"""Noise on an agent's actions: how much, in what bursts, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import Action, AgentError, Episode, TaskSpec
from lram.agents.checks.contract import VECTOR_TASK, contract_checks
from lram.agents.compute import Compute
from lram.agents.experts.baselines import ConstantAgent, RandomAgent
from lram.agents.experts.noise import Noise, NoisyAgent, parse_noise, split_noise
from lram.agents.factory import create_agent

DISCRETE = TaskSpec("toy/many", "toy", "vector", (4,), "discrete", 1000, 25.0, 1.0)
SEEN = np.zeros(39, np.float32)


def played(agent: NoisyAgent, seed: int, decisions: int, task: TaskSpec = VECTOR_TASK) -> list[Action]:
    state = agent.start(1)
    agent.reset(state, [0], [Episode(task, seed)])
    actions = []
    for _ in range(decisions):
        (action,), state = agent.act(state, [SEEN], [0.0], [0])
        actions.append(action)
    return actions


def is_random(actions: list[Action]) -> np.ndarray:
    """Return where actions are not those of the constant agent, which gives zeros."""
    return np.array([bool(np.any(np.asarray(action))) for action in actions])


@pytest.mark.slow
@pytest.mark.parametrize("noise", [Noise(0.3), Noise(0.3, 5), Noise(0.8, 20), Noise(0.05, 50)])
def test_the_share_of_random_decisions_is_as_asked_from_the_first_decision_on(noise: Noise) -> None:
    agent = NoisyAgent(ConstantAgent(), noise)
    episodes = 1500
    table = np.array([is_random(played(agent, seed, 24)) for seed in range(episodes)])
    # Decisions of a burst go together, so episodes are counted, not decisions: 4 standard errors.
    allowed = 4 * np.sqrt(noise.share * (1 - noise.share) / episodes)
    assert abs(table[:, 0].mean() - noise.share) < allowed
    assert abs(table[:, -1].mean() - noise.share) < allowed
    assert abs(table.mean() - noise.share) < allowed


def test_a_burst_repeats_one_action_and_has_its_length() -> None:
    actions = played(NoisyAgent(ConstantAgent(), Noise(0.3, 5)), 3, 3000, DISCRETE)
    runs: list[list[int]] = []  # action, decisions
    for action in actions:
        if runs and runs[-1][0] == action:
            runs[-1][1] += 1
        else:
            runs.append([int(action), 1])  # type: ignore[arg-type]
    inner = [length for action, length in runs[1:-1] if action]
    assert len(inner) > 100
    # Two bursts in a row of the same action of 1,000 would be one of 10: rare.
    assert np.mean([length == 5 for length in inner]) > 0.95


def test_without_bursts_each_random_action_is_drawn_anew() -> None:
    actions = played(NoisyAgent(ConstantAgent(), Noise(1.0)), 3, 1000, DISCRETE)
    assert len(set(map(int, actions))) > 500  # type: ignore[arg-type]


def test_no_noise_is_the_agent_itself_and_all_noise_covers_the_range() -> None:
    assert not is_random(played(NoisyAgent(ConstantAgent(), Noise(0.0)), 0, 100)).any()
    actions = np.array(played(NoisyAgent(ConstantAgent(), Noise(1.0)), 0, 2000))
    assert is_random(list(actions)).all()
    assert actions.dtype == np.float32
    assert actions.min() < -0.98
    assert actions.max() > 0.98
    assert np.abs(actions.mean(axis=0)).max() < 0.06


def test_the_noise_is_another_one_than_what_the_agent_draws() -> None:
    noisy = np.array(played(NoisyAgent(RandomAgent(), Noise(1.0)), 5, 50))
    own = np.array(played(NoisyAgent(RandomAgent(), Noise(0.0)), 5, 50))
    assert not np.isin(noisy, own).any()


@pytest.mark.parametrize("noise", [Noise(0.5), Noise(0.5, 4)])
def test_a_noisy_agent_keeps_the_agents_contract(noise: Noise) -> None:
    checks = contract_checks(NoisyAgent(RandomAgent(), noise))
    assert [check for check in checks if check.status == "failed"] == []


@pytest.mark.parametrize(
    ("spec", "noise"),
    [
        ("random~0.3", Noise(0.3)),
        ("random~.5x10", Noise(0.5, 10)),
        ("constant=0.5~1", Noise(1.0)),
        ("random~0", Noise(0.0)),
    ],
)
def test_a_specification_names_the_noise(spec: str, noise: Noise) -> None:
    agent = create_agent(spec)
    assert isinstance(agent, NoisyAgent)
    assert agent.noise == noise


def test_the_description_says_so_and_the_rest_is_the_agents_own() -> None:
    agent, plain = create_agent("xlstm[1:0]-1M~0.25x4"), create_agent("xlstm[1:0]-1M")
    assert agent.info.description.startswith(plain.info.description)
    assert "0.25 of its actions replaced by random ones, each repeated 4 times" in agent.info.description
    assert (agent.info.digest, agent.info.kind, agent.info.trained) == (plain.info.digest, "model", False)


@pytest.mark.parametrize("suffix", ["", "a", "2", "-0.1", "0.3x0", "0.3x", "x5", "1e-1", "nan"])
def test_noise_that_makes_no_sense_is_refused_in_one_sentence(suffix: str) -> None:
    with pytest.raises(AgentError):
        create_agent(f"random~{suffix}")
    with pytest.raises(AgentError, match="is no noise"):
        parse_noise(suffix)


def test_a_path_may_have_a_tilde(tmp_path: Path) -> None:
    assert split_noise("~/runs/x") == ("~/runs/x", "")
    assert split_noise("~/runs/x~0.3") == ("~/runs/x", "0.3")
    folder = tmp_path / "mine~0.3"
    folder.mkdir()
    with pytest.raises(AgentError, match=r"mine~0\.3 has no config\.json"):
        create_agent(str(folder))


def test_a_model_reads_the_action_that_was_taken_not_the_one_it_gave() -> None:
    from lram.agents.acting.model_agent import ModelAgent
    from lram.agents.model.network import build_model
    from lram.agents.model.presets import parse_preset
    from lram.agents.model.tokens import action_to_classes

    for task in (VECTOR_TASK, TaskSpec("toy/d", "toy", "vector", (39,), "discrete", 4, 25.0, 1.0)):
        inner = ModelAgent(
            build_model(parse_preset("xlstm[1:0]-1M"), 0),
            trained=False,
            description="m",
            digest="",
            compute=Compute(step="torch"),
        )
        agent = NoisyAgent(inner, Noise(1.0))
        state = agent.start(3)
        agent.reset(state, [1], [Episode(task, 0)])
        (action,), state = agent.act(state, [SEEN], [0.0], [1])
        read = state.inner.last_classes[1]
        if task.action == "discrete":
            assert read[0] == action
            assert (read[1:] == action_to_classes(0.0)).all()
        else:
            np.testing.assert_array_equal(read[:4], action_to_classes(action))
            assert (read[4:] == action_to_classes(0.0)).all()
