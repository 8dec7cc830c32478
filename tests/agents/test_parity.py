"""Parity: sound models pass in every form, and each fault is found by the check that names it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.states import put
from lram.agents.backbones.stepping import StepFunction, why_not_fused
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checks.contract import Check, contract_checks
from lram.agents.checks.equivalence import Extent, model_checks, thorough
from lram.agents.checks.step import StepChecks
from lram.agents.checks.stream import acting_follows_training
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, build_model

RING = TransformerConfig(heads=4, positions="rotary", window=40, cache="ring")
CONFIGS = {
    "mlstm and slstm": ModelConfig(32, 3, backbone=XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(32, 2, backbone=MambaConfig()),
    "transformer, ring": ModelConfig(32, 2, backbone=RING),
    "transformer, full": ModelConfig(32, 2, backbone=replace(RING, cache="full")),
    "transformer, recompute": ModelConfig(32, 2, backbone=replace(RING, window=59, cache="recompute")),
}
SHORT = Extent(lengths=(60,), decisions=25)
TINY = Extent(lengths=(6,), decisions=2)


def _model(config: ModelConfig, noise: float = 0.1) -> ActionModel:
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return model


def _agent(config: ModelConfig, kind: type[ModelAgent] = ModelAgent, **how: Any) -> ModelAgent:
    compute = Compute(**{"step": "torch", **how})
    return kind(_model(config), trained=False, description="test", digest="", compute=compute)


def failed(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if check.status == "failed"}


# Every kind with either number of rows, with and without actions, and either number with and without them.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rows", "in_context"),
    [
        pytest.param(kind, rows, in_context, id=f"{kind}-{rows}-{'actions in context' * in_context}")
        for place, kind in enumerate(CONFIGS)
        for rows, in_context in ((1, bool(place % 2)), (8, not place % 2))
    ],
)
def test_sound_models_pass(kind: str, rows: int, in_context: bool) -> None:
    config = replace(CONFIGS[kind], actions_in_context=in_context)
    checks = model_checks(_agent(config, rows=rows), SHORT)
    assert not failed(checks)
    assert len({check.name for check in checks}) == 13
    skipped = {check.name for check in checks if check.status == "skipped"}
    alone = {"a row's place does not matter", "a row's neighbours do not matter"}
    assert skipped == (alone if rows == 1 else set())


@pytest.mark.parametrize("kind", ["mlstm and slstm", "mamba", "transformer, ring"])
def test_fused_steps_pass(kind: str) -> None:
    if reason := why_not_fused(_model(CONFIGS[kind]).backbone):
        pytest.skip(reason)
    assert not failed(model_checks(_agent(CONFIGS[kind], step="fused"), SHORT))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_bfloat16_weights_pass_with_an_allowance_of_their_own(config: ModelConfig) -> None:
    agent = ModelAgent(_model(config).bfloat16(), trained=False, description="test", digest="")
    checks = model_checks(agent, SHORT)
    assert not failed(checks)
    limits = {check.name: check.limit for check in checks if check.limit and check.name != TOKENS}
    assert limits.pop(STREAM) <= 0.05  # a third of what blindness does, where that is less
    assert set(limits.values()) == {0.05}
    tokens = {check.subject.split(",")[0]: check for check in checks if check.name == TOKENS}
    assert {kind: check.limit for kind, check in tokens.items()} == {
        "observations": 0.05,
        "returns-to-go": 0.01,
        "rewards": 0.01,
    }
    assert tokens["rewards"].difference == tokens["returns-to-go"].difference == 0


def test_beyond_the_window_of_a_cache_nothing_is_compared_and_it_says_so() -> None:
    checks = model_checks(_agent(CONFIGS["transformer, recompute"]), Extent((60, 90), 25))
    lengths = [check for check in checks if check.name == "step equals forward"][-2:]
    assert [check.status for check in lengths] == ["passed", "skipped"]
    assert lengths[0].subject.startswith("57 tokens")
    assert "beyond 59 tokens the window has lost" in lengths[1].reason


def test_a_compiled_step_is_only_asked_for_the_passes_of_a_decision() -> None:
    agent = _agent(CONFIGS["mamba"])
    shapes = set()

    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        shapes.add((x.shape, x.is_contiguous()))
        return agent.model.backbone.step(x, state, valid)

    agent = agent.with_stepper(replace(agent.stepper, form="compile", call=call))
    checks = model_checks(agent, SHORT)
    assert not failed(checks)
    assert checks[0].status == "skipped"
    assert shapes == {((8, 3, 32), True)}


def _mapped(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    if isinstance(state, Tensor):
        return function(state) if state.is_floating_point() else state
    if isinstance(state, dict):
        return {key: _mapped(function, value) for key, value in state.items()}
    return type(state)(_mapped(function, value) for value in state)


# Faulty steps: what a step does, made of the right one.


def drifts(step: StepFunction) -> StepFunction:
    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        y, state = step(x, state, valid)
        return y * (1 + 3e-4), state

    return call


def rounds_its_state(step: StepFunction) -> StepFunction:
    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        y, state = step(x, state, valid)
        return y, _mapped(lambda tensor: tensor.bfloat16().float(), state)

    return call


def keeps_its_state_in_bfloat16(step: StepFunction) -> StepFunction:
    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        y, state = step(x, _mapped(lambda tensor: tensor.float(), state), valid)
        return y, _mapped(lambda tensor: tensor.bfloat16(), state)

    return call


def mixes_rows_a_little(step: StepFunction) -> StepFunction:
    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        y, state = step(x, state, valid)
        return y + 1e-6 * y.roll(1, dims=0), state

    return call


def ignores_the_mask(step: StepFunction) -> StepFunction:
    return lambda x, state, valid: step(x, state, None)


def masks_the_reward(step: StepFunction) -> StepFunction:
    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        valid = torch.ones(x.shape[:2], dtype=torch.bool) if valid is None else valid.clone()
        valid[:, -3:-2] = False
        return step(x, state, valid)

    return call


def reads_two_tokens_the_other_way_round(step: StepFunction) -> StepFunction:
    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        return step(x[:, [1, 0, *range(2, x.shape[1])]] if x.shape[1] > 2 else x, state, valid)

    return call


FORWARD, FRESH = "step equals forward", "a reset row is fresh"
MASKED, HOLES = "a masked token leaves the state", "masked tokens are as if not there"
KEPT = "a block's state is its own"
PLACE, NEIGHBOURS = "a row's place does not matter", "a row's neighbours do not matter"
SOUND, REWARD = "the state stays float32 and finite", "the reward reaches the next decision"
OWN_REWARD, STREAM = "a decision does not see its own reward", "acting reads the stream of training"
LIKELIEST, TOKENS = "actions are the likeliest", "the step is handed the tokens of training"

STEPS = {
    drifts: {FORWARD, HOLES, STREAM},
    rounds_its_state: {FORWARD, HOLES, STREAM},
    keeps_its_state_in_bfloat16: {FORWARD, HOLES, SOUND, STREAM},
    mixes_rows_a_little: {FRESH, PLACE, NEIGHBOURS},
    ignores_the_mask: {MASKED, HOLES, STREAM},
    masks_the_reward: {FORWARD, HOLES, REWARD, STREAM},
    reads_two_tokens_the_other_way_round: {FORWARD, HOLES, STREAM},
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "names"), STEPS.items(), ids=[fault.__name__ for fault in STEPS])
def test_a_faulty_step_is_found_by_the_checks_that_name_it(fault: Any, names: set[str]) -> None:
    agent = _agent(CONFIGS["mlstm and slstm"])
    agent = agent.with_stepper(replace(agent.stepper, call=fault(agent.stepper.call)))
    assert failed(model_checks(agent, SHORT)) == names


def test_a_model_that_makes_much_of_rounding_is_allowed_more_but_no_fault() -> None:
    model = _model(CONFIGS["mamba"], noise=0.7)
    agent = ModelAgent(model, trained=False, description="test", digest="", compute=Compute(step="torch"))
    checks = model_checks(agent, SHORT)
    assert not failed(checks)
    (check,) = (c for c in checks if c.name == FORWARD and c.subject.startswith("60 tokens"))
    assert check.limit is not None
    assert 1e-4 < check.limit <= 0.05
    assert "times this model's own sensitivity: relative noise of 1e-06 in its inputs" in check.reason
    agent = agent.with_stepper(
        replace(agent.stepper, call=reads_two_tokens_the_other_way_round(agent.stepper.call))
    )
    assert failed(model_checks(agent, SHORT)) == {FORWARD, HOLES, STREAM}


def test_what_was_measured_is_told_beside_what_is_allowed() -> None:
    agent = _agent(CONFIGS["mamba"])
    agent = agent.with_stepper(replace(agent.stepper, call=drifts(agent.stepper.call)))
    check = model_checks(agent, SHORT)[0]
    assert check.limit == pytest.approx(2e-5, rel=0.5)
    assert check.difference == pytest.approx(3e-4, rel=0.01)
    assert check.measured.startswith("3.0e-04 of the output's scale (")
    assert check.allowed == f"{check.limit:.1g}"


def test_outputs_that_overflow_after_the_compared_stream_are_found() -> None:
    agent = _agent(CONFIGS["transformer, ring"])
    step = agent.stepper.call

    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        y, state = step(x, state, valid)
        return y.masked_fill(state["count"].view(-1, 1, 1) > 60, torch.inf), state

    agent = agent.with_stepper(replace(agent.stepper, call=call))
    short = replace(SHORT, window=0)
    assert failed(model_checks(agent, short)) == {SOUND, MASKED}
    assert failed(model_checks(agent, replace(short, decisions=20))) == {MASKED}


def test_with_several_threads_rows_are_allowed_what_rounding_is(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = _agent(CONFIGS["mamba"])
    agent = agent.with_stepper(replace(agent.stepper, call=mixes_rows_a_little(agent.stepper.call)))
    assert failed(model_checks(agent, SHORT)) == {FRESH, PLACE, NEIGHBOURS}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    checks = model_checks(agent, SHORT)
    assert not failed(checks)
    assert all(check.limit for check in checks if check.name in (PLACE, NEIGHBOURS))


def test_a_step_that_raises_has_failed_with_its_message() -> None:
    agent = _agent(CONFIGS["mamba"])

    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        raise IndexError("kernel fault")

    agent = agent.with_stepper(replace(agent.stepper, call=call))
    checks = model_checks(agent, SHORT)
    assert failed(checks) == {FORWARD, FRESH, MASKED, HOLES, PLACE, KEPT, SOUND, REWARD, STREAM}
    assert checks[0].measured.startswith("raised IndexError: kernel fault (test_parity.py, line ")


def test_a_reset_that_forgets_a_part_of_the_state_is_found() -> None:
    agent = _agent(CONFIGS["mlstm and slstm"])
    backbone = agent.model.backbone

    def reset(state: Any, rows: Sequence[int]) -> None:
        put(state[:2], rows, backbone.initial_state(len(rows))[:2])  # there are three blocks

    backbone.reset = reset  # type: ignore[method-assign]
    checks = model_checks(agent, SHORT)
    assert failed(checks) == {FRESH, STREAM}
    (check,) = (check for check in checks if check.name == FRESH and check.subject == "its state")
    assert "0 changed in the rows beside it" in check.measured


def test_a_reset_that_touches_the_next_row_is_found() -> None:
    agent = _agent(CONFIGS["mamba"])
    reset = agent.model.backbone.reset
    agent.model.backbone.reset = (  # type: ignore[method-assign]
        lambda state, rows: reset(state, [*rows, (max(rows) + 1) % 8])
    )
    assert failed(model_checks(agent, SHORT)) == {FRESH}


# Faulty agents: around a right model and a right step.


class DropsRewards(ModelAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        earned = state.earned.copy()
        for lane, reward in zip(lanes, rewards, strict=True):
            earned[lane] += 0 if state.fresh[lane] else reward  # the return-to-go is right
        given = super().act(state, observations, [0.0] * len(rewards), lanes)
        state.earned[:] = earned
        return given


class ForgetsTheReset(ModelAgent):
    def reset(self, state: LaneStates, lanes: Any, episodes: Any) -> None:
        blocks = copy.deepcopy(state.blocks)
        super().reset(state, lanes, episodes)
        state.blocks[:] = blocks


class ReadsTheFreshReward(ModelAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        state.fresh[:] = False
        return super().act(state, observations, rewards, lanes)


class ActsWithoutItsStep(ModelAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        return [
            0 if state.tasks[lane].action == "discrete" else np.zeros(8, np.float32) for lane in lanes
        ], state


class TakesTheSecondBest(ModelAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        actions, state = super().act(state, observations, rewards, lanes)
        return [action if isinstance(action, int) else -action for action in actions], state


def checks_of_acting(agent: ModelAgent) -> list[Check]:
    """Return those of ``model_checks`` in which the agent has a part; the others ask its model and step."""
    with torch.inference_mode():
        return acting_follows_training(agent, StepChecks(agent, TINY, 0).window, 0)


AGENTS = {
    DropsRewards: {STREAM, TOKENS},
    ForgetsTheReset: {STREAM},
    ReadsTheFreshReward: {STREAM, TOKENS},
    ActsWithoutItsStep: {STREAM},
    TakesTheSecondBest: {LIKELIEST},
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "names"), AGENTS.items(), ids=[kind.__name__ for kind in AGENTS])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_faulty_agent_is_found_though_its_model_is_right(
    config: ModelConfig, kind: type[ModelAgent], names: set[str]
) -> None:
    assert failed(checks_of_acting(_agent(config, kind))) == names


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "names"), AGENTS.items(), ids=[kind.__name__ for kind in AGENTS])
def test_no_check_finds_more_of_a_faulty_agent(kind: type[ModelAgent], names: set[str]) -> None:
    assert failed(model_checks(_agent(CONFIGS["mamba"], kind), TINY)) == names


@pytest.mark.parametrize("kind", ["mamba", "transformer, ring"])
def test_a_dropped_reward_is_found_in_weights_as_they_are_drawn(kind: str) -> None:
    """Their biases are zero, so that the LayerNorm leaves no more than a reward's sign."""
    model = build_model(CONFIGS[kind], seed=0)
    agent = DropsRewards(model, trained=False, description="test", digest="")
    assert failed(model_checks(agent, SHORT)) == {STREAM, TOKENS}


class EmbedsNoRewards(ModelAgent):
    def _read_block(self, state: Any, block: int, rows: Any, encoded: Tensor, rewards: Any) -> Any:
        return super()._read_block(state, block, rows, encoded, dict.fromkeys(rewards, 0.0))


class FreezesReturns(ModelAgent):
    def act(self, state: Any, observations: Any, rewards: Any, lanes: Any) -> Any:
        given = super().act(state, observations, rewards, lanes)
        state.earned[:] = 0
        return given


class DropsRewardsOfLaterBlocks(ModelAgent):
    def _read_block(self, state: Any, block: int, rows: Any, encoded: Tensor, rewards: Any) -> Any:
        rewards = dict.fromkeys(rewards, 0.0) if block else rewards
        return super()._read_block(state, block, rows, encoded, rewards)


class TakesTheFirstImageForAll(ModelAgent):
    def _encode(self, observations: Any, state: Any, blocks: Any) -> Any:
        first = next(seen for seen in observations.values() if seen.ndim == 3)
        same = {lane: first if seen.ndim == 3 else seen for lane, seen in observations.items()}
        return super()._encode(same, state, blocks)


UNFED = {
    EmbedsNoRewards: "rewards",
    FreezesReturns: "returns-to-go",
    DropsRewardsOfLaterBlocks: "rewards",
    TakesTheFirstImageForAll: "observations",
}


# Every kind with every fault; each of either in both precisions.
@pytest.mark.parametrize(
    ("kind", "fault", "precision"),
    [
        pytest.param(kind, fault, precision, id=f"{kind}-{fault.__name__}-{precision}")
        for row, kind in enumerate(CONFIGS)
        for column, fault in enumerate(UNFED)
        for precision in [(torch.float32, torch.bfloat16)[(row + column) % 2]]
    ],
)
def test_a_step_that_is_not_handed_what_was_shown_and_earned_is_found_in_any_precision(
    kind: str, fault: type[ModelAgent], precision: torch.dtype
) -> None:
    model = build_model(CONFIGS[kind], seed=0).to(precision)
    checks = checks_of_acting(fault(model, trained=False, description="test", digest=""))
    wrong = [
        check.subject.split(",")[0] for check in checks if check.name == TOKENS and check.status == "failed"
    ]
    assert wrong == [UNFED[fault]]


def test_what_is_allowed_is_well_below_what_blindness_for_rewards_does() -> None:
    """It would be found by nothing else: bfloat16 weights are allowed five parts in a hundred."""
    model = _model(CONFIGS["mamba"], noise=0.07).bfloat16()
    agent = ModelAgent(model, trained=False, description="test", digest="")
    assert not failed(model_checks(agent, SHORT))
    step = agent.stepper.call

    def call(x: Tensor, state: Any, valid: Tensor | None) -> tuple[Tensor, Any]:
        y, state = step(x, state, valid)
        return y * 1.04, state

    agent = agent.with_stepper(replace(agent.stepper, call=call))
    checks = model_checks(agent, SHORT)
    assert failed(checks) == {STREAM}
    assert (
        "a third of what an agent that is blind for rewards would differ by" in _named(checks, STREAM).reason
    )


def _named(checks: Sequence[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_where_rewards_make_next_to_nothing_it_says_so() -> None:
    model = _model(CONFIGS["mamba"])
    with torch.no_grad():
        model.encoders.reward.weight.zero_()
    checks = model_checks(ModelAgent(model, trained=False, description="test", digest=""), SHORT)
    assert not failed(checks)
    rewards = [check for check in checks if check.name == TOKENS and check.subject.startswith("rewards")]
    for check in (_named(checks, STREAM), *rewards):
        assert check.measured.endswith("if the rewards were 0, too little to tell from rounding") or (
            check.measured.endswith("if they were 0, too little to tell from rounding")
        )


@pytest.mark.parametrize("kind", ["transformer, ring", "transformer, full"])
def test_a_cache_that_goes_wrong_only_beyond_its_window_is_found(kind: str) -> None:
    config = replace(CONFIGS[kind], backbone=replace(CONFIGS[kind].backbone, window=90))  # type: ignore[type-var]
    beyond = "beyond the window of 90"
    agent = _agent(config)
    past: Any = agent.model.backbone.past
    (check,) = (c for c in model_checks(agent, TINY) if beyond in c.subject)
    assert check.status == "passed"
    if past.ring:
        past.window = 89
    else:
        past._restart_rows = lambda state, rows, *rest: state["count"].masked_fill_(rows, 0)
    checks = model_checks(agent, SHORT)
    assert [c.subject for c in checks if c.status == "failed"] == [check.subject]


def test_a_long_window_is_left_behind_only_by_a_thorough_check() -> None:
    config = CONFIGS["transformer, full"]
    long = replace(config, backbone=replace(config.backbone, window=600))
    (check,) = (c for c in model_checks(_agent(long), TINY) if "600 tokens" in c.subject)
    assert (check.status, check.reason) == (
        "skipped",
        "a window of 600 tokens is left behind by 'lram check' only",
    )
    assert thorough().window == 2000
    (check,) = (
        c for c in model_checks(_agent(long), replace(TINY, window=2000)) if "window of 600" in c.subject
    )
    assert check.status == "passed"
    longer = replace(config, backbone=replace(config.backbone, window=2001))
    (check,) = (c for c in model_checks(_agent(longer), TINY) if "2001 tokens" in c.subject)
    assert check.reason.endswith("only if asked for: lram check --tokens 2001")
    assert thorough(2001).window == 2001


def test_a_model_whose_decisions_see_their_own_reward_is_found() -> None:
    agent = _agent(CONFIGS["mlstm and slstm"])
    forward = agent.model.forward

    def cheating(observations: Tensor, returns_to_go: Tensor, rewards: Tensor, *rest: Any) -> Any:
        return forward(observations, returns_to_go + rewards, rewards, *rest)

    agent.model.forward = cheating  # type: ignore[method-assign, assignment]
    assert failed(model_checks(agent, SHORT)) == {OWN_REWARD, STREAM, TOKENS}


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_checking_leaves_generators_weights_and_a_playing_agent_as_they_were(config: ModelConfig) -> None:
    agent = _agent(config)
    state = agent.start(3)
    before = (
        [t.clone() for t in agent.model.state_dict().values()],
        random.getstate(),
        np.random.get_state(),
    )
    torch_before, blocks = torch.get_rng_state(), copy.deepcopy(state.blocks)
    stepper, threads = agent.stepper, torch.get_num_threads()
    model_checks(agent, SHORT)
    assert agent.stepper is stepper
    assert torch.get_num_threads() == threads
    assert all(torch.equal(a, b) for a, b in zip(before[0], agent.model.state_dict().values(), strict=True))
    assert random.getstate() == before[1]
    np.testing.assert_equal(np.random.get_state(), before[2])
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert str(state.blocks) == str(blocks)


def test_the_same_seed_measures_the_same_and_another_seed_another() -> None:
    agent = _agent(CONFIGS["mamba"])
    assert model_checks(agent, SHORT, seed=1) == model_checks(agent, SHORT, seed=1)
    assert model_checks(agent, SHORT, seed=1) != model_checks(agent, SHORT, seed=2)


@pytest.mark.parametrize("kind", ["mlstm and slstm", "transformer, full"])
def test_models_keep_the_contract_of_agents_too(kind: str) -> None:
    assert not failed(contract_checks(_agent(CONFIGS[kind])))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ForgetsTheReset, ReadsTheFreshReward])
def test_the_contract_finds_a_models_faults_too(kind: type[ModelAgent]) -> None:
    name = {
        ForgetsTheReset: "a reset lane is fresh",
        ReadsTheFreshReward: "a fresh lane's reward is not read",
    }
    assert name[kind] in failed(contract_checks(_agent(CONFIGS["mlstm and slstm"], kind)))
