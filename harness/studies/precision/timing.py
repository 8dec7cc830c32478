"""The time of a decision in every precision of one checkpoint: in turns, so that all meet the same machine.

The agent's clock, observation in and action out, on one thread; beside it the processor's time, which other
programs on the machine change less. ``lram latency --precision`` measures one precision thoroughly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode
from lram.agents.compute import ROWS, Compute, Precision
from lram.agents.factory import create_agent
from lram.agents.trajectories import TrajectoryStore
from lram.harness.garbage import collection_off
from lram.harness.machine import threads
from lram.harness.studies.precision.records import PrecisionPoint
from lram.harness.studies.study import Timing
from lram.harness.studies.timing import WARM_UP, RecordedLane
from lram.harness.timing.agents import SteppedAgent
from lram.harness.timing.inputs import Shown


def model_agent(spec: str, precision: Precision, rows: int = ROWS) -> ModelAgent:
    """Return the action model that ``spec`` names; AgentError where it names none."""
    agent = create_agent(spec, compute=Compute(precision=precision, rows=rows))
    if type(agent) is not ModelAgent:
        raise AgentError(
            f"{spec} is no action model, and only those have a precision; name a checkpoint's folder or a "
            "model of 'lram agents', without noise and without a limited context"
        )
    return agent


def time_precisions(
    spec: str, precisions: Sequence[Precision], store: TrajectoryStore, timing: Timing
) -> tuple[dict[str, str], tuple[PrecisionPoint, ...]]:
    """Return the form of the step by precision, and the times at every batch and context.

    Observations and rewards are those of recorded episodes, over and over; a context is reached by decisions
    that are not timed.

    Raises:
        AgentError: The model cannot be built.
    """
    steps: dict[str, str] = {}
    found: list[PrecisionPoint] = []
    with threads(1):
        for batch in timing.batch:
            rows = 1 if batch == 1 else -(-batch // ROWS) * ROWS
            agents = {precision: model_agent(spec, precision, rows) for precision in precisions}
            steps |= {precision: agent.stepper.detail for precision, agent in agents.items()}
            lanes = _lanes(store, batch)
            for context in sorted(set(timing.contexts)):
                found += _in_turns(agents, lanes, context, timing.decisions)
    return steps, tuple(found)


def _in_turns(
    agents: Mapping[Precision, ModelAgent], lanes: Sequence[RecordedLane], context: int, decisions: int
) -> list[PrecisionPoint]:
    def shown(timestep: int) -> Shown:
        observations, rewards = zip(*(lane.at(timestep) for lane in lanes), strict=True)
        return list(observations), list(rewards)

    timed = {
        precision: SteppedAgent(agent, [lane.episode for lane in lanes], shown)
        for precision, agent in agents.items()
    }
    taken: dict[Precision, list[tuple[int, int]]] = {precision: [] for precision in agents}
    order = list(agents)
    with collection_off(collect_first=True):
        for one in timed.values():
            one.reach(WARM_UP.most)
            one.reach(context)
        for number in range(decisions):
            for place in range(len(order)):
                precision = order[(number + place) % len(order)]
                observations, rewards = shown(timed[precision].read)
                cpu, wall = time.process_time_ns(), time.perf_counter_ns()
                timed[precision].act(observations, rewards)
                taken[precision].append((time.perf_counter_ns() - wall, time.process_time_ns() - cpu))
    return [
        PrecisionPoint(
            precision,
            len(lanes),
            context,
            tuple(wall / 1e6 for wall, _ in taken[precision]),
            tuple(cpu / 1e6 for _, cpu in taken[precision]),
            timed[precision].state_bytes(),
            agents[precision].weight_bytes,
        )
        for precision in agents
    ]


def _lanes(store: TrajectoryStore, count: int) -> list[RecordedLane]:
    """Return inputs of ``count`` lanes, from the longest of the recorded episodes."""
    longest = sorted(store.episodes, key=lambda episode: -episode.length)
    lanes = []
    for lane in range(count):
        trajectory = store.trajectory(longest[lane % len(longest)].number)
        first = (lane // len(longest)) * 7 % trajectory.length
        lanes.append(
            RecordedLane(Episode(trajectory.task, lane), trajectory.observations, trajectory.signals, first)
        )
    return lanes
