"""Acting and training where a GPU would be: nothing on the wrong device, nobody waits within a decision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from support.backbones import CONFIGS
from support.fake_gpu import DEVICE, Copies, fake_gpu
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from lram.agents.acting.context_agent import ContextAgent
from lram.agents.acting.contexts import Context
from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.acting.prefill import encode, prefill
from lram.agents.api import Episode, TaskSpec
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.transformer import cache
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, action_loss
from lram.agents.training.batches import Batch
from lram.agents.training.metrics import batch_sums
from lram.agents.training.optimizer import clip_gradients, gradient_norm, make_optimizer
from lram.agents.training.recipe import OptimizerSection

ARM = TaskSpec("metaworld/push", "metaworld", "vector", (39,), "continuous", 4, 1000.0, 200.0)
GAME = TaskSpec("procgen/maze", "procgen", "image", (3, 64, 64), "discrete", 15, 10.0, 1.0)
SEEN = {ARM: np.zeros(39, np.float32), GAME: np.zeros((3, 64, 64), np.uint8)}
EXTRA = dict.fromkeys(("mamba2", "gru", "transformer[full], window"), ((3, True), (11, True)))

LANES = {0: ARM, 7: ARM}


def agent_of(config: ModelConfig, dtype: torch.dtype = torch.float32) -> ModelAgent:
    torch.set_default_dtype(dtype)
    with DEVICE:
        model = ActionModel(config)
    torch.set_default_dtype(torch.float32)
    return ModelAgent(model, trained=False, description="test", digest="", compute=Compute(step="torch"))


def started(agent: ModelAgent, lanes: int = 8) -> LaneStates:
    state = agent.start(lanes)
    agent.reset(state, list(LANES), [Episode(task, 0) for task in LANES.values()])
    return state


def decide(agent: ModelAgent, state: LaneStates, lanes: dict[int, TaskSpec] = LANES) -> None:
    agent.act(state, [SEEN[task] for task in lanes.values()], [0.0] * len(lanes), list(lanes))


def checked(copies: Copies, to_host: int) -> None:
    """What was copied: so often to the host, and nothing that had to be waited for."""
    assert (len(copies.to_host), copies.waiting) == (to_host, [])
    copies.clear()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_decision_waits_once_and_a_pass_never(name: str) -> None:
    with fake_gpu() as copies, torch.inference_mode():
        agent = agent_of(CONFIGS[name])
        state = started(agent, 8)
        checked(copies, 0)
        decide(agent, state)
        checked(copies, 1)
        past = state.blocks[0]
        for tokens, masked in ((1, False), (2, False), *EXTRA.get(name, ())):
            x = torch.zeros(8, tokens, 16, device=DEVICE)
            valid = torch.ones(8, tokens, dtype=torch.bool, device=DEVICE) if masked else None
            y, past = agent.stepper.call(x, past, valid)
            assert (y.shape, y.device) == (x.shape, DEVICE)
        checked(copies, 0)


@pytest.mark.parametrize("context", [Context("window", 2), Context("reset", 2)], ids=["window", "reset"])
@pytest.mark.parametrize("name", ["gru", "transformer[full]"])
def test_a_limited_context_waits_no_more_than_the_whole_one(name: str, context: Context) -> None:
    with fake_gpu() as copies, torch.inference_mode():
        agent = ContextAgent(agent_of(CONFIGS[name]), context)
        assert agent.launches
        state = started(agent)
        for _ in range(3):
            agent.reset(state, [7], [Episode(ARM, 1)])
            copies.clear()
            decide(agent, state)
            checked(copies, 1)


def test_an_update_asks_for_its_norm_with_its_loss() -> None:
    with fake_gpu() as copies:
        with DEVICE:
            model = build_backbone(CONFIGS["gru"])
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        measured = gradient_norm(model)
        clip_gradients(model, 0.25, measured, (1.0, 1.0))
        assert measured.device == DEVICE
        checked(copies, 0)


def test_what_two_blocks_of_lanes_gave_comes_to_the_host_last() -> None:
    with fake_gpu() as copies:
        agent = agent_of(CONFIGS["gru"])
        state, order = started(agent, 16), list[str]()
        decide(agent, state)
        copies.clear()
        agent.reset(state, [3], [Episode(GAME, 1)])
        copies.to_host, copies.to_device = _Noted(order, "to host"), _Noted(order, "to device")
        lanes = {0: ARM, 3: GAME, 8: ARM}
        agent.reset(state, [8], [Episode(ARM, 0)])
        assert "to host" not in order
        decide(agent, state, lanes)
        assert order.count("to host") == 1
        assert order[-1] == "to host"
        assert copies.waiting == []


def test_a_launch_waits_for_nothing_and_its_result_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            assert blocking, "whoever waits must leave the core to the simulators"

        def record(self, stream: object) -> None:
            assert copies.asked, "the event stands behind the copy"
            done.append("recorded")

        def synchronize(self) -> None:
            done.append("waited")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    with fake_gpu() as copies:
        agent = agent_of(CONFIGS["gru"])
        assert agent.launches
        state = started(agent, 16)
        agent.reset(state, [8], [Episode(GAME, 0)])
        lanes = {**LANES, 8: GAME}
        copies.clear()
        pending, _ = agent.launch(state, [SEEN[task] for task in lanes.values()], [0.0] * 3, list(lanes))
        assert (len(copies.asked), copies.to_host, copies.waiting) == (1, [], [])
        assert done == ["recorded"]
        pending.wait()
        assert len(pending.actions()) == 3
        assert (len(copies.asked), copies.to_host, copies.waiting) == (1, [], [])
    assert done == ["recorded", "waited"]


class _Noted(list[str]):
    """A list that says when it is added to."""

    def __init__(self, order: list[str], what: str) -> None:
        super().__init__()
        self.order, self.what = order, what

    def append(self, name: str) -> None:
        self.order.append(self.what)
        super().append(name)


@pytest.mark.parametrize("name", ["gru", "transformer[full]"])
def test_a_past_is_read_in_without_waiting_for_numbers(name: str) -> None:
    with fake_gpu() as copies:
        agent = agent_of(CONFIGS[name])
        state = started(agent)
        encoded = encode(agent, [SEEN[ARM]] * 4)
        rewards, actions = np.zeros((4, 2)), [[np.zeros(4, np.float32)] * 2] * 4
        prefill(agent, state, [0, 7], encoded[:, None].expand(-1, 2, -1), rewards, actions)
        assert copies.to_host == []
        copies.clear()
        decide(agent, state)
        checked(copies, 1)


def test_weights_of_two_bytes_leave_states_of_four() -> None:
    with fake_gpu() as copies:
        agent = agent_of(CONFIGS["xlstm[1:1]"], torch.bfloat16)
        state = started(agent)
        decide(agent, state)
        checked(copies, 1)
        assert {one.dtype for block in state.blocks for layer in block for one in layer} == {torch.float32}


def test_a_growing_cache_asks_for_its_tokens_only_where_it_may_be_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight slots at first: two passes of three tokens are sure to fit."""
    monkeypatch.setattr(cache, "FIRST_SLOTS", 8)
    with fake_gpu() as copies, torch.inference_mode():
        with DEVICE:
            backbone = build_backbone(CONFIGS["transformer[full]"]).eval()
        state, x = backbone.initial_state(2), torch.zeros(2, 3, 16, device=DEVICE)
        for _ in range(2):
            _, state = backbone.step(x, state)
        checked(copies, 0)
        backbone.step(x, state)
        checked(copies, 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_stay_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On ``meta``, since PyTorch's backward pass asks a GPU for its streams: no numbers are there, either."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no meta
    config, timesteps = CONFIGS[name], 4
    with Copies() as copies:
        with torch.device("meta"):
            model = ActionModel(config).train()
            batch = Batch(
                "metaworld",
                *(torch.zeros(2, timesteps, *rest) for rest in ((config.state_width,), (), ())),
                classes=torch.zeros(2, timesteps, 8, dtype=torch.int64),
                mask=torch.ones(2, timesteps, 8, dtype=torch.bool),
                **{key: torch.zeros(2, dtype=torch.int64) for key in ("tasks", "lengths", "starts")},
            )
        copies.clear()
        logits = model(batch.observations, batch.returns_to_go, batch.rewards).logits
        loss = action_loss(logits, batch.classes, batch.mask)
        batch_sums(logits.detach(), batch, loss.detach())
        loss.backward()
        checked(copies, 0)
    unused = {key for key, one in model.named_parameters() if one.grad is None}
    assert unused == {key for key, _ in model.named_parameters() if key.startswith("encoders.image")}


def test_the_optimiser_stays_on_the_device() -> None:
    with fake_gpu() as copies:
        with DEVICE:
            model = build_backbone(CONFIGS["gru"])
        optimizer = make_optimizer(model, OptimizerSection())
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        checked(copies, 0)
        held = [one for state in optimizer.state.values() for one in state.values()]
        assert held
        assert {one.device for one in held} == {DEVICE}


def _items(y: Tensor) -> Tensor:
    return y * float(y.sum())


FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], type[Exception] | None]] = {
    "item": (_items, DataDependentOutputException),
    "bool": (lambda y: y if bool((y > 0).any()) else -y, DataDependentOutputException),
    "nonzero": (lambda y: y + y.nonzero().sum(), DynamicOutputShapeException),
    "mask": (lambda y: y + y[y > 0].sum(), DynamicOutputShapeException),
    "device": (lambda y: y + torch.zeros(y.shape), RuntimeError),
    "cpu": (lambda y: y.cpu().to(y.device), None),
    "index": (lambda y: y[torch.arange(len(y))], None),
    "constant": (lambda y: y + torch.zeros(y.shape).to(y.device), None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, error = FAULTS[fault]
    with fake_gpu() as copies:
        agent = agent_of(CONFIGS["gru"])
        state = started(agent)
        step = agent.model.backbone.step

        def planted(x: Tensor, past: Any, valid: Tensor | None) -> Any:
            y, past = step(x, past, valid)
            return plant(y), past

        faulty = agent.with_stepper(type(agent.stepper)("torch", "planted", planted))
        copies.clear()
        if error is not None:
            with pytest.raises(error):
                decide(faulty, state)
            return
        decide(faulty, state)
        assert (len(copies.to_host), copies.waiting) != (1, [])
