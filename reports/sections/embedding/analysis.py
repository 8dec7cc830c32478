"""What embeddings say: frozen dataclasses that msgspec writes into ``summary.json``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lram.harness.embedding.folder import Embeddings
from lram.reports.sections.embedding.measures import Distances, MeasuredSeparation, chance, measure

BY = ("domain", "task")


@dataclass(frozen=True, slots=True)
class Separation:
    """How well a model's states tell domains, or tasks, apart.

    Attributes:
        by: ``domain`` or ``task``.
        kinds: How many there are.
        neighbours: Share of states whose nearest neighbour in another trajectory is of the same kind.
        chance: That share where neighbours are drawn at random.
        silhouette: Of the kinds as clusters, over states of other trajectories.
    """

    by: str
    kinds: int
    neighbours: MeasuredSeparation
    chance: float
    silhouette: MeasuredSeparation


@dataclass(frozen=True, slots=True)
class EmbeddedStates:
    """A model's states.

    Attributes:
        model: Its label.
        description: What it is.
        trained: Whether its weights were trained.
        digest: Of the weights.
        width: Of a state.
        explained: Share of the variance on the two principal axes.
        separations: By domain, where there are several, and by task, likewise.
    """

    model: str
    description: str
    trained: bool | None
    digest: str
    width: int
    explained: tuple[float, float]
    separations: tuple[Separation, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """What a folder says.

    Attributes:
        models: In its order.
        domains, tasks: There are.
        trajectories, states: Of all tasks together.
        context: Timesteps that a state was computed from, at most.
        seed: Of the drawing.
        umap: Version; empty: there is no such projection.
    """

    models: tuple[EmbeddedStates, ...]
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    trajectories: int
    states: int
    context: int
    seed: int
    umap: str


def domain_of(task: str) -> str:
    """Return the domain that a task's id begins with."""
    return task.partition("/")[0]


def summarise(found: Embeddings) -> EmbeddingResult:
    """Return the numbers of embeddings; the same each time."""
    record = found.record
    _, trajectory = np.unique(found.episode, return_inverse=True)
    trajectory = trajectory.astype(np.int64)
    first = np.unique(trajectory, return_index=True)[1]
    tasks = found.task[first]
    domains = tuple(dict.fromkeys(map(domain_of, record.tasks)))
    by_task = np.array([domains.index(domain_of(task)) for task in record.tasks], np.int64)
    kinds = {"domain": by_task[tasks], "task": tasks}
    models = []
    for place, model in enumerate(record.models):
        distances = Distances(found.hidden[place], trajectory)
        separations = tuple(
            Separation(
                by,
                len(np.unique(kinds[by])),
                measure(distances, "neighbours", kinds[by], tasks),
                chance(distances, kinds[by]),
                measure(distances, "silhouettes", kinds[by], tasks),
            )
            for by in BY
            if len(np.unique(kinds[by])) > 1
        )
        x, y = found.explained[place].tolist()
        info = model.info
        models.append(
            EmbeddedStates(
                model.label, info.description, info.trained, info.digest, model.width, (x, y), separations
            )
        )
    return EmbeddingResult(
        models=tuple(models),
        domains=domains,
        tasks=record.tasks,
        trajectories=len(first),
        states=len(trajectory),
        context=record.context,
        seed=record.seed,
        umap=record.umap,
    )
