"""The tables of embeddings: how well kinds are told apart, and every state's place in the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lram.harness.embedding.folder import Embeddings
from lram.reports import text
from lram.reports.model import ALL_EQUAL
from lram.reports.sections.embedding.analysis import EmbeddedStates, EmbeddingResult, Separation, domain_of
from lram.reports.sections.embedding.measures import FEWEST, LEVEL, MeasuredSeparation
from lram.reports.table import Column, Table, TableCell, hidden, words


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    model: EmbeddedStates
    separation: Separation


@dataclass(frozen=True, slots=True)
class _Point:
    name: str
    task: str
    trajectory: int
    timestep: int
    pca: tuple[float, float]
    umap: tuple[float, float] | None


def tables(
    found: Sequence[Embeddings], results: Sequence[EmbeddingResult], names: Sequence[Sequence[str]]
) -> list[Table[Any]]:
    """Return every table, in the order of the page.

    Args:
        found, results: Of each folder.
        names: Of the models of each folder, as tables print them.
    """
    rows = [
        _Row(name, model, separation)
        for result, called in zip(results, names, strict=True)
        for name, model in zip(called, result.models, strict=True)
        for separation in model.separations
    ]
    columns: list[Column[_Row]] = [
        words("Model", "model", lambda row: row.name),
        words("Kinds", "by", lambda row: row.separation.by, lambda by: f"{by}s"),
        Column("Count", "kinds", lambda row: row.separation.kinds),
        Column(
            "Neighbour of its kind", "neighbours", lambda row: row.separation.neighbours, _share, parts=_PARTS
        ),
        Column(
            "By chance",
            "chance",
            lambda row: row.separation.chance,
            lambda value: f"{text.percent(value)}%",
        ),
        Column("Silhouette", "silhouette", lambda row: row.separation.silhouette, _three, parts=_PARTS),
    ]
    caption = (
        "How often the nearest neighbour of a state, among the states of other trajectories, is of its own "
        "domain or task, and the silhouette of the kinds (1: far apart; 0: on top of each other). "
        "Distances are "
        f"Euclidean, in all dimensions. Small print: {LEVEL:.0%} intervals over trajectories "
        f"(jackknife, by task); none of fewer than {FEWEST} trajectories of a task, or where all count alike "
        f"(all equal)."
    )
    return [
        Table("embedding-separation", caption, columns, rows, "embedding_separation"),
        _points(found, names),
    ]


def _points(found: Sequence[Embeddings], names: Sequence[Sequence[str]]) -> Table[_Point]:
    columns: list[Column[_Point]] = [
        hidden("model", lambda row: row.name),
        hidden("domain", lambda row: domain_of(row.task)),
        hidden("task", lambda row: row.task),
        hidden("trajectory", lambda row: row.trajectory),
        hidden("timestep", lambda row: row.timestep),
        hidden("pca_1", lambda row: round(row.pca[0], 5)),
        hidden("pca_2", lambda row: round(row.pca[1], 5)),
        hidden("umap_1", lambda row: None if row.umap is None else round(row.umap[0], 5)),
        hidden("umap_2", lambda row: None if row.umap is None else round(row.umap[1], 5)),
    ]
    rows = []
    for one, called in zip(found, names, strict=True):
        for place, name in enumerate(called):
            umap = one.umap[place].tolist() if one.umap else [None] * len(one.task)
            rows += [
                _Point(name, one.record.tasks[task], trajectory, timestep, tuple(at), tuple(u) if u else None)
                for task, trajectory, timestep, at, u in zip(
                    one.task.tolist(),
                    one.episode.tolist(),
                    one.timestep.tolist(),
                    one.pca[place].tolist(),
                    umap,
                    strict=True,
                )
            ]
    return Table("", "", columns, rows, "embedding_points")


_PARTS = (
    ("", lambda one: one.value),
    ("_low", lambda one: one.low),
    ("_high", lambda one: one.high),
)


def printed_rows(result: EmbeddingResult) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return headings and rows for a terminal."""
    headings = ("model", "kinds", "neighbour of its kind", "by chance", "silhouette")
    rows: list[tuple[object, ...]] = [
        (
            model.model,
            f"{one.kinds} {one.by}s",
            _flat(_share(one.neighbours)),
            f"{text.percent(one.chance)}%",
            _flat(_three(one.silhouette)),
        )
        for model in result.models
        for one in model.separations
    ]
    return headings, rows


def _share(found: MeasuredSeparation) -> TableCell:
    return _cell(found, lambda value: f"{text.percent(value, 1)}%")


def _three(found: MeasuredSeparation) -> TableCell:
    return _cell(found, lambda value: text.number(value, 3))


def _cell(found: MeasuredSeparation, form: Any) -> TableCell:
    if found.value is None:
        return TableCell(text.NONE)
    if found.low is None or found.high is None:
        why = ALL_EQUAL if found.note == ALL_EQUAL else "no interval"
        return TableCell(form(found.value), why, value=found.value)
    return TableCell(form(found.value), f"[{form(found.low)}, {form(found.high)}]", value=found.value)


def _flat(cell: TableCell) -> str:
    return f"{cell.text} {cell.small}".strip()
