"""The section "training seeds": models that were trained several times, with the noise between trainings.

It is there where ``lram report --seeds-of`` says which agents are trainings of one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from lram.harness.storage.run_folder import Run
from lram.reports import forms, text
from lram.reports.evidence.collect import gathered
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Caveat
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.training_seeds.model import (
    Measure,
    SeedDifference,
    SeedMean,
    SeedsResult,
    estimate_seeds,
)
from lram.reports.statistics import LEAST_SEEDS, MOST_SEEDS
from lram.reports.table import EMPTY, Column, Table, TableCell, hidden, normaliser_column, words

KEY = "seeds"
TITLE = "Training seeds"
LEVEL = 0.95

_NAMES: dict[Measure, str] = {
    "score": "normalised score",
    "success_any": "solved at any step, %",
    "success_last": "solved at the last step, %",
}


def section(runs: Sequence[Run] | Evidence, settings: SectionSettings | None = None) -> Section | None:
    """Return the section on trainings of one model; None where none are named.

    Args:
        runs: Evaluations, or what was collected from them.
        settings: The groups of trainings, and whose references scores have.

    Raises:
        LramError: The runs do not go together, an agent is not there, or two have the same weights.
    """
    settings = settings or SectionSettings()
    if not settings.seed_groups:
        return None
    from lram.reports.sections.training_seeds.figure import draw  # loads matplotlib

    evidence = gathered(runs, settings.normaliser)
    result = estimate_seeds(evidence, settings.seed_groups, LEVEL)
    drawing = draw(result)
    return Section(
        key=KEY,
        title=TITLE,
        lead=[
            line + (text.score_words(settings.normaliser) if place == 0 else "")
            for place, line in enumerate(_lead(result))
        ],
        tables=_tables(result, settings),
        drawings=[drawing] if drawing is not None else [],
        summary=msgspec.to_builtins(result),
        caveats=list(caveats(result)),
        methods=_METHODS,
        headline=_headline(result),
    )


_METHODS = (
    (
        "Training seeds",
        "Agents that are trainings of one model with different seeds make one number: the mean over them of "
        "each one's mean of domain means, with a t interval over the trainings, which holds the noise of "
        "training and, with it, that of each training's episodes. Two models are compared by the differences "
        "of their trainings, the first of one minus the first of the other and so on, over episodes that "
        "began alike where both have such: a t-test over these differences, of three or more, corrected "
        "(Holm) for all pairs of models. All of it rests on the tasks that every training of every model "
        "has a value of.",
    ),
)


def _lead(result: SeedsResult) -> Iterator[str]:
    scores = [mean for group in result.groups if (mean := _score_of(result, group.name)) is not None]
    for mean in scores:
        if mean.mean is None:
            yield f"{mean.group} has no score: {mean.reason}."
            continue
        trainings = text.count(len(mean.trainings), "training")
        yield (
            f"{mean.group}: normalised score {forms.three(mean.mean.value)} "
            f"{text.span(mean.mean, forms.three)} over {trainings}, on {text.count(mean.tasks, 'task')}."
        )
    if not scores:
        yield "No task has a score of every training."
    shown = [one for one in result.differences if one.verdict != "cannot tell"]
    for one in shown:
        assert one.difference is not None
        yield (
            f"{one.first} scores {'higher' if one.verdict == 'better' else 'lower'} than {one.second}, "
            f"also between trainings: {_signed(one.difference.value)} "
            f"{text.span(one.difference, _signed)}, p {text.p_value(one.p_holm)} after Holm's correction."
        )
    if result.differences and not shown:
        yield "Between no two models is a difference of scores shown."


def _headline(result: SeedsResult) -> str:
    """Return which model is best over its trainings, and against which others that is shown."""
    scores = [
        (mean.group, mean.mean, len(mean.trainings))
        for group in result.groups
        if (mean := _score_of(result, group.name)) is not None and mean.mean is not None
    ]
    if not scores:
        return ""
    scores.sort(key=lambda score: -score[1].value)
    (first, best, trainings), *rest = scores
    barred = [name for name, _, _ in rest if _is_barred(result, first, name)]
    others = [name for name, _, _ in rest if name not in barred]
    span = text.span(best, lambda value: text.number(value, 2))
    said = f"{text.number(best.value, 2)} {span} over {text.count(trainings, 'training')} {text.SCALE}"
    without = [group.name for group in result.groups if group.name not in {first, *others}]
    end = f" {text.names_up_to(without, 3)} cannot be compared." if without else ""
    if not others:
        return f"{first} scores {said}.{end}"
    beaten = [name for name in others if _is_shown(result, first, name)]
    unclear = [name for name in others if name not in beaten]
    against = text.shown_better(beaten, unclear)
    return f"{first} has the highest score of the models, {said}{against}.{end}"


def _is_barred(result: SeedsResult, model: str, other: str) -> bool:
    return f"{model} against {other}" in result.apart or f"{other} against {model}" in result.apart


def _is_shown(result: SeedsResult, model: str, other: str) -> bool:
    return any(
        (one.first, one.second, one.verdict) in {(model, other, "better"), (other, model, "worse")}
        for one in result.differences
    )


def _score_of(result: SeedsResult, group: str) -> SeedMean | None:
    """Return a model's score over all domains, which comes first; None where no task has one."""
    return next((mean for mean in result.means if (mean.group, mean.measure) == (group, "score")), None)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + forms.three(value)


def caveats(result: SeedsResult) -> Iterator[Caveat]:
    """Yield what to know of trainings before their numbers are quoted."""
    few = tuple(group.name for group in result.groups if len(group.agents) < LEAST_SEEDS)
    if few:
        yield Caveat(
            "seeds-few",
            f"These models have fewer than {LEAST_SEEDS} trainings, so better or worse is said of none of "
            "them.",
            few,
        )
    if result.shared:
        yield Caveat(
            "seeds-shared-starts",
            "Trainings of these models met the same initial states. How well these suit a model is common "
            "to its trainings, so their intervals do not hold it: evaluate each training with a --seed of "
            "its own, the first of every model with the same.",
            result.shared,
        )
    if result.left_out:
        yield Caveat(
            "seeds-left-out",
            "These tasks are left out of the comparison of trainings, as not all trainings have a value of "
            "them.",
            tuple(f"{task}: {why}" for task, why in result.left_out),
        )
    if result.unfinished:
        yield Caveat(
            "seeds-unfinished",
            "These trainings miss episodes, so their values may change: continue with lram resume.",
            result.unfinished,
        )
    if result.lost:
        yield Caveat(
            "seeds-lost",
            "These trainings lost episodes of a task to errors. What is left of it weighs as much as a whole "
            "task, and a difference of two models rests on the episodes that both have.",
            result.lost,
        )
    if result.unpaired:
        yield Caveat(
            "seeds-unpaired",
            "Models have different numbers of trainings; their differences rest on the pairs that both have.",
            result.unpaired,
        )
    if result.apart:
        yield Caveat(
            "seeds-real-time",
            "These trainings acted in worlds of different rates (lram eval --realtime), whose scores do not "
            "compare, so that they are not put together or compared.",
            result.apart,
        )
    failed = tuple(mean.group for mean in result.means if mean.reason and mean.group not in result.apart)
    if failed:
        yield Caveat(
            "seeds-failed",
            "A training of these models has no score on a task because of its own failures, so that the "
            "model is not compared.",
            tuple(dict.fromkeys(failed)),
        )


def _tables(result: SeedsResult, settings: SectionSettings) -> list[Table[SeedMean] | Table[SeedDifference]]:
    last = normaliser_column(settings.normaliser)
    found: list[Table[SeedMean] | Table[SeedDifference]] = [
        Table(
            "seeds-means",
            f"Mean over trainings with its {result.level:.0%} t interval over them, and each training's "
            "value, in the order in which they were named. Success: share of episodes; its intervals end at "
            "0 and 100%.",
            [*_MEANS, last],
            result.means,
            "seeds_means",
        )
    ]
    if result.differences:
        found.append(
            Table(
                "seeds-differences",
                "Differences of normalised scores, the first model minus the second, over their pairs of "
                f"trainings, with {result.level:.0%} t intervals; Holm corrects for all pairs of models.",
                [*_DIFFERENCES, last],
                result.differences,
                "seeds_differences",
            )
        )
    return found


def _form(measure: Measure, value: float) -> str:
    return forms.three(value) if measure == "score" else text.percent(value, 1)


def _mean_cell(row: SeedMean) -> TableCell:
    if row.mean is None:
        return TableCell(text.NONE, row.reason)
    span = text.span(row.mean, lambda value: _form(row.measure, value))
    return TableCell(_form(row.measure, row.mean.value), row.mean.note or span, value=row.mean.value)


_MEANS: list[Column[SeedMean]] = [
    words("Model", "model", lambda row: row.group),
    words("Domain", "domain", lambda row: row.domain or "all"),
    words("Measure", "", lambda row: _NAMES[row.measure]),
    hidden("measure", lambda row: row.measure),
    Column("Tasks", "tasks", lambda row: row.tasks),
    Column("Trainings", "trainings", lambda row: len(row.trainings)),
    Column("Mean", "", lambda row: row, _mean_cell),
    hidden("mean", lambda row: row.mean.value if row.mean else None),
    hidden("low", lambda row: row.mean.interval.low if row.mean and row.mean.interval else None),
    hidden("high", lambda row: row.mean.interval.high if row.mean and row.mean.interval else None),
    words("Each", "", lambda row: ", ".join(_form(row.measure, value) for _, value in row.trainings)),
    hidden("each", lambda row: "; ".join(f"{label}: {value}" for label, value in row.trainings)),
    hidden("reason", lambda row: row.reason),
]


def _verdict_cell(row: SeedDifference) -> TableCell:
    if row.difference is None:
        return TableCell(text.NONE, row.reason)
    if row.verdict != "cannot tell" or row.reason:
        return TableCell(row.verdict, row.reason)
    if row.needed is None:
        return TableCell(row.verdict, f"more than {MOST_SEEDS} trainings of each would be needed")
    return TableCell(row.verdict, f"about {row.needed} of each would, if this is the effect")


def _difference_cell(row: SeedDifference) -> TableCell:
    if row.difference is None:
        return EMPTY
    small = row.difference.note or text.span(row.difference, _signed)
    return TableCell(_signed(row.difference.value), small, value=row.difference.value)


def _end(row: SeedDifference, which: Literal["low", "high"]) -> float | None:
    interval = row.difference.interval if row.difference else None
    return None if interval is None else getattr(interval, which)


_DIFFERENCES: list[Column[SeedDifference]] = [
    words("Model", "first", lambda row: row.first),
    words("against", "second", lambda row: row.second),
    words("Verdict", "", lambda row: row, _verdict_cell),
    hidden("verdict", lambda row: row.verdict),
    Column("Difference", "", lambda row: row, _difference_cell),
    hidden("difference", lambda row: row.difference.value if row.difference else None),
    hidden("low", lambda row: _end(row, "low")),
    hidden("high", lambda row: _end(row, "high")),
    Column("p", "p", lambda row: row.p, forms.p_values),
    Column("p, Holm", "p_holm", lambda row: row.p_holm, forms.p_values),
    Column("Pairs", "pairs", lambda row: len(row.pairs)),
    hidden("reason", lambda row: row.reason),
    hidden("seeds_needed", lambda row: row.needed),
]

SPEC = SectionSpec(KEY, "", section)
