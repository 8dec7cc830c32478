"""What a study of precisions found: scores and their differences, actions, times and bytes of every cell."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lram.envs.scores import Normaliser
from lram.harness.studies.precision.folder import PrecisionFolder
from lram.harness.studies.precision.records import PrecisionCell, PrecisionPoint, TaskAgreement
from lram.harness.studies.precision.study import PrecisionStudy
from lram.reports.comparison.compare import ALL_ALIKE, finer, paired
from lram.reports.comparison.paired_episodes import scores_of
from lram.reports.evidence.collect import collect
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Aggregate, Comparison, rounded
from lram.reports.samples import Resampling
from lram.reports.statistics import holm
from lram.reports.summary.summarise import summarise

Word = Literal["", "better", "worse", "no difference shown", "not comparable"]
"""The words of a verdict (:mod:`lram.reports.verdict`, which stands above the sections), or none."""


@dataclass(frozen=True, slots=True)
class PrecisionCost:
    """What a decision of one batch costs.

    Attributes:
        batch, context: Lanes that decide at once, and timesteps that they had read.
        ms, cpu_ms: Medians, of the clock and of the processor's time.
        ratio: Median over the turns of the processor's time by the first precision's in the same turn; None
            for the first.
        state_bytes: Of all lanes.
        weight_bytes: As the step reads them.
    """

    batch: int
    context: int
    ms: float
    cpu_ms: float
    ratio: float | None
    state_bytes: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class PrecisionResult:
    """One checkpoint in one precision.

    Attributes:
        cell: It.
        to_do: What is to be done next; empty when it is whole.
        score: Mean of domain means of normalised scores; None before it is evaluated.
        task_scores: Mean normalised score by task.
        comparison: Against the first precision, on episodes that began alike; None for the first, and where
            one of the two is not evaluated.
        word: The verdict, by the corrected p; empty where there is no comparison.
        bound: The largest difference that the interval leaves possible; None without an interval.
        actions: Against those that the first precision took, by task.
        costs: By batch and context.
        load: The machine's, when times were taken.
        failed: By task, episodes that failed by the checkpoint's own errors.
        uncounted: Of these tasks, those without a known least return: it has no score there.
        errored: Episodes without a score for other reasons.
    """

    cell: PrecisionCell
    to_do: str
    score: Aggregate | None = None
    task_scores: Mapping[str, float] | None = None
    comparison: Comparison | None = None
    word: Word = ""
    bound: float | None = None
    actions: tuple[TaskAgreement, ...] = ()
    costs: tuple[PrecisionCost, ...] = ()
    load: float | None = None
    failed: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    errored: int = 0

    @property
    def verdict(self) -> str:
        """The verdict in words; empty where there is none."""
        if self.comparison is None or self.word != "no difference shown":
            why = self.comparison.reason if self.comparison is not None else ""
            return f"{self.word}: {why}" if why else self.word
        if self.bound is not None:
            return f"{self.word}, smaller than {_up(self.bound)}"
        found = self.comparison.difference
        alike = found is not None and found.note == ALL_ALIKE
        return f"{self.word}: all pairs of episodes ended alike" if alike else f"{self.word}: too few pairs"

    def share(self, *, continuous: bool) -> float | None:
        """Return the share of equal actions on tasks of one kind, each task counting alike."""
        found = [task.equal / task.decisions for task in self.actions if task.continuous is continuous]
        return statistics.fmean(found) if found else None

    @property
    def difference(self) -> float | None:
        """The mean |difference| of continuous actions, each task counting alike."""
        found = [task.difference / task.decisions for task in self.actions if task.continuous]
        return statistics.fmean(found) if found else None

    @property
    def largest(self) -> float | None:
        """The largest |difference| of a continuous action in any dimension."""
        return max((task.largest for task in self.actions if task.continuous), default=None)


@dataclass(frozen=True, slots=True)
class PrecisionFindings:
    """A study of precisions with what was found."""

    path: Path
    study: PrecisionStudy
    rows: tuple[PrecisionResult, ...]
    level: float

    def base(self, row: PrecisionResult) -> bool:
        """Return whether a row is of the precision that the others are held against."""
        return row.cell.precision == self.study.precisions[0]


def _up(value: float) -> str:
    """Return a bound with three decimals, rounded up: it must hold as printed."""
    return f"{-(-value * 1000 // 1) / 1000:.3f}"


def read_findings(folder: str | Path, how: Resampling, normaliser: Normaliser = "paper") -> PrecisionFindings:
    """Read a study's folder; LramError where it is none or a record is damaged."""
    opened = PrecisionFolder(folder)
    runs = {cell.title: run for cell in opened.cells() if (run := opened.run(cell)) and not run.missing()}
    evidence = collect(list(runs.values()), normaliser) if runs else None
    rows: list[PrecisionResult] = []
    tests = len(opened.cells()) - len(opened.checkpoints())  # all but the first precision of each
    for label in opened.checkpoints():
        cells, times = opened.cells(label), opened.times(label)
        for cell in cells:
            agreement = opened.agreement(cell)
            row = PrecisionResult(
                cell,
                opened.to_do(cell),
                actions=agreement.tasks if agreement else (),
                costs=_costs(times.points, cell) if times else (),
                load=times.load if times else None,
            )
            if evidence is not None and cell.title in runs:
                row = _scored(row, evidence)
                if cell is not cells[0] and cells[0].title in runs:
                    pairing = paired(evidence, cell.title, cells[0].title, how)
                    row = replace(row, comparison=finer(pairing, how, tests))
            rows.append(row)
    return PrecisionFindings(Path(folder), opened.plan.study, tuple(_judged(rows, how.level)), how.level)


def _scored(row: PrecisionResult, evidence: Evidence) -> PrecisionResult:
    title = row.cell.title
    alone = replace(
        evidence,
        agents=tuple(agent for agent in evidence.agents if agent.label == title),
        cells={key: cell for key, cell in evidence.cells.items() if key[0] == title},
    )
    (result,) = summarise(alone, resamples=1).agents
    means = {
        task: rounded(float(scores.values.mean())) for task, scores in scores_of(evidence, title).items()
    }
    return replace(
        row,
        score=result.mean_of_domain_means,
        task_scores=means,
        failed={task: cell.failed for (_, task), cell in alone.cells.items() if cell.failed},
        uncounted=tuple(task for (_, task), cell in alone.cells.items() if cell.obstacle),
        errored=sum(len(cell.records) - len(cell.scored) - cell.failed for cell in alone.cells.values()),
    )


def _judged(rows: Sequence[PrecisionResult], level: float) -> list[PrecisionResult]:
    """Return the rows with p-values that are corrected for all of the study, and verdicts."""
    corrected = iter(
        holm([row.comparison.p for row in rows if row.comparison and row.comparison.p is not None])
    )
    judged = []
    for row in rows:
        found = row.comparison
        if found is None:
            judged.append(row)
            continue
        if found.p is None or found.difference is None:
            judged.append(replace(row, word="not comparable"))
            continue
        p = rounded(next(corrected))
        word: Word = "no difference shown"
        if p < 1 - level:
            word = "better" if found.difference.value > 0 else "worse"
        span = found.difference.interval
        bound = None if span is None else rounded(max(abs(span.low), abs(span.high)))
        judged.append(replace(row, comparison=replace(found, p_holm=p), word=word, bound=bound))
    return judged


def _costs(points: Sequence[PrecisionPoint], cell: PrecisionCell) -> tuple[PrecisionCost, ...]:
    first = points[0].precision if points else ""
    bases = {(point.batch, point.context): point for point in points if point.precision == first}
    found = []
    for point in points:
        if point.precision != cell.precision:
            continue
        base = bases[point.batch, point.context]
        turns = [one / other for one, other in zip(point.cpu_ms, base.cpu_ms, strict=False) if other > 0]
        ratio = statistics.median(turns) if turns and point.precision != first else None
        found.append(
            PrecisionCost(
                point.batch,
                point.context,
                rounded(statistics.median(point.ms)),
                rounded(statistics.median(point.cpu_ms)),
                None if ratio is None else rounded(ratio),
                point.state_bytes,
                point.weight_bytes,
            )
        )
    return tuple(found)
