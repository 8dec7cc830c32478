"""What plans and records must be to be believed, whoever wrote them.

A checksum says that a record is what was written; these checks say that what was written can be: that it
belongs to the plan, that its numbers are numbers, and that nothing contradicts it. They hold for folders of
earlier versions too, which carry no checksums.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from lram.harness import seeds
from lram.harness.errors import LramError
from lram.harness.records import SCHEMA, EpisodeRecord, RunPlan
from lram.harness.segments import WrongRecordError

MOST_EPISODES = 100_000_000
"""Episodes that a plan may ask for: a hundred times the largest run that was tried."""

_LATEST = 253402300800.0  # the year 10000, in seconds since the epoch: the end of what dates can tell
_ADVICE = "remove the line and resume"
_TRAJECTORY = re.compile(r"[0-9a-f]{8}")


def check_plan(file: Path, plan: RunPlan) -> None:
    """Raise LramError, naming ``file``, where ``plan`` asks for what no plan can."""
    if wrong := _wrong_plan(plan):
        raise LramError(f"{file} is no plan that can be played: {wrong}; put the file back from a copy")


def check_size(agents: int, tasks: int, episodes: int) -> None:
    """Raise LramError where a plan would have more than ``MOST_EPISODES``."""
    if agents * tasks * episodes > MOST_EPISODES:
        raise LramError(
            f"{agents} agents on {tasks} tasks, {episodes} episodes each, are "
            f"{agents * tasks * episodes:,} episodes; a run has at most {MOST_EPISODES:,}"
        )


def _wrong_plan(plan: RunPlan) -> str:
    labels = [agent.label for agent in plan.agents]
    tasks = [planned.task.id for planned in plan.tasks]
    if not 0 <= plan.seed < 1 << 63:
        return f"its seed is {plan.seed}"
    if plan.episodes < 1:
        return f"it has {plan.episodes} episodes a task"
    if len(labels) * len(tasks) * plan.episodes > MOST_EPISODES:
        return f"it asks for more than {MOST_EPISODES:,} episodes"
    for what, names in (("agents", labels), ("tasks", tasks)):
        if not names:
            return f"it has no {what}"
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            return f"{count} of its {what} are called {name!r}"
        if bad := next(
            (name for name in names if not name.strip() or not name.isprintable() or "|" in name), None
        ):
            return f"{bad!r} is no name of {what}"
    if not 0 <= plan.realtime_hz < math.inf or plan.threads < 1:
        return f"the world's rate is {plan.realtime_hz:g} Hz, and the threads are {plan.threads}"
    return ""


class RecordCheck:
    """Says of records whether they can be of a plan: ``check(record)`` raises WrongRecordError otherwise."""

    def __init__(self, plan: RunPlan) -> None:
        """Check records of ``plan``."""
        protocols = {planned.task.id: planned.protocol for planned in plan.tasks}
        self._episodes = plan.episodes
        self._protocols = {(agent, task): protocols[task] for agent, task in plan.pairs()}
        self._run_seed = plan.seed
        self._own_seeds = seeds.own_seeds(plan)
        # Agents meet the same episodes, so each seed is derived once.
        self._seeds: dict[tuple[int, str], dict[int, int]] = {}

    def __call__(self, record: EpisodeRecord) -> None:
        """Raise WrongRecordError where ``record`` cannot be right."""
        if wrong := self._foreign(record) or _impossible(record):
            raise WrongRecordError(f"the record of {record.item.id} {wrong}; {_ADVICE}")

    def place(self, agent: str, task: str, episode: int) -> None:
        """Raise WrongRecordError where the plan has no such episode."""
        if (agent, task) not in self._protocols or not 0 <= episode < self._episodes:
            raise WrongRecordError(
                f"the record of {agent}|{task}|{episode} is of no episode of the plan; {_ADVICE}"
            )

    def _foreign(self, record: EpisodeRecord) -> str:
        """Return why ``record`` is none of the plan's; empty where it is one."""
        if record.schema != SCHEMA:
            return f"has layout {record.schema}, and this version reads {SCHEMA}"
        planned = self._protocols.get((record.agent, record.task))
        if planned is None or not 0 <= record.episode < self._episodes:
            return "is of no episode of the plan"
        if record.protocol != planned:
            return f"was played under {record.protocol}, and the plan says {planned}"
        if record.seed != (seed := self._seed(record.agent, record.task, record.episode)):
            return f"was played with the seed {record.seed}, and that episode has {seed}"
        return ""

    def _seed(self, agent: str, task: str, episode: int) -> int:
        run_seed = self._own_seeds.get(agent, self._run_seed)
        known = self._seeds.setdefault((run_seed, task), {})
        seed = known.get(episode)
        if seed is None:
            seed = known[episode] = seeds.simulator_seed(run_seed, task, episode)
        return seed


def contradict(one: EpisodeRecord, other: EpisodeRecord) -> bool:
    """Return whether two records of one episode cannot both be right: an errored one may be played again."""
    return one.status == "scored" and _result(one) != _result(other)


def _result(record: EpisodeRecord) -> tuple[object, ...]:
    return record.status, record.episode_return, record.length, record.trajectory, record.success_any


def _impossible(record: EpisodeRecord) -> str:
    """Return what of ``record`` cannot be; empty where nothing."""
    if record.status == "scored":
        if record.failure is not None or record.episode_return is None or record.length is None:
            return "is scored, but says why it has no score or lacks its return or its length"
        if record.length < 1 or not math.isfinite(record.episode_return):
            return f"has the return {record.episode_return:g} after {record.length} decisions"
        if not _TRAJECTORY.fullmatch(record.trajectory):
            return f"has the trajectory checksum {record.trajectory!r}, which is none"
        if record.repeated is not None and not 0 <= record.repeated < record.length:
            return f"repeated {record.repeated} of {record.length} decisions"
    elif record.failure is None or record.episode_return is not None:
        return "is errored, but does not say why or has a return"
    if record.success_last and not record.success_any:
        return "was solved at the last step and at none"
    if record.failures < 0 or (record.parts and not all(map(math.isfinite, record.parts))):
        return f"failed {record.failures} times before, and has inner returns {record.parts}"
    measured = record.measured
    if not (
        0 <= measured.wall_s < _LATEST
        and 0 <= measured.simulator_s < _LATEST
        and 0 <= measured.agent_s < _LATEST
        and 0 <= measured.started < _LATEST
        and measured.held >= 0
    ):
        return "has times that none can be"
    return ""
