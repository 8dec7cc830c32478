"""The action model as an agent: what it reads, what it chooses, and that lanes do not meet."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.acting.actions import choose_action
from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.compute import Compute, StepForm
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.tokens import CLASSES, DISCRETE_ACTIONS, action_to_classes

ARM = TaskSpec("metaworld/push", "metaworld", "vector", (39,), "continuous", 4, 1000.0, 200.0)
GAME = TaskSpec("procgen/maze", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
CONFIGS = {
    "xlstm": ModelConfig(64, 2, backbone=XLSTMConfig()),
    "xlstm with slstm": ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(64, 2, backbone=MambaConfig()),
    "transformer, ring": ModelConfig(
        64, 2, backbone=TransformerConfig(heads=4, positions="rotary", window=12, cache="ring")
    ),
    "transformer, window": ModelConfig(64, 2, backbone=TransformerConfig(heads=4, window=11)),
}


def _model(config: ModelConfig) -> ActionModel:
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def _agent(config: ModelConfig, rows: int = 8, step: StepForm = "auto") -> ModelAgent:
    compute = Compute(rows=rows, step=step)
    return ModelAgent(_model(config), trained=False, description="test", digest="", compute=compute)


def _see(task: TaskSpec, rng: np.random.Generator) -> Any:
    if task.observation == "image":
        return rng.integers(0, 256, task.observation_shape, dtype=np.uint8)
    return rng.standard_normal(task.observation_shape).astype(np.float32)


def _logits_of(agent: ModelAgent, monkeypatch: pytest.MonkeyPatch) -> dict[int, bytes]:
    """Record the bits of the logits that each lane's last action was chosen from."""
    seen: dict[int, bytes] = {}
    read = agent._read_block

    def recorded(state: LaneStates, block: int, rows: Any, *rest: Any) -> Any:
        logits = read(state, block, rows, *rest)
        seen.update({block * agent.rows + row: logits[row].numpy().tobytes() for row in rows})
        return logits

    monkeypatch.setattr(agent, "_read_block", recorded)
    return seen


def _play(
    agent: ModelAgent, seen: dict[int, bytes], task: TaskSpec, lanes: int, lane: int, neighbours: bool
) -> list[bytes]:
    """Play one episode in ``lane`` while the others reset, act and wait at random; return its logits."""
    own, other = np.random.default_rng(7), np.random.default_rng(lane)
    state = agent.start(lanes)
    agent.reset(state, [lane], [Episode(task, 0)])
    begun, trace = {lane}, []
    for _ in range(8):
        acts = [(lane, _see(task, own), float(own.normal()))]
        for neighbour in [n for n in range(lanes) if neighbours and n != lane]:
            if neighbour not in begun or other.random() < 0.2:
                agent.reset(state, [neighbour], [Episode((ARM, GAME)[other.integers(2)], 0)])
                begun.add(neighbour)
            if other.random() < 0.7:
                their = state.tasks[neighbour]
                assert their is not None
                acts.append((neighbour, _see(their, other), float(100 * other.normal())))
        other.shuffle(acts)
        numbers, observations, rewards = zip(*acts, strict=True)
        _, state = agent.act(state, observations, rewards, numbers)
        trace.append(seen[lane])
    return trace


@pytest.mark.slow
# Every kind with either task and in either form, and either task in either form.
@pytest.mark.parametrize(
    ("kind", "task", "step"),
    [
        pytest.param(kind, task, step, id=f"{kind}-{task.observation}-{step}")
        for place, kind in enumerate(CONFIGS)
        for task, step in zip((ARM, GAME), (("torch", "fused"), ("fused", "torch"))[place % 2], strict=True)
    ],
)
def test_a_lanes_logits_are_the_same_bits_in_any_company(
    kind: str, task: TaskSpec, step: StepForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step == "fused":
        pytest.importorskip("numba")
    agent = _agent(CONFIGS[kind], step=step)
    seen = _logits_of(agent, monkeypatch)
    alone = _play(agent, seen, task, lanes=1, lane=0, neighbours=False)
    for lanes, lane in ((8, 0), (8, 7), (3, 1), (11, 9)):
        assert _play(agent, seen, task, lanes, lane, neighbours=True) == alone, (lanes, lane)


@pytest.mark.parametrize("in_context", [False, True], ids=["no actions", "actions in context"])
@pytest.mark.parametrize("task", [ARM, GAME], ids=["vector", "image"])
def test_acting_reads_the_stream_of_training(
    task: TaskSpec, in_context: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of each decision against ``forward`` on the finished trajectory, with its true rewards."""
    config = replace(CONFIGS["xlstm with slstm"], actions_in_context=in_context)
    agent, rng = _agent(config), np.random.default_rng(3)
    seen = _logits_of(agent, monkeypatch)
    state = agent.start(2)
    agent.reset(state, [1], [Episode(task, 0)])
    assert task.target_return is not None

    observations, returns_to_go, rewards, actions, logits = [], [], [], [], []
    reward, earned = float("nan"), 0.0  # the first reward has no meaning
    for _ in range(7):
        observations.append(_see(task, rng))
        returns_to_go.append((task.target_return - earned) / task.reward_scale)
        chosen, state = agent.act(state, observations[-1:], [reward], [1])
        logits.append(np.frombuffer(seen[1], dtype=np.float32).reshape(8, CLASSES))
        padded = np.zeros(8, dtype=np.float32)
        padded[: task.action_size] = 0 if task.action == "discrete" else chosen[0]
        actions.append(chosen if task.action == "discrete" else action_to_classes(padded))
        reward = float(50 * rng.normal())
        earned += reward
        rewards.append(reward / task.reward_scale)

    batch = np.stack(observations)[None]
    if task.observation == "vector":
        batch = np.pad(batch, [(0, 0), (0, 0), (0, config.state_width - 39)])
    with torch.no_grad():
        prediction = agent.model(
            torch.from_numpy(batch),
            torch.tensor([returns_to_go]),
            torch.tensor([rewards]),
            torch.tensor(np.array([actions])) if in_context else None,
        )
    torch.testing.assert_close(prediction.logits[0], torch.tensor(np.array(logits)), rtol=0, atol=2e-5)


def test_lanes_of_two_domains_share_one_pass() -> None:
    agent, rng = _agent(CONFIGS["mamba"]), np.random.default_rng(0)
    passes = []
    step = agent.stepper

    def counted(x: torch.Tensor, *rest: Any) -> Any:
        passes.append(x.shape)
        return step.call(x, *rest)

    agent = agent.with_stepper(replace(step, call=counted))
    state = agent.start(4)
    agent.reset(state, [0, 1, 3], [Episode(ARM, 0), Episode(GAME, 0), Episode(ARM, 0)])
    actions, _ = agent.act(state, [_see(ARM, rng), _see(GAME, rng), _see(ARM, rng)], [0.0] * 3, [3, 1, 0])
    assert passes == [(8, 3, 64)]
    assert isinstance(actions[1], int)
    assert 0 <= actions[1] < 15
    for continuous in (actions[0], actions[2]):
        assert isinstance(continuous, np.ndarray)
        assert continuous.shape == (4,)
        assert continuous.dtype == np.float32
        assert np.abs(continuous).max() <= 1


def test_classes_that_a_task_does_not_have_are_never_chosen() -> None:
    logits = np.zeros((8, CLASSES), dtype=np.float32)
    logits[:, 16] = 9.0  # a discrete class beyond Procgen's 15
    logits[:, 3] = 1.0
    logits[:, DISCRETE_ACTIONS + 255] = 2.0
    action, classes = choose_action(logits, GAME, "center")
    assert action == 3
    assert classes[0] == 3
    action, classes = choose_action(logits, ARM, "center")
    np.testing.assert_array_equal(action, np.full(4, 1 - 1 / 256, dtype=np.float32))
    np.testing.assert_array_equal(classes, [273] * 4 + [action_to_classes(0.0)] * 4)
    lower, _ = choose_action(logits, ARM, "lower")
    np.testing.assert_array_equal(lower, np.full(4, 1 - 2 / 256, dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target_return": None}, "no target return"),
        ({"observation_shape": (205,)}, "wider than the model's 204"),
        ({"action_size": 9}, "9 continuous actions, and the model knows 8"),
        ({"action": "discrete", "action_size": 19}, "19 discrete actions, and the model knows 18"),
        ({"observation": "image", "observation_shape": (3, 84, 84)}, "images of (3, 84, 84)"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    agent, task = _agent(CONFIGS["mamba"]), replace(ARM, **change)
    assert agent.refuses(ARM) is None
    assert reason in str(agent.refuses(task))
    with pytest.raises(AgentError):
        agent.reset(agent.start(1), [0], [Episode(task, 0)])


def test_misuse_is_told_in_a_sentence() -> None:
    agent = _agent(CONFIGS["mamba"])
    with pytest.raises(AgentError, match="lane 0 holds no episode"):
        agent.act(agent.start(1), [np.zeros(39, np.float32)], [0.0], [0])
    state = agent.start(1)
    agent.reset(state, [0], [Episode(ARM, 0)])
    with pytest.raises(AgentError, match="named twice"):
        agent.act(state, [np.zeros(39, np.float32)] * 2, [0.0] * 2, [0, 0])
    with pytest.raises(AgentError, match=r"showed \(40,\), not \(39,\)"):
        agent.act(state, [np.zeros(40, np.float32)], [0.0], [0])
    with pytest.raises(AgentError, match="is not finite"):
        agent.act(state, [np.full(39, np.nan, np.float32)], [0.0], [0])
    with pytest.raises(AgentError, match="1 or a multiple of 8, not 3"):
        _agent(CONFIGS["mamba"], rows=3)


def test_a_new_episode_knows_nothing_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = _agent(CONFIGS["xlstm with slstm"])
    seen = _logits_of(agent, monkeypatch)
    state, traces = agent.start(1), []
    for _ in range(2):
        rng = np.random.default_rng(0)
        agent.reset(state, [0], [Episode(ARM, 0)])
        trace = []
        for _ in range(5):
            _, state = agent.act(state, [_see(ARM, rng)], [float(rng.normal())], [0])
            trace.append(seen[0])
        traces.append(trace)
    assert traces[0] == traces[1]


def test_the_state_keeps_its_size_over_an_episode_and_info_names_the_model() -> None:
    agent = _agent(CONFIGS["transformer, ring"], rows=1)
    state = agent.start(2)
    agent.reset(state, [0, 1], [Episode(ARM, 0)] * 2)
    size = agent.state_bytes(state)
    for _ in range(20):
        _, state = agent.act(state, [np.zeros(39, np.float32)] * 2, [0.0] * 2, [0, 1])
    assert agent.state_bytes(state) == size > 0
    assert agent.info.kind == "model"
    assert agent.info.trained is False
    assert agent.info.parameters == sum(p.numel() for p in agent.model.parameters())


def test_untrained_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (build_model(CONFIGS["xlstm"], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("step", ["torch", "fused"])
def test_an_agent_can_be_copied_and_pickled(step: StepForm) -> None:
    if step == "fused":
        pytest.importorskip("numba")
    agent = _agent(CONFIGS["xlstm with slstm"], step=step)
    for twin in (copy.copy(agent), copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        actions = []
        for one in (agent, twin):
            state = one.start(1)
            one.reset(state, [0], [Episode(ARM, 0)])
            actions.append(one.act(state, [np.ones(39, np.float32)], [0.0], [0])[0][0])
        np.testing.assert_array_equal(*actions)


def test_an_agent_of_another_model_or_step_leaves_the_first_as_it_was() -> None:
    agent, seen = _agent(CONFIGS["mamba"]), [np.ones(39, np.float32)]

    def played(one: ModelAgent) -> Any:
        state = one.start(1)
        one.reset(state, [0], [Episode(ARM, 0)])
        return one.act(state, seen, [0.0], [0])[0][0]

    before = played(agent)
    other = agent.with_model(build_model(CONFIGS["mamba"], seed=9))
    assert other.info == agent.info
    assert not np.array_equal(played(other), before)
    call = agent.stepper.call
    silent = agent.with_stepper(replace(agent.stepper, call=lambda x, *rest: (x * 0, call(x, *rest)[1])))
    assert silent.model is agent.model
    assert not np.array_equal(played(silent), before)
    np.testing.assert_array_equal(played(agent), before)


@pytest.mark.parametrize("change", [{"rows": 3}, {"rows": 8.0}, {"device": ""}, {"step": "quick"}])
def test_a_compute_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(AgentError):
        Compute(**change)
