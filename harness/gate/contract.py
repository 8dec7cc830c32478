"""Agents that are not lram-bench's own, before they play: whether their results would depend on chance.

Whatever play itself shows, such as an action that is none or an exception, is left to play, where it concerns
real observations: those of these checks are random numbers, which a policy need not understand. What play
cannot show is found here: that an action depends on the lane, on its neighbours, on what a lane held
before, or on more than the episode's seed. It refuses nobody: such an agent may be evaluated, but the run
says that playing it again may give other returns.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np

from lram.agents.acting.padded import BatchedPolicy
from lram.agents.adapters.lerobot.agent import LeRobotAgent
from lram.agents.adapters.policy import AdaptedPolicy
from lram.agents.api import Agent, CompletedAgent, TaskSpec
from lram.agents.experts.noise import NoisyAgent
from lram.envs.text import printable
from lram.harness.gate.contract_note import BROKEN, NAME
from lram.harness.gate.equivalence import as_model
from lram.harness.plan import refusal
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import PlannedTask

_DECISIONS = 4
_SHOWN_BY_PLAY = (
    "the agent says what it is",
    "the agent says what it plays",
    "actions are valid",
    "the state's bytes are counted",
)


def contract_note(label: str, agent: Agent, tasks: Sequence[PlannedTask]) -> str:
    """Check a foreign agent's contract; return what to note of it, and say on standard error what fails.

    One task of each kind of observation and action is played, four decisions in six arrangements: about
    thirty calls of ``act`` a task. What is played is a deep copy, so that what the agent keeps in itself is
    as it was; an agent that cannot be copied is played itself. The generators of Python, NumPy and PyTorch
    are put back.

    Args:
        label: Of the agent.
        agent: Any; nothing is run, and nothing noted, of those that come with lram-bench.
        tasks: Of the plan.

    Raises:
        LramError: The agent raises when it is asked whether it can play a task.
    """
    if not is_foreign(agent):
        return ""
    from lram.agents.checks.contract import contract_checks

    with _generators_kept():
        chosen = _one_of_each_kind(label, agent, tasks)
        checks = contract_checks(_copied(agent), chosen, decisions=_DECISIONS)
    failed = [check for check in checks if check.status == "failed"]
    broken = [check for check in failed if not check.raised and check.name not in _SHOWN_BY_PLAY]
    where = ", ".join(task.id for task in chosen) or "no task that it plays"
    if broken:
        worst = broken[0]
        others = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        found = printable(f"'{worst.name}' fails on {worst.subject}: {worst.measured}{others}", 500)
        with suppress(OSError):
            print(
                f"lram: results of agent {label} depend on chance: {found} ('lram check' shows all; "
                "docs/how-to/extending.md tells the remedy for policies that act on batches)",
                file=sys.stderr,
                flush=True,
            )
        return BROKEN + found
    if failed:
        found = printable(f"'{failed[0].name}' on {failed[0].subject}: {failed[0].measured}", 500)
        return f"{NAME}: could not be checked on made-up observations: {found}"
    passed = sum(check.status == "passed" for check in checks)
    return f"{NAME}: {passed} checks passed on {where}"


def is_foreign(agent: Agent) -> bool:
    """Return whether what ``agent`` does is somebody else's code, with noise on it or without."""
    while isinstance(agent, NoisyAgent):
        agent = agent.inner
    if isinstance(agent, CompletedAgent | BatchedPolicy | AdaptedPolicy | LeRobotAgent):
        return True
    return as_model(agent) is None and not type(agent).__module__.startswith("lram.agents.")


def _one_of_each_kind(label: str, agent: Agent, tasks: Sequence[PlannedTask]) -> list[TaskSpec]:
    found: dict[tuple[str, str], TaskSpec] = {}
    for planned in tasks:
        kind = (planned.task.observation, planned.task.action)
        if kind not in found and refusal(label, agent, planned) is None:
            found[kind] = task_spec(planned)
    return list(found.values())


def _copied(agent: Agent) -> Agent:
    try:
        return copy.deepcopy(agent)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a lock, a handle of a library, or no memory for a second one
        return agent


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leave the generators that processes share as they were: an evaluation may use them."""
    torch = sys.modules.get("torch")
    python, numbers = random.getstate(), np.random.get_state()
    tensors = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        if torch is not None and tensors is not None:
            torch.set_rng_state(tensors)
