"""How the harness and a worker talk: frames over a socket, standard library and numpy only.

A frame is a length (uint32, little endian), a kind (uint8) and a body. What happens once an episode
travels as JSON; what happens at every step as packed numbers followed by the raw observation. No
pickle crosses the boundary, so the two sides may run different interpreters.

Each request has a number (uint32), which its answer repeats: a second answer to a request is known by it.
The harness does not trust what a worker sends; :mod:`lram.envs.workers.answers` reads and checks it.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.envs.session import Action, Observation, SessionSpec, Step

HEADER = struct.Struct("<IB")
BEGUN = struct.Struct("<HIdH")  # slot, request, seconds, bytes of the spec's text
STEPPED = struct.Struct("<HIddBdI")  # slot, request, reward, signal, flags, seconds, trajectory
RENDERED = struct.Struct("<HIdHH")  # slot, request, seconds, height, width
ANSWERED = struct.Struct("<HI")  # the beginning of all three: slot, request
_STEP_REQUEST = struct.Struct("<HIB")

TERMINATED, TRUNCATED, HAS_SUCCESS, SUCCESS, CONTEXT_RESET, INNER_EPISODE_ENDS = 1, 2, 4, 8, 16, 32
REQUESTS = 1 << 32  # numbers of requests, after which they begin anew
LARGEST_REWARD = 1e30
"""No reward and no signal lies beyond it, so that a sum over an episode is finite even as float32."""

LARGEST_IMAGE = 1 << 24
"""Bytes of the largest image of a scene, such as 2048 by 2048 pixels."""

_DISCRETE, _CONTINUOUS = 0, 1


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1  # worker: JSON facts about itself, once and first
    BEGIN = 2  # harness: JSON slot, request, task, protocol, seed
    BEGUN = 3  # worker: an episode has begun
    STEP = 4  # harness: an action
    STEPPED = 5  # worker: what it led to
    FAILED = 6  # worker: JSON slot, request, message; the slot's episode is over
    CLOSE = 7  # harness: close everything and exit
    RENDER = 8  # harness: slot and request; show the scene to people
    RENDERED = 9  # worker: the scene, uint8 (height, width, 3)


def frame(kind: Kind, body: bytes) -> bytes:
    """Return one frame."""
    return HEADER.pack(len(body), kind) + body


def pack_json(kind: Kind, value: dict[str, Any]) -> bytes:
    """Return a frame with a JSON body."""
    return frame(kind, json.dumps(value).encode())


def pack_step(slot: int, action: Action, request: int = 0) -> bytes:
    """Return the request to apply ``action`` in ``slot``."""
    if isinstance(action, int):
        content = action.to_bytes(4, "little")
        return frame(Kind.STEP, _STEP_REQUEST.pack(slot, request, _DISCRETE) + content)
    return frame(Kind.STEP, _STEP_REQUEST.pack(slot, request, _CONTINUOUS) + action.tobytes())


def unpack_step(body: bytes) -> tuple[int, int, Action]:
    """Return slot, request number and action of a STEP frame."""
    slot, request, kind = _STEP_REQUEST.unpack_from(body)
    rest = body[_STEP_REQUEST.size :]
    if kind == _DISCRETE:
        return slot, request, int.from_bytes(rest, "little")
    return slot, request, np.frombuffer(rest, dtype=np.float32).copy()


def pack_render(slot: int, request: int = 0) -> bytes:
    """Return the request for an image of the scene in ``slot``."""
    return frame(Kind.RENDER, ANSWERED.pack(slot, request))


def pack_rendered(slot: int, image: npt.NDArray[np.uint8], seconds: float, request: int = 0) -> bytes:
    """Return the answer to RENDER: seconds spent, and the image, uint8 (height, width, 3)."""
    head = RENDERED.pack(slot, request, seconds, image.shape[0], image.shape[1])
    return frame(Kind.RENDERED, head + image.tobytes())


def pack_begun(
    slot: int, spec: SessionSpec, seconds: float, observation: Observation, request: int = 0
) -> bytes:
    """Return the answer to BEGIN: the session's spec, seconds spent, and the first observation."""
    text = json.dumps(
        {
            "observation": spec.observation,
            "observation_shape": spec.observation_shape,
            "action": spec.action,
            "action_size": spec.action_size,
        }
    ).encode()
    head = BEGUN.pack(slot, request, seconds, len(text))
    return frame(Kind.BEGUN, head + text + observation.tobytes())


def pack_stepped(slot: int, step: Step, seconds: float, trajectory: int, request: int = 0) -> bytes:
    """Return the answer to STEP; ``trajectory`` is the episode's running CRC-32."""
    flags = (
        (TERMINATED if step.terminated else 0)
        | (TRUNCATED if step.truncated else 0)
        | (0 if step.success is None else HAS_SUCCESS)
        | (SUCCESS if step.success else 0)
        | (CONTEXT_RESET if step.context_reset else 0)
        | (INNER_EPISODE_ENDS if step.inner_episode_ends else 0)
    )
    head = STEPPED.pack(slot, request, step.reward, step.signal, flags, seconds, trajectory)
    return frame(Kind.STEPPED, head + step.observation.tobytes())
