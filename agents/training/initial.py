"""Initial weights that fit the data: states reach the network standardised.

The reference feeds states as they are. A position that matters to a centimetre then begins as a small
change of a large constant vector, and much of training goes into taking that constant away. Here the
Linear that reads states begins as what it was drawn as, after (x - mean) / deviation of the training
data: the same architecture, and an ordinary checkpoint, from another starting point.
"""

from __future__ import annotations

import torch

from lram.agents.model.network import ActionModel
from lram.agents.training.distributed import World
from lram.agents.training.sources import MicroBatches

SMALLEST_DEVIATION = 0.01
"""Numbers that vary less are not blown up further."""

_ROUNDS = 8  # of the cycle through the domains, to measure on


@torch.no_grad()
def standardise_states(model: ActionModel, windows: MicroBatches, world: World) -> None:
    """Fold mean and deviation of the states of the first micro-batches into the Linear that reads them.

    Inputs that never vary are left alone. Nothing changes where no domain has vector states.

    Args:
        model: With weights as drawn; they are changed.
        windows: The training's micro-batches, as this process reads them.
        world: The processes that train together: the states of all of them are measured as one, and each
            must call this.
    """
    states = [torch.empty(0, model.encoders.state.weight.shape[1], dtype=torch.float64)]
    for item in range(_ROUNDS * len(windows.cycle)):
        batch = windows[item]
        if batch.observations.ndim == 3:
            states.append(batch.observations[batch.mask.any(dim=-1)].double())
    read = torch.cat(states)
    counts = world.sum(torch.tensor([len(read)], dtype=torch.float64))
    if not (count := counts.item()):
        return
    if world.size == 1:
        deviation, mean = torch.std_mean(read, dim=0)
    else:
        mean = world.sum(read.sum(dim=0)).to(read.device) / count
        squares = world.sum((read - mean).square().sum(dim=0)).to(read.device)
        deviation = (squares / (count - 1)).sqrt()
    varies = deviation > 1e-6
    scale = torch.where(varies, 1 / deviation.clamp(min=SMALLEST_DEVIATION), 1.0)
    mean = torch.where(varies, mean, 0.0)
    state = model.encoders.state
    device, kind = state.weight.device, state.weight.dtype
    state.weight.mul_(scale.to(device, kind))
    state.bias.sub_(state.weight @ mean.to(device, kind))
