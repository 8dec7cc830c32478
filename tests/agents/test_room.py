"""Memory that runs out while a model acts is one sentence with the rows, or the lanes, that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.acting.context_agent import ContextAgent
from lram.agents.acting.contexts import Context
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.compute import Compute
from lram.agents.memory import is_lack
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate

TASK = TaskSpec("toy/steps", "toy", "vector", (3,), "discrete", 3, 1.0, 1.0)


def short_of_memory(rows: int, most: int, *, states: int = 1 << 30) -> ModelAgent:
    """Return an agent with passes of ``rows`` rows; there is room for ``most``, and for so many states."""
    model = build_model(ModelConfig(16, 1, backbone=MambaConfig()), seed=0)
    backbone: Any = model.backbone
    step, initial_state = backbone.step, backbone.initial_state
    made = []

    def limited(x: torch.Tensor, *rest: Any) -> Any:
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(x, *rest)

    def counted(count: int) -> Any:
        made.append(count)
        if sum(made) > states:
            made.clear()
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return initial_state(count)

    backbone.step, backbone.initial_state = limited, counted
    compute = Compute(rows=rows, step="torch")
    return ModelAgent(model, trained=False, description="test", digest="", compute=compute)


def decide(agent: Any, lanes: int = 2) -> Any:
    state = agent.start(lanes)
    numbers = list(range(lanes))
    agent.reset(state, numbers, [Episode(TASK, number) for number in numbers])
    return agent.act(state, [np.zeros(3, np.float32)] * lanes, [0.0] * lanes, numbers)


@pytest.mark.parametrize(
    ("rows", "most", "told"),
    [
        (64, 40, "in a pass of 64 rows; 32 fit: give --rows 32"),
        (64, 10, "in a pass of 64 rows; 8 fit: give --rows 8"),
        (24, 7, "in a pass of 24 rows; 1 fits: give --rows 1"),
        (8, 0, "in a pass of 8 rows, and one row does not fit either; give fewer --lanes,"),
        (1, 0, "in a pass of 1 row; give fewer --lanes, a narrower --precision or a smaller model"),
    ],
)
def test_a_pass_without_room_names_the_rows_that_fit(rows: int, most: int, told: str) -> None:
    agent = short_of_memory(rows, most)
    with pytest.raises(AgentError) as refused:
        decide(agent)
    assert str(refused.value).startswith("this machine is out of memory ")
    assert told in str(refused.value)
    assert is_lack(refused.value)
    assert is_lack(refused.value.__cause__)  # type: ignore[arg-type]


def test_the_advice_holds() -> None:
    assert decide(short_of_memory(32, 40))


def test_states_without_room_name_the_lanes_that_fit() -> None:
    with pytest.raises(AgentError, match="for the states of 100 lanes; those of 48 fit: give --lanes 48"):
        short_of_memory(8, 8, states=60).start(100)
    with pytest.raises(AgentError, match="for the states of 16 lanes, and for those of one pass, of 16 rows"):
        short_of_memory(16, 16, states=8).start(16)


def test_a_limited_context_names_them_too() -> None:
    agent = ContextAgent(short_of_memory(16, 8), Context("reset", 5))
    with pytest.raises(AgentError, match="in a pass of 16 rows; 8 fit: give --rows 8"):
        decide(agent)


def test_other_errors_stay_as_they_are() -> None:
    agent = short_of_memory(8, 8)
    state = agent.start(1)
    with pytest.raises(AgentError, match="holds no episode"):
        agent.act(state, [np.zeros(3, np.float32)], [0.0], [0])


def test_a_run_ends_with_the_sentence_and_how_to_continue(tmp_path: Path) -> None:
    with pytest.raises(LramError) as refused:
        evaluate(
            {"a": Beside(short_of_memory(16, 8))},
            "toy/steps",
            tmp_path / "run",
            episodes=1,
            machine=Machine(),
        )
    said = str(refused.value)
    assert "agent a: this machine is out of memory in a pass of 16 rows; 8 fit: give --rows 8" in said
    assert "; then resume the run (tasks toy/steps)" in said


class Beside:
    """Another agent that acts by a model: no gate is passed, which would find the lack before."""

    def __init__(self, inner: ModelAgent) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
