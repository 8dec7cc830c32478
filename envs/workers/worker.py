"""``python -m lram.envs.workers.worker``: sessions of one domain in a process of their own.

The harness starts it with one end of a socket pair and talks to it in :mod:`lram.envs.workers.wire` frames.
Several sessions live in one worker, one a slot; requests are answered strictly in the order in which
they came, so the harness knows which one a dead or silent worker was busy with.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import json
import math
import os
import platform
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import BinaryIO

import numpy as np

from lram.envs.checkouts import package_folder, version_text
from lram.envs.registry import add_file, load_domain
from lram.envs.session import Action, Domain, Observation, Session, SessionError, SessionSpec
from lram.envs.text import message_of, printable, type_of
from lram.envs.workers import wire
from lram.envs.workers.wire import Kind

_REWARD = struct.Struct("<d")


@dataclass
class _Slot:
    key: tuple[str, str]
    session: Session
    spec: SessionSpec
    trajectory: int = 0


class Worker:
    """The sessions of one domain, and what the harness may ask of them."""

    def __init__(self, domain: Domain) -> None:
        """Serve ``domain``; no simulator is imported before the first episode."""
        self._domain = domain
        self._slots: dict[int, _Slot] = {}
        # Making a session costs up to seconds, so those that a slot no longer needs are kept.
        self._idle: OrderedDict[tuple[str, str], list[Session]] = OrderedDict()

    def begin(self, slot: int, task: str, protocol: str, seed: int, request: int = 0) -> bytes:
        """Begin an episode in ``slot``, in a session made or reused; return the frame that answers."""
        started = time.perf_counter()
        holder = self._occupy(slot, (task, protocol))
        observation = holder.session.reset(seed)
        _check_observation(observation, holder.spec)
        holder.trajectory = zlib.crc32(observation.tobytes())
        return wire.pack_begun(slot, holder.spec, time.perf_counter() - started, observation, request)

    def step(self, slot: int, action: Action, request: int = 0) -> bytes:
        """Apply ``action`` in ``slot``; return the frame that answers."""
        started = time.perf_counter()
        holder = self._slots[slot]
        # Before the session has it, which may change the array in place.
        taken = action.to_bytes(4, "little") if isinstance(action, int) else action.tobytes()
        step = holder.session.step(action)
        _check_observation(step.observation, holder.spec)
        if not (math.isfinite(step.reward) and math.isfinite(step.signal)):
            raise SessionError(f"the reward is {step.reward} (signal {step.signal}), not a finite number")
        largest = wire.LARGEST_REWARD
        if not (-largest <= step.reward <= largest and -largest <= step.signal <= largest):
            raise SessionError(
                f"the reward is {step.reward:g} (signal {step.signal:g}), and sums of rewards beyond "
                f"{largest:g} may overflow; scale the task's rewards"
            )
        checksum = zlib.crc32(taken, holder.trajectory)
        checksum = zlib.crc32(_REWARD.pack(step.reward), checksum)
        holder.trajectory = zlib.crc32(step.observation.tobytes(), checksum)
        return wire.pack_stepped(slot, step, time.perf_counter() - started, holder.trajectory, request)

    def render(self, slot: int, request: int = 0) -> bytes:
        """Show the scene of the episode in ``slot``, over or not; return the frame that answers."""
        started = time.perf_counter()
        image = np.asarray(self._slots[slot].session.render())
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise SessionError(
                f"render() gave {image.dtype}{image.shape}, not an image: uint8 (height, width, 3)"
            )
        if image.nbytes > wire.LARGEST_IMAGE:
            raise SessionError(f"render() gave {image.nbytes} bytes, and {wire.LARGEST_IMAGE} are the most")
        return wire.pack_rendered(slot, image, time.perf_counter() - started, request)

    def drop(self, slot: int) -> None:
        """Close the session of ``slot``: after an error it is not to be trusted."""
        holder = self._slots.pop(slot, None)
        if holder is not None:
            _close(holder.session)

    def close(self) -> None:
        """Close every session."""
        for slot in list(self._slots):
            self.drop(slot)
        for sessions in self._idle.values():
            for session in sessions:
                _close(session)
        self._idle.clear()

    def _occupy(self, slot: int, key: tuple[str, str]) -> _Slot:
        holder = self._slots.get(slot)
        if holder is not None and holder.key == key:
            return holder
        if holder is not None:
            self._shelve(self._slots.pop(slot))
        shelf = self._idle.get(key)
        if shelf:
            session = shelf.pop()
        else:
            task, protocol = key
            session = self._domain.make(task, self._domain.protocol(protocol))
        holder = self._slots[slot] = _Slot(key, session, session.spec)
        return holder

    def _shelve(self, holder: _Slot) -> None:
        self._idle.setdefault(holder.key, []).append(holder.session)
        self._idle.move_to_end(holder.key)
        while sum(map(len, self._idle.values())) > self._domain.idle_sessions:
            oldest = next(iter(self._idle))
            if self._idle[oldest]:
                _close(self._idle[oldest].pop(0))
            if not self._idle[oldest]:
                del self._idle[oldest]


def serve(domain: Domain, connection: socket.socket) -> None:
    """Answer frames until the harness closes the connection or asks to stop."""
    worker = Worker(domain)
    connection.sendall(wire.pack_json(Kind.HELLO, _facts(domain)))
    stream: BinaryIO = connection.makefile("rb")
    while head := stream.read(wire.HEADER.size):
        length, number = wire.HEADER.unpack(head)
        kind, body = Kind(number), stream.read(length)
        if kind is Kind.CLOSE:
            break
        connection.sendall(_answer(worker, kind, body))
    worker.close()


def _answer(worker: Worker, kind: Kind, body: bytes) -> bytes:
    slot = number = -1
    try:
        if kind is Kind.STEP:
            slot, number, action = wire.unpack_step(body)
            return worker.step(slot, action, number)
        if kind is Kind.RENDER:
            slot, number = wire.ANSWERED.unpack(body)
            return worker.render(slot, number)
        asked = json.loads(body)
        slot, number = asked["slot"], asked.get("request", 0)
        if kind is Kind.BEGIN:
            return worker.begin(slot, asked["task"], asked["protocol"], asked["seed"], number)
        raise SessionError(f"a worker cannot answer {kind.name}")
    except BaseException as error:  # of a simulator's also SystemExit: the other sessions play on
        with contextlib.suppress(BaseException):
            traceback.print_exc()
        worker.drop(slot)
        message = {"slot": slot, "request": number, "message": _message(error)}
        return wire.pack_json(Kind.FAILED, message)


def _message(error: BaseException) -> str:
    text = message_of(error)
    return text if isinstance(error, SessionError) else printable(f"{type_of(error)}: {text}")


def _check_observation(observation: Observation, spec: SessionSpec) -> None:
    kind = np.uint8 if spec.observation == "image" else np.float32
    if observation.shape != spec.observation_shape or observation.dtype != kind:
        raise SessionError(
            f"the observation is {observation.dtype}{observation.shape}, "
            f"the session's spec says {np.dtype(kind)}{spec.observation_shape}"
        )
    if kind is np.float32 and not np.isfinite(observation).all():
        places = np.flatnonzero(~np.isfinite(observation))
        raise SessionError(f"the observation is not finite at index {places[0]} ({places.size} places)")


def _close(session: Session) -> None:
    try:
        session.close()
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()


def _facts(domain: Domain) -> dict[str, object]:
    versions = {}
    for package in domain.packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    for tree in domain.sources:
        folder = package_folder(tree.module)
        if folder is not None:
            versions[tree.module] = version_text(folder)
    return {"pid": os.getpid(), "python": platform.python_version(), "packages": versions}


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, even while a simulator hangs."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _watch(connection: socket.socket) -> None:
    """Exit as soon as the harness's end of the connection is gone."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP)
    poll.poll()
    os._exit(0)


def main() -> None:
    """Serve one domain over the socket whose descriptor is given."""
    parser = argparse.ArgumentParser(prog="python -m lram.envs.workers.worker")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--file", default="")
    parser.add_argument("--digest", default="")
    arguments = parser.parse_args()
    faulthandler.enable()
    # Ctrl-C reaches the whole process group; the harness decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.parent:
        _die_with_parent(arguments.parent)
    connection = socket.socket(fileno=arguments.fd)
    connection.set_inheritable(False)  # a program that a simulator starts has nothing to say in it
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    code = 0
    try:
        if arguments.file:
            add_file(arguments.file, arguments.digest)
        serve(load_domain(arguments.domain), connection)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    # Simulators' own exit handlers and threads may hang (OpenGL, Qt); all of ours is closed by now.
    os._exit(code)


if __name__ == "__main__":
    main()
