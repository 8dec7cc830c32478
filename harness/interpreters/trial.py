"""Tasks tried out in workers: built, reset and stepped, in whichever interpreter plays their domain."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lram.envs.errors import WorkerStartError
from lram.envs.registry import benchmark_tasks
from lram.envs.session import Action, Domain, Observation, SessionSpec
from lram.envs.workers.pool import Pool
from lram.envs.workers.process import Begun, Deadlines, Died, Event, Failed, Stepped, WorkerProcess
from lram.harness.errors import LramError

DEADLINES = Deadlines(begin_s=300.0, step_s=60.0)
SEED = 1
_OTHER_SEED = 2
_OTHER_STEPS = 3


@dataclass(frozen=True, slots=True)
class TaskCheck:
    """What became of one task.

    Attributes:
        task: Name within the domain.
        problem: What went wrong, a sentence; empty when nothing did.
        build_s: Seconds to build the session; None where it was not built.
        reset_s: Seconds of the last reset; None where there was but the first.
        steps_per_s: Steps a second inside the simulator; None where none was made.
    """

    task: str
    problem: str = ""
    build_s: float | None = None
    reset_s: float | None = None
    steps_per_s: float | None = None


def task_names(domain: Domain) -> list[str]:
    """Return the names of the domain's tasks, in the order of the table."""
    return [task.name for task in (domain.tasks or benchmark_tasks()) if task.domain == domain.name]


def trial_task(domain: Domain, absent: Sequence[str] = ()) -> str:
    """Return the task to try the domain with: its own choice where it can be played, else the first that can.

    Empty where it has none. A domain that makes its tasks from names tells a name that it makes one from.

    Args:
        domain: The adapter.
        absent: Modules of the source trees that are not there: no task that needs one is returned.
    """
    lost = [tree for tree in domain.sources if tree.module in absent]
    names = [name for name in task_names(domain) if not any(tree.needed(name) for tree in lost)]
    if domain.trial_task in names or (domain.on_demand is not None and domain.trial_task):
        return domain.trial_task
    return names[0] if names else ""


def try_task(pool: Pool, domain: str, task: str, protocol: str, steps: int = 3) -> str:
    """Return what goes wrong in a few steps of ``task`` in a worker; empty when nothing does."""
    trial = _Trial(task, protocol, [(SEED, steps)])
    try:
        trial.start(pool.acquire(domain))
    except WorkerStartError as error:
        return str(error)
    while trial.result is None:
        for event in pool.wait(1.0):
            trial.take(event)
    return trial.result.problem


def check_domain(
    domain: Domain,
    tasks: Sequence[str],
    protocol: str,
    *,
    interpreters: Mapping[str, str],
    workers: int,
    steps: int,
    log_folder: Path,
    on_result: Callable[[TaskCheck], None] = lambda result: None,
) -> list[TaskCheck]:
    """Try every task twice from the same seed and return what became of each, in the order of ``tasks``.

    The second time must give the same first observation and, after the same random actions, the same
    trajectory by the worker's own checksum. Between the two lies the beginning of another episode, which
    must leave nothing behind.

    Args:
        domain: The adapter.
        tasks: Names within the domain.
        protocol: Name of the protocol.
        interpreters: Executable by domain, where it is not this one.
        workers: Worker processes, one task at a time each.
        steps: Decisions to make, or fewer where the episode ends before.
        log_folder: Where the workers' output goes.
        on_result: Called with each result as soon as it is there.

    Raises:
        LramError: The system lets no worker start.
    """
    episodes = [(SEED, steps), (_OTHER_SEED, min(steps, _OTHER_STEPS)), (SEED, steps)]
    results: dict[str, TaskCheck] = {}
    waiting = list(reversed(tasks))
    busy: dict[WorkerProcess, _Trial] = {}
    with Pool(log_folder=log_folder, interpreters=interpreters, parked=workers) as pool:
        while waiting or busy:
            while waiting and len(busy) < workers:
                trial = _Trial(waiting.pop(), protocol, episodes)
                try:
                    worker = pool.acquire(domain.name)
                except WorkerStartError as error:
                    raise LramError(f"{error}; free what it lacks, or take fewer --workers") from error
                busy[worker] = trial
                trial.start(worker)
            for event in pool.wait(1.0):
                if event.worker not in busy:  # a parked worker died: nothing is lost
                    continue
                trial = busy[event.worker]
                trial.take(event)
                if trial.result is not None:
                    results[trial.task] = trial.result
                    on_result(trial.result)
                    del busy[event.worker]
                    if not isinstance(event, Died):
                        pool.release(event.worker)
    return [results[task] for task in tasks]


@dataclass(slots=True)
class _Trial:
    """One task in one worker: the beginnings of episodes, by seed and number of steps."""

    task: str
    protocol: str
    episodes: Sequence[tuple[int, int]]
    result: TaskCheck | None = None
    _spec: SessionSpec | None = None
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))
    _first: dict[int, Observation] = field(default_factory=dict)
    _trajectories: dict[int, int] = field(default_factory=dict)
    _played: int = 0
    _begin_s: list[float] = field(default_factory=list)
    _step_s: list[float] = field(default_factory=list)
    _made: int = 0
    _checksum: int = 0

    def start(self, worker: WorkerProcess) -> None:
        """Ask for the next episode."""
        seed, _ = self.episodes[self._played]
        self._rng = np.random.default_rng([seed, zlib.crc32(self.task.encode())])
        self._made = 0
        worker.begin(0, self.task, self.protocol, seed, DEADLINES)

    def take(self, event: Event) -> None:
        """Continue with what a worker answered; ``result`` is there when it was the last answer."""
        if isinstance(event, Failed | Died):
            self._end(event.message)
        elif isinstance(event, Begun):
            self._begun(event)
        elif isinstance(event, Stepped):
            self._stepped(event)

    def _begun(self, event: Begun) -> None:
        self._begin_s.append(event.seconds)
        self._spec = event.spec
        self._checksum = zlib.crc32(event.observation.tobytes())
        seed, _ = self.episodes[self._played]
        if not np.array_equal(self._first.setdefault(seed, event.observation), event.observation):
            self._end("a second reset with the same seed gives another observation")
            return
        self._go_on(event.worker, ended=False)

    def _stepped(self, event: Stepped) -> None:
        self._made += 1
        self._step_s.append(event.seconds)
        self._checksum = event.trajectory
        self._go_on(event.worker, ended=event.step.terminated or event.step.truncated)

    def _go_on(self, worker: WorkerProcess, *, ended: bool) -> None:
        assert self._spec is not None
        seed, steps = self.episodes[self._played]
        if self._made < steps and not ended:
            worker.step(0, _random_action(self._rng, self._spec), DEADLINES)
            return
        self._played += 1
        if self._trajectories.setdefault(seed, self._checksum) != self._checksum:
            self._end("the same seed and the same actions give another trajectory")
        elif self._played < len(self.episodes):
            self.start(worker)
        else:
            self._end("")

    def _end(self, problem: str) -> None:
        again = self._begin_s[-1] if len(self._begin_s) > 1 else None
        self.result = TaskCheck(
            task=self.task,
            problem=problem,
            # The first episode's beginning is a build and a reset.
            build_s=max(0.0, self._begin_s[0] - (again or 0.0)) if self._begin_s else None,
            reset_s=again,
            steps_per_s=len(self._step_s) / sum(self._step_s) if sum(self._step_s) > 0 else None,
        )


def _random_action(rng: np.random.Generator, spec: SessionSpec) -> Action:
    if spec.action == "discrete":
        return int(rng.integers(spec.action_size))
    return rng.uniform(-1.0, 1.0, spec.action_size).astype(np.float32)
