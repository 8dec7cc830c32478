"""Hidden states at the token that an action is read at, and their projections onto a plane."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import numpy.typing as npt
import torch

from lram.agents.model.network import ActionModel
from lram.agents.training.batches import Places, assemble
from lram.agents.trajectories import TrajectoryStore
from lram.harness.embedding.points import DrawnTrajectory

Floats = npt.NDArray[np.float32]

_TOKENS = 12_000  # read at once


@torch.inference_mode()
def read_states(
    model: ActionModel,
    stores: Sequence[TrajectoryStore],
    drawn: Sequence[DrawnTrajectory],
    context: int,
) -> Floats:
    """Return the hidden states (n, width) of all drawn timesteps, after the backbone's last norm.

    Each is of a window of its own that ends with its timestep: of the ``context`` timesteps before and with
    it, or of all since the agent's context began.

    Args:
        model: In evaluation mode.
        stores: What the trajectories are in.
        drawn: Which.
        context: Timesteps that are read, at most.
    """
    rows: list[Floats] = []
    group = max(1, _TOKENS // (context * model.config.pass_tokens))
    for one in drawn:
        stops = np.array(one.timesteps, dtype=np.int64) + 1
        starts = np.maximum(np.array(one.starts, dtype=np.int64), stops - context)
        count = len(stops)
        whole = Places(
            domain=one.task.domain,
            stores=np.full(count, one.store),
            numbers=np.full(count, one.number),
            tasks=np.zeros(count, np.int64),
            starts=starts,
            stops=stops,
        )
        rows += [
            _last_states(model, stores, one, whole[first : first + group]) for first in range(0, count, group)
        ]
    return np.concatenate(rows)


def _last_states(
    model: ActionModel, stores: Sequence[TrajectoryStore], one: DrawnTrajectory, places: Places
) -> Floats:
    config = model.config
    length = int((places.stops - places.starts).max())
    batch = assemble(stores, [one.task], places, length=length, state_width=config.state_width)
    batch = batch.to(model.backbone.device)
    actions = batch.classes if config.actions_in_context else None
    hidden = model(batch.observations, batch.returns_to_go, batch.rewards, actions, dims=1).hidden
    by_timestep = hidden.unflatten(1, (length, -1))[:, :, config.decided_at]  # (B, T, D)
    last = by_timestep[torch.arange(len(by_timestep), device=hidden.device), batch.lengths - 1]
    found: Floats = last.float().cpu().numpy()
    return found


def principal_components(states: Floats) -> tuple[Floats, Floats]:
    """Return coordinates (n, 2) on the two axes of the most variance, and the shares that these explain (2,).

    An axis points to where its largest loading is positive, so that the same states give the same picture.
    """
    centred = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    found = np.zeros((len(states), 2), np.float32)
    shares = np.zeros(2, np.float32)
    kept = min(2, len(sizes))
    found[:, :kept] = centred @ (axes[:kept] * signs[:kept, None]).T
    total = (sizes**2).sum()
    shares[:kept] = sizes[:kept] ** 2 / total if total else 0
    return found, shares


def umap_version() -> str:
    """Return the version of umap-learn; empty where it is not installed."""
    try:
        return version("umap-learn")
    except PackageNotFoundError:
        return ""


def umap_projection(states: Floats, seed: int) -> Floats:
    """Return UMAP's coordinates (n, 2), on one thread (McInnes et al. 2018, arXiv 1802.03426)."""
    umap = importlib.import_module("umap")
    neighbours = min(15, len(states) - 1)
    made = umap.UMAP(n_neighbors=neighbours, random_state=seed % 2**32, n_jobs=1).fit_transform(states)
    found: Floats = np.asarray(made, np.float32)
    return found
