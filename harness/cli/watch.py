"""``lram watch``: score the checkpoints of a training, as they appear or afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import (
    DEFAULT_MACHINE,
    TASKS,
    EpisodesOption,
    ExcludeOption,
    MachineOptions,
    PlaySeedOption,
    ProtocolOption,
    pairs,
    terms,
)
from lram.harness.cli.printing.hints import next_report
from lram.harness.errors import LramError
from lram.harness.progress import quiet, shown
from lram.harness.waiting import say
from lram.harness.words import command, count, one_line

if TYPE_CHECKING:
    from lram.harness.storage.run_folder import Run
    from lram.harness.watching.folder import WatchFolder
    from lram.harness.watching.running import WatchRequest
    from lram.reports.sections.learning.model import BestCheckpoint

_SAID_EVERY_S = 60.0
_LONGEST_POLL_S = 86_400.0


def watch(
    training: Annotated[Path, Parameter(help="Folder of a training, running or ended.")],
    /,
    *,
    tasks: Annotated[list[str], TASKS],
    output: Annotated[
        Path,
        Parameter(
            name=["--output", "-o"],
            help="Folder for the scores; the same command continues with what is there.",
        ),
    ],
    exclude: ExcludeOption = None,
    episodes: EpisodesOption = 10,
    seed: PlaySeedOption = 0,
    protocol: ProtocolOption = None,
    once: Annotated[
        bool, Parameter(help="Score the checkpoints that are there now, and end.", negative=())
    ] = False,
    poll: Annotated[float, Parameter(help="Seconds between two looks for new checkpoints.")] = 10.0,
    confirm: Annotated[
        int | None,
        Parameter(
            help="At the end, play the best checkpoint so many more episodes a task, from other starts: its "
            "score there owes nothing to the choice.",
            negative=(),
        ),
    ] = None,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> int:
    """Score every checkpoint that a training keeps, from the same starts, as they appear.

    It ends when the training has ended, or with Ctrl-C; the same command continues with what is missing.
    Train with --set saving.checkpoint_updates=500 --set saving.keep=all, so that there are checkpoints to
    score.

    Example: lram watch runs/first --tasks 'toy/reach,toy/steps' -n 20 -o runs/first-watch
    """
    if not 0 < poll <= _LONGEST_POLL_S:
        raise LramError(f"--poll takes seconds above 0, up to a day ({_LONGEST_POLL_S:g}), not {poll:g}")
    if confirm is not None and confirm < 1:
        raise LramError(f"--confirm takes a number of episodes, 1 or more, not {confirm}")
    from lram.harness.watching.running import UnscoredCheckpoint, WatchRequest, follow, opened

    request = WatchRequest(
        training,
        terms(tasks, exclude),
        episodes,
        seed,
        pairs(protocol, "--protocol"),
        machine.machine(),
        quiet if machine.quiet else shown,
    )
    try:
        with opened(output, request) as folder:
            _warn(training)
            waiting = _Waiting(training, quiet=machine.quiet)
            lacking: dict[int, str] = {}
            said: list[str] = []
            for one in follow(folder, request, once=once, poll_s=poll, wait=waiting):
                if isinstance(one, UnscoredCheckpoint):
                    lacking[one.update] = one.reason
                    print(one_line(f"update {one.update}: not scored: {one.reason}"), flush=True)
                    continue
                lacking.pop(one.update, None)
                scored, sentence = _sentence(one.run)
                print(f"update {one.update}: {sentence}", flush=True)
                said.append(sentence)
                if not scored:
                    lacking[one.update] = sentence
            _explain(said)
            return _conclude(folder, request, sorted(lacking), confirm)
    except KeyboardInterrupt:
        if not (output / "watch.json").is_file():
            raise
        print("\ninterrupted: what was scored stands; the same command continues with what is missing")
        return EXIT_INTERRUPTED


class _Waiting:
    """Waits for checkpoints, and says now and then that it does."""

    def __init__(self, training: Path, *, quiet: bool) -> None:
        self._training, self._quiet = training, quiet
        self._next = time.monotonic()

    def __call__(self, seconds: float) -> None:
        now = time.monotonic()
        if not self._quiet and now >= self._next:
            self._next = now + _SAID_EVERY_S
            say(f"waiting for checkpoints of {self._training}; Ctrl-C ends, and loses nothing")
        time.sleep(seconds)


def _warn(training: Path) -> None:
    """Say which of the training's checkpoints may not be there to be scored."""
    from lram.agents.training.folder import recipe_of

    saving = recipe_of(training).saving
    if not saving.checkpoint_updates:
        say(
            f"lram: {training} keeps its final checkpoint only; train with --set "
            "saving.checkpoint_updates=N --set saving.keep=all for a curve"
        )
    elif saving.keep != "all":
        say(
            f"lram: {training} keeps the newest {saving.keep} checkpoints on the way (saving.keep); those "
            "that it removes before they are scored will be missing from the curve"
        )


def _sentence(run: Run) -> tuple[bool, str]:
    """Return whether all of a checkpoint's episodes count, and its score in words."""
    from lram.reports import text
    from lram.reports.evidence.collect import collect
    from lram.reports.standing import standings

    evidence = collect([run])
    (found,) = standings(evidence)
    counted = sum(len(cell.counted) for cell in evidence.cells.values())
    planned = sum(cell.planned for cell in evidence.cells.values())
    rests = f"{counted} of {count(planned, 'episode')} of {count(len(evidence.tasks), 'task')}"
    estimate = found.score.estimate
    if estimate is None:
        return counted == planned, f"no score, {rests}"
    return (
        counted == planned,
        f"score {text.number(estimate.value, 3)} {text.span(estimate, _three)}, {rests}",
    )


def _explain(sentences: Sequence[str]) -> None:
    """Print what brackets and signs mean."""
    from lram.reports import text

    if sentences:
        print(f"In brackets: 95% intervals.{text.legend(sentences)}")


def _three(value: float) -> str:
    from lram.reports import text

    return text.number(value, 3)


def _conclude(
    folder: WatchFolder, request: WatchRequest, lacking: Sequence[int], confirming: int | None
) -> int:
    """Print what is known of the best checkpoint, and what to do next; return the exit code."""
    from lram.harness.watching.running import confirm
    from lram.reports.sections.learning.model import read_curve, whole
    from lram.reports.sections.learning.section import best_words

    name = Path(folder.plan.training).name
    curve = read_curve(folder, name)
    if curve.best is not None and confirming is not None:
        confirm(folder, request, curve.best.update, confirming)
        curve = read_curve(folder, name)
    if curve.best is not None:
        print(f"\n{one_line(best_words(name, curve.best))}")
    elif confirming is not None:
        print("\nno checkpoint has every episode and every score, so there is none to confirm")
    if not curve.points:
        print(f"\nno checkpoint of {request.training} was scored; it keeps none yet")
    lacking = sorted({*lacking, *(point.update for point in curve.points if not whole(point))})
    if lacking:
        print(
            f"\nwithout all episodes: {', '.join(f'update {one}' for one in lacking)}; the exit code is "
            f"{EXIT_FAILED}"
        )
        if any(point.update in lacking for point in curve.points):
            retried = next(point.update for point in curve.points if point.update in lacking)
            again = command("resume", folder.runs()[retried].path, "--retry-errors")
            print(f"to play errored episodes again: {again}")
    unconfirmed = confirming is not None and _unconfirmed(folder, curve.best)
    if curve.points:
        print(f"\n{next_report(folder.path)}")
    return EXIT_FAILED if lacking or unconfirmed or not curve.points else 0


def _unconfirmed(folder: WatchFolder, best: BestCheckpoint | None) -> bool:
    """Return whether the confirmation of the best checkpoint lacks episodes, and say so if it does."""
    if best is None or best.confirmed is None or best.confirmed.whole:
        return False
    found, run = best.confirmed, folder.confirmations()[best.update]
    print(
        f"\nnot confirmed: {found.scored} of {count(found.planned, 'episode')} of update {best.update} from "
        f"other starts count; the exit code is {EXIT_FAILED}"
    )
    print(f"to play errored episodes again: {command('resume', run.path, '--retry-errors')}")
    return True
