"""The loss of a recipe: cross-entropy against the action's own class, or against the bins around it too.

Cross-entropy alone knows no order: the bin beside the right one is as wrong as the one at the other end, and
what is learned of one bin says nothing of the next. With targets that are spread over the bins as a normal
distribution around the action, near is better than far. Spread targets for regression by classification:
Imani and White 2018 (arXiv 1806.04613); Farebrother et al. 2024 (arXiv 2403.03950).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lram.agents.model.network import action_loss
from lram.agents.model.tokens import BINS, CLASSES, DISCRETE_ACTIONS


def spread_targets(deviation: float) -> Tensor | None:
    """Return for each class the targets of all: (274, 274), rows sum to 1; None where nothing is spread.

    A discrete action is its own target alone. A bin's row holds the mass, in each bin, of a normal
    distribution around its centre, cut off at the ends of [-1, 1].

    Args:
        deviation: The distribution's standard deviation, in bins; 0 spreads nothing.
    """
    if not deviation:
        return None
    targets = torch.eye(CLASSES)
    edges = torch.arange(BINS + 1, dtype=torch.float64) - 0.5
    below = torch.special.ndtr((edges - torch.arange(BINS, dtype=torch.float64)[:, None]) / deviation)
    mass = below.diff(dim=1)
    targets[DISCRETE_ACTIONS:, DISCRETE_ACTIONS:] = (mass / mass.sum(dim=1, keepdim=True)).float()
    return targets


def losses(logits: Tensor, classes: Tensor, mask: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the loss to descend and the plain cross-entropy, both () and means over what ``mask`` keeps.

    They are the same tensor without ``targets``.

    Args:
        logits, classes, mask: See :func:`lram.agents.model.network.action_loss`.
        targets: Of :func:`spread_targets`.
    """
    if targets is None:
        loss = action_loss(logits, classes, mask)
        return loss, loss
    dims = min(logits.shape[2], classes.shape[2])
    logits, classes, mask = logits[:, :, :dims], classes[:, :, :dims], mask[:, :, :dims]
    # Only what is there is computed: most of the eight dimensions are not, in many tasks.
    kept, own = logits[mask].float().log_softmax(dim=-1), classes[mask]
    spread = -(targets[own] * kept).sum(dim=-1).mean()
    return spread, -kept.gather(1, own[:, None]).mean()
