"""How the harness and a worker talk: frames over a socket, standard library and numpy only.

A frame is a length (uint32, little endian), a kind (uint8) and a body. What happens once an episode
travels as JSON; what happens at every step as packed numbers followed by the raw observation. No
pickle crosses the boundary, so the two sides may run different interpreters.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any

import numpy as np

from lram.envs.session import Action, Observation, SessionSpec, Step

HEADER = struct.Struct("<IB")
_STEP_REQUEST = struct.Struct("<HB")
_BEGUN = struct.Struct("<HdH")
_STEPPED = struct.Struct("<HddBdI")
_SLOT = struct.Struct("<H")

_TERMINATED, _TRUNCATED, _HAS_SUCCESS, _SUCCESS, _CONTEXT_RESET, _PART_ENDS = 1, 2, 4, 8, 16, 32
_DISCRETE, _CONTINUOUS = 0, 1


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1  # worker: JSON facts about itself
    BEGIN = 2  # harness: JSON slot, task, protocol, seed
    BEGUN = 3  # worker: an episode has begun
    STEP = 4  # harness: an action
    STEPPED = 5  # worker: what it led to
    FAILED = 6  # worker: JSON slot, message; the slot's episode is over
    CLOSE = 7  # harness: close everything and exit


def frame(kind: Kind, body: bytes) -> bytes:
    """Return one frame."""
    return HEADER.pack(len(body), kind) + body


def pack_json(kind: Kind, value: dict[str, Any]) -> bytes:
    """Return a frame with a JSON body."""
    return frame(kind, json.dumps(value).encode())


def pack_step(slot: int, action: Action) -> bytes:
    """Return the request to apply ``action`` in ``slot``."""
    if isinstance(action, int):
        return frame(Kind.STEP, _STEP_REQUEST.pack(slot, _DISCRETE) + action.to_bytes(4, "little"))
    return frame(Kind.STEP, _STEP_REQUEST.pack(slot, _CONTINUOUS) + action.tobytes())


def unpack_step(body: bytes) -> tuple[int, Action]:
    """Return slot and action of a STEP frame."""
    slot, kind = _STEP_REQUEST.unpack_from(body)
    rest = body[_STEP_REQUEST.size :]
    if kind == _DISCRETE:
        return slot, int.from_bytes(rest, "little")
    return slot, np.frombuffer(rest, dtype=np.float32).copy()


def pack_begun(slot: int, spec: SessionSpec, seconds: float, observation: Observation) -> bytes:
    """Return the answer to BEGIN: the session's spec, seconds spent, and the first observation."""
    text = json.dumps(
        {
            "observation": spec.observation,
            "observation_shape": spec.observation_shape,
            "action": spec.action,
            "action_size": spec.action_size,
        }
    ).encode()
    return frame(Kind.BEGUN, _BEGUN.pack(slot, seconds, len(text)) + text + observation.tobytes())


def unpack_begun(body: bytes) -> tuple[int, SessionSpec, float, Observation]:
    """Return slot, spec, seconds and first observation of a BEGUN frame."""
    slot, seconds, length = _BEGUN.unpack_from(body)
    start = _BEGUN.size + length
    facts = json.loads(body[_BEGUN.size : start])
    facts["observation_shape"] = tuple(facts["observation_shape"])
    spec = SessionSpec(**facts)
    return slot, spec, seconds, _observation(body, start, spec)


def pack_stepped(slot: int, step: Step, seconds: float, trajectory: int) -> bytes:
    """Return the answer to STEP; ``trajectory`` is the episode's running CRC-32."""
    flags = (
        (_TERMINATED if step.terminated else 0)
        | (_TRUNCATED if step.truncated else 0)
        | (0 if step.success is None else _HAS_SUCCESS)
        | (_SUCCESS if step.success else 0)
        | (_CONTEXT_RESET if step.context_reset else 0)
        | (_PART_ENDS if step.part_ends else 0)
    )
    head = _STEPPED.pack(slot, step.reward, step.signal, flags, seconds, trajectory)
    return frame(Kind.STEPPED, head + step.observation.tobytes())


def slot_of(body: bytes) -> int:
    """Return the slot of a BEGUN or STEPPED frame."""
    return int(_SLOT.unpack_from(body)[0])


def unpack_stepped(body: bytes, spec: SessionSpec) -> tuple[int, Step, float, int]:
    """Return slot, step, seconds and trajectory checksum of a STEPPED frame."""
    slot, reward, signal, flags, seconds, trajectory = _STEPPED.unpack_from(body)
    step = Step(
        observation=_observation(body, _STEPPED.size, spec),
        reward=reward,
        terminated=bool(flags & _TERMINATED),
        truncated=bool(flags & _TRUNCATED),
        success=bool(flags & _SUCCESS) if flags & _HAS_SUCCESS else None,
        signal=signal,
        context_reset=bool(flags & _CONTEXT_RESET),
        part_ends=bool(flags & _PART_ENDS),
    )
    return slot, step, seconds, trajectory


def _observation(body: bytes, start: int, spec: SessionSpec) -> Observation:
    if spec.observation == "image":
        return np.frombuffer(body, dtype=np.uint8, offset=start).reshape(spec.observation_shape).copy()
    return np.frombuffer(body, dtype=np.float32, offset=start).reshape(spec.observation_shape).copy()
