"""The tables of trainings that people read, and those for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from lram.reports import text
from lram.reports.model import Summary, rounded
from lram.reports.sections.training.folder import Training
from lram.reports.sections.training.model import Measures, TrainingResult
from lram.reports.sections.training.section import other_data
from lram.reports.tables import Row, csv_of
from lram.reports.views import EMPTY, Cell, Table, columns, integer

_START = 12
"""Characters of a digest that are shown."""


def tables(summary: Summary, trainings: Sequence[Training]) -> list[Table]:
    """Return the tables of the section on trainings: what was trained, how well it predicts, what it is."""
    if not summary.training:
        return []
    validation = _validation(summary, other_data(trainings), trainings[0].label)
    return [_effort(summary), *([validation] if validation else []), _identity(summary)]


def _effort(summary: Summary) -> Table:
    evaluated = ["Evaluated as"] if summary.agents else []
    headings = ["Training", "Model", *evaluated, "Parameters", "Updates", "Tokens", "Time", "Tokens/s"]
    caption = (
        "Tokens are those that the backbone read, without padding; time is that of updates, without "
        "validation. Time, tokens/s and waiting (for data, share of the time) are those of the machine that "
        "trained."
    )
    if evaluated:
        caption += " Evaluated as: the agents of this report that are the training's final checkpoint."
    rows = tuple(
        (
            Cell(one.name),
            Cell(one.model, one.size) if one.model else EMPTY,
            *([_evaluated_as(one, summary)] if evaluated else []),
            Cell(text.parameters(one.parameters), value=one.parameters),
            integer(one.updates)
            if one.updates == one.of_updates
            else Cell(str(one.updates), f"of {one.of_updates}", value=one.updates),
            Cell(text.parameters(one.tokens), value=one.tokens),
            Cell(text.duration(one.seconds), value=one.seconds) if one.seconds else EMPTY,
            _speed(one.tokens_per_second),
            _percent(one.waiting_share, 1),
        )
        for one in summary.training
    )
    return Table("training", caption, columns([*headings, "Waiting, %"], words=2 + len(evaluated)), rows)


def _evaluated_as(one: TrainingResult, summary: Summary) -> Cell:
    return Cell(", ".join(summary.agent(label).name for label in one.evaluated_as) or text.NONE)


def _validation(summary: Summary, others: frozenset[str], first: str) -> Table | None:
    validated = [one for one in summary.training if one.validation]
    domains = sorted({name for one in validated if one.validation for name in one.validation.domains})
    rows = []
    for domain in [*domains, *(["mean over domains"] if len(domains) > 1 else [])]:
        for one in validated:
            found = one.validation
            measures = found and (found.domains.get(domain) if domain in domains else found.mean)
            if found and measures:
                flag = f"other data than {first}" if one.label in others else ""
                cells = (
                    _figures(measures.loss, flag),
                    _figures(measures.perplexity),
                    _percent(measures.top1, 1),
                )
                updates = integer(found.update)
                rows.append((Cell(domain), Cell(one.name), updates, *cells, _figures(measures.action_error)))
    if not rows:
        return None
    headings = ["Domain", "Training", "After update", "Loss", "Perplexity", "Top-1, %", "Action error"]
    caption = (
        "The last validation, on held-out trajectories. Loss: mean cross-entropy in nats; perplexity: "
        "e^loss; top-1: the likeliest class is the action's; action error: distance of the likeliest action "
        "from the one taken, in [−1, 1] a dimension, or the share of wrong ones where actions are discrete."
    )
    return Table("training-validation", caption, columns(headings, words=2), tuple(rows))


def _identity(summary: Summary) -> Table:
    rows = tuple(
        (
            Cell(one.name),
            Cell(text.NONE if one.stores is None else ", ".join(digest[:_START] for digest in one.stores)),
            Cell(one.recipe_digest[:_START]),
            Cell(one.began_from[:_START] or "random weights"),
            Cell(one.checkpoint_digest[:_START] or text.NONE),
            integer(one.seed),
            integer(one.processes),
        )
        for one in summary.training
    )
    headings = [
        "Training",
        "Trajectory stores",
        "Recipe",
        "Began from",
        "Final checkpoint",
        "Seed",
        "Processes",
    ]
    caption = (
        "What the trainings were made of: the first characters of SHA-256 digests (whole in "
        "tables/training.csv). Equal digests of stores and recipe mean equal data and settings."
    )
    return Table("training-identity", caption, columns(headings, words=5), rows)


def _figures(value: float | None, flag: str = "") -> Cell:
    return Cell(text.NONE if value is None else text.figures(value), flag=flag, value=value)


def _percent(share: float | None, digits: int) -> Cell:
    return Cell(text.NONE if share is None else text.number(100 * share, digits), value=share)


def _speed(value: float | None) -> Cell:
    return Cell(text.NONE if value is None else f"{value:.0f}", value=value)


def csv_files(summary: Summary, trainings: Sequence[Training]) -> dict[str, bytes]:
    """Return the content of every table of trainings by file name; empty without trainings."""
    if not trainings:
        return {}
    return {f"{name}.csv": csv_of(rows(summary, trainings)) for name, rows in TABLES.items()}


def per_training(summary: Summary, trainings: Sequence[Training]) -> Iterator[Row]:
    """Yield one row a training."""
    for one in summary.training:
        yield {
            "training": one.label,
            "finished": one.finished,
            "model": one.model,
            "size": one.size,
            "parameters": one.parameters,
            "updates": one.updates,
            "of_updates": one.of_updates,
            "timesteps": one.timesteps,
            "tokens": one.tokens,
            "seconds": one.seconds,
            "tokens_per_second": one.tokens_per_second,
            "waiting_share": one.waiting_share,
            "seed": one.seed,
            "processes": one.processes,
            "stores": None if one.stores is None else " ".join(one.stores),
            "recipe_digest": one.recipe_digest,
            "checkpoint_digest": one.checkpoint_digest,
            "began_from": one.began_from,
            "evaluated_as": "; ".join(one.evaluated_as),
            "machine": one.machine,
        }


def curves(summary: Summary, trainings: Sequence[Training]) -> Iterator[Row]:
    """Yield one row a training, line of training metrics and domain."""
    for one in trainings:
        for line, tokens in zip(one.lines, one.tokens, strict=True):
            for domain, measures in line.domains.items():
                place: Row = {"training": one.label, "update": line.update, "tokens": tokens}
                yield {
                    **place,
                    "seconds": rounded(line.time.seconds),
                    "domain": domain,
                    **_measures(measures),
                }


def validations(summary: Summary, trainings: Sequence[Training]) -> Iterator[Row]:
    """Yield one row a training, validation and what is measured: the mean over domains, a domain, a task."""
    for one in trainings:
        for line in one.validations:
            groups = [("mean", "", line.mean)]
            groups += [("domain", name, found) for name, found in line.domains.items()]
            groups += [("task", name, found) for name, found in line.tasks.items()]
            for scope, name, measures in groups:
                head: Row = {"training": one.label, "update": line.update, "scope": scope, "name": name}
                yield {**head, **_measures(measures)}


def positions(summary: Summary, trainings: Sequence[Training]) -> Iterator[Row]:
    """Yield one row a training, validation, domain and timestep of the window, counted from 1."""
    for one in trainings:
        for line in one.validations:
            for domain, losses in line.positions.items():
                for timestep, loss in enumerate(losses, start=1):
                    head: Row = {"training": one.label, "update": line.update, "domain": domain}
                    yield {**head, "timestep": timestep, "loss": None if loss is None else rounded(loss)}


def _measures(measures: Measures) -> Row:
    values = {
        "loss": measures.loss,
        "perplexity": measures.perplexity,
        "top1": measures.top1,
        "action_error": measures.action_error,
    }
    return {name: None if value is None else rounded(value) for name, value in values.items()}


TABLES: Mapping[str, Callable[[Summary, Sequence[Training]], Iterable[Row]]] = MappingProxyType(
    {
        "training": per_training,
        "training_curves": curves,
        "training_validation": validations,
        "training_positions": positions,
    }
)
