"""A whole decision as one recording: encoders, the backbone's step and the action head, over fixed memory.

What a pass is given goes to the device in one copy from page-locked memory, into bytes that the recording
reads; the logits come to lie at one place, from where they are fetched. Between the two the host does one
thing: it starts the recording (:mod:`lram.agents.backbones.captured`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lram.agents.backbones.captured import CapturedStep
from lram.agents.backbones.states import State
from lram.agents.model.encoders import IMAGE_SHAPE
from lram.agents.model.network import ActionModel
from lram.agents.model.tokens import ACTION_DIMS, CLASSES

_ALIGNED = 64  # bytes: where each array begins

_TYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.int64): torch.int64}
_TYPES |= {np.dtype(np.uint8): torch.uint8, np.dtype(np.bool_): torch.bool}


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What a pass of one block is given, on the host.

    Attributes:
        vectors: Observations (rows, state_width), filled up with zeros.
        returns_to_go, rewards: Scaled (rows,).
        valid: Which tokens are there (rows, pass_tokens); None: all.
        classes: Of the last actions (rows, 8); None without actions in context.
        images: (n, 3, 64, 64), filled up to whole batches; None where nobody sees one.
        places: Rows of the images (n,); ``rows`` for those that fill up.
    """

    vectors: npt.NDArray[np.float32]
    returns_to_go: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_] | None
    classes: npt.NDArray[np.int64] | None
    images: npt.NDArray[np.uint8] | None
    places: npt.NDArray[np.int64] | None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return those that are there, by name."""
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: array for name, array in named if array is not None}


Decide: TypeAlias = Callable[[PassInputs, State], "tuple[Tensor, State] | None"]
"""Reads a pass into a state: what a :class:`CapturedDecision` does."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array lies among the bytes of a pass."""

    name: str
    first: int
    shape: tuple[int, ...]
    type: np.dtype[Any]

    @property
    def end(self) -> int:
        return self.first + prod(self.shape) * self.type.itemsize


class CapturedDecision:
    """Decisions of ``model``, each one recording.

    Args:
        model: Its weights must stay where they are.
        step: Of its backbone.
        images_at_once: Images that are encoded together.
    """

    def __init__(self, model: ActionModel, step: CapturedStep, images_at_once: int) -> None:
        self._model, self._step, self._images_at_once = model, step, images_at_once
        self._device = model.backbone.device

    def __call__(self, inputs: PassInputs, state: State) -> tuple[Tensor, State] | None:
        """Read a pass into ``state``.

        Returns:
            Logits (rows, 8, 274), float32, on the device, in memory that the next pass over this state writes
            over, and the state; None where the step must read this pass.
        """
        ready = self._model.backbone.ready(state, self._model.config.pass_tokens)
        if ready is None:
            return None
        layout = _layout(inputs)
        rows = len(inputs.vectors)
        logits = self._step.read(
            (self._packed(inputs, layout),),
            ("decision", layout),
            ready,
            lambda given, past: self._compute(given[0], layout, past),
            lambda: torch.empty(rows, ACTION_DIMS, CLASSES, device=self._device),
        )
        return logits, ready

    def _packed(self, inputs: PassInputs, layout: tuple[_Place, ...]) -> Tensor:
        packed = torch.empty(layout[-1].end, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        given, arrays = packed.numpy(), inputs.arrays()
        for place in layout:
            array = np.ascontiguousarray(arrays[place.name])
            given[place.first : place.end] = array.reshape(-1).view(np.uint8)
        return packed

    def _compute(self, given: Tensor, layout: tuple[_Place, ...], past: State) -> tuple[Tensor, State]:
        model, encoders = self._model, self._model.encoders
        read = {
            place.name: given[place.first : place.end].view(_TYPES[place.type]).view(place.shape)
            for place in layout
        }
        encoded = encoders.observation(read["vectors"])
        if "images" in read:
            batches = read["images"].split(self._images_at_once)  # type: ignore[no-untyped-call]
            tokens = torch.cat([encoders.observation(batch) for batch in batches])
            # One row more, for the images that fill a batch up.
            encoded = torch.cat([encoded, encoded[:1]]).index_copy(0, read["places"], tokens)[:-1]
        x = model.decision_tokens(encoded, read["returns_to_go"], read["rewards"], read.get("classes"))
        hidden, past = model.backbone.ready_step(x, past, read.get("valid"))
        return model.action_logits(hidden[:, -1]), past


def _layout(inputs: PassInputs) -> tuple[_Place, ...]:
    places, first = [], 0
    for name, array in inputs.arrays().items():
        places.append(_Place(name, first, array.shape, array.dtype))
        first = -(-places[-1].end // _ALIGNED) * _ALIGNED
    return tuple(places)


def filled_up(images: list[Any], rows: list[int], at_once: int, spare: int) -> tuple[Any, Any]:
    """Return the images of ``rows`` and where they go, filled up to whole batches with black ones."""
    count = -(-len(images) // at_once) * at_once
    batch = np.zeros((count, *IMAGE_SHAPE), dtype=np.uint8)
    places = np.full(count, spare, dtype=np.int64)
    for number, (image, row) in enumerate(zip(images, rows, strict=True)):
        batch[number], places[number] = image, row
    return batch, places
