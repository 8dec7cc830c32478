"""What computes the passes of an action model: its step, what encodes images, what reads actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lram.agents.acting.captured_decision import CapturedDecision, Decide
from lram.agents.backbones.captured import CapturedStep
from lram.agents.backbones.narrow_weights import weights_kept_as
from lram.agents.backbones.stepping import Stepper, make_stepper
from lram.agents.compute import Narrow
from lram.agents.model.network import ActionModel
from lram.agents.model.tokens import ACTION_DIMS, CLASSES

IMAGES = 4
"""Images encoded at once; the convolutions are limited by arithmetic, so that few are waste."""


@dataclass(frozen=True, slots=True)
class PassReader:
    """What computes a pass of a model, for its weights as they were when this was made (:func:`make_reader`).

    Packed weights and compiled code cannot be copied or pickled: a copy, or what is unpickled, is made anew.

    Attributes:
        model: Whose passes.
        form: The form of the step that was asked for.
        rows: Of a pass.
        weights: What the weights of the model's products were rounded to, where they were.
        stepper: Reads a pass.
        action_head: Reads actions from hidden states: (rows, width) to (rows, 8, 274).
        images: Encodes images: (n, 3, 64, 64) to (n, width).
        decision: Decides in one recording, where the step is recorded; None elsewhere.
        device: Where the model computes.
        here: Whether that is the processor. Kept beside ``device``, since between two passes nothing is left
            in the processor's cache: each look-up then takes longer than it seems to.
    """

    model: ActionModel
    form: str
    rows: int
    weights: Narrow | None
    stepper: Stepper
    action_head: Callable[[Tensor], Tensor]
    images: Callable[[Tensor], Tensor]
    decision: Decide | None
    device: torch.device
    here: bool

    def with_stepper(self, stepper: Stepper) -> PassReader:
        """Return this, its passes read by ``stepper``."""
        return replace(self, stepper=stepper, decision=None)

    def __reduce__(self) -> tuple[Any, ...]:
        return make_reader, (self.model, self.form, self.rows, self.weights)


def make_reader(model: ActionModel, form: str, rows: int, weights: Narrow | None = None) -> PassReader:
    """Return what computes passes of ``rows`` rows of ``model``, its step in the asked form.

    Args:
        model: Whose passes.
        form: One of ``lram.agents.compute.FORMS``.
        rows: Of a pass.
        weights: What the weights of its products were rounded to, by :mod:`lram.agents.model.rounding`: where
            the step is fused, they are kept so.

    Raises:
        AgentError: The form does not exist, or cannot be used here.
    """
    tokens = model.config.pass_tokens
    stepper = make_stepper(model.backbone, form, rows=rows, tokens=tokens, weights=weights)
    action_head: Callable[[Tensor], Tensor] = model.action_logits
    images: Callable[[Tensor], Tensor] = model.encoders.observation
    if stepper.form == "fused":
        with weights_kept_as(weights):
            action_head, images = _fused_ends(model, rows)
    device = model.backbone.device
    here = device.type == "cpu"
    decision = None
    if isinstance(stepper.call, CapturedStep):
        decision = CapturedDecision(model, stepper.call, min(IMAGES, rows))
    return PassReader(model, form, rows, weights, stepper, action_head, images, decision, device, here)


def _fused_ends(
    model: ActionModel, rows: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return what reads actions from hidden states, and what encodes images."""
    from lram.agents.backbones.kernels.linear import PackedLinear
    from lram.agents.model.compiled_images import FusedImageEncoder

    head = PackedLinear.of(model.head, rows)
    images = FusedImageEncoder(model.encoders.image, min(IMAGES, rows))
    return lambda hidden: head(hidden).view(len(hidden), ACTION_DIMS, CLASSES), images
