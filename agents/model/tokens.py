"""Tokens: their order in the stream, and how continuous actions become classes and come back.

The stream of an episode is ``s_0 g_0 r_0 s_1 g_1 r_1 ...`` (state, return-to-go, reward). Action t is
read at ``g_t``; ``r_t`` follows it, so no action sees its own reward. With actions in context the
stream is ``s_t g_t a_t,1 .. a_t,d r_t``: one token a dimension, always ``ACTION_DIMS`` of them for
continuous actions (dimensions that the task does not have read as action 0.0) and one for discrete.
A model may do without returns-to-go, whose actions are then read at ``s_t``, and without rewards.

The decision at t reads what came since the last one in one pass: ``(a_{t-1}) r_{t-1} s_t g_t``.

Classes are shared by all tasks: 0 .. 17 are the discrete actions, 18 .. 273 the bins of a continuous
dimension over [-1, 1]. Order, classes and bins: the LRAM reference implementation (arXiv 2410.22391).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

DISCRETE_ACTIONS = 18
BINS = 256
CLASSES = DISCRETE_ACTIONS + BINS
ACTION_DIMS = 8

Decoding = Literal["center", "lower"]


def action_to_classes(action: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the class of each continuous action (any shape), clipped to [-1, 1]: 18 .. 273."""
    bins = np.asarray(np.asarray(action, dtype=np.float32) + np.float32(1))
    # In place, and without np.clip, which takes longer than all the rest for the few numbers of a decision.
    np.floor(np.divide(bins, np.float32(2 / BINS), out=bins), out=bins)
    np.minimum(np.maximum(bins, 0, out=bins), BINS - 1, out=bins)
    classes: npt.NDArray[np.int64] = bins.astype(np.int64)
    classes += DISCRETE_ACTIONS
    return classes


def classes_to_action(classes: npt.ArrayLike, decode: Decoding = "center") -> npt.NDArray[np.float32]:
    """Return the continuous action of each class; a discrete class is read as the lowest bin.

    Args:
        classes: Integers 0 .. 273, any shape.
        decode: ``center`` of the bin (unbiased, within [-0.996, 0.996]), or its ``lower`` edge as in
            the reference, which is 1/256 too low on average and never above 0.992.
    """
    actions: npt.NDArray[np.float32] = _ACTIONS[decode][np.asarray(classes)]
    return actions


def _actions(offset: float) -> npt.NDArray[np.float32]:
    """Return the action of each class, ``offset`` bins above its bin's lower edge."""
    bins = np.maximum(np.arange(CLASSES) - DISCRETE_ACTIONS, 0).astype(np.float32)
    return (bins + np.float32(offset)) * np.float32(2 / BINS) - np.float32(1)


_ACTIONS: dict[Decoding, npt.NDArray[np.float32]] = {"center": _actions(0.5), "lower": _actions(0.0)}
