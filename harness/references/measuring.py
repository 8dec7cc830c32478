"""What random play and a reference agent earn on tasks that have no references of their own.

Both play an ordinary run, from the same initial states. A reference carries a score where its mean return is
above random play's by more than chance: the 95 % interval of the difference, by the normal approximation with
the standard errors of both means (Welch), lies above 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from lram.envs.score_file import LONGEST_SOURCE, References
from lram.envs.task import Task
from lram.envs.text import printable
from lram.harness.errors import LramError
from lram.harness.storage.records import EpisodeRecord, PlannedTask
from lram.harness.storage.run_folder import Run, resume_command

RANDOM = "random"
_Z = 1.959963984540054  # of the normal distribution, for 95 % of it


@dataclass(frozen=True, slots=True)
class Earned:
    """Returns of one agent on one task.

    Attributes:
        mean: Of the episodes' returns.
        error: Standard error of the mean.
        best: The greatest return.
        episodes: How many.
    """

    mean: float
    error: float
    best: float
    episodes: int

    def __str__(self) -> str:
        return f"{self.mean:.6g} ± {self.error:.3g}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of one task.

    Attributes:
        task: Its row as it was planned.
        random: What random play earned.
        reference: What the reference agent earned; None where there is none.
        entry: What belongs into the file.
        problem: Why it carries no score; empty where it does.
    """

    task: Task
    random: Earned
    reference: Earned | None
    entry: References
    problem: str = ""


def measured(run: Run, reference: str | None) -> list[Measurement]:
    """Return what a finished run says of its tasks.

    Args:
        run: Of random play and, where there is one, the reference agent.
        reference: Label of the reference agent.

    Raises:
        LramError: An episode has no score, or the reference agent cannot play a task.
    """
    returns = _returns(run, reference)
    digest = run_digest(run.records())
    return [_measured(run, planned, reference, returns, digest) for planned in run.plan.tasks]


def run_digest(records: Sequence[EpisodeRecord]) -> str:
    """Return a digest of what was played, wherever: of items, seeds, returns and trajectories."""
    found = hashlib.sha256()
    for one in records:
        found.update(
            f"{one.item.id}|{one.seed}|{one.protocol}|{one.episode_return!r}|{one.trajectory}\n".encode()
        )
    return found.hexdigest()


def _returns(run: Run, reference: str | None) -> dict[tuple[str, str], list[float]]:
    for skip in run.plan.skipped:
        raise LramError(
            f"{skip.agent} cannot play {skip.task} ({skip.reason}); measure it with another --reference"
        )
    if missing := len(run.missing()):
        raise LramError(f"{run.path} lacks {missing} episodes; resume it with: {resume_command(run)}")
    returns: dict[tuple[str, str], list[float]] = {}
    for record in run.records():
        if record.failure is not None or record.episode_return is None:
            why = record.failure.message if record.failure is not None else "it has no return"
            raise LramError(
                f"episode {record.episode} of {record.agent} on {record.task} has no score ({why}), and a "
                f"reference needs all; play it again: {resume_command(run)} --retry-errors"
            )
        returns.setdefault((record.agent, record.task), []).append(record.episode_return)
    return returns


def _earned(values: Sequence[float]) -> Earned:
    return Earned(fmean(values), stdev(values) / math.sqrt(len(values)), max(values), len(values))


def _measured(
    run: Run,
    planned: PlannedTask,
    reference: str | None,
    returns: dict[tuple[str, str], list[float]],
    digest: str,
) -> Measurement:
    task = planned.task
    random = _earned(returns[RANDOM, task.id])
    theirs = _earned(returns[reference, task.id]) if reference is not None else None
    entry = References(
        random=_rounded(random.mean),
        random_error=_rounded(random.error),
        reference=None if theirs is None else _rounded(theirs.mean),
        reference_error=None if theirs is None else _rounded(theirs.error),
        source=_source(run, planned, reference, digest),
        target_return=None if theirs is None else _rounded(theirs.mean),
        reward_scale=_scale(random, theirs),
    )
    return Measurement(task, random, theirs, entry, _problem(task, random, theirs))


def _problem(task: Task, random: Earned, reference: Earned | None) -> str:
    if reference is None:
        return ""
    difference = reference.mean - random.mean
    margin = _Z * math.hypot(random.error, reference.error)
    if difference > margin:
        return ""
    return (
        f"{task.id}: the reference's mean return {reference} is not above random play's {random} by more "
        f"than chance (difference {difference:.4g}, needed above {margin:.4g}; ± is a standard error); "
        "give a better --reference or more episodes"
    )


def _scale(random: Earned, reference: Earned | None) -> float:
    """Return the power of ten that brings a task's returns below 10, so that models read moderate numbers.

    Returns of the paper's data lie there after division by its scales (Meta-World's 2,000 by 200).
    """
    largest = max(abs(random.mean), abs(reference.mean) if reference is not None else 0.0)
    return 10.0 ** max(0, math.floor(math.log10(largest))) if largest > 0 else 1.0


def _source(run: Run, planned: PlannedTask, reference: str | None, digest: str) -> str:
    plan, when = run.plan, run.provenance()[-1].started[:10]
    agents = "random play" if reference is None else f"random play and {printable(reference, 120)}"
    weights = {entry.label: entry.info.digest for entry in plan.agents}.get(reference or "", "")
    named = f" (digest {weights[:12]})" if weights else ""
    text = (
        f"measured {when} by lram reference: {agents}{named}, {plan.episodes} episodes each, "
        f"seed {plan.seed}, "
        f"{planned.protocol}, run {digest[:12]}"
    )
    return printable(text, LONGEST_SOURCE)


def _rounded(value: float) -> float:
    """Return six significant digits: more than any standard error leaves."""
    return float(f"{value:.6g}")
