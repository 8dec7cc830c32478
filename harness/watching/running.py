"""Score the checkpoints of a training, each as a run of its own, as they appear or afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lram.agents.compute import Compute
from lram.agents.places import placed
from lram.agents.shown import few, shown
from lram.agents.training.folder import is_finished, kept_checkpoints, recipe_of
from lram.agents.training.recipe import recipe_digest
from lram.harness.domain_files import differing, sources
from lram.harness.errors import LramError, as_lram_error
from lram.harness.evaluation import evaluate, resume
from lram.harness.machine import Machine
from lram.harness.plan import RunRequest, build_agent, check_code, make_plan
from lram.harness.progress import Progress, quiet
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.harness.storage.seeds import confirmation_seed
from lram.harness.watching.folder import CONFIRMATION, MARKER, RUNS, WatchFolder, begin, hold, label_of
from lram.harness.watching.records import SCHEMA, WatchPlan

POLL_S = 10.0
"""Seconds between two looks at a training's folder."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What a user asks for.

    Attributes:
        training: Folder of the training.
        tasks: A selection (:mod:`lram.envs.registry`).
        episodes: Of each checkpoint on each task.
        seed: Names the initial states: the same for every checkpoint.
        protocols: Protocol by domain, where it is not the domain's default.
        machine: How to spread the work, and how checkpoints compute.
        progress: Told what happens.
    """

    training: str | Path
    tasks: str | Sequence[str]
    episodes: int = 10
    seed: int = 0
    protocols: Mapping[str, str] | None = None
    machine: Machine = field(default_factory=Machine)
    progress: Progress = quiet


@dataclass(frozen=True, slots=True)
class ScoredCheckpoint:
    """A checkpoint and the run that it played.

    Attributes:
        update: Updates that it was trained for.
        run: Of the one agent ``update-000500``.
    """

    update: int
    run: Run


@dataclass(frozen=True, slots=True)
class UnscoredCheckpoint:
    """A checkpoint that could not be played, and why."""

    update: int
    reason: str


@contextmanager
def opened(folder: str | Path, request: WatchRequest) -> Iterator[WatchFolder]:
    """Begin a watch in ``folder``, or continue with the one that is there, and hold its lock.

    Raises:
        LramError: There is no such training, a task cannot be played, another process watches there, or the
            watch that is there does something else.
    """
    path = placed(folder)
    request.machine.check()
    plan = _plan(request)
    if (path / MARKER).is_file():
        held = hold(path)
        try:
            _same(WatchFolder(path), plan)
            _same_code(WatchFolder(path))
        except BaseException:
            held.close()
            raise
    else:
        held = begin(path, plan)
    with held:
        yield WatchFolder(path)


def follow(
    watch: WatchFolder,
    request: WatchRequest,
    *,
    once: bool = False,
    poll_s: float = POLL_S,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[ScoredCheckpoint | UnscoredCheckpoint]:
    """Score every checkpoint that is kept and yield it, in the order of the updates.

    A checkpoint that cannot be played is yielded with the reason, and the others are played. What could not
    be played while the training continued is tried once more at its end.

    Args:
        watch: What :func:`opened` gave.
        request: What it was opened with.
        once: Look once; otherwise until the training has ended.
        poll_s: Seconds between two looks.
        wait: Waits so long.

    Raises:
        LramError: The folder of the training is none any more, or a checkpoint in it is not the one whose
            score the watch has.
    """
    training, settled, failed = placed(request.training), set[int](), dict[int, str]()
    compared: set[int] | None = None
    while True:
        last = once or is_finished(training)  # before the listing: what comes after it is seen next time
        with as_lram_error():
            kept = kept_checkpoints(training)
        if compared is None:
            compared = set()
            _check_moved(watch, training, kept)
        # All of them before any is played: scores of two trainings must not come into one curve.
        _check_scored(watch, kept, settled | compared)
        compared |= kept.keys()
        for update, checkpoint in kept.items():
            if update in settled or (update in failed and not last):
                continue
            try:
                run = _score(watch, RUNS, update, checkpoint, request)
            except LramError as error:
                if failed.get(update) != str(error):
                    yield UnscoredCheckpoint(update, str(error))
                failed[update] = str(error)
            else:
                settled.add(update)
                failed.pop(update, None)
                yield ScoredCheckpoint(update, run)
        if last:
            return
        wait(poll_s)


def confirm(watch: WatchFolder, request: WatchRequest, update: int, episodes: int) -> Run:
    """Play the checkpoint of ``update``, which was chosen, ``episodes`` times a task from other starts.

    Raises:
        LramError: It cannot be played, or was confirmed before on another number of episodes.
    """
    training = placed(request.training)
    with as_lram_error():
        checkpoint = kept_checkpoints(training).get(update)
    if checkpoint is None:
        raise LramError(
            f"{training} no longer has the checkpoint of update {update}, so it cannot be "
            'confirmed; train with saving.keep = "all"'
        )
    before = watch.confirmations().get(update)
    if before is not None and before.plan.episodes != episodes:
        raise LramError(
            f"{before.path} confirms update {update} on {before.plan.episodes} episodes a task; give "
            f"--confirm {before.plan.episodes}, or move it away"
        )
    for run in (before, watch.runs().get(update)):
        if run is not None:
            _check_same_checkpoint(run, checkpoint, watch)
    return _score(watch, CONFIRMATION, update, checkpoint, request, episodes)


def _score(
    watch: WatchFolder, part: str, update: int, checkpoint: Path, request: WatchRequest, episodes: int = 0
) -> Run:
    plan, place = watch.plan, watch.path / part / label_of(update)
    machine = replace(request.machine, **asdict(plan.compute), threads=plan.threads)
    if (place / PLAN_FILE).is_file():
        run = (watch.runs() if part == RUNS else watch.confirmations())[update]
        if not run.missing():
            return run
        if placed(run.plan.agents[0].spec) != placed(checkpoint):
            raise LramError(
                f"{run.path} lacks episodes of the checkpoint in {run.plan.agents[0].spec}, which is in "
                f"{checkpoint} now; put the training back there, or move {run.path} away, and the checkpoint "
                "is played again"
            )
        return resume(run, machine=machine, progress=request.progress)
    _same_code(watch)
    return evaluate(
        {label_of(update): checkpoint},
        list(plan.tasks),
        place,
        episodes=episodes or plan.episodes,
        seed=plan.seed if part == RUNS else confirmation_seed(plan.seed),
        protocols=plan.protocols,
        machine=machine,
        progress=request.progress,
    )


def _plan(request: WatchRequest) -> WatchPlan:
    training = placed(request.training)
    with as_lram_error():
        recipe = recipe_of(training)
    # Whatever tasks, protocols and simulators are refused for is refused now, not once a checkpoint.
    planned, _ = make_plan(
        RunRequest(
            agents="random",
            tasks=request.tasks,
            episodes=request.episodes,
            seed=request.seed,
            protocols=request.protocols,
            interpreters=request.machine.interpreters,
        )
    )
    return WatchPlan(
        schema=SCHEMA,
        training=str(training),
        recipe=recipe_digest(recipe),
        updates=recipe.optimizer.updates,
        tasks=tuple(one.task.id for one in planned.tasks),
        episodes=request.episodes,
        seed=request.seed,
        protocols=dict(request.protocols or {}),
        compute=request.machine.compute(),
        threads=request.machine.threads,
    )


def _check_moved(watch: WatchFolder, training: Path, kept: Mapping[int, Path]) -> None:
    """Raise LramError where a training in another place than before has no checkpoint that tells it."""
    runs = watch.runs()
    if training != Path(watch.plan.training) and runs and not runs.keys() & kept.keys():
        raise LramError(
            f"{watch.path} has scores of the training that was in {watch.plan.training}, and {training} "
            "keeps none of the checkpoints that were scored, so that it is the same one cannot be told; give "
            "another folder for its scores"
        )


def _check_scored(watch: WatchFolder, kept: Mapping[int, Path], compared: Container[int]) -> None:
    """Raise LramError where a checkpoint that is kept is not the one that the watch has a run of."""
    if all(update in compared for update in kept):
        return
    for part in (watch.runs(), watch.confirmations()):
        for update, run in part.items():
            if update in kept and update not in compared:
                _check_same_checkpoint(run, kept[update], watch)


def _check_same_checkpoint(run: Run, checkpoint: Path, watch: WatchFolder) -> None:
    """Raise LramError where ``run`` is of another model than ``checkpoint`` holds.

    A checkpoint that cannot be read is not told apart: what plays it says what is wrong with it.
    """
    # Of rounded weights the digest is another, and where it is computed changes none.
    compute = Compute(precision=watch.plan.compute.precision)
    try:
        now = build_agent(str(checkpoint), watch.plan.seed, compute).info.digest
    except LramError:
        return
    if now != run.plan.agents[0].info.digest:
        raise LramError(
            f"{run.path} has the score of another model (digest {run.plan.agents[0].info.digest[:12]}) than "
            f"{checkpoint} holds now ({now[:12]}): that training was made again, or is another one; give "
            "another folder for its scores"
        )


def _same(watch: WatchFolder, asked: WatchPlan) -> None:
    """Raise LramError for the first thing that is asked for otherwise than the watch was begun with.

    The training may be in another place: recipe and checkpoints tell it.
    """
    before, now = asdict(watch.plan), asdict(asked)
    for name in before:
        if name != "training" and before[name] != now[name]:
            raise LramError(
                f"{watch.path} was begun with {_setting_words(name, before[name])}, and "
                f"{_setting_words(name, now[name])} is requested now; checkpoints are compared on "
                "equal terms: repeat the command that began it, or give another folder"
            )


def _same_code(watch: WatchFolder) -> None:
    """Raise LramError where a domain or a backbone has other code now than when a checkpoint was played."""
    now = sources(dict.fromkeys(task.partition("/")[0] for task in watch.plan.tasks))
    for run in watch.runs().values():
        for entry in run.plan.agents:
            check_code(entry)
        if others := differing(run.plan.domain_files, now):
            raise LramError(
                f"the source of {', '.join(others)} has changed since {run.path} was played; checkpoints are "
                "compared on equal terms: put it back, or give another folder"
            )


def _setting_words(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return f"{name} = {few(map(str, value), 3)}"
    if isinstance(value, dict):
        return f"{name} = {', '.join(f'{key} {one}' for key, one in value.items()) or 'as usual'}"
    return f"{'digest of the recipe' if name == 'recipe' else name} = {shown(str(value))}"
