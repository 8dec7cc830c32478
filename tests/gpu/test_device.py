"""On the device itself: what acts there acts as on the processor, tells where it is, and is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Episode, LaunchingAgent, TaskSpec
from lram.agents.compute import Compute
from lram.agents.devices import find_device, gpu_model
from lram.agents.factory import create_agent
from lram.harness.timing.clock import stopwatch
from lram.harness.timing.energy import EnergyMeter
from lram.harness.timing.memory import MemoryMeter, free_bytes

AGENTS = ("xlstm[7:1]-1M", "mamba-1M", "transformer[full]-1M", "transformer[ring]-1M")
TASK = TaskSpec("toy/reach", "toy", "vector", (4,), "continuous", 2, 1.0, 1.0)


def made(name: str, device: str, step: str = "auto") -> ModelAgent:
    agent = create_agent(name, seed=3, compute=Compute(device=device, step=step))  # type: ignore[arg-type]
    assert isinstance(agent, ModelAgent)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # else a model chooses much the same whatever it is shown
        for parameter in agent.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.device))
    return agent.with_model(agent.model)


def played(agent: ModelAgent, decisions: int = 6, lanes: int = 3) -> np.ndarray:
    """Return the actions of some decisions: (decisions, lanes, 2); lane 1 begins anew half way."""
    rng = np.random.default_rng(0)
    state = agent.start(lanes)
    agent.reset(state, list(range(lanes)), [Episode(TASK, lane) for lane in range(lanes)])
    found = []
    for number in range(decisions):
        if number == decisions // 2:
            agent.reset(state, [1], [Episode(TASK, 9)])
        seen = list(rng.standard_normal((lanes, 4)).astype(np.float32))
        actions, state = agent.act(state, seen, [0.1] * lanes, list(range(lanes)))
        found.append(actions)
    return np.array(found)


@pytest.mark.parametrize("name", AGENTS)
def test_most_actions_are_those_of_the_processor(device: str, name: str) -> None:
    # Of bins that are as likely to a hundred-thousandth, rounding may choose another.
    same = np.isclose(played(made(name, device)), played(made(name, "cpu"))).mean()
    assert same >= 0.9


def test_an_agent_tells_its_device(device: str) -> None:
    agent = made("mamba-1M", device)
    where = str(find_device(device))
    told = dict(agent.info.details).get("device", "cpu")
    assert torch.device(told).type == torch.device(where).type
    assert bool(gpu_model(device)) == (torch.device(device).type == "cuda")


def test_what_is_launched_is_what_act_gives(device: str) -> None:
    agent, other = made("mamba-1M", device), made("mamba-1M", device)
    if not isinstance(agent, LaunchingAgent) or not agent.launches:
        pytest.skip("this agent is waited for here")
    seen = [np.full(4, 0.5, np.float32), np.full(4, -0.5, np.float32)]
    results = []
    for one in (agent, other):
        state = one.start(2)
        one.reset(state, [0, 1], [Episode(TASK, 0), Episode(TASK, 1)])
        if one is agent:
            pending, state = one.launch(state, seen, [0.0, 0.0], [0, 1])
            pending.wait()
            results.append(pending.actions())
        else:
            results.append(one.act(state, seen, [0.0, 0.0], [0, 1])[0])
    assert np.array_equal(results[0], results[1])


def test_time_memory_and_energy_are_read(device: str) -> None:
    where = find_device(device)
    meter, energy, watch = MemoryMeter(where), EnergyMeter(where), stopwatch(device)
    before = meter.reset()
    held = torch.ones(1 << 24, device=where)
    assert meter.peak() - before >= held.nbytes * (where.type == "cuda")
    assert watch.time(lambda: lambda: held.sum()) > 0
    assert free_bytes(device) > 0
    energy.reset()
    if where.type == "cuda" and not energy.why_not:
        for _ in range(200):
            held.mul_(1.0)
        torch.cuda.synchronize(where)
        assert energy.energy().joules >= 0
    elif where.type == "cuda":
        pytest.skip(energy.why_not)


def test_training_on_the_device_begins_where_the_processor_does(device: str) -> None:
    from lram.agents.model.network import build_model
    from lram.agents.model.presets import parse_preset

    config = parse_preset("xlstm[7:1]-1M")
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 8, config.state_width, generator=generator)
    returns, rewards = torch.rand(2, 2, 8, generator=generator)
    outputs = []
    for where in (device, "cpu"):
        model = build_model(config, 0).to(where)
        logits = model(states.to(where), returns.to(where), rewards.to(where), None).logits
        logits.float().square().mean().backward()
        gradient = torch.cat([one.grad.flatten().cpu() for one in model.parameters() if one.grad is not None])
        outputs.append((logits.detach().cpu(), gradient))
    for got, expected in zip(*outputs, strict=True):
        # Sums in other orders, in float32 without TF32: a thousandth of the norm is far more than that.
        assert float((got - expected).norm() / expected.norm()) < 1e-3
