"""The tables of trainings, for people and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lram.reports import forms, text
from lram.reports.evidence.trainings import Training
from lram.reports.model import Measures, Summary, TrainingResult, rounded
from lram.reports.summary.trainings import other_data
from lram.reports.table import EMPTY, Column, Form, Table, TableCell, Value, hidden, words

NAMES = ("training", "training_curves", "training_validation", "training_positions")
"""Of the files for programs, without their ending."""

_START = 12
"""Characters of a digest that are shown."""


def tables(summary: Summary, trainings: Sequence[Training]) -> list[Table[Any]]:
    """Return the tables of trainings, in the order of the page; none without trainings."""
    if not trainings:
        return []
    last = _last_validation(summary, trainings)
    return [
        _trainings(summary),
        *([last] if last else []),
        _identity(summary),
        _curves(trainings),
        _validations(trainings),
        _positions(trainings),
    ]


def _start(digest: str) -> str:
    return digest[:_START] or text.NONE


def _progress(one: TrainingResult) -> TableCell:
    whole = one.updates == one.of_updates
    return TableCell(str(one.updates), "" if whole else f"of {one.of_updates}", value=one.updates)


def _trainings(summary: Summary) -> Table[TrainingResult]:
    evaluated = bool(summary.agents)

    def model(one: TrainingResult) -> TableCell:
        return TableCell(one.model, one.size) if one.model else EMPTY

    def agents(labels: tuple[str, ...]) -> str:
        return ", ".join(summary.agent(label).name for label in labels) or text.NONE

    columns: list[Column[TrainingResult]] = [
        words("Training", "", lambda one: one.name),
        hidden("training", lambda one: one.label),
        hidden("finished", lambda one: one.finished),
        words("Model", "", lambda one: one, model),
        hidden("model", lambda one: one.model),
        hidden("size", lambda one: one.size),
        words("Evaluated as" if evaluated else "", "", lambda one: one.evaluated_as, agents),
        Column("Parameters", "parameters", lambda one: one.parameters, forms.parameters),
        Column("Updates", "", lambda one: one, _progress),
        hidden("updates", lambda one: one.updates),
        hidden("of_updates", lambda one: one.of_updates),
        hidden("timesteps", lambda one: one.timesteps),
        Column("Tokens", "tokens", lambda one: one.tokens, forms.parameters),
        Column("Time", "seconds", lambda one: one.seconds, _time),
        Column(
            "Tokens/s", "tokens_per_second", lambda one: one.tokens_per_second, forms.numbers("{:.0f}".format)
        ),
        Column("Waiting, %", "waiting_share", lambda one: one.waiting_share, forms.percentages(1)),
        hidden("seed", lambda one: one.seed),
        hidden("processes", lambda one: one.processes),
        hidden("stores", lambda one: None if one.stores is None else " ".join(one.stores)),
        hidden("recipe_digest", lambda one: one.recipe_digest),
        hidden("checkpoint_digest", lambda one: one.checkpoint_digest),
        hidden("began_from", lambda one: one.began_from),
        hidden("evaluated_as", lambda one: "; ".join(one.evaluated_as)),
        hidden("machine", lambda one: one.machine),
    ]
    caption = (
        "Tokens are those that the backbone read, without padding; time is that of updates, without "
        "validation. Time, tokens/s and waiting (for data, share of the time) are those of the machine that "
        "trained."
    )
    if evaluated:
        caption += " Evaluated as: the agents of this report that are the training's final checkpoint."
    return Table("training", caption, columns, summary.training, "training")


def _time(seconds: float) -> TableCell:
    return TableCell(text.duration(seconds), value=seconds) if seconds else EMPTY


def _identity(summary: Summary) -> Table[TrainingResult]:
    def stores(digests: tuple[str, ...] | None) -> str:
        return text.NONE if digests is None else ", ".join(digest[:_START] for digest in digests)

    columns: list[Column[TrainingResult]] = [
        words("Training", "", lambda one: one.name),
        words("Trajectory stores", "", lambda one: one.stores, stores),
        words("Recipe", "", lambda one: one.recipe_digest[:_START], str),
        words("Began from", "", lambda one: one.began_from[:_START] or "random weights"),
        words("Final checkpoint", "", lambda one: one.checkpoint_digest, _start),
        Column("Seed", "", lambda one: one.seed),
        Column("Processes", "", lambda one: one.processes),
    ]
    caption = (
        "What the trainings were made of: the first characters of SHA-256 digests (whole in "
        "tables/training.csv). Equal digests of stores and recipe mean equal data and settings."
    )
    return Table("training-identity", caption, columns, summary.training)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured of a training after an update, of a domain, a task, or of all."""

    training: str
    update: int
    name: str
    measures: Measures
    scope: str = ""
    tokens: int = 0
    seconds: float = 0.0
    flag: str = ""


def _measure_columns(*, people: bool) -> list[Column[_Measured]]:
    def column(
        heading: str, key: str, form: Form, flag: Callable[[_Measured], str] | None = None
    ) -> Column[_Measured]:
        def value(row: _Measured) -> Value:
            found: float | None = getattr(row.measures, key)
            return None if found is None else rounded(found)

        return Column(heading if people else "", "" if people else key, value, form, flag)

    figures = forms.numbers(text.figures)
    return [
        column("Loss", "loss", figures, lambda row: row.flag),
        column("Perplexity", "perplexity", figures),
        column("Top-1, %", "top1", forms.percentages(1)),
        column("Action error", "action_error", figures),
    ]


def _last_validation(summary: Summary, trainings: Sequence[Training]) -> Table[_Measured] | None:
    others = other_data(trainings)
    validated = [one for one in summary.training if one.validation]
    domains = sorted({name for one in validated if one.validation for name in one.validation.domains})
    rows = []
    for domain in [*domains, *(["mean over domains"] if len(domains) > 1 else [])]:
        for one in validated:
            found = one.validation
            measures = found and (found.domains.get(domain) if domain in domains else found.mean)
            if found and measures:
                flag = f"other data than {trainings[0].label}" if one.label in others else ""
                rows.append(_Measured(one.name, found.update, domain, measures, flag=flag))
    if not rows:
        return None
    columns: list[Column[_Measured]] = [
        words("Domain", "", lambda row: row.name),
        words("Training", "", lambda row: row.training),
        Column("After update", "", lambda row: row.update),
        *_measure_columns(people=True),
    ]
    caption = (
        "The last validation, on held-out trajectories. Loss: mean cross-entropy in nats; perplexity: "
        "e^loss; top-1: the likeliest class is the action's; action error: distance of the likeliest action "
        "from the one taken, in [−1, 1] a dimension, or the share of wrong ones where actions are discrete."
    )
    return Table("training-validation", caption, columns, rows)


def _curves(trainings: Sequence[Training]) -> Table[_Measured]:
    """Return one row a training, line of training metrics and domain."""

    def rows() -> Iterator[_Measured]:
        for one in trainings:
            for line, tokens in zip(one.lines, one.tokens, strict=True):
                for domain, measures in line.domains.items():
                    seconds = rounded(line.time.seconds)
                    yield _Measured(one.label, line.update, domain, measures, tokens=tokens, seconds=seconds)

    columns: list[Column[_Measured]] = [
        hidden("training", lambda row: row.training),
        hidden("update", lambda row: row.update),
        hidden("tokens", lambda row: row.tokens),
        hidden("seconds", lambda row: row.seconds),
        hidden("domain", lambda row: row.name),
        *_measure_columns(people=False),
    ]
    return Table("", "", columns, rows(), "training_curves")


def _validations(trainings: Sequence[Training]) -> Table[_Measured]:
    """Return one row a training, validation and what is measured: the mean over domains, a domain, a task."""

    def rows() -> Iterator[_Measured]:
        for one in trainings:
            for line in one.validations:
                yield _Measured(one.label, line.update, "", line.mean, "mean")
                for scope, found in (("domain", line.domains), ("task", line.tasks)):
                    for name, measures in found.items():
                        yield _Measured(one.label, line.update, name, measures, scope)

    columns: list[Column[_Measured]] = [
        hidden("training", lambda row: row.training),
        hidden("update", lambda row: row.update),
        hidden("scope", lambda row: row.scope),
        hidden("name", lambda row: row.name),
        *_measure_columns(people=False),
    ]
    return Table("", "", columns, rows(), "training_validation")


def _positions(trainings: Sequence[Training]) -> Table[tuple[str, int, str, int, float | None]]:
    """Return one row a training, validation, domain and timestep of the window, counted from 1."""
    rows = (
        (one.label, line.update, domain, timestep, None if loss is None else rounded(loss))
        for one in trainings
        for line in one.validations
        for domain, losses in line.positions.items()
        for timestep, loss in enumerate(losses, start=1)
    )
    columns: list[Column[tuple[str, int, str, int, float | None]]] = [
        hidden("training", lambda row: row[0]),
        hidden("update", lambda row: row[1]),
        hidden("domain", lambda row: row[2]),
        hidden("timestep", lambda row: row[3]),
        hidden("loss", lambda row: row[4]),
    ]
    return Table("", "", columns, rows, "training_positions")
