"""The time of a decision of one trained model: observation in, action out, on inputs from its data.

A small view on the agent's clock (``lram latency`` measures latency thoroughly). A cell is timed in a
process of its own, when nothing else of the study runs; its study has a cell, so a process, for each seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from lram.harness.garbage import collection_off
from lram.harness.machine import threads
from lram.harness.studies.records import TimedPoint
from lram.harness.studies.study import Timing
from lram.harness.timing.agents import SteppedAgent
from lram.harness.timing.clock import Stopwatch
from lram.harness.timing.inputs import Shown
from lram.harness.timing.sampling import time_decisions
from lram.harness.timing.warm_up import WarmUpRule, warm_up

WARM_UP = WarmUpRule(fewest=20, most=20)
"""So many decisions, stable or not: cells of a study are timed alike."""


def time_checkpoint(
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
            found += time_contexts(agent, lanes, sorted(set(timing.contexts)), timing.decisions)
    return step, tuple(found)


@dataclass(frozen=True, slots=True)
class RecordedLane:
    """What a lane is shown: an episode of one task, begun at a place of its own, over and over."""

    episode: Episode
    observations: Any
    rewards: Any
    first: int

    def at(self, decision: int) -> tuple[Any, float]:
        """Return the observation and the reward of its decision of this number."""
        place = (self.first + decision) % len(self.rewards)
        return self.observations[place].copy(), float(self.rewards[place - 1])


def time_contexts(
    agent: Agent,
    lanes: Sequence[RecordedLane],
    contexts: Sequence[int],
    decisions: int,
    watch: Stopwatch | None = None,
) -> list[TimedPoint]:
    """Return so many timed ``decisions`` at each of ``contexts``, which rise.

    The agent continues from one context to the next, and begins anew where it has read beyond it: in the
    warm-up, or in the decisions that were timed.
    """

    def shown(timestep: int) -> Shown:
        observations, rewards = zip(*(lane.at(timestep) for lane in lanes), strict=True)
        return list(observations), list(rewards)

    def prepare() -> Callable[[], object]:
        observations, rewards = shown(timed.read)
        return lambda: timed.act(observations, rewards)

    timed, watch = SteppedAgent(agent, [lane.episode for lane in lanes], shown), watch or Stopwatch()
    found: list[TimedPoint] = []
    with collection_off(collect_first=True):
        timed.reach(0)
        warm_up(watch, prepare, WARM_UP)
        for context in contexts:
            timed.reach(context)
            taken = time_decisions(watch, prepare, least=decisions, most=decisions)
            ms = tuple(ns / 1e6 for ns in taken)
            found.append(TimedPoint(len(lanes), context, ms, timed.state_bytes()))
    return found


def _recorded(recipe: Recipe, agent: ModelAgent, count: int) -> list[RecordedLane]:
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
        lanes.append(RecordedLane(Episode(spec, lane), trajectory.observations, trajectory.signals, first))
    return lanes
