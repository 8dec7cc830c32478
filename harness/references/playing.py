"""The run that references are measured by: random play and the reference agent, from the same starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import benchmark_tasks, own_rows
from lram.envs.task import Task
from lram.harness.errors import LramError, as_lram_error
from lram.harness.evaluation import evaluate, resume
from lram.harness.interpreters.readiness import protocols_here
from lram.harness.machine import Machine
from lram.harness.plan import OBJECT_SPEC, check_sources, labelled_specs
from lram.harness.progress import Progress
from lram.harness.references.measuring import RANDOM
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.trust import Trust


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured.

    Attributes:
        tasks: Their rows, as their domains tell them.
        agents: Specification by label.
        label: Of the reference agent; None where random play alone is measured.
        episodes, seed, protocols: Of the run.
    """

    tasks: list[Task]
    agents: Mapping[str, str]
    label: str | None
    episodes: int
    seed: int
    protocols: Mapping[str, str]


@as_lram_error()
def asked(
    selection: Sequence[str],
    reference: str | None,
    episodes: int,
    seed: int,
    protocols: Mapping[str, str],
) -> Asked:
    """Return what is to be measured; LramError where it cannot be.

    Args:
        selection: Terms of tasks.
        reference: The reference agent, with a label or without.
        episodes: Of each agent on each task.
        seed: Of the run.
        protocols: Protocol by domain.
    """
    if episodes < 2:
        raise LramError(f"-n is {episodes}; a mean has a standard error from 2 episodes on")
    agents: dict[str, str] = {RANDOM: RANDOM}
    label = None
    if reference is not None:
        ((label, spec),) = labelled_specs([reference]).items()
        if not isinstance(spec, str) or spec == RANDOM or label == RANDOM:
            raise LramError("--reference is an agent other than random play, which is measured anyway")
        agents[label] = spec
    tasks = own_rows(selection)
    _check_open(tasks)
    return Asked(tasks, agents, label, episodes, seed, protocols)


def play(what: Asked, folder: Path, machine: Machine, progress: Progress) -> Run:
    """Play what is missing of the measurement in ``folder`` and return its run.

    Raises:
        LramError: ``folder`` holds something else, or what other code of the agent or a domain has played; or
            playing ends early. What is recorded stands.
    """
    if (folder / PLAN_FILE).is_file():
        run = Run(folder)
        _check_same(what, run)
        check_sources(run.plan)  # also where nothing is missing: it is measured by today's code
        return resume(run, machine=machine, progress=progress, trust=Trust(specs=list(what.agents.values())))
    return evaluate(
        what.agents,
        [task.id for task in what.tasks],
        folder,
        episodes=what.episodes,
        seed=what.seed,
        protocols=what.protocols,
        machine=machine,
        progress=progress,
    )


def _check_open(tasks: Sequence[Task]) -> None:
    """Raise LramError for a task whose references stand elsewhere than in the user's file."""
    paper = {task.domain for task in benchmark_tasks()}
    for task in tasks:
        if task.domain in paper:
            raise LramError(
                f"{task.id} is a task of the paper's table, whose references stand ('lram tasks' shows "
                "them); leave it out"
            )
        if task.score_random is not None or task.score_reference is not None:
            raise LramError(
                f"{task.id} has references of its domain's own (random {task.score_random}, reference "
                f"{task.score_reference}); leave it out"
            )


def _check_same(what: Asked, run: Run) -> None:
    plan = run.plan
    there = (
        {agent.label: agent.spec for agent in plan.agents},
        {planned.task.id for planned in plan.tasks},
        plan.episodes,
        plan.seed,
    )
    if OBJECT_SPEC in there[0].values() or there != (
        dict(what.agents),
        {task.id for task in what.tasks},
        what.episodes,
        what.seed,
    ):
        raise LramError(
            f"{run.path} is a run of other agents, tasks, episodes or seed; give another folder with -o"
        )
    wanted = protocols_here(what.tasks, what.protocols, plan.interpreters)
    for planned in plan.tasks:
        played, asked_for = map(ProtocolId.parse, (planned.protocol, wanted[planned.task.domain]))
        # Of another version, resuming says more.
        if played.name != asked_for.name:
            raise LramError(
                f"{run.path} is a run of {planned.task.id} under the protocol {played.name}, not under "
                f"{asked_for.name}; give another folder with -o, or --protocol "
                f"{planned.task.domain}={played.name}"
            )
