from __future__ import annotations

import pytest
import torch

from lram.agents.model.network import action_loss
from lram.agents.model.tokens import BINS, CLASSES, DISCRETE_ACTIONS, action_to_classes
from lram.agents.training.losses import losses, spread_targets
from lram.agents.training.recipe import OptimizerSection, Recipe, recipe_digest

MIDDLE = DISCRETE_ACTIONS + BINS // 2


def test_a_bin_is_spread_to_its_neighbours_and_a_discrete_action_is_not() -> None:
    targets = spread_targets(6.0)
    assert targets is not None
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(CLASSES))
    assert targets.argmax(dim=1).tolist() == list(range(CLASSES))
    assert torch.equal(targets[:DISCRETE_ACTIONS], torch.eye(CLASSES)[:DISCRETE_ACTIONS])
    assert not targets[DISCRETE_ACTIONS:, :DISCRETE_ACTIONS].any()
    places = torch.arange(CLASSES, dtype=torch.float64) - MIDDLE
    variance = (targets[MIDDLE].double() * places**2).sum()
    assert float(variance) == pytest.approx(6.0**2 + 1 / 12, rel=1e-3)  # a bin's own width adds a twelfth
    assert spread_targets(0.0) is None


def test_a_near_miss_costs_less_than_a_far_one_and_the_cross_entropy_stays_plain() -> None:
    taken = torch.full((1, 2, 8), int(action_to_classes(0.0)))
    mask = torch.zeros(1, 2, 8, dtype=torch.bool)
    mask[..., :2] = True
    logits = torch.zeros(1, 2, 8, CLASSES)
    logits[..., 7, :] = 50 * torch.randn(CLASSES, generator=torch.Generator().manual_seed(0))  # not there
    near, far = logits.clone(), logits.clone()
    near[..., :2, MIDDLE + 4] = 5.0
    far[..., :2, MIDDLE + 90] = 5.0
    targets = spread_targets(6.0)
    (close, plain_close), (distant, plain_distant) = (
        losses(one, taken, mask, targets) for one in (near, far)
    )
    assert float(close) < float(distant) - 0.2
    for one, plain in ((near, plain_close), (far, plain_distant)):
        torch.testing.assert_close(plain, action_loss(one, taken, mask))
    loss, same = losses(near, taken, mask, None)
    assert loss is same
    assert torch.equal(loss, action_loss(near, taken, mask))


def test_what_is_descended_is_the_distance_to_the_spread_targets() -> None:
    taken = torch.full((1, 1, 8), MIDDLE)
    mask = torch.zeros(1, 1, 8, dtype=torch.bool)
    mask[..., 0] = True
    logits = torch.zeros(1, 1, 8, CLASSES, requires_grad=True)
    targets = spread_targets(3.0)
    assert targets is not None
    torch.autograd.backward(losses(logits, taken, mask, targets)[0])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0, 0], 1 / CLASSES - targets[MIDDLE])
    assert not logits.grad[0, 0, 1:].any()


def test_recipes_without_smoothing_keep_their_digest() -> None:
    plain, smooth = (Recipe(optimizer=OptimizerSection(bin_smoothing=value)) for value in (0.0, 6.0))
    assert recipe_digest(plain) == recipe_digest(Recipe()) != recipe_digest(smooth)
