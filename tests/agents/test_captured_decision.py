"""Whole decisions as one recording: what they give, and what host and device do for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.backbones import CONFIGS
from support.fake_gpu import DEVICE, fake_gpu
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lram.agents.acting.captured_decision import CapturedDecision, PassInputs
from lram.agents.acting.context_agent import ContextAgent
from lram.agents.acting.contexts import Context
from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.acting.reader import IMAGES
from lram.agents.api import Episode, TaskSpec
from lram.agents.backbones import captured
from lram.agents.backbones.captured import CapturedStep, Recorder, record_graph, repeat
from lram.agents.backbones.states import State
from lram.agents.backbones.stepping import Stepper
from lram.agents.backbones.transformer import cache
from lram.agents.checks.recorded import RECORDED, recorded_decisions
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, build_model

ARM = TaskSpec("metaworld/push", "metaworld", "vector", (39,), "continuous", 4, 1000.0, 200.0)
GAME = TaskSpec("procgen/maze", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
LANES = {0: ARM, 1: GAME, 2: GAME, 3: ARM, 4: GAME, 5: GAME, 6: GAME, 7: ARM, 9: GAME}
ACTIONS = replace(CONFIGS["mingru"], actions_in_context=True)
MODELS: dict[str, ModelConfig] = {
    **{
        name: CONFIGS[name]
        for name in ("xlstm[1:1]", "mamba", "transformer[ring]", "transformer[full], window")
    },
    "actions in context": ACTIONS,
}


def agent_of(model: ActionModel) -> ModelAgent:
    return ModelAgent(model, trained=False, description="test", digest="", compute=Compute(step="torch"))


def recorded(agent: ModelAgent, record: Recorder) -> ModelAgent:
    """Return ``agent`` as the form ``captured`` has it."""
    step = CapturedStep(agent.model.backbone, record)
    twin = agent.with_stepper(Stepper("captured", "recorded", step))
    twin.reader = replace(twin.reader, decision=CapturedDecision(agent.model, step, IMAGES))
    return twin


def logits(agent: ModelAgent, state: LaneStates, draw: np.random.Generator, ready: list[int]) -> Any:
    """Let ``ready`` lanes decide; return their logits, and leave their actions taken."""
    shown = [
        draw.integers(0, 256, (3, 64, 64)).astype(np.uint8)
        if LANES[lane] is GAME
        else draw.standard_normal(39).astype(np.float32)
        for lane in ready
    ]
    given = state.earn(list(draw.standard_normal(len(ready))), ready)
    with torch.inference_mode():
        read = agent._arrived(agent._read(state, shown, given, ready))
    found = [read[lane // agent.rows][lane % agent.rows].copy() for lane in ready]
    for lane, one in zip(ready, found, strict=True):
        agent._choose(state, lane, LANES[lane], one)
    return np.stack(found)


def compared(
    config: ModelConfig,
    plant: Callable[[ModelAgent], None] = lambda agent: None,
    *,
    device: str = "cpu",
    allowed: float = 1e-5,
) -> None:
    """Two blocks, whose lanes are ready at different times; a lane begins anew meanwhile."""
    plain = agent_of(build_model(config, seed=0).to(device))
    ours = recorded(plain, repeat if device == "cpu" else record_graph)
    plant(ours)
    states = [agent.start(16) for agent in (plain, ours)]
    for agent, state in zip((plain, ours), states, strict=True):
        agent.reset(state, list(LANES), [Episode(task, 0) for task in LANES.values()])
    order = np.random.default_rng(0)
    for number in range(12):
        ready = [lane for lane in LANES if number in {3, 4} or order.random() < 0.6] or [0]
        if number == 6:
            for agent, state in zip((plain, ours), states, strict=True):
                agent.reset(state, [3, 4], [Episode(LANES[lane], 1) for lane in (3, 4)])
        expected, given = (
            logits(agent, state, np.random.default_rng(number), ready)
            for agent, state in zip((plain, ours), states, strict=True)
        )
        np.testing.assert_allclose(given, expected, rtol=10 * allowed, atol=allowed)


@pytest.mark.parametrize("name", MODELS)
def test_it_gives_what_the_parts_give(name: str) -> None:
    compared(MODELS[name])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none here")
@pytest.mark.parametrize("name", MODELS)
def test_on_a_gpu_graphs_give_what_the_parts_give(name: str) -> None:
    compared(MODELS[name], device="cuda", allowed=1e-3)


@pytest.mark.parametrize("fault", ["", "rewards of other rows", "images of other rows"])
def test_the_gate_holds_recorded_decisions_to_their_parts(fault: str) -> None:
    plain = agent_of(build_model(ACTIONS, seed=0))
    agent = recorded(plain, repeat)
    if fault:
        planted(agent, fault)
    (found,) = recorded_decisions(agent, None, 0)
    assert (found.name, found.status) == (RECORDED, "failed" if fault else "passed")
    assert recorded_decisions(plain, None, 0) == []


FAULTS: dict[str, Callable[[PassInputs], PassInputs]] = {
    "images of other rows": lambda given: replace(
        given, places=None if given.places is None else np.roll(given.places, 1)
    ),
    "tokens that are not there": lambda given: replace(given, valid=None),
    "rewards of other rows": lambda given: replace(given, rewards=np.roll(given.rewards, 1)),
}


def planted(agent: ModelAgent, fault: str) -> None:
    decide = agent.reader.decision
    assert decide is not None
    faulty: Any = lambda inputs, state: decide(FAULTS[fault](inputs), state)  # noqa: E731
    agent.reader = replace(agent.reader, decision=faulty)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    with pytest.raises(AssertionError):
        compared(CONFIGS["mingru"], lambda agent: planted(agent, fault))


def memory(of: Any) -> set[int]:
    """Return the memory of all tensors of ``of``: that of what was given is also that of a view."""
    return {one.untyped_storage()._cdata for one in tree_leaves(of) if isinstance(one, Tensor)}


class Launches(TorchDispatchMode):
    """What the host asks the device to do, memory and views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = memory((args, kwargs)), memory(result)
        if ("empty" not in str(func) and not made <= given) or "copy_" in str(func):
            self.asked.append(str(func))
        return result


SEEN = {ARM: np.zeros(39, np.float32), GAME: np.zeros((3, 64, 64), np.uint8)}
KINDS = ("xlstm[1:1]", "mamba", "gru", "transformer[full]", "transformer[ring]")


def playing(played: list[str]) -> Recorder:
    """Return a recorder whose recordings only note that they are played: there are no numbers."""

    def record(run: Any, state: State) -> Any:
        run(state)
        return lambda _: played.append("graph")

    return record


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("images", [False, True])
def test_a_decision_is_one_copy_one_recording_and_one_wait(
    name: str, images: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "place", id)
    lanes = {0: ARM, 5: GAME} if images else {0: ARM, 5: ARM}
    played: list[str] = []
    with fake_gpu() as copies:
        with DEVICE:
            model = ActionModel(CONFIGS[name])
        agent = recorded(agent_of(model), playing(played))
        state = agent.start(8)
        agent.reset(state, list(lanes), [Episode(task, 0) for task in lanes.values()])
        for number in range(4):
            copies.clear()
            played.clear()
            with Launches() as launches:
                agent.act(state, [SEEN[task] for task in lanes.values()], [0.0, 0.0], list(lanes))
            assert copies.waiting == []
            assert len(copies.to_host) == 1
            if number > 1:  # the first passes of fresh and of other lanes are recorded
                assert played == ["graph"]
                assert len(copies.to_device) == 1
                assert launches.asked == ["aten.copy_.default"] * 2


def test_two_blocks_are_two_copies_two_recordings_and_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "place", id)
    lanes, played = {0: ARM, 9: ARM}, list[str]()
    with fake_gpu() as copies:
        with DEVICE:
            model = ActionModel(CONFIGS["mamba"])
        agent = recorded(agent_of(model), playing(played))
        state = agent.start(16)
        agent.reset(state, list(lanes), [Episode(task, 0) for task in lanes.values()])
        for _ in range(3):
            copies.clear()
            played.clear()
            agent.act(state, [SEEN[ARM]] * 2, [0.0, 0.0], list(lanes))
        assert (played, copies.waiting) == (["graph"] * 2, [])
        assert (len(copies.to_device), len(copies.to_host)) == (2, 1)


def test_a_pass_that_needs_the_host_is_read_by_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full cache that has to forget: once in some decisions."""
    monkeypatch.setattr(cache, "FIRST_SLOTS", 8)
    agent = recorded(agent_of(build_model(CONFIGS["transformer[full], window"], seed=0)), repeat)
    decide, given = agent.reader.decision, list[bool]()
    assert decide is not None

    def noted(inputs: Any, state: State) -> Any:
        done = decide(inputs, state)
        given.append(done is not None)
        return done

    agent.reader = replace(agent.reader, decision=noted)  # type: ignore[arg-type]
    state = agent.start(1)
    agent.reset(state, [0], [Episode(ARM, 0)])
    for _ in range(14):
        agent.act(state, [SEEN[ARM]], [0.0], [0])
    assert set(given) == {False, True}
    assert given[:9] == [True] * 9


def test_who_replaces_the_step_has_decisions_in_parts() -> None:
    agent = recorded(agent_of(build_model(CONFIGS["gru"], seed=0)), repeat)
    assert agent.with_stepper(agent.stepper).reader.decision is None
    assert ContextAgent(agent, Context("window", 2)).reader.decision is None
    assert agent_of(agent.model).reader.decision is None


def test_what_was_launched_first_stays_as_it_was() -> None:
    agent = recorded(agent_of(build_model(CONFIGS["gru"], seed=0)), repeat)
    state = agent.start(8)
    agent.reset(state, [0, 1], [Episode(ARM, 0)] * 2)
    first, _ = agent.launch(state, [SEEN[ARM] + 1], [0.0], [0])
    kept: Tensor = first._fetching.here.clone()
    agent.launch(state, [SEEN[ARM] - 1], [0.0], [1])
    assert torch.equal(first._fetching.here, kept)
