"""What a worker sends, read and checked: a worker is not trusted.

A frame is right or it is refused: by its kind and length before its body is waited for, and by every
field of the body. :class:`FrameError` says what is wrong with it; the worker that sent it is ended.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from lram.envs.errors import FrameError
from lram.envs.session import Observation, SessionSpec, Step
from lram.envs.text import printable
from lram.envs.workers import wire
from lram.envs.workers.wire import Kind

LARGEST_TEXT = 1 << 16  # bytes of a HELLO, a FAILED, or a spec
LARGEST_OBSERVATION = 1 << 22  # bytes
LARGEST_BEGUN = wire.BEGUN.size + LARGEST_TEXT + LARGEST_OBSERVATION
LARGEST_RENDERED = wire.RENDERED.size + wire.LARGEST_IMAGE
LARGEST_ACTION = 1 << 16  # actions to choose from, or dimensions
_MOST_PACKAGES, _LONGEST_FACT = 200, 200
_LARGEST_PID = 1 << 31
_SLACK_S = 1.0  # by which an answer's seconds may exceed those that passed since the request


@dataclass(slots=True)
class Request:
    """What a worker was asked for and has not answered yet.

    Attributes:
        kind: Of the answer, BEGUN, STEPPED or RENDERED; FAILED is one to each.
        slot, number: What the answer must repeat.
        limit_s: Seconds for it.
        sent: When it was asked, in the clock's seconds.
        task: Task and protocol that an episode begins of; None for a step or an image.
    """

    kind: Kind
    slot: int
    number: int
    limit_s: float
    sent: float
    task: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """How the steps of a session lie in a frame.

    Attributes:
        spec: The session's.
        dtype: Of an observation.
        stepped: Bytes of a STEPPED frame's body.
    """

    spec: SessionSpec
    dtype: type[np.uint8] | type[np.float32]
    stepped: int

    @classmethod
    def of(cls, spec: SessionSpec) -> Layout:
        """Return the layout of a session."""
        dtype = np.uint8 if spec.observation == "image" else np.float32
        return cls(spec, dtype, wire.STEPPED.size + _observation_size(spec))

    def observation(self, content: bytearray) -> Observation:
        """Return an observation of just so many bytes; it keeps ``content`` as its memory."""
        array = cast(Observation, np.frombuffer(content, dtype=self.dtype))
        # Infinity and NaN stay in a sum of squares; so large a sum of finite numbers is looked at again.
        if self.dtype is np.float32 and not np.dot(array, array) < np.inf and not np.isfinite(array).all():
            place = int(np.flatnonzero(~np.isfinite(array))[0])
            raise FrameError(f"sent an observation that is not finite at index {place}")
        return array.reshape(self.spec.observation_shape)


def check_header(number: int, length: int, request: Request | None, stepped: int, *, greeted: bool) -> None:
    """Refuse a frame by its header.

    Args:
        number, length: Kind and bytes of the body.
        request: The oldest request without an answer, if any.
        stepped: Bytes of the body of a step's answer in the request's slot.
        greeted: The worker has sent its HELLO already.

    Raises:
        FrameError: It is no answer that is due, or longer than one.
    """
    if not greeted or number == Kind.HELLO:
        if greeted:
            raise FrameError("sent a second HELLO frame")
        if number != Kind.HELLO:
            raise FrameError(f"sent {_frame(number)} before its HELLO")
        largest = LARGEST_TEXT
    elif request is None:
        raise unasked(number)
    elif number == request.kind == Kind.STEPPED:
        if length != stepped:
            raise FrameError(f"sent {_frame(number)} of {length} bytes where {stepped} were due")
        return
    elif number == Kind.FAILED:
        largest = LARGEST_TEXT
    elif number == request.kind:
        largest = LARGEST_RENDERED if number == Kind.RENDERED else LARGEST_BEGUN
    else:
        raise FrameError(f"sent {_frame(number)} where {request.kind.name} was due")
    if length > largest:
        raise FrameError(f"sent {_frame(number)} of {length} bytes, and {largest} are the most")


def unasked(number: int) -> FrameError:
    """Return the fault of a frame that nothing asked for: a second answer, or one to nothing."""
    return FrameError(f"sent {_frame(number)} that was not asked for", again=True)


def read_hello(body: bytearray) -> dict[str, Any]:
    """Return what a worker reports of itself: pid, python, packages (version by name)."""
    facts = _members(body, "HELLO", ("packages", "pid", "python"))
    pid, python, packages = facts["pid"], facts["python"], facts["packages"]
    if type(pid) is not int or not 0 < pid < _LARGEST_PID:
        raise FrameError(f"reported the process id {_shown(pid)}")
    if type(packages) is not dict or len(packages) > _MOST_PACKAGES:
        raise FrameError(f"reported no table of at most {_MOST_PACKAGES} packages")
    texts = [python, *packages.values()]
    if not all(type(text) is str for text in texts):
        raise FrameError("reported versions that are no text")
    return {
        "pid": pid,
        "python": printable(python, _LONGEST_FACT),
        "packages": {
            printable(name, _LONGEST_FACT): printable(text, _LONGEST_FACT) for name, text in packages.items()
        },
    }


def read_begun(
    body: bytearray, request: Request, earlier: Layout | None, now: float
) -> tuple[Layout, float, Observation]:
    """Return layout, seconds and first observation of a BEGUN frame.

    Args:
        body: The frame's.
        request: What it must answer.
        earlier: Layout of the same task's earlier episodes, if any.
        now: The clock's seconds.
    """
    if len(body) < wire.BEGUN.size:
        raise FrameError(f"sent a BEGUN frame of {len(body)} bytes, which has no head")
    slot, number, seconds, length = wire.BEGUN.unpack_from(body)
    _check_request(Kind.BEGUN, slot, number, request)
    _check_seconds(seconds, request, now)
    start = wire.BEGUN.size + length
    spec = _spec(_members(body[wire.BEGUN.size : start], "spec", _SPEC))
    if earlier is not None and earlier.spec != spec:
        raise FrameError(f"changed the spec of {request.task and request.task[0]} between two episodes")
    if len(body) - start != _observation_size(spec):
        raise FrameError(
            f"sent a first observation of {len(body) - start} bytes where {_observation_size(spec)} were due"
        )
    layout = earlier or Layout.of(spec)
    return layout, seconds, layout.observation(body[start:])


def read_stepped(
    buffer: bytearray, start: int, request: Request, layout: Layout, now: float
) -> tuple[Step, float, int]:
    """Return step, seconds and trajectory checksum of the STEPPED body at ``start``, of the right length."""
    slot, number, reward, signal, flags, seconds, trajectory = wire.STEPPED.unpack_from(buffer, start)
    if slot != request.slot or number != request.number:
        _check_request(Kind.STEPPED, slot, number, request)
    if not 0.0 <= seconds <= now - request.sent:
        _check_seconds(seconds, request, now)
    largest = wire.LARGEST_REWARD
    if not (-largest <= reward <= largest and -largest <= signal <= largest):  # NaN is in no range
        raise FrameError(f"sent the reward {reward:g} (signal {signal:g}), which is not within +-{largest:g}")
    meaning = _FLAGS[flags]
    if meaning is None:
        raise FrameError(f"sent the flags {flags}, which mean nothing")
    terminated, truncated, success, context_reset, inner_episode_ends = meaning
    observation = layout.observation(buffer[start + wire.STEPPED.size : start + layout.stepped])
    step = Step(
        observation, reward, terminated, truncated, success, signal, context_reset, inner_episode_ends
    )
    return step, seconds, trajectory


def read_rendered(body: bytearray, request: Request, now: float) -> npt.NDArray[np.uint8]:
    """Return the image of a RENDERED frame, uint8 (height, width, 3); it keeps the body as its memory."""
    if len(body) < wire.RENDERED.size:
        raise FrameError(f"sent a RENDERED frame of {len(body)} bytes, which has no head")
    slot, number, seconds, height, width = wire.RENDERED.unpack_from(body)
    _check_request(Kind.RENDERED, slot, number, request)
    _check_seconds(seconds, request, now)
    size = 3 * height * width
    if not size or len(body) - wire.RENDERED.size != size:
        bytes_sent = len(body) - wire.RENDERED.size
        raise FrameError(f"sent an image of {bytes_sent} bytes as {height} by {width} pixels")
    image = np.frombuffer(body, np.uint8, offset=wire.RENDERED.size)
    return image.reshape(height, width, 3)


def read_failed(body: bytearray, request: Request) -> str:
    """Return the message of a FAILED frame, fit to be shown."""
    facts = _members(body, "FAILED", ("message", "request", "slot"))
    slot, number, message = facts["slot"], facts["request"], facts["message"]
    if type(slot) is not int or type(number) is not int:
        raise FrameError("sent a FAILED frame whose slot or request is no whole number")
    _check_request(Kind.FAILED, slot, number, request)
    if type(message) is not str:
        raise FrameError("sent a FAILED frame whose message is no text")
    return printable(message) or "the simulator failed without a word"


_SPEC = ("action", "action_size", "observation", "observation_shape")


def _spec(facts: dict[str, Any]) -> SessionSpec:
    observation, shape = facts["observation"], facts["observation_shape"]
    action, size = facts["action"], facts["action_size"]
    if observation not in ("image", "vector") or action not in ("discrete", "continuous"):
        raise FrameError(f"sent a spec of kinds that there are not: {_shown([observation, action])}")
    if type(size) is not int or not 0 < size <= LARGEST_ACTION:
        raise FrameError(f"sent a spec with {_shown(size)} actions (1 to {LARGEST_ACTION} are possible)")
    dimensions = 3 if observation == "image" else 1
    if (
        type(shape) is not list
        or len(shape) != dimensions
        or not all(type(length) is int and 0 < length <= LARGEST_OBSERVATION for length in shape)
    ):
        raise FrameError(f"sent a spec of an impossible shape: {observation} {_shown(shape)}")
    spec = SessionSpec(observation, tuple(shape), action, size)
    if _observation_size(spec) > LARGEST_OBSERVATION:
        raise FrameError(f"sent a spec of observations beyond {LARGEST_OBSERVATION} bytes: {_shown(shape)}")
    return spec


def _observation_size(spec: SessionSpec) -> int:
    size = 1 if spec.observation == "image" else 4
    for length in spec.observation_shape:
        size *= length
    return size


def _members(body: bytearray, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object of just these members that ``body`` holds."""
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"sent a {what} that is no JSON: {printable(str(error), 80)}") from None
    if type(value) is not dict or sorted(value) != list(names):
        raise FrameError(f"sent a {what} that does not hold {', '.join(names)}: {_shown(value)}")
    return value


def _check_request(kind: Kind, slot: int, number: int, request: Request) -> None:
    if slot == request.slot and number == request.number:
        return
    if number == (request.number - 1) % wire.REQUESTS:
        raise unasked(kind)
    raise FrameError(
        f"sent {kind.name} for slot {_shown(slot)} (request {_shown(number)}) "
        f"where slot {request.slot} (request {request.number}) was to be answered"
    )


def _check_seconds(seconds: float, request: Request, now: float) -> None:
    passed = now - request.sent
    if not 0.0 <= seconds <= passed + _SLACK_S:
        raise FrameError(f"reported {seconds:g} s in the simulator, {passed:.3g} s after it was asked")


def _frame(number: int) -> str:
    try:
        return f"a {Kind(number).name} frame"
    except ValueError:
        return f"a frame of the unknown kind {number}"


def _shown(value: object) -> str:
    try:
        return printable(repr(value), 60)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"


def _meanings(flags: int) -> tuple[bool, bool, bool | None, bool, bool] | None:
    defined = (
        wire.TERMINATED
        | wire.TRUNCATED
        | wire.HAS_SUCCESS
        | wire.SUCCESS
        | wire.CONTEXT_RESET
        | wire.INNER_EPISODE_ENDS
    )
    if flags & ~defined or (flags & wire.SUCCESS and not flags & wire.HAS_SUCCESS):
        return None
    return (
        bool(flags & wire.TERMINATED),
        bool(flags & wire.TRUNCATED),
        bool(flags & wire.SUCCESS) if flags & wire.HAS_SUCCESS else None,
        bool(flags & wire.CONTEXT_RESET),
        bool(flags & wire.INNER_EPISODE_ENDS),
    )


_FLAGS = tuple(_meanings(flags) for flags in range(256))
