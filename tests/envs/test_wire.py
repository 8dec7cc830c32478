"""Frames between the harness and a worker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lram.envs.registry import load_domain
from lram.envs.session import SessionError, SessionSpec, Step
from lram.envs.workers import answers, wire
from lram.envs.workers.answers import Layout, Request
from lram.envs.workers.wire import HEADER, Kind
from lram.envs.workers.worker import Worker, _answer

VECTOR = SessionSpec("vector", (3,), "continuous", 2)
IMAGE = SessionSpec("image", (3, 64, 64), "discrete", 18)


def body(frame: bytes) -> bytes:
    length, _ = HEADER.unpack_from(frame)
    assert len(frame) == HEADER.size + length
    return frame[HEADER.size :]


@pytest.mark.parametrize("action", [0, 17, np.array([-1.0, 0.25], np.float32)])
def test_actions_survive(action: int | np.ndarray) -> None:
    slot, request, received = wire.unpack_step(body(wire.pack_step(5, action, 0xFFFFFFFF)))
    assert (slot, request) == (5, 0xFFFFFFFF)
    assert type(received) is type(action)
    np.testing.assert_array_equal(received, action)


@pytest.mark.parametrize("success", [None, True, False])
@pytest.mark.parametrize("flags", [(True, False, False), (False, True, True)])
def test_steps_survive_bit_for_bit(success: bool | None, flags: tuple[bool, bool, bool]) -> None:
    observation = np.array([np.pi, -0.0, 1e-40], np.float32)
    step = Step(observation, 0.1, flags[0], flags[1], success, -1.0, flags[2])
    packed = bytearray(body(wire.pack_stepped(65535, step, 0.5, 0xFFFFFFFF, 7)))
    layout = Layout.of(VECTOR)
    assert len(packed) == layout.stepped
    asked = Request(Kind.STEPPED, 65535, 7, limit_s=1.0, sent=0.0)
    received, seconds, trajectory = answers.read_stepped(packed, 0, asked, layout, now=1.0)
    assert (seconds, trajectory) == (0.5, 0xFFFFFFFF)
    assert received[1:] == step[1:]
    assert received.observation.tobytes() == observation.tobytes()


def test_the_first_observation_comes_with_its_spec_and_is_the_callers_own() -> None:
    observation = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
    packed = bytearray(body(wire.pack_begun(2, IMAGE, 1.5, observation, 7)))
    asked = Request(Kind.BEGUN, 2, 7, limit_s=9.0, sent=0.0, task=("image", "plain"))
    layout, seconds, received = answers.read_begun(packed, asked, None, now=2.0)
    assert (layout.spec, seconds) == (IMAGE, 1.5)
    np.testing.assert_array_equal(received, observation)
    assert received.flags.writeable


def test_kinds_are_distinct() -> None:
    assert len({int(kind) for kind in Kind}) == len(Kind)


class Odd(BaseException):
    """What no simulator should raise."""

    def __str__(self) -> str:
        raise ValueError("it cannot be told")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (Odd(), "Odd: (its message cannot be read)"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (SessionError("\x1b[2J no"), r"\x1b[2J no"),
    ],
)
def test_whatever_a_simulator_raises_is_an_answer(error: BaseException, words: str) -> None:
    class Raises:
        spec = VECTOR

        def reset(self, seed: int) -> np.ndarray:
            raise error

        def close(self) -> None:
            raise error

    domain = replace(load_domain("toy"), make=lambda task, protocol: Raises())
    request = b'{"slot": 3, "request": 9, "task": "steps", "protocol": "plain", "seed": 1}'
    answer = bytearray(body(_answer(Worker(domain), Kind.BEGIN, request)))
    asked = Request(Kind.BEGUN, 3, 9, limit_s=9.0, sent=0.0)
    assert answers.read_failed(answer, asked) == words.strip()


@pytest.mark.parametrize("reward", [1.7e308, -1e31, float("nan")])
def test_a_reward_that_sums_may_overflow_of_fails_the_episode(reward: float) -> None:
    class Rich:
        spec = VECTOR

        def reset(self, seed: int) -> np.ndarray:
            return np.zeros(3, np.float32)

        def step(self, action: object) -> Step:
            return Step(np.zeros(3, np.float32), reward, False, False, None, 0.0)

        def close(self) -> None:
            pass

    worker = Worker(replace(load_domain("toy"), make=lambda task, protocol: Rich()))
    worker.begin(0, "steps", "plain", 1)
    answer = bytearray(body(_answer(worker, Kind.STEP, body(wire.pack_step(0, 1, 4)))))
    message = answers.read_failed(answer, Request(Kind.STEPPED, 0, 4, limit_s=9.0, sent=0.0))
    assert message.startswith("the reward is ")


def test_images_of_the_scene_survive() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert wire.ANSWERED.unpack(body(wire.pack_render(3, 8))) == (3, 8)
    packed = bytearray(body(wire.pack_rendered(3, image, 0.5, 8)))
    received = answers.read_rendered(packed, Request(Kind.RENDERED, 3, 8, limit_s=9.0, sent=0.0), now=1.0)
    np.testing.assert_array_equal(received, image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((3000, 3000, 3), np.uint8),
    ],
)
def test_a_session_that_shows_no_image_fails_the_episode(image: np.ndarray) -> None:
    class Shows:
        spec = VECTOR

        def reset(self, seed: int) -> np.ndarray:
            return np.zeros(3, np.float32)

        def render(self) -> np.ndarray:
            return image

        def close(self) -> None:
            pass

    worker = Worker(replace(load_domain("toy"), make=lambda task, protocol: Shows()))
    worker.begin(2, "steps", "plain", 1)
    answer = bytearray(body(_answer(worker, Kind.RENDER, body(wire.pack_render(2, 4)))))
    message = answers.read_failed(answer, Request(Kind.RENDERED, 2, 4, limit_s=9.0, sent=0.0))
    assert message.startswith("render() gave ")
