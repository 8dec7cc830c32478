"""Models whose cache, or window that is read anew, is as long as a context needs."""

from __future__ import annotations

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.registry import build_backbone
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel, without_memory

_BACKBONE = "backbone."


def grows(config: ModelConfig) -> bool:
    """Return whether a model has a cache, or a window, that can be made as long as a context needs."""
    return config.holding(1) != config.holding(2)


def fit_backbone(backbone: Backbone, config: ModelConfig, context: int, longest: int) -> Backbone:
    """Return ``backbone`` with a cache, or a window that is read anew, of the whole context and a decision.

    The weights are the same, but for what :meth:`Backbone.fitted_weights` makes longer.

    Args:
        backbone: With the weights to use.
        config: Of its model.
        context: Timesteps of the past.
        longest: The most of any variant of this model.
    """
    with without_memory():
        fitted = build_backbone(config.holding(context, longest))
    fitted.load_state_dict(fitted.fitted_weights(backbone.state_dict()), assign=True)
    return fitted.eval()


def fit_agent(agent: ModelAgent, context: int, longest: int) -> ModelAgent:
    """Return ``agent`` with a backbone as :func:`fit_backbone` makes it; itself where nothing changes."""
    config = agent.model.config.holding(context, longest)
    if config == agent.model.config:
        return agent
    with without_memory():
        model = ActionModel(config)
    fitted = fit_backbone(agent.model.backbone, agent.model.config, context, longest).state_dict()
    others = {name: one for name, one in agent.model.state_dict().items() if not name.startswith(_BACKBONE)}
    weights = {**others, **{_BACKBONE + name: one for name, one in fitted.items()}}
    model.load_state_dict(weights, assign=True)
    return agent.with_model(model.eval().requires_grad_(False))
