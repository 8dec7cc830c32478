"""Importing public data sets: a source's names for tasks become ours, its episodes a store.

Agents and environments know nothing of each other: the readers of ``lram.agents`` know layouts, the
registry of ``lram.envs`` knows tasks, and they meet here.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lram.agents.api import AgentError, TaskSpec
from lram.agents.places import placed
from lram.agents.trajectories.layout import is_store
from lram.agents.trajectories.readers import (
    BEYOND,
    INVALID,
    UNWANTED,
    Imported,
    Note,
    Options,
    Problem,
    Shapes,
    detect,
    read,
)
from lram.agents.trajectories.writer import StoreWriter
from lram.envs import registry
from lram.envs.attributes import task_attributes
from lram.envs.errors import SelectionError
from lram.envs.task import Task
from lram.envs.task_ids import RULE, is_task_id
from lram.envs.text import printable
from lram.harness.collection.filed import FiledEpisodes
from lram.harness.collection.listing import UNLISTED, LeftOutFiles, skipped
from lram.harness.errors import LramError
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import PlannedTask
from lram.harness.words import count

LEFT_OUT = {
    UNWANTED: "of tasks that were not asked for",
    BEYOND: "beyond --limit",
    INVALID: "marked as invalid",
}
_TRANSFERRED = re.compile(r"(.+)_robot_([A-Za-z0-9]+)_gripper_\w+")


@dataclass(frozen=True, slots=True)
class ImportTasks:
    """Which tasks an import may meet (the ``Tasks`` that readers ask).

    Attributes:
        task: Id of the task of everything that the source holds; None: the source's names tell.
        selection: Ids that are asked for; None: all.
        target_return, reward_scale: Of a ``task`` that is not in the table.
    """

    task: str | None = None
    selection: frozenset[str] | None = None
    target_return: float | None = None
    reward_scale: float | None = None

    def __post_init__(self) -> None:
        own = self.reward_scale is not None or self.target_return is not None
        for option, number in (
            ("--reward-scale", self.reward_scale),
            ("--target-return", self.target_return),
        ):
            if number is not None and not math.isfinite(number):
                raise LramError(f"{option} is {number:g}; give a finite number")
        if self.task is not None and self.task.startswith(("gym:", "gym/")):
            object.__setattr__(self, "task", f"gym/{self.task[4:]}")
            if self.reward_scale is None:
                _environment(self.task)  # raises, with the reason
        if self.task is None:
            if own:
                raise LramError("--reward-scale and --target-return describe a task of your own; add --task")
            return
        if not is_task_id(self.task):
            raise LramError(
                f"--task {printable(repr(self.task), 200)} is no task; write domain/name, such as "
                f"metaworld/reach-v3, the name {RULE}"
            )
        if self.task in registry.all_tasks():
            if own:
                raise LramError(
                    f"{self.task} has its target return and reward scale from the table; leave "
                    "--target-return and --reward-scale out"
                )
        elif self.reward_scale is None and self.task.startswith("gym/"):
            if own:
                raise LramError(
                    f"--target-return goes with --reward-scale; give both for {self.task}, or none"
                )
        elif self.reward_scale is None:
            close = difflib.get_close_matches(self.task, registry.all_tasks(), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise LramError(
                f"there is no task {self.task}{hint}; for a task of your own, add --reward-scale (what "
                "rewards are divided by before a model reads them), and --target-return where there is one"
            )
        elif not self.reward_scale > 0:
            raise LramError("--reward-scale must be above 0")

    def find(self, names: tuple[str, ...]) -> str:
        """Return the id of the task that a source calls so; LramError where there is none.

        ``names`` are tried in order; a later one decides where an earlier one is of several tasks.
        """
        if self.task is not None:
            return self.task
        found: tuple[str, ...] = ()
        for name in names:
            known = _ids_by_name().get(_folded(name), ())
            found = tuple(task for task in found if task in known) or found or known
        if found:
            return found[0]
        environments = [name for name in names if name.startswith("gym/")]
        if environments:
            return _environment(environments[0]).id
        close = difflib.get_close_matches(_folded(names[-1]), _ids_by_name(), n=1, cutoff=0.75)
        hint = f" (did you mean {_ids_by_name()[close[0]][0]}?)" if close else ""
        raise AgentError(
            f"no task goes by the name {' or '.join(map(repr, names))}{hint}; say which with "
            "--task domain/name"
        )

    def wanted(self, task_id: str) -> bool:
        """Return whether the task was asked for; LramError where a source that tells it is to be ``task``."""
        if self.task not in (None, task_id):
            raise LramError(
                f"the source says itself that {task_id} was played, and its episodes are filed under that; "
                f"leave --task {self.task} out (--tasks chooses among its tasks)"
            )
        return self.selection is None or task_id in self.selection

    def spec(self, task_id: str, shapes: Shapes) -> TaskSpec:
        """Return the task, with sizes from the data where the table leaves them open."""
        task = self._row(task_id)
        if task is not None:
            if task.observation_size is None and task.observation == shapes.observation == "vector":
                task = replace(task, observation_size=shapes.observation_shape[0])
            if task.action_size is None:
                task = replace(task, action_size=shapes.action_size)
            return task_spec(PlannedTask(task, ""))
        if shapes.action_size is None:
            raise AgentError(
                f"neither the table nor the data tells how many actions {task_id} has; add "
                "--discrete-actions NUMBER, or --continuous-actions where they are no index"
            )
        if shapes.doubt:
            raise AgentError(
                f"the actions of {task_id} are {shapes.doubt}, so they may be an index or numbers; add "
                "--discrete-actions NUMBER or --continuous-actions"
            )
        if shapes.observation == "image" and shapes.observation_shape != (3, 64, 64):
            raise AgentError(
                f"{task_id} has images of shape {shapes.observation_shape}; models see 3 x 64 x 64, so "
                "resize them first"
            )
        assert self.reward_scale is not None
        return TaskSpec(
            id=task_id,
            domain=task_id.partition("/")[0],
            observation=shapes.observation,
            observation_shape=shapes.observation_shape,
            action=shapes.action,
            action_size=shapes.action_size,
            target_return=self.target_return,
            reward_scale=self.reward_scale,
        )

    def horizon(self, task_id: str) -> int | None:
        """Return the number of decisions after which the task's default protocol ends an episode."""
        task = self._row(task_id)
        return task.horizon if task else None

    def _row(self, task_id: str) -> Task | None:
        """Return the task where a simulator here plays it, and the user does not describe it."""
        if task_id.startswith("gym/") and self.reward_scale is None:
            return _environment(task_id)
        return registry.all_tasks().get(task_id)


def selected(terms: list[str] | None) -> frozenset[str] | None:
    """Return the ids of a selection of tasks; None for none."""
    return frozenset(task.id for task in registry.select(terms)) if terms else None


@cache
def _environment(task_id: str) -> Task:
    """Return the task of an environment of Gymnasium; AgentError where it cannot be made here."""
    try:
        return registry.select([f"gym:{task_id.removeprefix('gym/')}"])[0]
    except SelectionError as error:
        raise AgentError(
            f"the environment's own task {task_id} cannot be made here ({error}); install its package, or "
            f"take the sizes from the data: --task '{task_id}' --reward-scale 1"
        ) from error


def _folded(name: str) -> str:
    """Return ``name`` without case and punctuation, and a transferred MimicGen set's as its task's."""
    transferred = _TRANSFERRED.fullmatch(name)
    if transferred:
        name = f"{transferred[1]}-{transferred[2]}"
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _ids_by_name() -> Mapping[str, tuple[str, ...]]:
    """Return the tasks that may go by a folded name: their ids, names, the reference's names."""
    found: dict[str, list[str]] = {}
    for task in registry.all_tasks().values():
        names = {task.id}
        if task.split != "extra":
            names |= {task.name, task.reference_name, re.sub(r"-v\d$", "", task.name)}
        if task.domain == "mimicgen":  # its data sets are called robot_task
            names.add(f"{task_attributes(task)['robot']}_{task.name.partition('-')[0]}")
        for folded in {_folded(name) for name in names if name}:
            found.setdefault(folded, []).append(task.id)
    return MappingProxyType({name: tuple(ids) for name, ids in found.items()})


@dataclass(slots=True)
class TaskImport:
    """What an import brought of one task, and what the task is in the store."""

    spec: TaskSpec
    names: set[str] = field(default_factory=set)
    episodes: int = 0
    steps: int = 0


@dataclass(slots=True)
class ImportReport:
    """What an import brought.

    Attributes:
        tasks: By task id.
        known: Episodes that the store had already.
        problems: One sentence for each part of the source that could not be read.
        notes: What was changed or left out, and how often.
        skipped: What lies in the source's folder and was not looked at.
    """

    tasks: dict[str, TaskImport] = field(default_factory=dict)
    known: int = 0
    problems: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    skipped: list[LeftOutFiles] = field(default_factory=list)

    @property
    def episodes(self) -> int:
        """Episodes that were added."""
        return sum(task.episodes for task in self.tasks.values())

    def closing(self) -> str:
        """Return the result of the source in one line: imported, known before, left out and why."""
        clauses = [f"{count(self.episodes, 'episode')} imported"]
        if self.known:
            clauses.append(f"{self.known} already there")
        if self.problems:
            clauses.append(f"{count(len(self.problems), 'part')} that cannot be read left out")
        clauses += [f"{self.notes[text]} {why}" for text, why in LEFT_OUT.items() if self.notes[text]]
        if self.skipped:
            clauses.append("not looked at: " + "; ".join(one.describe() for one in self.skipped))
        return ", ".join(clauses)


def import_data(
    source: Path,
    store: Path,
    tasks: ImportTasks,
    options: Options,
    *,
    layout: str = "",
    skip_bad: bool = False,
    card: Mapping[str, Any] | None = None,
    seen: Callable[[ImportReport], None] = lambda report: None,
) -> ImportReport:
    """Add the episodes of the data set ``source`` to ``store``, which is made where there is none.

    Episodes that the store has already are not added again, so an import that was interrupted continues
    when it is run again. An episode that the store has from the same place with other actions, rewards or
    observations, as after a change of options, is refused.

    Args:
        source: A file or folder.
        store: Folder of the store.
        tasks: Which tasks may occur.
        options: How to read.
        layout: One of the readers' ``FORMATS`` (empty: found out).
        skip_bad: Continue after what cannot be read, instead of raising.
        card: What the store's card should say of the source.
        seen: Called after each episode.

    Raises:
        LramError, AgentError: The source cannot be read, or holds nothing that was asked for. What came
            before that is in the store.
    """
    source, store = placed(source), placed(store)
    layout = layout or detect(source)
    report = ImportReport(skipped=skipped(source, layout, store=is_store(source)))
    for unlisted in [one for one in report.skipped if one.why == UNLISTED]:
        problem = f"{source} has {unlisted.describe()}; let this user read them, or leave them out"
        if not skip_bad:
            raise LramError(problem + _left(report, store))
        report.problems.append(problem)
    with ExitStack() as stack:
        writer: StoreWriter | None = None
        filed: FiledEpisodes | None = None
        for item in read(source, tasks, options, layout):
            if isinstance(item, Note):
                report.notes[item.text] += item.count
                continue
            problem = item.text if isinstance(item, Problem) else ""
            if not isinstance(item, Problem):
                if writer is None or filed is None:
                    # Made with the first episode: a source that gives none leaves no empty store behind.
                    writer = stack.enter_context(StoreWriter(store, card))
                    filed = FiledEpisodes(store)
                problem = _added(writer, filed, item, report)
                seen(report)
            if problem and not skip_bad:
                raise LramError(problem + _left(report, store))
            if problem:
                report.problems.append(problem)
    if not report.episodes and not report.known:
        first = (
            f": {report.problems[0]}"
            if report.problems
            else f" ({report.closing()}); see --tasks and --format"
        )
        raise LramError(f"{source} gave no episode{first}")
    return report


def _added(writer: StoreWriter, filed: FiledEpisodes, item: Imported, report: ImportReport) -> str:
    """Append a trajectory that the store does not have; return what is wrong with it, or nothing."""
    trajectory, name = item.trajectory, item.name
    known = filed.find(trajectory.origin)
    if known is not None:
        if known != (trajectory.task.id, trajectory.policy):
            return (
                f"{name}: {trajectory.origin.rpartition('@')[0]} is in {writer.path} already, as an episode "
                f"of {known[0]} by {known[1] or 'nobody known'}; to file it under {trajectory.task.id} by "
                f"{trajectory.policy or 'nobody known'}, import it into another store"
            )
        report.known += 1
        return ""
    if other := filed.otherwise(trajectory):
        return (
            f"{name}: {trajectory.origin.rpartition('@')[0]} is in {writer.path} already, with other {other} "
            "(read with other options, or the file was another then); import it into another store"
        )
    try:
        writer.check(trajectory)
    except AgentError as error:
        return str(error)
    writer.take(trajectory)  # a disk that refuses is no fault of the data, and ends the import
    filed.add(trajectory.origin, trajectory.task.id, trajectory.policy)
    task = report.tasks.setdefault(trajectory.task.id, TaskImport(trajectory.task))
    task.names.add(name)
    task.episodes += 1
    task.steps += trajectory.length
    return ""


def _left(report: ImportReport, store: Path) -> str:
    if not report.episodes:
        return " (--skip-bad continues without it)"
    return (
        f" (the {report.episodes} episodes before it are in {store}; the same command continues from there, "
        "--skip-bad without what is bad)"
    )
