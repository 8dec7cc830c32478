"""Every kind that is made of parts: its size, and that the gate finds what is wrong with it, and no more."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.parts import MatrixMemory, VectorMemory
from lram.agents.backbones.registry import BUILT_IN, build_backbone
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec
from lram.agents.backbones.states import tensors
from lram.agents.checks.equivalence import model_checks
from lram.agents.checks.step import Extent, StepChecks
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset

KINDS = {spec.kind: spec for spec in BUILT_IN if spec.fused == COMPILED_PARTS and spec.kind != "stack"}
EXTENT = Extent(lengths=(150,), decisions=20)

Step = Callable[..., tuple[Tensor, Any]]


@pytest.fixture(params=list(KINDS))
def spec(request: pytest.FixtureRequest) -> BackboneSpec:
    return KINDS[request.param]


def _agent(spec: BackboneSpec) -> ModelAgent:
    model = build_model(ModelConfig(32, 2, spec.options()), 3)
    compute = Compute(step="torch")
    return ModelAgent(model, trained=False, description="untrained", digest="", compute=compute)


def _failed(spec: BackboneSpec) -> set[str]:
    """Return which checks of the gate fail, of those that these faults are named by."""
    step = StepChecks(_agent(spec), EXTENT, 0)
    with torch.inference_mode():
        checks = [*step.pass_sizes(), *step.lengths(), *step.reset()]
    return {check.name for check in checks if check.status == "failed"}


def _parameters(preset: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_backbone(parse_preset(preset)).parameters())


def test_a_size_has_the_parameters_of_an_xlstm_of_that_size(spec: BackboneSpec) -> None:
    assert [size.name for size in spec.sizes] == ["1M", "16M", "48M", "110M", "206M"]
    for size in spec.sizes:
        ours, expected = _parameters(f"{spec.kind}-{size.name}"), _parameters(f"xlstm-{size.name}")
        assert abs(ours / expected - 1) < 0.03, (size.name, ours, expected)


def test_the_gate_lets_it_through(spec: BackboneSpec) -> None:
    assert not [check for check in model_checks(_agent(spec), EXTENT) if check.status == "failed"]


def _on_memories(monkeypatch: pytest.MonkeyPatch, around: Callable[[Step], Step]) -> None:
    for memory in (MatrixMemory, VectorMemory):
        monkeypatch.setattr(memory, "step", around(memory.step))


def test_the_gate_finds_a_reset_of_another_row(spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = type(build_backbone(ModelConfig(32, 2, spec.options())))
    sound = backbone.reset

    def shifted(self: Backbone, state: Any, rows: Any) -> None:
        count = len(tensors(state)[0])
        sound(self, state, [(row + 1) % count for row in rows])

    monkeypatch.setattr(backbone, "reset", shifted)
    assert _failed(spec) == {"a reset row is fresh"}


def test_the_gate_finds_a_decay_at_the_wrong_side_of_writing(
    spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decayed_after(step: Step) -> Step:
        def matrix(self: Any, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *rest: Any) -> Any:
            heads = log_decay.shape[2] // k.shape[2]
            k = k.repeat_interleave(heads, dim=2) * log_decay.exp()
            q = q.repeat_interleave(heads, dim=2)
            if len(rest) > 2 and rest[2] is not None:
                rest = (*rest[:2], rest[2].repeat_interleave(heads, dim=2), *rest[3:])
            return step(self, q, k, v, log_decay, *rest)

        def vector(self: Any, decay: Tensor, new: Tensor, *rest: Any) -> Any:
            return step(self, decay, decay * new, *rest)

        return matrix if step is MatrixMemory.step else vector

    _on_memories(monkeypatch, decayed_after)
    assert "step equals forward" in _failed(spec)


def test_the_gate_finds_a_state_in_bfloat16(spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(step: Step) -> Step:
        def call(*arguments: Any) -> tuple[Tensor, Tensor]:
            y, state = step(*arguments)
            return y, state.bfloat16().float()

        return call

    _on_memories(monkeypatch, rounded)
    assert "step equals forward" in _failed(spec)


def test_the_gate_finds_chance(spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)

    def varied(step: Step) -> Step:
        def call(*arguments: Any) -> tuple[Tensor, Any]:
            y, state = step(*arguments)
            return y + 0.1 * chance.random() * y.roll(1, -1), state  # norms take away a factor

        return call

    _on_memories(monkeypatch, varied)
    assert "step equals forward" in _failed(spec)
