"""What plans and records must be to be believed, whoever wrote them.

A checksum says that a record is what was written; these checks say that what was written can be: that it
belongs to the plan, that its numbers are numbers, and that nothing contradicts it. They hold for folders of
earlier versions too, which carry no checksums.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lram.envs.scores import audit
from lram.harness.errors import LramError
from lram.harness.storage import seeds
from lram.harness.storage.number_checks import check_numbers, wrong
from lram.harness.storage.records import SCHEMA, EpisodeRecord, RunPlan
from lram.harness.storage.segments import WrongRecordError
from lram.harness.storage.soundness import flaw

MOST_EPISODES = 10_000_000
"""Episodes that a plan may ask for: ten times the largest run that was tried."""

_LEAST_SPREAD = 1e-12  # between a task's score references: below, a score is noise of the division


def check_plan(file: Path, plan: RunPlan) -> None:
    """Raise LramError, naming ``file``, where ``plan`` asks for what no plan can."""
    check_numbers(plan, file)
    if what := _wrong_plan(plan):
        raise wrong(file, what)


def check_size(agents: int, tasks: int, episodes: int) -> None:
    """Raise LramError where a plan would have more than ``MOST_EPISODES``."""
    if agents * tasks * episodes > MOST_EPISODES:
        raise LramError(
            f"{agents} agents on {tasks} tasks, {episodes} episodes each, are "
            f"{agents * tasks * episodes:,} episodes; a run has at most {MOST_EPISODES:,}"
        )


def is_name(text: str) -> bool:
    """Return whether records can call an agent or a task ``text``."""
    return bool(text.strip()) and text.isprintable() and "|" not in text


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
        if bad := next((name for name in names if not is_name(name)), None):
            return f"{bad!r} is no name of {what}"
    if plan.realtime_hz < 0 or plan.threads < 1:
        return f"the world's rate is {plan.realtime_hz:g} Hz, and the threads are {plan.threads}"
    for skip in plan.skipped:
        if skip.agent not in labels or skip.task not in tasks:
            return f"{skip.agent!r} cannot play {skip.task!r}, and the two are not among its agents and tasks"
    return _wrong_scores(plan)


def _wrong_scores(plan: RunPlan) -> str:
    for planned in plan.tasks:
        task = planned.task
        if audit(task) is None and task.score_random is not None and task.score_reference is not None:
            spread = task.score_reference - task.score_random
            if not spread >= _LEAST_SPREAD:
                return f"the score references of {task.id} are {spread:g} apart"
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
        if what := self._foreign(record) or flaw(record):
            raise WrongRecordError(f"the record of {record.item.id} {what}")

    def place(self, agent: str, task: str, episode: int) -> None:
        """Raise WrongRecordError where the plan has no such episode."""
        if (agent, task) not in self._protocols or not 0 <= episode < self._episodes:
            raise WrongRecordError(f"the record of {agent}|{task}|{episode} is of no episode of the plan")

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
