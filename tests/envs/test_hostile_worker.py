"""A worker that sends anything: no exception, no event of another slot, no memory, one sentence."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lram.envs.errors import FrameError
from lram.envs.session import SessionSpec, Step
from lram.envs.workers import answers, wire
from lram.envs.workers.answers import Layout
from lram.envs.workers.process import Begun, Deadlines, Event, Failed, Rendered, Stepped, WorkerProcess
from lram.envs.workers.wire import HEADER, Kind, frame, pack_json

SPEC = SessionSpec("vector", (3,), "continuous", 2)
IMAGE = SessionSpec("image", (3, 64, 64), "discrete", 5)
OBSERVATION = np.array([1.0, -2.0, 3.0], np.float32)
HELLO = pack_json(Kind.HELLO, {"pid": 7, "python": "3.11.7", "packages": {"numpy": "1.26"}})
LIMITS = Deadlines(begin_s=60, step_s=5)

ENDED = subprocess.Popen(["true"])
ENDED.wait()


class Peer:
    """A worker of which the test is the other side."""

    def __init__(self, *, greet: bool = True) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.now = 100.0
        self.worker = WorkerProcess("toy", ENDED, ours, Path(os.devnull), lambda: self.now)
        if greet:
            assert self.says(HELLO) == ([], False)

    def says(self, content: bytes) -> tuple[list[Event], bool]:
        """Let the worker say ``content``; return what comes of it."""
        sender = memoryview(content)
        events: list[Event] = []
        self.theirs.setblocking(False)
        while True:
            sent = self.theirs.send(sender[: 1 << 15]) if sender else 0
            sender = sender[sent:]
            new, ended = self.worker.receive()
            events += new
            if ended or not sender:
                return events, ended

    def begins(self, slot: int, spec: SessionSpec = SPEC, task: str = "t") -> None:
        """Begin an episode in ``slot``."""
        self.worker.begin(slot, task, "plain", 1, LIMITS)
        first = np.zeros(spec.observation_shape, np.uint8 if spec.observation == "image" else np.float32)
        events, ended = self.says(wire.pack_begun(slot, spec, 0.0, first, self.worker._requests))
        assert isinstance(events[0], Begun)
        assert not ended

    def asks(self, slot: int) -> int:
        """Ask for a step; return the request's number."""
        self.worker.step(slot, 0, LIMITS)
        return self.worker._requests

    def close(self) -> None:
        self.theirs.close()
        self.worker.connection.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def one(**options: bool) -> Peer:
        peers.append(Peer(**options))
        return peers[-1]

    yield one
    for peer in peers:
        peer.close()


def stepped(slot: int, request: int, reward: float = 0.5, **changes: object) -> bytes:
    step = Step(OBSERVATION, reward, False, False, None, reward)._replace(**changes)  # type: ignore[arg-type]
    return wire.pack_stepped(slot, step, 0.0, 1, request)


def begun(spec: object, request: int, body: bytes = OBSERVATION.tobytes(), seconds: float = 0.0) -> bytes:
    text = spec if isinstance(spec, bytes) else json.dumps(spec).encode()
    return frame(Kind.BEGUN, wire.BEGUN.pack(0, request, seconds, len(text)) + text + body)


FACTS = {"observation": "vector", "observation_shape": [3], "action": "continuous", "action_size": 2}
DEEP = b"[" * 30000 + b"]" * 30000

# The worker owes a step of slot 0, as request 3; slot 1 is begun as request 2 and owes nothing.
WRONG_STEPS = {
    "no kind": frame(0, b""),  # type: ignore[arg-type]
    "unknown kind": frame(250, b"x"),  # type: ignore[arg-type]
    "a request of ours": wire.pack_step(0, 1, 3),
    "close": frame(Kind.CLOSE, b""),
    "begun": begun(FACTS, 3),
    "an image": wire.pack_rendered(0, np.zeros((1, 1, 3), np.uint8), 0.0, 3),
    "hello again": HELLO,
    "4 GiB": HEADER.pack(0xFFFFFFFF, Kind.STEPPED),
    "4 GiB of words": HEADER.pack(0xFFFFFFFF, Kind.FAILED),
    "short": frame(Kind.STEPPED, b""),
    "long": frame(Kind.STEPPED, stepped(0, 3)[HEADER.size :] + b"\0"),
    "slot not in flight": stepped(77, 3),
    "slot in flight": stepped(1, 3),
    "request answered before": stepped(0, 2),
    "request not asked": stepped(0, 4),
    "reward NaN": stepped(0, 3, float("nan")),
    "reward infinite": stepped(0, 3, float("-inf")),
    "reward huge": stepped(0, 3, 1.7e308),
    "signal NaN": stepped(0, 3, signal=float("nan")),
    "signal huge": stepped(0, 3, signal=1e31),
    "observation NaN": stepped(0, 3, observation=np.array([0, np.nan, 0], np.float32)),
    "observation infinite": stepped(0, 3, observation=np.array([np.inf, 0, 0], np.float32)),
    "failed empty": frame(Kind.FAILED, b""),
    "failed list": frame(Kind.FAILED, b"[]"),
    "failed null": frame(Kind.FAILED, b"null"),
    "failed deep": frame(Kind.FAILED, DEEP),
    "failed not utf-8": frame(Kind.FAILED, b'{"slot": 0, "request": 3, "message": "\xff"}'),
    "failed without request": pack_json(Kind.FAILED, {"slot": 0, "message": "m"}),
    "failed with more": pack_json(Kind.FAILED, {"slot": 0, "request": 3, "message": "m", "more": 1}),
    "failed in slot 77": pack_json(Kind.FAILED, {"slot": 77, "request": 3, "message": "m"}),
    "failed in slot true": pack_json(Kind.FAILED, {"slot": False, "request": 3, "message": "m"}),
    "failed in slot 1e400": frame(Kind.FAILED, b'{"slot": 1e400, "request": 3, "message": "m"}'),
    "failed in a huge slot": frame(
        Kind.FAILED, b'{"slot": ' + b"9" * 4000 + b', "request": 3, "message": ""}'
    ),
    "failed in too huge a slot": frame(
        Kind.FAILED, b'{"slot": ' + b"9" * 5000 + b', "request": 3, "message": ""}'
    ),
    "failed in slot -1": pack_json(Kind.FAILED, {"slot": -1, "request": 3, "message": "m"}),
    "failed by a number": pack_json(Kind.FAILED, {"slot": 0, "request": 3, "message": 5}),
    "failed by none": pack_json(Kind.FAILED, {"slot": 0, "request": 3, "message": None}),
    **{
        f"flags {flags}": frame(
            Kind.STEPPED, wire.STEPPED.pack(0, 3, 0.0, 0.0, flags, 0.0, 0) + OBSERVATION.tobytes()
        )
        for flags in (8, 64, 128, 255)
    },
    **{
        f"{seconds} seconds": frame(
            Kind.STEPPED, wire.STEPPED.pack(0, 3, 0.0, 0.0, 0, seconds, 0) + OBSERVATION.tobytes()
        )
        for seconds in (float("nan"), float("inf"), -1.0, -1e-9, 3600.0)
    },
}
WRONG_BEGINNINGS = {
    "stepped": stepped(0, 1),
    "no head": frame(Kind.BEGUN, b"\0"),
    "4 GiB": HEADER.pack(0xFFFFFFFF, Kind.BEGUN),
    "beyond the largest": HEADER.pack(answers.LARGEST_BEGUN + 1, Kind.BEGUN),
    "seconds NaN": begun(FACTS, 1, seconds=float("nan")),
    "another request": begun(FACTS, 2),
    "no JSON": begun(b"{", 1),
    "deep": begun(DEEP, 1),
    "list": begun([], 1),
    "null": begun(None, 1),
    "lacks a member": begun({k: v for k, v in FACTS.items() if k != "action"}, 1),
    "a member too many": begun({**FACTS, "x": 1}, 1),
    "observation too short": begun(FACTS, 1, b""),
    "observation too long": begun(FACTS, 1, bytes(16)),
    "observation NaN": begun(FACTS, 1, np.full(3, np.nan, np.float32).tobytes()),
    **{
        f"{name} {value!r}": begun({**FACTS, name: value}, 1)
        for name, values in {
            "observation": ("text", None, 1, ["vector"], {}),
            "action": ("both", None, 0, []),
            "action_size": (0, -1, 2.0, True, None, "2", 10**9, 10**30),
            "observation_shape": (
                *([], [0], [-3], [3, 1], [True], [3.0], ["3"], [None], [[3]], [10**9], [10**30]),
                *(None, 3, "3", {"3": 3}, {}),
            ),
        }.items()
        for value in values
    },
    "image too large": begun({**FACTS, "observation": "image", "observation_shape": [4096, 4096, 4096]}, 1),
}
WRONG_GREETINGS = {
    "stepped": stepped(0, 1),
    "failed": pack_json(Kind.FAILED, {"slot": 0, "request": 1, "message": "m"}),
    "too long": HEADER.pack(answers.LARGEST_TEXT + 1, Kind.HELLO),
    "no JSON": frame(Kind.HELLO, b"hello"),
    "deep": frame(Kind.HELLO, DEEP),
    **{
        f"{name} {str(value)[:20]}": pack_json(
            Kind.HELLO, {"pid": 7, "python": "3.11", "packages": {}, name: value}
        )
        for name, values in {
            "pid": (True, -1, 0, 1.5, "7", None, 1 << 31, 10**100),
            "python": (3.11, None, ["3.11"]),
            "packages": ([], None, {"numpy": 1.26}, {"numpy": None}, {str(n): "" for n in range(300)}),
            "more": (1,),
        }.items()
        for value in values
    },
}


PIXELS = np.zeros((2, 4, 3), np.uint8)


def rendered(slot: int, request: int, height: int = 2, width: int = 4, seconds: float = 0.0) -> bytes:
    head = wire.RENDERED.pack(slot, request, seconds, height, width)
    return frame(Kind.RENDERED, head + PIXELS.tobytes())


# The worker owes an image of slot 0, as request 3; slot 1 is begun as request 2 and owes nothing.
WRONG_IMAGES = {
    "a step": stepped(0, 3),
    "begun": begun(FACTS, 3),
    "no head": frame(Kind.RENDERED, b"\0"),
    "4 GiB": HEADER.pack(0xFFFFFFFF, Kind.RENDERED),
    "beyond the largest": HEADER.pack(answers.LARGEST_RENDERED + 1, Kind.RENDERED),
    "another slot": rendered(1, 3),
    "request answered before": rendered(0, 2),
    "request not asked": rendered(0, 4),
    "taller than it is": rendered(0, 3, 3),
    "without height": rendered(0, 3, 0),
    "no time": rendered(0, 3, seconds=float("nan")),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_a_wrong_answer_to_an_image_is_refused_by_a_sentence_and_gives_no_event(
    make: Callable[..., Peer], name: str
) -> None:
    peer = make()
    peer.begins(0)
    peer.begins(1)
    peer.worker.render(0, LIMITS)
    assert peer.says(WRONG_IMAGES[name]) == ([], True)
    assert peer.worker.fault.isprintable()


def test_an_image_and_the_step_after_it_are_answered_in_order(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    peer.worker.render(0, LIMITS)
    asked = peer.asks(0)
    events, ended = peer.says(rendered(0, asked - 1) + stepped(0, asked))
    assert not ended
    assert [type(event) for event in events] == [Rendered, Stepped]
    assert events[0].image.shape == (2, 4, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", WRONG_STEPS)
def test_a_wrong_answer_to_a_step_is_refused_by_a_sentence_and_gives_no_event(
    make: Callable[..., Peer], name: str
) -> None:
    peer = make()
    peer.begins(0)
    peer.begins(1)
    assert peer.asks(0) == 3
    assert peer.says(WRONG_STEPS[name]) == ([], True)
    assert peer.worker.fault
    assert peer.worker.fault.isprintable()
    assert len(peer.worker.fault) < 300


@pytest.mark.parametrize("name", WRONG_BEGINNINGS)
def test_a_wrong_beginning_is_refused_by_a_sentence_and_gives_no_event(
    make: Callable[..., Peer], name: str
) -> None:
    peer = make()
    peer.worker.begin(0, "t", "plain", 1, LIMITS)
    assert peer.says(WRONG_BEGINNINGS[name]) == ([], True)
    assert peer.worker.fault.isprintable()
    assert peer.worker.blamed == (0, False)


@pytest.mark.parametrize("name", WRONG_GREETINGS)
def test_a_wrong_greeting_is_refused(make: Callable[..., Peer], name: str) -> None:
    peer = make(greet=False)
    peer.worker.begin(0, "t", "plain", 1, LIMITS)
    assert peer.says(WRONG_GREETINGS[name]) == ([], True)
    assert peer.worker.fault.isprintable()


def test_what_a_worker_tells_of_itself_is_made_printable(make: Callable[..., Peer]) -> None:
    peer = make(greet=False)
    facts = {"pid": 7, "python": "3\x1b[2J", "packages": {"\u202enumpy": "\ud800" + "9" * 5000}}
    assert peer.says(pack_json(Kind.HELLO, facts)) == ([], False)
    ((name, version),) = peer.worker.facts["packages"].items()
    assert (peer.worker.facts["python"], name, version[:8]) == ("3\\x1b[2J", "\\u202enumpy", "\\ud80099")
    assert len(version) <= 200


def test_a_right_answer_is_an_event_of_its_slot(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(4)
    (event,), ended = peer.says(stepped(4, peer.asks(4), 0.25, success=True, truncated=True))
    assert isinstance(event, Stepped)
    assert not ended
    assert (event.slot, event.step.reward, event.step.success, event.step.truncated) == (4, 0.25, True, True)
    assert event.step.observation.tobytes() == OBSERVATION.tobytes()
    assert event.step.observation.flags.writeable
    assert event.step.observation.flags.aligned


def test_large_finite_observations_are_right_ones(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    large = np.array([3e38, -3e38, 0], np.float32)
    (event,), _ = peer.says(stepped(0, peer.asks(0), observation=large))
    assert isinstance(event, Stepped)
    assert event.step.observation.tolist() == large.tolist()


def test_a_second_answer_is_the_fault_of_the_slot_that_was_answered(make: Callable[..., Peer]) -> None:
    peer = make()
    for slot in (0, 1):
        peer.begins(slot)
    first, _ = peer.asks(0), peer.asks(1)
    events, ended = peer.says(stepped(0, first) * 2)
    assert [event.slot for event in events if isinstance(event, Stepped)] == [0]
    assert ended
    assert "that was not asked for" in peer.worker.fault
    assert peer.worker.blamed == (0, False)


def test_a_second_answer_is_found_although_the_next_step_was_asked_for(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    first = peer.asks(0)
    assert len(peer.says(stepped(0, first))[0]) == 1
    peer.asks(0)
    assert peer.says(stepped(0, first, 1000.0)) == ([], True)


def test_after_the_end_of_its_episode_a_second_answer_is_nobodys_fault(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    peer.begins(1)
    assert len(peer.says(stepped(0, peer.asks(0), truncated=True))[0]) == 1
    peer.worker.begin(0, "another", "plain", 1, LIMITS)
    assert peer.says(stepped(0, 3)) == ([], True)
    assert peer.worker.blamed == (0, True)


def test_a_second_answer_is_known_also_where_another_kind_or_length_is_due(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    peer.begins(1, IMAGE, "another task")
    first, _ = peer.asks(0), peer.asks(1)
    events, ended = peer.says(stepped(0, first) * 2)
    assert len(events) == 1
    assert ended
    assert peer.worker.blamed == (0, False)


@pytest.mark.parametrize("content", [b"\0", HELLO, stepped(0, 2), HEADER.pack(5, 99)])
def test_nothing_is_right_while_nothing_is_asked(make: Callable[..., Peer], content: bytes) -> None:
    peer = make()
    peer.begins(0)
    assert peer.says(content) == ([], True)
    assert peer.worker.blamed == (0, False)


def test_a_spec_that_changes_between_two_episodes_of_a_task_is_refused(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    peer.begins(1, IMAGE, "another task")
    peer.worker.begin(0, "t", "plain", 2, LIMITS)
    changed = wire.pack_begun(
        0, SessionSpec("vector", (3,), "continuous", 3), 0.0, OBSERVATION, peer.worker._requests
    )
    assert peer.says(changed) == ([], True)
    assert "changed the spec of t" in peer.worker.fault


def test_a_frame_in_small_pieces_is_due_when_it_was(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    whole = stepped(0, peer.asks(0))
    due = peer.worker.deadline
    assert due == peer.now + LIMITS.step_s
    for place in range(len(whole) - 1):
        peer.now += 0.01
        assert peer.says(whole[place : place + 1]) == ([], False)
        assert peer.worker.deadline == due
    (event,), _ = peer.says(whole[-1:])
    assert isinstance(event, Stepped)


def test_seconds_may_reach_back_to_the_request_and_not_before_it(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    peer.begins(1)
    requests = [peer.asks(0), peer.asks(1)]
    # This process was busy for 9 seconds: both answers were there when it read the first.
    peer.now += 9.0
    packed = [wire.pack_stepped(slot, Step(OBSERVATION, 0, False, False, None, 0), 4.5, 0, number)
              for slot, number in enumerate(requests)]  # fmt: skip
    events, ended = peer.says(b"".join(packed))
    assert [event.seconds for event in events if isinstance(event, Stepped)] == [4.5, 4.5]
    assert not ended


def random_frame(rng: random.Random, kind: int, right: dict[int, bytes]) -> bytes:
    """Return a frame of ``kind``: of random bytes, or a right one that was changed."""
    body = right.get(kind, b"")[HEADER.size :]
    how = rng.randrange(6)
    if how == 0 or not body:
        body = rng.randbytes(rng.choice((0, 1, 8, 39, 47, 51, 300)))
    elif how == 1:
        place = rng.randrange(len(body))
        body = body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]
    elif how == 2:
        body = body[: rng.randrange(len(body))]
    elif how == 3:
        body += rng.randbytes(rng.randrange(1, 20))
    elif how == 4:
        body = struct.pack("<H", rng.randrange(4)) + body[2:]
    else:
        place = rng.randrange(len(body))
        body = body[:place] + rng.randbytes(4) + body[place + 4 :]
    length = rng.choice((len(body),) * 9 + (rng.getrandbits(32),))
    return HEADER.pack(length, kind) + body


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*Kind, 0, 99])
def test_of_a_thousand_random_frames_of_a_kind_none_gives_what_was_not_asked(kind: int) -> None:
    rng = random.Random(kind)
    peers = 0
    peer, owed = None, []
    try:
        for _ in range(1000):
            if peer is None:
                peer, peers = Peer(greet=kind != Kind.HELLO), peers + 1
                if kind != Kind.HELLO:
                    peer.begins(0)
                    peer.begins(1)
            if not owed:
                if kind in (Kind.BEGUN, Kind.HELLO):
                    owed = [0]
                    peer.worker.begin(0, "t", "plain", 1, LIMITS)
                else:
                    owed = [rng.randrange(2) for _ in range(3)]
                    for slot in owed:
                        peer.asks(slot)
            request = peer.worker._requests - len(owed) + 1
            right = {
                int(Kind.HELLO): HELLO,
                int(Kind.BEGUN): wire.pack_begun(0, SPEC, 0.0, OBSERVATION, request),
                int(Kind.STEPPED): stepped(owed[0], request),
                int(Kind.FAILED): pack_json(
                    Kind.FAILED, {"slot": owed[0], "request": request, "message": "no"}
                ),
                int(Kind.STEP): wire.pack_step(owed[0], 1, request),
            }
            events, ended = peer.says(random_frame(rng, kind, right))
            assert len(events) <= 1
            for event in events:
                assert isinstance(event, Begun | Stepped | Failed)
                assert event.slot == owed.pop(0)
                if isinstance(event, Stepped):
                    assert np.isfinite(event.step.observation).all()
                    assert abs(event.step.reward) <= wire.LARGEST_REWARD
                    assert 0 <= event.seconds <= 1
            assert len(peer.worker._buffer) <= answers.LARGEST_BEGUN
            # What is incomplete would be waited for until its deadline.
            if ended or peer.worker._buffer or (kind == Kind.HELLO and peer.worker.facts):
                assert not ended or peer.worker.fault.isprintable()
                peer.close()
                peer, owed = None, []
    finally:
        if peer is not None:
            peer.close()
    assert peers > 100


def test_no_more_than_the_largest_answer_is_ever_kept(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.worker.begin(0, "t", "plain", 1, LIMITS)
    tracemalloc.start()
    try:
        piece = bytes(1 << 18)
        events, ended = peer.says(HEADER.pack(answers.LARGEST_BEGUN, Kind.BEGUN))
        while not ended:
            events, ended = peer.says(piece)
            assert len(peer.worker._buffer) < answers.LARGEST_BEGUN + (1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert events == []
    assert peak < 32 << 20


def test_a_message_of_a_simulator_is_one_printable_line(make: Callable[..., Peer]) -> None:
    peer = make()
    peer.begins(0)
    text = "\x1b]0;owned\x07 a\n\tb \u202e\u0085\x9b2J \ud800 " + "x" * 5000
    message = {"slot": 0, "request": peer.asks(0), "message": text}
    (event,), ended = peer.says(pack_json(Kind.FAILED, message))
    assert isinstance(event, Failed)
    assert not ended
    assert event.message.startswith(r"\x1b]0;owned\x07 a b \u202e \x9b2J \ud800 xxx")
    assert event.message.isprintable()
    assert len(event.message) == 1000


def test_layouts_refuse_what_is_not_finite_only() -> None:
    layout = Layout.of(SPEC)
    with pytest.raises(FrameError, match="not finite at index 2"):
        layout.observation(bytearray(np.array([1, 2, np.nan], np.float32).tobytes()))
    assert layout.observation(bytearray(OBSERVATION.tobytes())).tolist() == OBSERVATION.tolist()
