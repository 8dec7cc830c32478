"""What ``lram embed`` writes: ``embedding.json``, and the numbers beside it in ``states.npz``.

::

    FOLDER/
        embedding.json    models, stores, tasks, how states were taken; the digest of the other file
        states.npz        task, episode, timestep (n,); of model i hidden_i (n, width) float32, pca_i (n, 2),
                          explained_i (2,), and umap_i (n, 2) where UMAP was asked for and installed
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lram.agents.api import AgentInfo
from lram.harness.storage.records import Provenance

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model whose states were taken.

    Attributes:
        label: Its name in the reports.
        spec: What builds it.
        info: What it says of itself.
        width: Of a state.
        code: SHA-256 by module of the user's own source behind it, as in the plan of a run; empty in records
            that did not note it.
    """

    label: str
    spec: str
    info: AgentInfo
    width: int
    code: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddedStore:
    """A trajectory store, with the digest of what it held."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class EmbeddingRecord:
    """``embedding.json``.

    Attributes:
        schema: Version of this layout.
        seed: Of the drawing of trajectories and timesteps, and of UMAP.
        models: In the order of their arrays.
        stores: What the trajectories are from.
        tasks: Ids, by the number that the arrays have.
        context: Timesteps that a state was computed from, at most; the last is its own.
        trajectories: Drawn of each task, at most.
        states: Drawn of each trajectory, at most.
        umap: Version of umap-learn; empty: there is no such projection, and ``no_umap`` says why.
        no_umap: Why not.
        numbers: SHA-256 of ``states.npz``.
        made: Where.
    """

    schema: int
    seed: int
    models: tuple[EmbeddedModel, ...]
    stores: tuple[EmbeddedStore, ...]
    tasks: tuple[str, ...]
    context: int
    trajectories: int
    states: int
    umap: str
    no_umap: str
    numbers: str
    made: Provenance
