"""The time of a decision of one trained model: observation in, action out, on inputs from its data.

A small use of the agent's clock (``lram latency`` measures latency thoroughly). A cell is timed in a
process of its own, when nothing else of the study runs; its study has a cell, so a process, for each seed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Agent, AgentError, Episode
from lram.agents.compute import ROWS, Compute
from lram.agents.factory import create_agent
from lram.agents.training.recipe import Recipe
from lram.agents.training.selection import Selection, select
from lram.agents.trajectories import TrajectoryStore
from lram.harness.machine import threads
from lram.harness.studies.records import TimedPoint
from lram.harness.studies.study import Timing

_WARM_UP = 20


def time_decisions(
    checkpoint: str | Path, recipe: Recipe, timing: Timing
) -> tuple[str, tuple[TimedPoint, ...]]:
    """Return the form of the step, and the times of decisions at every batch and context, with one thread.

    Observations and rewards are those of recorded episodes, one a lane from different places on, over and
    over; a context is reached by decisions that are not timed.

    Raises:
        AgentError: The checkpoint or the trajectories cannot be read, or do not fit.
    """
    found: list[TimedPoint] = []
    step = ""
    with threads(1):
        for batch in timing.batch:
            rows = 1 if batch == 1 else -(-batch // ROWS) * ROWS
            agent = create_agent(str(checkpoint), compute=Compute(rows=rows))
            assert isinstance(agent, ModelAgent)
            step = agent.stepper.detail
            lanes = _recorded(recipe, agent, batch)
            found += _walk(agent, lanes, sorted(set(timing.contexts)), timing.decisions)
    return step, tuple(found)


@dataclass(frozen=True, slots=True)
class _Lane:
    """What a lane is shown: an episode of one task, begun at a place of its own, over and over."""

    episode: Episode
    observations: Any
    rewards: Any
    first: int

    def at(self, decision: int) -> tuple[Any, float]:
        place = (self.first + decision) % len(self.rewards)
        return self.observations[place].copy(), float(self.rewards[place - 1])


def _walk(agent: Agent, lanes: Sequence[_Lane], contexts: Sequence[int], decisions: int) -> list[TimedPoint]:
    numbers, made = list(range(len(lanes))), 0
    found: list[TimedPoint] = []
    state = agent.start(len(lanes))
    agent.reset(state, numbers, [lane.episode for lane in lanes])

    def decide() -> float:
        nonlocal state, made
        observations, rewards = zip(*(lane.at(made) for lane in lanes), strict=True)
        began = time.perf_counter()
        _, state = agent.act(state, list(observations), list(rewards), numbers)
        made += 1
        return 1000 * (time.perf_counter() - began)

    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(_WARM_UP):
            decide()
        for context in contexts:
            if made > context:  # the warm-up, or the decisions that were timed, have read beyond it
                state, made = agent.start(len(lanes)), 0
                agent.reset(state, numbers, [lane.episode for lane in lanes])
            while made < context:
                decide()
            times = tuple(round(decide(), 6) for _ in range(decisions))
            found.append(TimedPoint(len(lanes), context, times, agent.state_bytes(state)))
    finally:
        if collecting:
            gc.enable()
    return found


def _recorded(recipe: Recipe, agent: ModelAgent, count: int) -> list[_Lane]:
    """Return inputs of ``count`` lanes, from the longest episodes that the model can be shown."""
    stores = [TrajectoryStore(path) for path in recipe.data.stores]
    selection = Selection(
        tasks=recipe.data.tasks,
        policies=recipe.data.policies,
        seed=recipe.data.seed,
        unit=recipe.data.validation_unit,
    )
    selected = select(stores, selection, "train", state_width=agent.model.config.state_width)
    places = [
        (stores[int(store)], int(number))
        for domain in selected.domains.values()
        for store, number in zip(domain.stores, domain.numbers, strict=True)
    ]
    places = [
        (store, number)
        for store, number in places
        if agent.refuses(store.tasks[store.episodes[number].task]) is None
    ]
    if not places:
        raise AgentError("the model can play none of the tasks that it was trained on")
    places.sort(key=lambda place: -place[0].episodes[place[1]].length)
    lanes = []
    for lane in range(count):
        store, number = places[lane % len(places)]
        trajectory = store.trajectory(number)
        spec = store.tasks[store.episodes[number].task]
        first = (lane // len(places)) * 7 % trajectory.length
        lanes.append(_Lane(Episode(spec, lane), trajectory.observations, trajectory.signals, first))
    return lanes
