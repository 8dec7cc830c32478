"""AdamW on the model's weights, and its learning rate at each update.

Decay, clipping and schedule as in the LRAM reference implementation (ml-jku/LRAM,
``src/algos/decision_transformer_sb3.py``, ``src/algos/models/decision_xlstm.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.backbones.contract import Backbone
from lram.agents.training.recipe import OptimizerSection

DECAYED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Modules whose ``weight`` decays, beside a backbone's own (``Backbone.DECAYED``); biases, norms, embeddings
and
single parameters do not."""


def decayed_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay is for."""
    own = tuple(kind for module in model.modules() if isinstance(module, Backbone) for kind in module.DECAYED)
    return {
        f"{name}.weight".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, (*DECAYED, *own))
    }


def make_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.AdamW:
    """Return AdamW over the model's parameters: those that decay, then the others, each in model order."""
    decayed = decayed_names(model)
    parameters = dict(model.named_parameters())
    groups = [
        {
            "params": [p for name, p in parameters.items() if name in decayed],
            "weight_decay": section.weight_decay,
        },
        {"params": [p for name, p in parameters.items() if name not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=section.learning_rate, betas=(section.beta1, section.beta2), eps=section.eps, fused=True
    )


def learning_rate(update: int, section: OptimizerSection) -> float:
    """Return the learning rate of ``update`` (from 0): linear up to the largest, then half a cosine down."""
    if update < section.warmup_updates:
        return section.learning_rate * (update + 1) / section.warmup_updates
    part = (update - section.warmup_updates) / (section.updates - section.warmup_updates)
    height = 0.5 * (1 + math.cos(math.pi * part))
    return section.final_learning_rate + (section.learning_rate - section.final_learning_rate) * height


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Let the next update use ``value``."""
    for group in optimizer.param_groups:
        group["lr"] = value


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the norm of all gradients, and the sum of their squares, for :func:`clip_gradients`: (2,),
    float32, where they are; nobody has to wait for it.
    """
    gradients = _gradients(model)
    squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch.stack([norm, squares])


def _gradients(model: nn.Module) -> list[Tensor]:
    return [one.grad.detach() for one in model.parameters() if one.grad is not None]


def clip_gradients(model: nn.Module, largest: float, measured: Tensor, here: Sequence[float]) -> float:
    """Scale gradients down to the norm ``largest`` (0: leave them); return the norm before.

    Where the square of a finite norm is beyond float32, it is computed in float64. Such gradients come from
    tokens that begin as exactly zero before many norms, and are gone after the first updates.

    Args:
        model: Whose gradients.
        largest: Norm.
        measured: What :func:`gradient_norm` returned.
        here: Its numbers, which the host has fetched with others: a GPU is not waited for again.
    """
    gradients = _gradients(model)
    if math.isfinite(here[1]):
        if largest:  # the arithmetic of torch.nn.utils.clip_grad_norm_, which would measure again
            torch._foreach_mul_(gradients, (largest / (measured[0] + 1e-6)).clamp(max=1.0))
        return here[0]
    norm: Tensor = torch.stack([gradient.double().norm() for gradient in gradients]).norm()
    if torch.isfinite(norm) and 0 < largest < norm:
        for gradient in gradients:
            gradient.mul_((largest / norm).float())
    return float(norm.float())


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimiser remembers, named ``exp_avg.PARAMETER`` and so on; empty before an update."""
    return {
        f"{what}.{name}": value
        for name, parameter in model.named_parameters()
        for what, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser what :func:`optimizer_tensors` returned; AgentError for other names or shapes."""
    left = dict(tensors)
    for name, parameter in model.named_parameters():
        found = {what: left.pop(f"{what}.{name}", None) for what in ("step", "exp_avg", "exp_avg_sq")}
        if all(value is None for value in found.values()):
            continue  # no micro-batch has used it yet, such as the image encoder's
        for what, value in found.items():
            shape = torch.Size(()) if what == "step" else parameter.shape
            if value is None or value.shape != shape:
                raise AgentError(f"the training state has no {what} that fits {name}; start a new run")
        optimizer.state[parameter] = {
            what: value.to(parameter.device, copy=True) for what, value in found.items() if value is not None
        }
    if left:
        raise AgentError(f"the training state holds {min(left)}, which the model has not; start a new run")
