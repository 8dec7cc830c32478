"""The planner: an agent that searches its next actions on the simulator's own model of the task.

It reads nothing but the agent's observation, from which the tasks in :mod:`.problems` give back the whole
state. It knows the task's physics and reward, which no model is given: a teacher for data and an upper
mark in a report, no competitor.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.experts.noise import GENERATOR_BYTES
from lram.agents.experts.planning.problems import PROBLEMS, SearchTask
from lram.agents.experts.planning.search import Array, interpolation, search, shifted
from lram.agents.experts.planning.simulator import Simulator


@dataclass(slots=True)
class PlannedLane:
    """An episode's plan.

    Attributes:
        problem: The task.
        simulator: Shared by all lanes of the task.
        rng: From the episode's seed.
        knots: (knots, action size), searched anew every so many decisions.
        actions: (decisions, action size), the plan from the last search on.
        decisions: Made so far.
    """

    problem: SearchTask
    simulator: Simulator
    rng: np.random.Generator
    knots: Array
    actions: Array
    decisions: int = 0


@dataclass(slots=True)
class PlanningState:
    """Each lane's plan."""

    lanes: dict[int, PlannedLane] = field(default_factory=dict)


class PlanningAgent(Agent):
    """Plays DMControl tasks by sampling plans on MuJoCo.

    Args:
        threads: Threads that a search's plans are rolled out on; no action depends on it.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._simulators: dict[str, Simulator] = {}

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return AgentInfo("baseline", "planner: sampling search on MuJoCo's own model of the task")

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where the planner knows no cost, or the simulator is absent."""
        if task.id not in PROBLEMS:
            names = ", ".join(name.removeprefix("dmcontrol/") for name in PROBLEMS)
            return f"the planner does not know {task.id}; it plays these tasks of dmcontrol: {names}"
        for package in ("dm_control", "mujoco"):
            if importlib.util.find_spec(package) is None:
                return f"the planner needs the package {package}; install lram-bench[dmcontrol]"
        return None

    def start(self, lanes: int) -> PlanningState:
        """Return a state without episodes."""
        return PlanningState()

    def reset(self, state: PlanningState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Give each lane its episode and an empty plan; AgentError where ``refuses`` tells why."""
        for lane, episode in zip(lanes, episodes, strict=True):
            task = episode.task
            if (reason := self.refuses(task)) is not None:
                raise AgentError(reason)
            problem = PROBLEMS[task.id]
            if task.id not in self._simulators:
                self._simulators[task.id] = Simulator(problem, self._threads)
            state.lanes[lane] = PlannedLane(
                problem,
                self._simulators[task.id],
                np.random.default_rng(episode.seed),
                knots=np.zeros((problem.search.knots, task.action_size)),
                actions=np.zeros((problem.search.horizon, task.action_size)),
            )

    def act(
        self,
        state: PlanningState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], PlanningState]:
        """Follow each lane's plan, made anew where it is old."""
        return [
            _decide(state.lanes[lane], seen) for lane, seen in zip(lanes, observations, strict=True)
        ], state

    def state_bytes(self, state: PlanningState) -> int:
        """Return the bytes of plans and generators."""
        return sum(lane.knots.nbytes + lane.actions.nbytes + GENERATOR_BYTES for lane in state.lanes.values())


def _decide(lane: PlannedLane, seen: Observation) -> Action:
    age = lane.decisions % lane.problem.search.every
    if age == 0:
        _plan(lane, seen.astype(np.float64))
    lane.decisions += 1
    return np.asarray(lane.actions[age], np.float32)


def _plan(lane: PlannedLane, observation: Array) -> None:
    problem, options = lane.problem, lane.problem.search
    base: Array = np.zeros_like(lane.actions)
    if problem.guide is not None:
        base = lane.simulator.guided(problem.guide, observation, options.horizon)

    def evaluate(plans: Array) -> Array:
        return problem.cost(lane.simulator.futures(observation, np.clip(base + plans, -1.0, 1.0)))

    if lane.decisions:
        lane.knots = shifted(lane.knots, options)
    lane.knots = search(lane.knots, evaluate, options, lane.rng)
    lane.actions = np.clip(base + interpolation(options) @ lane.knots, -1.0, 1.0)
