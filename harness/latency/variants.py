"""Models whose cache, or window that is read anew, is as long as a context needs."""

from __future__ import annotations

import torch

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.model.network import ActionModel

_BACKBONE = "backbone."


def variant(agent: ModelAgent, context: int, longest: int) -> ModelAgent:
    """Return ``agent`` with a cache, or a window that is read anew, of the whole context and a decision.

    The weights are the same, but for what :meth:`Backbone.fitted_weights` makes longer.

    Args:
        agent: An action model.
        context: Timesteps of the past.
        longest: The most of any variant of this model.
    """
    config = agent.model.config.holding(context, longest)
    if config == agent.model.config:
        return agent
    with torch.device("meta"):
        model = ActionModel(config)
    weights = agent.model.state_dict()
    others = {name: tensor for name, tensor in weights.items() if not name.startswith(_BACKBONE)}
    own = {name.removeprefix(_BACKBONE): weights[name] for name in weights.keys() - others.keys()}
    fitted = {_BACKBONE + name: tensor for name, tensor in model.backbone.fitted_weights(own).items()}
    model.load_state_dict({**others, **fitted}, assign=True)
    return agent.with_model(model.eval().requires_grad_(False))
