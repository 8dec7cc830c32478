"""Whether an agent's step still is its forward, and its state finite, at lengths beyond training.

The gate before every evaluation compares them on 150 tokens (:mod:`lram.agents.checks.equivalence`). Here it
is done on the longest trajectory that losses are measured on, or on embeddings of made-up observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.states import tensors
from lram.agents.checks.basis import TwoForms
from lram.agents.model.network import ActionModel
from lram.agents.model.tokens import ACTION_DIMS
from lram.agents.training.batches import Batch, Places, assemble
from lram.agents.trajectories import TrajectoryStore
from lram.harness.extrapolation.records import EquivalencePoint, ExtrapolationPlan, Stretch, ValidityRecord

LONG = 1000
"""Timesteps of a made-up stream, at least: as many as DMControl's episodes have."""


@torch.inference_mode()
def check(
    agent: ModelAgent, label: str, plan: ExtrapolationPlan, stores: Sequence[TrajectoryStore]
) -> ValidityRecord:
    """Read one stream by the agent's step, one decision a pass, and by ``forward``.

    Args:
        agent: Its state is carried.
        label: Of the agent.
        plan: The longest of its stretches is read, up to its end.
        stores: Of the plan.
    """
    forms = TwoForms(agent, plan.seed)
    lengths = set(plan.contexts)
    if plan.stretches:
        longest = max(plan.stretches, key=lambda stretch: stretch.length)
        passes = _passes_of(agent.model, stores, longest)
        store = plan.stores[longest.store]
        read = f"{longest.task}, episode {longest.number} of the store {store.digest[:12]}"
        lengths = {length for length in lengths if length < longest.length} | {longest.length}
    else:
        lengths.add(max(*lengths, LONG))
        passes = _made_up(forms, max(lengths))
        read = "made-up observations"
    compared = 0 if forms.window is None else min(forms.window // forms.size, len(passes))
    points, scale, x = _compare(forms, passes, sorted(lengths), compared)
    allowed, why = forms.allowed(x, forms.forward(x))
    return ValidityRecord(
        agent=label,
        read=read,
        form=agent.stepper.detail,
        scale=_finite(scale),
        allowed=_finite(allowed),
        why=why,
        points=tuple(points),
        compared=compared,
    )


def _compare(
    forms: TwoForms, passes: Sequence[Tensor], lengths: Sequence[int], compared: int
) -> tuple[list[EquivalencePoint], float, Tensor]:
    """Return what is found at ``lengths``, the scale of the outputs, and the stream (1, tokens, width)."""
    reach = passes[:compared] if compared else passes
    x = torch.cat(list(reach)).unsqueeze(0)
    reference = forms.forward(x)[0]
    scale = float(reference.abs().max())
    points, greatest, place = [], 0.0, 0
    for number, (y, most) in enumerate(_steps(forms, passes), start=1):
        if number <= len(reach):
            gap = float((y - reference[place : place + len(y)]).abs().max())
            greatest = max(greatest, gap) if np.isfinite(gap) else float("inf")
            place += len(y)
        if number in lengths:
            points.append(EquivalencePoint(number, _finite(round_(greatest)), _finite(round_(most))))
    return points, round_(scale), x


def _steps(forms: TwoForms, passes: Sequence[Tensor]) -> Iterator[tuple[Tensor, float]]:
    """Yield the outputs (tokens, width) of each pass, and the greatest number in the state after it."""
    state = forms.backbone.initial_state(forms.rows)
    for tokens in passes:
        # At the end of a pass of the usual size, as agents place them.
        x = torch.zeros(forms.rows, forms.size, tokens.shape[-1], dtype=tokens.dtype, device=forms.device)
        valid = torch.zeros(x.shape[:2], dtype=torch.bool, device=forms.device)
        x[0, forms.size - len(tokens) :] = tokens
        valid[0, forms.size - len(tokens) :] = True
        y, state = forms.stepper.call(x, state, None if bool(valid.all()) else valid)
        numbers = [tensor[0] for tensor in tensors(state) if tensor.is_floating_point()]
        most = max(float(one.abs().max()) for one in numbers)
        finite = all(bool(torch.isfinite(one).all()) for one in numbers)
        yield y[0, forms.size - len(tokens) :].float(), most if finite else float("nan")


def _made_up(forms: TwoForms, timesteps: int) -> list[Tensor]:
    tokens = forms.tokens(1, timesteps, 20)[0].view(timesteps, forms.size, -1)
    past = forms.model.config.pass_tokens - forms.model.config.fresh_tokens
    return [one[past:] if place == 0 else one for place, one in enumerate(tokens)]


def _passes_of(model: ActionModel, stores: Sequence[TrajectoryStore], stretch: Stretch) -> list[Tensor]:
    """Embed a trajectory as the passes of its decisions: T tensors (tokens, width)."""
    task, config = stores[stretch.store].tasks[stretch.task], model.config
    one = np.array([0])
    places = Places(
        task.domain, one + stretch.store, one + stretch.number, one, one + stretch.start, one + stretch.stop
    )
    batch = assemble(stores, [task], places, length=stretch.length, state_width=config.state_width)
    batch = batch.to(model.backbone.device)
    weights = next(model.parameters()).dtype
    x = model.decision_tokens(
        model.encoders.observation(batch.observations[0]),
        batch.returns_to_go[0],
        _before(batch.rewards[0]),
        _past_classes(batch) if config.actions_in_context else None,
    ).to(weights)
    past = config.pass_tokens - config.fresh_tokens
    there = torch.ones(config.pass_tokens, dtype=torch.bool)
    if config.actions_in_context and task.action == "discrete":
        there[1:ACTION_DIMS] = False
    return [tokens[past:] if place == 0 else tokens[there] for place, tokens in enumerate(x)]


def _before(values: Tensor) -> Tensor:
    """Return each timestep's value of the timestep before, the first one's zero."""
    return torch.cat([torch.zeros_like(values[:1]), values[:-1]])


def _past_classes(batch: Batch) -> Tensor:
    classes = _before(batch.classes[0])  # (T, A)
    return torch.nn.functional.pad(classes, (0, ACTION_DIMS - classes.shape[1]))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def round_(value: float) -> float:
    """Return ``value`` at four digits."""
    return float(f"{value:.4g}")
