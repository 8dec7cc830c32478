"""A trial: two episodes of each agent in each domain that nothing has measured yet, one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lram.harness.errors import LramError
from lram.harness.executors.contract import RolloutJob
from lram.harness.executors.local import LOCAL
from lram.harness.forecast.costs import measured_session
from lram.harness.forecast.past import Sessions
from lram.harness.machine import Machine
from lram.harness.plan import PlannedAgent
from lram.harness.rollout.loop import AgentRaisedError
from lram.harness.storage.records import EpisodeRecord, RunPlan, WorkItem
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.agents.trajectories.trajectory import Trajectory

EPISODES = 2
"""Of each trial: the first one starts the simulator, the second is what the next ones cost."""


def play_trials(
    plan: RunPlan,
    built: Mapping[str, PlannedAgent],
    wanted: Sequence[tuple[str, str]],
    machine: Machine,
    *,
    silent: bool = False,
) -> tuple[Sessions, dict[tuple[str, str], str]]:
    """Play trials; nothing of them stays.

    Args:
        plan: Of the evaluation.
        built: Its agents by label.
        wanted: Agents' labels and domains.
        machine: How models compute; there is one lane and one simulator process.
        silent: Say nothing on standard error.

    Returns:
        What was measured, and why nothing was, by label and domain.
    """
    measured: Sessions = {}
    failed: dict[tuple[str, str], str] = {}
    alone = replace(machine, lanes=1, workers=1, attempts=1, shuffle=False)
    for label, domain in wanted:
        task = next(task for agent, task in plan.pairs() if agent == label and task.startswith(f"{domain}/"))
        with still(f"measuring: {EPISODES} episodes of {label} on {task}", quiet=silent):
            records, problem = _play(plan, built, label, task, alone)
        session = measured_session(f"trial: {len(records)} episodes of {task}", 1, 1, records, records)
        if session is not None:
            measured[label, domain] = session
        else:
            failed[label, domain] = problem
    return measured, failed


def _play(
    plan: RunPlan, built: Mapping[str, PlannedAgent], label: str, task: str, machine: Machine
) -> tuple[list[EpisodeRecord], str]:
    sink = _Kept()
    whole = replace(plan, episodes=EPISODES)
    items = [WorkItem(label, task, episode) for episode in range(EPISODES)]
    problem = ""
    with tempfile.TemporaryDirectory(prefix="lram-trial-") as logs, LOCAL.open(machine) as session:
        job = RolloutJob(whole, items, {label: built[label]}, [], plan.interpreters, Path(logs))
        try:
            session.play(job, sink)
        except (AgentRaisedError, LramError) as error:
            problem = str(error)
    failures = [record.failure.message for record in sink.records if record.failure]
    return sink.records, problem or next(iter(failures), "no episode took a decision")


class _Kept:
    """Takes records and writes nothing."""

    def __init__(self) -> None:
        self.records: list[EpisodeRecord] = []

    def record(self, record: EpisodeRecord, trajectory: Trajectory | None = None) -> None:
        self.records.append(record)

    def heartbeat(self, active: int, decisions: int) -> None:
        pass
