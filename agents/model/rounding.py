"""A model whose matrix products have rounded weights: which weights those are, and their bytes.

They are the matrices of the backbone's Linear layers and of its parts, of the action head, and of the image
encoder's projection, if they have 16 inputs and outputs at least. All else stays float32: norms, gates, short
convolutions, recurrent matrices, the encoders of numbers, and the image encoder's convolutions, which are
limited by arithmetic and have few weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from lram.agents.backbones.narrow_weights import is_matrix, kept_bytes, rounded
from lram.agents.backbones.parts.part import Part
from lram.agents.compute import Narrow
from lram.agents.model.network import ActionModel


def matrices(module: nn.Module) -> Iterator[Tensor]:
    """Yield the weights in ``module`` that are rounded, each once: of Linear layers and of parts."""
    seen: set[int] = set()
    for inner in module.modules():
        own = [inner.weight] if isinstance(inner, nn.Linear) else []
        own += inner.matrices() if isinstance(inner, Part) else []
        for weight in own:
            if is_matrix(weight) and id(weight) not in seen:
                seen.add(id(weight))
                yield weight


def round_weights(module: nn.Module, precision: Narrow) -> None:
    """Round the matrices in ``module``, in place.

    Raises:
        AgentError: One of them is not finite.
    """
    with torch.no_grad():
        for weight in matrices(module):
            weight.copy_(rounded(weight, precision))


def round_model(model: ActionModel, precision: Narrow) -> None:
    """Round what the module's text names, in place; AgentError as :func:`round_weights` tells."""
    for module in _products(model):
        round_weights(module, precision)


def model_bytes(model: ActionModel, precision: Narrow | None) -> int:
    """Return the bytes of all weights of ``model``, its matrices kept in this form (None: as they are)."""
    kept = {id(weight) for module in _products(model) for weight in matrices(module)}
    return sum(kept_bytes(weight, precision if id(weight) in kept else None) for weight in model.parameters())


def bytes_of(weights: Iterable[Tensor], module: nn.Module, precision: Narrow | None) -> int:
    """Return the bytes of some ``weights`` of ``module``, likewise."""
    kept = {id(weight) for weight in matrices(module)}
    return sum(kept_bytes(weight, precision if id(weight) in kept else None) for weight in weights)


def _products(model: ActionModel) -> tuple[nn.Module, ...]:
    return model.backbone, model.head, model.encoders.image.linear
