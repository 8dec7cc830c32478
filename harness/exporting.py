"""A model leaves: exported, compared with the agent, and timed beside it.

Both are timed as whole decisions of one lane, observation in and action out on the host, in one process, in
turns, with one thread each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Agent, Episode, TaskSpec
from lram.agents.compute import Compute
from lram.agents.exporting import TOLERANCE, Agreement, Format, export_policy
from lram.agents.exporting.agreement import made_up
from lram.agents.exporting.policy import Policy
from lram.envs.registry import select
from lram.envs.task import Task
from lram.harness.errors import LramError
from lram.harness.machine import threads
from lram.harness.plan import build_agent
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import PlannedTask
from lram.harness.timing.rounds import (
    PreparedDecision,
    RoundEffort,
    TimedCandidate,
    TimingSummary,
    summarise,
    time_in_rounds,
)

EXPORTED, OURS = "exported", "agent"
"""Names of the two that are timed."""

EFFORT = RoundEffort(rounds=15, visit_s=0.05, visit_most=20, limit_s=10.0)

_SHOWN = 64  # decisions' inputs made before anything is timed


def export_named(
    name: str, task: str | None, to: Format, folder: Path, *, tolerance: float = TOLERANCE, seed: int = 0
) -> tuple[TaskSpec, Agreement]:
    """Export the model that ``name`` names for the task of that id; return the task and what was compared.

    Args:
        name: A checkpoint's folder, a model that ships, or a preset with random weights.
        task: Its id; None: the first that the model was trained on, where one graph fits all of these.
        to: The format.
        folder: Where; must be new.
        tolerance: Largest difference of two logits, as a part of the largest of their decision.
        seed: Of untrained weights.

    Raises:
        LramError, AgentError, EnvsError: One sentence; nothing is written then.
        OSError: The system refuses to write; likewise.
    """
    named = None if task is None else _only(task)
    agent = build_agent(name, seed, Compute())
    if type(agent) is not ModelAgent:
        raise LramError(
            f"{name} is no action model ({agent.info.description}), and only those are exported; give a "
            "checkpoint's folder, or a name that 'lram agents' lists as a model, without @ and ~"
        )
    spec = task_spec(PlannedTask(named or _trained_on(name, agent.info.training_tasks), ""))
    with threads(1):
        return spec, export_policy(folder, agent, spec, to, tolerance=tolerance)


def _only(task: str) -> Task:
    found = select(task)
    if len(found) != 1:
        raise LramError(
            f"an export is for one task, and {task!r} names {len(found)}; name one, such as {found[0].id}"
        )
    return found[0]


def _trained_on(name: str, tasks: Sequence[str] | None) -> Task:
    """Return the first of the tasks that a model was trained on; LramError where they need several graphs."""
    if not tasks:
        raise LramError(
            f"{name} does not tell what it was trained on, and an export is for one task; name it, as in "
            "--task metaworld/reach-v3"
        )
    found = [_only(task) for task in tasks]
    specs = [task_spec(PlannedTask(task, "")) for task in found]
    kinds = {(one.observation_shape, one.action, one.action_size, one.reward_scale): one.id for one in specs}
    if len(kinds) > 1:
        few = ", ".join(list(kinds.values())[:4]) + (", ..." if len(kinds) > 4 else "")
        raise LramError(
            f"{name} was trained on {len(found)} tasks that differ in observations, actions or reward scale "
            f"({few}), and an export is for one; name it, as in --task {specs[0].id}"
        )
    return found[0]


def time_beside(
    name: str, task: TaskSpec, folder: Path, *, seed: int = 0, effort: RoundEffort = EFFORT
) -> dict[str, TimingSummary]:
    """Return milliseconds of a decision of the exported policy and of the agent, by their names above."""
    agent = build_agent(name, seed, Compute(rows=1))
    policy = Policy(folder)
    candidates = [
        TimedCandidate(EXPORTED, lambda: PreparedDecision(_policy_decision(policy, task))),
        TimedCandidate(OURS, lambda: PreparedDecision(_agent_decision(agent, task))),
    ]
    with threads(1):
        return {name: summarise(timed) for name, timed in time_in_rounds(candidates, effort).items()}


def _policy_decision(policy: Policy, task: TaskSpec) -> Callable[[], object]:
    shown = cycle(list(made_up(task, _SHOWN, 0)))
    policy.reset()
    return lambda: policy.act(*next(shown))


def _agent_decision(agent: Agent, task: TaskSpec) -> Callable[[], object]:
    shown = cycle(list(made_up(task, _SHOWN, 0)))
    state = agent.start(1)
    agent.reset(state, [0], [Episode(task, 0)])

    def decide() -> object:
        seen, reward = next(shown)
        return agent.act(state, [seen], [reward], [0])

    return decide
