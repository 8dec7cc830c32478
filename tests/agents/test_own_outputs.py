"""A step that writes over what it gave before is refused, and what CUDA graphs give is copied."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones import stepping
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.states import State, copied, tensors
from lram.agents.backbones.stepping import StepFunction, make_stepper, with_own_outputs
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checks import equivalence
from lram.agents.checks.equivalence import model_checks
from lram.agents.checks.step import KEPT, Extent
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.harness.errors import LramError
from lram.harness.gate.equivalence import pass_gate
from lram.harness.latency.plan import LatencyRequest, make_plan

SHORT = Extent(lengths=(60,), decisions=25)
RING = TransformerConfig(heads=4, positions="rotary", window=40, cache="ring")
MODELS = {
    "xlstm": ModelConfig(32, 2, XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(32, 2, MambaConfig()),
    "transformer[ring]": ModelConfig(32, 2, RING),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def short_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that looks at shorter streams: what is checked here shows in the first passes."""
    monkeypatch.setattr(equivalence, "model_checks", lambda agent: model_checks(agent, SHORT))


def agent_of(name: str, step: str = "torch", device: str = "cpu") -> ModelAgent:
    model = build_model(MODELS[name], seed=0)
    compute = Compute(device=device, step=step, rows=8)  # type: ignore[arg-type]
    return ModelAgent(model, trained=False, description=name, digest="", compute=compute)


def reusing(call: StepFunction) -> StepFunction:
    """Return ``call`` with outputs in the same memory at every run, as those of a CUDA graph are.

    A state that it gave may be given back: it is read before it is written over.
    """
    kept: list[tuple[Tensor, State]] = []

    def step(x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        made = call(x, copied(state), valid)
        same = [one for one in kept if one[0].shape == made[0].shape and sizes(one[1]) == sizes(made[1])]
        if not same:
            kept.append((made[0].clone(), copied(made[1])))
            return kept[-1]
        y, own = same[0]
        y.copy_(made[0])
        for target, source in zip(tensors(own), tensors(made[1]), strict=True):
            target.copy_(source)
        return y, own

    return step


def sizes(state: State) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors(state)]


@pytest.mark.usefixtures("short_gate")
@pytest.mark.parametrize("name", MODELS)
def test_a_step_that_writes_over_its_states_is_refused(name: str) -> None:
    agent = agent_of(name)
    assert all(check.status != "failed" for check in model_checks(agent, SHORT))
    agent = agent.with_stepper(replace(agent.stepper, form="compile", call=reusing(agent.stepper.call)))
    failed = {check.name for check in model_checks(agent, SHORT) if check.status == "failed"}
    assert KEPT in failed
    with pytest.raises(LramError, match="does not act as its model was trained, so nothing was played"):
        pass_gate({"reusing": agent})


@pytest.mark.parametrize("name", MODELS)
def test_what_graphs_give_is_copied(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda call, **how: reusing(call))
    agent = agent_of(name, "graphs")
    assert agent.stepper.form == "graphs"
    assert all(check.status != "failed" for check in model_checks(agent, SHORT))
    agent = agent_of(name, "compile")  # the same double, whose outputs nobody copies
    assert any(check.name == KEPT and check.status == "failed" for check in model_checks(agent, SHORT))


def two_blocks(call: StepFunction, plain: ModelAgent) -> list[Tensor]:
    """Return the outputs of two blocks that are read in turns."""
    device, width = plain.model.backbone.device, plain.model.config.width
    x = torch.randn(6, 8, plain.model.config.pass_tokens, width, generator=torch.Generator().manual_seed(0))
    states = [plain.model.backbone.initial_state(8) for _ in range(2)]
    given = []
    with torch.inference_mode():
        for number, tokens in enumerate(x.to(device)):
            y, states[number % 2] = call(tokens, states[number % 2], None)
            given.append(y)
    return given


def test_copies_make_a_step_right_that_writes_over_its_outputs() -> None:
    agent = agent_of("mamba")
    call = agent.stepper.call
    expected = torch.stack(two_blocks(call, agent))
    assert torch.equal(torch.stack(two_blocks(with_own_outputs(reusing(call)), agent)), expected)
    assert not torch.equal(torch.stack(two_blocks(reusing(call), agent)), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("short_gate")
@pytest.mark.parametrize("batch", [1, 16])
def test_a_sweep_checks_the_form_that_it_measures(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain form is sound; the compiled one is not, for the rows of one batch only."""
    rows = 1 if batch == 1 else 16

    def compiled(backbone, form):
        plain, broken = backbone.step, reusing(backbone.step)
        return stepping.Stepper(
            form, "a double", lambda x, state, valid: (broken if len(x) == rows else plain)(x, state, valid)
        )

    monkeypatch.setattr(stepping, "_compiled", compiled)
    usual = {"contexts": (2,), "batches": (1, 16), "task": "toy/reach", "repeats": 1}
    with pytest.raises(LramError, match="does not act as its model was trained"):
        make_plan(LatencyRequest(["mamba-1M"], steps=("compile",), **usual), lambda text: None)
    plan, _ = make_plan(LatencyRequest(["mamba-1M", "random"], **usual), lambda text: None)
    notes = {one.agent: one.check for one in plan.variants}
    assert notes["mamba-1M"].startswith("1 row: parity@4: ")
    assert "; 16 rows: parity@4: " in notes["mamba-1M"]
    assert notes["random"] == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none here")
@pytest.mark.parametrize("name", MODELS)
def test_graphs_of_two_blocks_give_what_the_plain_step_gives(name: str) -> None:
    agent = agent_of(name, device="cuda")
    graphs = make_stepper(agent.model.backbone, "graphs", rows=8, tokens=agent.model.config.pass_tokens)
    for _ in range(3):  # warm-up, recording, replay
        given, expected = two_blocks(graphs.call, agent), two_blocks(agent.stepper.call, agent)
        for one, other in zip(given, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
