"""Learning curves: what is read from watches, and what is estimated from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lram.envs.scores import Normaliser
from lram.harness.storage.run_folder import Run
from lram.harness.watching.folder import WatchFolder, label_of
from lram.reports.comparison.barrier import barrier
from lram.reports.comparison.paired_episodes import scores_of
from lram.reports.evidence.collect import collect
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Aggregate, rounded
from lram.reports.samples import SCORE, AgentSamples, Resampling, covered
from lram.reports.sections.learning.halves import pick
from lram.reports.statistics import equal_domain_weights, equal_task_weights, stream

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """One checkpoint.

    Attributes:
        update: Updates that it was trained for.
        digest: Of the model.
        score: Mean of domain means of the normalised score.
        domains: Mean score of each domain, in the curve's order of domains.
        scored, planned: Episodes.
        lacking: Those of ``domains`` in which planned episodes do not count.
    """

    update: int
    digest: str
    score: Aggregate
    domains: tuple[Aggregate, ...]
    scored: int
    planned: int
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a checkpoint that was chosen scored from other starts.

    Attributes:
        score: Mean of domain means of the normalised score, of the episodes that count.
        scored, planned: Episodes.
        obstacles: On which tasks it has no score by its own fault, and why on the first; empty for none.
    """

    score: Aggregate
    scored: int
    planned: int
    obstacles: str = ""

    @property
    def whole(self) -> bool:
        """Whether every planned episode counts, so that the score is one to publish."""
        return self.scored == self.planned


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The best of a curve's finished checkpoints, and what of its score the choice made.

    Attributes:
        update: Which.
        among: Checkpoints that it was chosen from: all that have every episode, and a score on every task on
            which any checkpoint has one.
        tasks, episodes: What it was chosen by: tasks, and episodes of each checkpoint.
        score: Its mean score there: too high on average, because it was chosen by it.
        corrected: The same by sample splitting (:mod:`lram.reports.sections.learning.halves`); None with a
            single checkpoint, which was not chosen, or a single episode of a task.
        agreement: Share of the halves that choose the same one.
        confirmed: Its score from other starts, also while episodes of it are missing; None where none was
            begun.
    """

    update: int
    among: int
    tasks: int
    episodes: int
    score: float
    corrected: float | None
    agreement: float | None
    confirmed: Confirmation | None = None


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """One training.

    Attributes:
        name: That tells it from the others.
        place: Of the training in the report, for its colour.
        updates: That the training is to make.
        domains: Names.
        tasks: Ids.
        seed: Of the starts.
        points: By update.
        best: None where no checkpoint has every episode and a score on every such task.
        evidence: Of all runs but confirmations; None where there is none yet.
    """

    name: str
    place: int
    updates: int
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    seed: int
    points: tuple[LearningPoint, ...]
    best: BestCheckpoint | None
    evidence: Evidence | None


def read_curves(
    folders: Sequence[Path], normaliser: Normaliser = "paper", seed: int = 0
) -> list[LearningCurve]:
    """Return the curve of each watch, in the order of ``folders``; LramError where one is damaged."""
    watches = [WatchFolder(folder) for folder in folders]
    names = _names(watches)
    return [
        read_curve(watch, name, place, normaliser, seed)
        for place, (watch, name) in enumerate(zip(watches, names, strict=True))
    ]


def read_curve(
    watch: WatchFolder, name: str, place: int = 0, normaliser: Normaliser = "paper", seed: int = 0
) -> LearningCurve:
    """Return the curve of a watch.

    Args:
        watch: What 'lram watch' has written.
        name: Of the training.
        place: Of the training in the report.
        normaliser: Whose references scores have.
        seed: Of the splits in halves.
    """
    runs, plan = watch.runs(), watch.plan
    domains = tuple(dict.fromkeys(task.partition("/")[0] for task in plan.tasks))
    if not runs:
        return LearningCurve(name, place, plan.updates, domains, plan.tasks, plan.seed, (), None, None)
    evidence = collect(list(runs.values()), normaliser)
    how = Resampling(0, 1, LEVEL)  # nothing here is resampled
    points = tuple(_point(evidence, update, domains, how) for update in runs)
    best = _best(evidence, points, watch, normaliser, stream(seed, "learning", name))
    return LearningCurve(name, place, plan.updates, domains, plan.tasks, plan.seed, points, best, evidence)


def _names(watches: Sequence[WatchFolder]) -> list[str]:
    names = [Path(watch.plan.training).name or str(watch.path) for watch in watches]
    longer = [
        name if names.count(name) == 1 else f"{name} ({watch.path.name})"
        for name, watch in zip(names, watches, strict=True)
    ]
    return [
        name if longer.count(name) == 1 else f"{name} {place}" for place, name in enumerate(longer, start=1)
    ]


def _point(evidence: Evidence, update: int, domains: Sequence[str], how: Resampling) -> LearningPoint:
    label = label_of(update)
    samples, scored = AgentSamples(evidence, label, SCORE, how), covered(evidence, SCORE)
    tasks = [planned.task for planned in evidence.tasks]
    cells = [cell for (agent, _), cell in evidence.cells.items() if agent == label]
    digest = next(agent.info.digest for agent in evidence.agents if agent.label == label)
    return LearningPoint(
        update,
        digest,
        samples.aggregate(tasks, scored, equal_domain_weights),
        tuple(
            samples.aggregate([task for task in tasks if task.domain == name], scored, equal_task_weights)
            for name in domains
        ),
        sum(len(cell.counted) for cell in cells),
        sum(cell.planned for cell in cells),
        tuple(
            name
            for name in domains
            if any(
                cell.planned > len(cell.counted)
                for (agent, task), cell in evidence.cells.items()
                if agent == label and task.partition("/")[0] == name
            )
        ),
    )


def _best(
    evidence: Evidence,
    points: Sequence[LearningPoint],
    watch: WatchFolder,
    normaliser: Normaliser,
    generator: np.random.Generator,
) -> BestCheckpoint | None:
    by_update = {point.update: scores_of(evidence, label_of(point.update)) for point in points}
    tasks = set[str]().union(*by_update.values())  # on others nobody can be chosen by
    # Failing a task by its own fault must not let a checkpoint be chosen by the tasks that are left.
    finished = [
        point for point in points if whole(point) and tasks and tasks <= by_update[point.update].keys()
    ]
    if not finished:
        return None
    scores = [by_update[point.update] for point in finished]
    values, domains = [], []
    for planned in evidence.tasks:
        if planned.task.id not in tasks:
            continue
        mine = [one[planned.task.id] for one in scores]
        shared = set(mine[0].keys).intersection(*(one.keys for one in mine))
        values.append(
            np.array([[v for k, v in zip(one.keys, one.values, strict=True) if k in shared] for one in mine])
        )
        domains.append(planned.task.domain)
    found = pick(values, equal_domain_weights(domains), generator)
    update, alone = finished[found.place].update, len(finished) == 1
    run = watch.confirmations().get(update)
    return BestCheckpoint(
        update=update,
        among=len(finished),
        tasks=len(values),
        episodes=sum(one.shape[1] for one in values),
        score=rounded(found.score),
        corrected=None if alone or found.corrected is None else rounded(found.corrected),
        agreement=None if alone or found.agreement is None else rounded(found.agreement),
        confirmed=None if run is None else confirmation(run, normaliser),
    )


def whole(point: LearningPoint) -> bool:
    """Return whether every planned episode of a checkpoint counts."""
    return point.scored == point.planned


def confirmation(run: Run, normaliser: Normaliser = "paper") -> Confirmation:
    """Return what a run of one checkpoint, which was chosen by other episodes, has of its score."""
    evidence, label = collect([run], normaliser), run.plan.agents[0].label
    samples = AgentSamples(evidence, label, SCORE, Resampling(0, 1, LEVEL))
    tasks = [planned.task for planned in evidence.tasks]
    return Confirmation(
        samples.aggregate(tasks, covered(evidence, SCORE), equal_domain_weights),
        sum(len(cell.counted) for cell in evidence.cells.values()),
        sum(cell.planned for cell in evidence.cells.values()),
        barrier(evidence, {label: "no score"}),
    )
