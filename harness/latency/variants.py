"""Transformers whose cache, or window that is read anew, is as long as a context needs."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lram.agents.config import ModelConfig
from lram.agents.model import ActionModel
from lram.agents.model_agent import ModelAgent
from lram.harness.bench.models import with_cache


def variant(agent: ModelAgent, context: int, longest: int) -> ModelAgent:
    """Return ``agent`` with a cache, or a window that is read anew, of the whole context and a decision.

    The weights are the same. Where a table of learned positions is too short, its rows are taken again
    from the first on: what the model then computes is of no use, but takes the same time.
    """
    config = _reaching(agent.model.config, context, longest)
    if config == agent.model.config:
        return agent
    with torch.device("meta"):
        model = ActionModel(config)
    weights = dict(agent.model.state_dict())
    table = weights.get("backbone.wpe.weight")
    assert config.transformer is not None
    if table is not None and len(table) < config.transformer.max_positions:
        rows = torch.arange(config.transformer.max_positions, device=table.device) % len(table)
        weights["backbone.wpe.weight"] = table[rows]
    model.load_state_dict(weights, assign=True)
    made = object.__new__(ModelAgent)
    made.__setstate__({**agent.__getstate__(), "model": model.eval().requires_grad_(False)})
    return made


def _reaching(config: ModelConfig, context: int, longest: int) -> ModelConfig:
    if config.transformer is None or config.transformer.cache != "recompute":
        return with_cache(config, context, longest)
    as_full = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, cache="full"))
    whole = with_cache(as_full, context, longest)
    assert whole.transformer is not None
    return dataclasses.replace(whole, transformer=dataclasses.replace(whole.transformer, cache="recompute"))


def fitted(tensor: Tensor, slots: int) -> Tensor:
    """Return a cache's tensor with so many slots (its dimension before the last)."""
    there = tensor.shape[-2]
    if there >= slots:
        return tensor[..., :slots, :].clone()
    more = tensor.new_zeros(*tensor.shape[:-2], slots - there, tensor.shape[-1])
    return torch.cat([tensor, more], dim=-2)
