"""A watch's folder.

::

    FOLDER/
        watch.json                  the plan
        runs/update-000500/         a run of one agent, the checkpoint, as 'lram eval' makes it
        confirmation/update-000500/ a run of a checkpoint that was chosen, from other starts
        lock                        held while a process watches
"""

from __future__ import annotations

from pathlib import Path

from lram.agents.durable import Lock
from lram.envs.task_ids import is_task_id
from lram.harness.errors import LramError
from lram.harness.storage.links import refuse_links
from lram.harness.storage.number_checks import check_numbers, wrong
from lram.harness.storage.record_folder import RecordFolder
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.storage.seeds import confirmation_seed
from lram.harness.storage.segments import LOCK, FolderKind, lock
from lram.harness.watching.records import SCHEMA, WatchPlan

MARKER = "watch.json"
RUNS, CONFIRMATION = "runs", "confirmation"
_KIND = FolderKind(MARKER, "a watch", "lram watch TRAINING -o", (RUNS, CONFIRMATION))


def label_of(update: int) -> str:
    """Return what a checkpoint is called as an agent, such as ``update-000500``."""
    return f"update-{update:06d}"


class WatchFolder(RecordFolder[WatchPlan]):
    """A watch that exists on disk.

    Attributes:
        path: Its folder.
        plan: What it does.

    Raises:
        LramError: It is none, or of another layout.
    """

    plan_file = MARKER
    lacks_plan = f"{{path}} is no watch: it has no {MARKER}; 'lram watch' makes them"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, WatchPlan, SCHEMA, _check_plan)

    def runs(self) -> dict[int, Run]:
        """Return the runs that were begun, by update; LramError for one that is not of this watch."""
        return self._runs(RUNS, self.plan.seed)

    def confirmations(self) -> dict[int, Run]:
        """Return the runs of chosen checkpoints on other starts, likewise."""
        return self._runs(CONFIRMATION, confirmation_seed(self.plan.seed))

    def without_checksums(self) -> list[str]:
        """Return which of plan and runs carry no checksum."""
        kept = [*self.runs().values(), *self.confirmations().values()]
        own = [
            f"{run.path.parent.name}/{run.path.name}/{one}" for run in kept for one in run.without_checksums()
        ]
        return [*super().without_checksums(), *own]

    def _runs(self, part: str, seed: int) -> dict[int, Run]:
        found = {}
        for path in sorted((self.path / part).glob("update-*")):
            number = path.name.removeprefix("update-")
            if number.isdecimal() and path.name == label_of(int(number)) and (path / PLAN_FILE).is_file():
                found[int(number)] = self._checked(Run(path), seed, part)
        return dict(sorted(found.items()))

    def _checked(self, run: Run, seed: int, part: str) -> Run:
        labels = [agent.label for agent in run.plan.agents]
        tasks = {planned.task.id for planned in run.plan.tasks}
        episodes = self.plan.episodes if part == RUNS else run.plan.episodes
        asked = ([run.path.name], set(self.plan.tasks), seed, episodes)
        if (labels, tasks, run.plan.seed, run.plan.episodes) != asked:
            raise LramError(
                f"{run.path} is not of this watch: its agents, tasks, seed or episodes are others than "
                f"those of {self.path / MARKER}; move it away"
            )
        return run


def begin(path: Path, plan: WatchPlan) -> Lock:
    """Make a watch in ``path`` (absent, empty, or left so by a killed beginning); return its lock."""
    return _KIND.begin(path, plan)


def hold(path: Path) -> Lock:
    """Return the lock of the watch in ``path``; LramError where another process holds it."""
    refuse_links(path, (RUNS, CONFIRMATION, LOCK))
    return lock(path / LOCK)


def _check_plan(file: Path, plan: WatchPlan) -> None:
    check_numbers(plan, file)
    if plan.episodes < 1 or plan.updates < 1 or plan.threads < 1 or not 0 <= plan.seed < 1 << 63:
        raise wrong(
            file,
            f"it has {plan.episodes} episodes, {plan.updates} updates, {plan.threads} threads and the seed "
            f"{plan.seed}",
        )
    if not plan.tasks or len(set(plan.tasks)) < len(plan.tasks):
        raise wrong(file, "it has no tasks, or one of them twice")
    if bad := next((one for one in plan.tasks if not is_task_id(one)), None):
        raise wrong(file, f"{bad[:80]!r} is no id of a task")
