"""The pictures of embeddings: one panel a model and projection, states coloured by domain, or by task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lram.harness.embedding.folder import Embeddings, Floats, Integers
from lram.reports import text
from lram.reports.drawing import MUTED, WIDTH, Drawing, look, style_of
from lram.reports.sections.embedding.analysis import EmbeddingResult, domain_of

COLOURS = 8
"""Kinds that have a colour of their own; the others share a grey."""

_ROW = 3  # panels


def draw(found: Embeddings, result: EmbeddingResult, names: Sequence[str], place: int) -> list[Drawing]:
    """Return the figures of a folder, the ``place``-th: by PCA, and by UMAP where there is one."""
    made = [("pca", "Principal components", found.pca)]
    if found.umap:
        made.append(("umap", "UMAP", found.umap))
    with look():
        return [
            _figure(
                found, result, names, f"embedding-{key}" + (f"-{place + 1}" if place else ""), title, planes
            )
            for key, title, planes in made
        ]


def _figure(
    found: Embeddings,
    result: EmbeddingResult,
    names: Sequence[str],
    key: str,
    title: str,
    planes: Sequence[Floats],
) -> Drawing:
    by, kinds, of = _kinds(found, result)
    columns = min(_ROW, len(planes))
    rows = -(-len(planes) // columns)
    figure = Figure(figsize=(WIDTH, 2.6 * rows + 0.5), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, name, plane, model in zip(cells, names, planes, result.models, strict=False):
        for kind in range(len(kinds)):
            colour, marker = _look(kind)
            mine = plane[of == kind]
            axes.scatter(
                mine[:, 0],
                mine[:, 1],
                s=9,
                c=colour,
                marker=marker,
                linewidths=0,
                alpha=0.75,
                rasterized=False,
            )
        axes.set_title(name)
        axes.set_xticks([])
        axes.set_yticks([])
        if "pca" in key:
            axes.set_xlabel(f"{text.percent(model.explained[0])}% of the variance")
            axes.set_ylabel(f"{text.percent(model.explained[1])}%")
    for axes in cells[len(planes) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], linestyle="", color=_look(kind)[0], marker=_look(kind)[1], markersize=5, label=name)
        for kind, name in enumerate(kinds[:COLOURS])
    ]
    if len(kinds) > COLOURS:
        rest = f"{len(kinds) - COLOURS} more"
        handles.append(Line2D([], [], linestyle="", color=MUTED, marker=".", markersize=5, label=rest))
    figure.legend(handles=handles, loc="outside upper left", ncols=4, fontsize=7.5)
    return Drawing(
        key,
        f"Hidden states by {by}: {title}",
        f"Each point is the state that an action is read from, computed from at most {result.context} "
        f"timesteps; "
        f"{result.states} states of {result.trajectories} trajectories, the same for every model. "
        f"What lies near in "
        "a plane need not be near in all dimensions: the table measures there."
        + (" Axes of different models, and of UMAP, have no common scale." if len(planes) > 1 else ""),
        figure,
    )


def _kinds(found: Embeddings, result: EmbeddingResult) -> tuple[str, list[str], Integers]:
    """Return what colours tell, their names, and the kind of each state: (n,)."""
    tasks = found.record.tasks
    if len(result.domains) > 1:
        of_task = np.array([result.domains.index(domain_of(task)) for task in tasks])
        return "domain", list(result.domains), of_task[found.task]
    return "task", [task.partition("/")[2] for task in tasks], found.task


def _look(kind: int) -> tuple[str, str]:
    return style_of(kind) if kind < COLOURS else (MUTED, ".")
