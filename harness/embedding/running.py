"""Take the hidden states of models over stored trajectories, and write them with their projections."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lram.agents.places import placed
from lram.agents.seed import check_seed
from lram.harness.embedding import folder as folders
from lram.harness.embedding.records import SCHEMA, EmbeddedModel, EmbeddedStore, EmbeddingRecord
from lram.harness.errors import LramError
from lram.harness.gate.equivalence import as_model
from lram.harness.machine import Machine, calm_threads, threads
from lram.harness.plan import agent_entry, build_agent, labelled_specs
from lram.harness.storage.provenance import collect
from lram.harness.waiting import say

if TYPE_CHECKING:
    from lram.agents.acting.model_agent import ModelAgent

CONTEXT = 50
"""Timesteps that a state is computed from, where nothing is said: the reference trains on as many."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What a user asks for; :class:`lram.harness.embedding.records.EmbeddingRecord` tells the fields.

    Attributes:
        models: Action models, each plain or as ``label=specification``.
        stores: Folders of trajectory stores.
        tasks, policies: Patterns.
        umap: None: where it is installed.
    """

    models: Sequence[str]
    stores: Sequence[str | Path]
    tasks: Sequence[str] = ("*",)
    policies: Sequence[str] = ("*",)
    trajectories: int = 10
    states: int = 5
    context: int = CONTEXT
    seed: int = 0
    umap: bool | None = None

    def check(self) -> None:
        """Raise LramError for what makes no sense; AgentError for the seed."""
        check_seed(self.seed)
        for name in ("trajectories", "states", "context"):
            if getattr(self, name) < 1:
                raise LramError(f"--{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.models:
            raise LramError("name models: shipped ones, checkpoint folders or presets")
        if not self.stores:
            raise LramError("name trajectory stores with --data; 'lram collect' makes them")


def embed(
    request: EmbeddingRequest, output: str | Path, machine: Machine | None = None
) -> folders.Embeddings:
    """Take what ``request`` asks for into the new folder ``output``; return it.

    Raises:
        LramError: Bad input, and nothing was written.
        AgentError: A store or a checkpoint cannot be read, likewise.
    """
    from lram.agents.trajectories import TrajectoryStore
    from lram.harness.embedding.points import StatesWanted, draw
    from lram.harness.embedding.states import principal_components, read_states, umap_projection

    request.check()
    machine = machine or Machine()
    machine.check()
    calm_threads()
    target = placed(output)
    folders.check_vacant(target)
    umap, no_umap = _umap(request.umap)
    models = _models(request, machine)
    codes = {label: agent_entry(label, spec, agent.info).code for label, (spec, agent) in models.items()}
    stores = [TrajectoryStore(Path(path).resolve()) for path in request.stores]
    drawn = draw(
        stores,
        StatesWanted(
            tasks=tuple(request.tasks),
            policies=tuple(request.policies),
            trajectories=request.trajectories,
            states=request.states,
            seed=request.seed,
            state_width=min(agent.model.config.state_width for _, agent in models.values()),
        ),
        say,
    )
    hidden, pca, explained, projected = [], [], [], []
    with threads(machine.threads):
        for label, (_, agent) in models.items():
            say(f"lram: {sum(len(one.timesteps) for one in drawn)} states of {label}")
            states = read_states(agent.model, stores, drawn, request.context)
            if not np.isfinite(states).all():
                raise LramError(f"{label} has hidden states that are no finite numbers; check its weights")
            hidden.append(states)
            coordinates, shares = principal_components(states)
            pca.append(coordinates)
            explained.append(shares)
            if umap:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of its libraries, on threads and spectral starts
                    projected.append(umap_projection(states, request.seed))
    tasks = sorted({one.task.id for one in drawn})
    record = EmbeddingRecord(
        schema=SCHEMA,
        seed=request.seed,
        models=tuple(
            EmbeddedModel(label, spec, agent.info, agent.model.config.width, codes[label])
            for label, (spec, agent) in models.items()
        ),
        stores=tuple(EmbeddedStore(str(store.path), store.digest) for store in stores),
        tasks=tuple(tasks),
        context=request.context,
        trajectories=request.trajectories,
        states=request.states,
        umap=umap,
        no_umap=no_umap,
        numbers="",
        made=collect({"threads": machine.threads, "device": machine.device or "cpu"}, {}),
    )
    counts = [len(one.timesteps) for one in drawn]
    found = folders.Embeddings(
        record,
        task=np.repeat([tasks.index(one.task.id) for one in drawn], counts).astype(np.int64),
        episode=np.repeat(np.arange(len(drawn)), counts).astype(np.int64),
        timestep=np.concatenate([one.timesteps for one in drawn]).astype(np.int64),
        hidden=tuple(hidden),
        pca=tuple(pca),
        explained=tuple(explained),
        umap=tuple(projected),
    )
    folders.write(target, found)
    return folders.read(target)


def _umap(asked: bool | None) -> tuple[str, str]:
    """Return the version of UMAP that projects, or why none does."""
    from lram.harness.embedding.states import umap_version

    if asked is False:
        return "", "it was not asked for"
    found = umap_version()
    if asked and not found:
        raise LramError(
            "UMAP is not installed; add it with pip install 'lram-bench[plots]', or leave out --umap"
        )
    return found, "" if found else "umap-learn is not installed (pip install 'lram-bench[plots]')"


def _models(request: EmbeddingRequest, machine: Machine) -> dict[str, tuple[str, ModelAgent]]:
    """Return the models by label, with what builds them."""
    found: dict[str, tuple[str, ModelAgent]] = {}
    for label, spec in labelled_specs(request.models).items():
        agent = build_agent(spec, request.seed, machine.compute())
        model = as_model(agent)
        if model is None or model is not agent or not isinstance(spec, str):
            raise LramError(
                f"{label} is no action model whose states can be read; give checkpoints, shipped models or "
                "presets, without a context or noise"
            )
        config = model.model.config
        longest = config.past.longest_forward
        tokens = request.context * config.pass_tokens
        if longest is not None and tokens > longest:
            raise LramError(
                f"{label} reads {longest} tokens at once, and --context {request.context} is {tokens}; give "
                f"at most {longest // config.pass_tokens}"
            )
        found[label] = (spec, model)
    return found
