"""The section on learning curves: the score of trainings' checkpoints over the updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lram.harness.watching.folder import MARKER, WatchFolder, label_of
from lram.reports import text
from lram.reports.comparison.barrier import barrier
from lram.reports.model import Caveat
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.learning.halves import SPLITS
from lram.reports.sections.learning.model import (
    BestCheckpoint,
    Confirmation,
    LearningCurve,
    LearningPoint,
    read_curves,
    whole,
)
from lram.reports.sections.learning.tables import tables
from lram.reports.summary.caveats import no_checksums

KEY = "learning"
_NAMED = 8


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section:
    """Return the section on the watches in ``folders``.

    Args:
        folders: Of 'lram watch'.
        settings: Seed of the splits in halves, and whose references scores have.

    Raises:
        LramError: A folder is none or damaged.
    """
    from lram.reports.sections.learning.figures import curves_figure  # loads matplotlib: a watch prints lines

    settings = settings or SectionSettings()
    curves = read_curves(folders, settings.normaliser, settings.seed)
    unsigned = [
        f"{folder.name}: {name}" for folder in folders for name in WatchFolder(folder).without_checksums()
    ]
    scored = any(curve.points for curve in curves)
    return Section(
        key=KEY,
        title="Learning curves",
        lead=_lead(curves, text.score_words(settings.normaliser)),
        tables=tables(curves, settings.normaliser) if scored else (),
        drawings=(curves_figure(curves),) if scored else (),
        summary=[_summary(curve) for curve in curves],
        caveats=[*no_checksums(unsigned, "learning-no-checksums"), *_caveats(curves)],
        methods=_METHODS,
    )


def best_words(name: str, best: BestCheckpoint) -> str:
    """Return what is known of a best checkpoint, in a sentence."""

    def three(value: float) -> str:
        return text.number(value, 3)

    of = text.count(best.among, "checkpoint")
    said = f"{name}: update {best.update} scores highest of {of}, {three(best.score)}"
    if best.corrected is not None:
        said += f" on the episodes that chose it, {three(best.corrected)} corrected for the choice"
    if best.confirmed is not None:
        found = best.confirmed.score.estimate
        value = "no score yet" if found is None else f"{three(found.value)} {text.span(found, three)}"
        said += f"; from other starts {value} ({_confirmed_on(best.confirmed)})"
    return f"{said}."


def _confirmed_on(found: Confirmation) -> str:
    if found.whole:
        return text.count(found.scored, "episode")
    return f"{found.scored} of {text.count(found.planned, 'episode')}: not confirmed yet"


def _lead(curves: Sequence[LearningCurve], normaliser: str) -> list[str]:
    found = [best_words(curve.name, curve.best) for curve in curves if curve.best is not None]
    return [
        "The checkpoints of a training, each an agent of its own, played from the same starts. A curve "
        "shows how the score came about; intervals are of the noise between episodes, and another training "
        "seed would give another curve." + normaliser,
        *(found[:_NAMED]),
        *([f"{len(found) - _NAMED} more trainings are in the table."] if len(found) > _NAMED else ()),
    ]


def _caveats(curves: Sequence[LearningCurve]) -> Iterator[Caveat]:
    empty = tuple(curve.name for curve in curves if not curve.points)
    if empty:
        yield Caveat("learning-empty", "No checkpoint of these trainings has been scored yet.", empty)
    lacking = tuple(
        f"{curve.name} update {point.update}: {point.scored} of {point.planned} episodes"
        for curve in curves
        for point in curve.points
        if not whole(point)
    )
    if lacking:
        yield Caveat(
            "learning-unfinished",
            "These checkpoints lack episodes that count, and the best one is not chosen from "
            "them; the same 'lram watch' continues with what is missing.",
            lacking,
        )
    begun = [
        (f"{curve.name} update {curve.best.update}", curve.best.confirmed)
        for curve in curves
        if curve.best is not None and curve.best.confirmed is not None
    ]
    unconfirmed = tuple(
        f"{name}: {found.scored} of {found.planned} episodes" for name, found in begun if not found.whole
    )
    if unconfirmed:
        yield Caveat(
            "learning-unconfirmed",
            "The confirmations of these checkpoints lack episodes that count, so their scores from other "
            "starts are not to be published yet; the same 'lram watch' with --confirm continues with what is "
            "missing, and 'lram resume' with --retry-errors plays errored episodes again.",
            unconfirmed,
        )
    failed = (
        *(
            f"{curve.name} update {point.update}: {why}"
            for curve in curves
            for point in curve.points
            if (why := _obstacles(curve, point))
        ),
        *(f"{name}, confirmed: {found.obstacles}" for name, found in begun if found.obstacles),
    )
    if failed:
        yield Caveat(
            "learning-failed",
            "These checkpoints failed tasks by their own errors and have no score there, so their means over "
            "the other tasks do not compare. The best one is chosen from checkpoints with a score on every "
            "task on which any checkpoint has one.",
            failed,
        )
    early = tuple(
        f"{curve.name}: {max(point.update for point in curve.points)} of {curve.updates} updates"
        for curve in curves
        if curve.points and max(point.update for point in curve.points) < curve.updates
    )
    if early:
        yield Caveat("learning-early", "The last checkpoint of these trainings is not scored yet.", early)
    if len({(frozenset(curve.tasks), curve.seed) for curve in curves}) > 1:
        yield Caveat(
            "learning-other-tasks",
            "The trainings did not all play the same tasks from the same starts, so their curves do not "
            "compare.",
            tuple(
                f"{curve.name}: {text.count(len(curve.tasks), 'task')}, seed {curve.seed}" for curve in curves
            ),
        )
    mixed = tuple(
        f"{curve.name}: {what}"
        for curve in curves
        if curve.evidence is not None
        for what in (*curve.evidence.mixtures, *curve.evidence.simulators)
    )
    if mixed:
        yield Caveat(
            "learning-mixed",
            "Episodes of these checkpoints or domains were computed in several ways, or played with "
            "several versions of a simulator: equal seeds need not mean equal worlds.",
            mixed,
        )


def _obstacles(curve: LearningCurve, point: LearningPoint) -> str:
    """Return on which tasks a checkpoint has no score by its own fault, and why on the first; often empty."""
    if curve.evidence is None:
        return ""
    label = label_of(point.update)
    # barrier() leaves out tasks without a usable reference, where nobody has a score.
    return barrier(curve.evidence, {label: "no score"})


def _summary(curve: LearningCurve) -> dict[str, Any]:
    def plain(aggregate: Any) -> dict[str, Any]:
        return {
            "estimate": msgspec.to_builtins(aggregate.estimate),
            "tasks": aggregate.rests_on.tasks,
            "of_tasks": aggregate.rests_on.of_tasks,
            "episodes": aggregate.rests_on.episodes,
        }

    best = curve.best
    return {
        "training": curve.name,
        "updates": curve.updates,
        "tasks": list(curve.tasks),
        "seed": curve.seed,
        "points": [
            {
                "update": point.update,
                "digest": point.digest,
                "score": plain(point.score),
                "domains": [
                    {"domain": name, **plain(score)}
                    for name, score in zip(curve.domains, point.domains, strict=True)
                ],
                "scored": point.scored,
                "planned": point.planned,
            }
            for point in curve.points
        ],
        "best": best
        and {
            "update": best.update,
            "among": best.among,
            "tasks": best.tasks,
            "episodes": best.episodes,
            "score": best.score,
            "corrected": best.corrected,
            "agreement": best.agreement,
            "confirmed": best.confirmed
            and {
                **plain(best.confirmed.score),
                "scored": best.confirmed.scored,
                "planned": best.confirmed.planned,
            },
        },
    }


_METHODS = (
    (
        "Best checkpoint",
        "Chosen by the mean of domain means, of the checkpoints that have every episode, and a score on "
        "every task on which any has one; of equals the earliest. The luck of the episodes that chose it is "
        "part of its score on them. Sample splitting: "
        f"the starts of each task are split at random into halves, {SPLITS:,} times; the best by one half "
        "is scored on the other, and the other way round. A score so made is on average the true score of "
        "what half of the episodes choose, and so as a rule no higher than that of what all of them choose; "
        "simulations in the tests hold it to that. It has no interval: its halves choose different "
        "checkpoints. Confirmed scores are of other starts, with the ordinary interval of a checkpoint "
        "that was not chosen by them.",
    ),
)

SPEC = SectionSpec(KEY, MARKER, section)
