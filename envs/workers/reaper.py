"""``python -I -S reaper.py``: ends what simulators have started when the harness is gone, however it went.

One such process a pool. It reads from its standard input, a line each: first ``TOKEN HARNESS``, a mark that
the environment of every worker has and the harness's process id; then ``+ NUMBER PID START`` for each worker
that starts, ``- NUMBER`` for each that was ended, and ``.`` at the end. It waits; when the harness dies, or
has sent the end, it kills every process that a worker of the pool has left, and ends. It is run as a
script, without any package.

A process is a worker's when its environment has the worker's mark, when it is of the worker's session, or
when one of those is its parent. That is looked up right before each kill, for a process that is held by a
descriptor, so that no other process that was given the same number is met.
"""

from __future__ import annotations

import os
import select
import signal
import time

VARIABLE = "LRAM_WORKER"
_ROUNDS = 40  # looks for processes that were started while others were killed
_ROUND_S = 0.05
_WAIT_MS = 1000


class Workers:
    """The workers of a pool, by number: process id and when the process was started."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._started: dict[str, tuple[int, int]] = {}

    def begin(self, number: str, pid: int, start: int) -> None:
        """Take note of a worker."""
        self._started[number] = (pid, start)

    def end(self, number: str) -> None:
        """Kill what a worker that was ended has left."""
        started = self._started.pop(number, None)
        _kill(f"{VARIABLE}={self._token}-{number}\0", {} if started is None else dict([started]))

    def end_all(self) -> None:
        """Kill the workers and what they have left."""
        _kill(f"{VARIABLE}={self._token}-", dict(self._started.values()))


def _kill(mark: str, sessions: dict[int, int]) -> None:
    for _ in range(_ROUNDS):
        found = _find(mark.encode(), sessions)
        if not found:
            return
        for pid, start in found.items():
            _kill_one(pid, start)
        time.sleep(_ROUND_S)


def _find(mark: bytes, sessions: dict[int, int]) -> dict[int, int]:
    """Return process id and start of the living processes that carry a mark or are of a session."""
    alive = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is slow to import
        if name.isdigit() and int(name) != os.getpid():
            facts = facts_of(int(name))
            if facts is not None and facts[0] not in ("Z", "X"):
                alive[int(name)] = facts
    # A session whose leader was started at another time than the worker is another one's.
    ours = {pid for pid, start in sessions.items() if pid not in alive or alive[pid][3] == start}
    found = {
        pid: start for pid, (_, _, session, start) in alive.items() if session in ours or _marked(pid, mark)
    }
    while True:
        more = {pid: facts[3] for pid, facts in alive.items() if facts[1] in found and pid not in found}
        if not more:
            return found
        found.update(more)


def facts_of(pid: int) -> tuple[str, int, int, int] | None:
    """Return a process's state, parent, session and start; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            words = file.read().rpartition(b")")[2].split()
        return words[0].decode(), int(words[1]), int(words[3]), int(words[19])
    except (OSError, ValueError, IndexError):
        return None


def _marked(pid: int, mark: bytes) -> bool:
    """Return whether a process was started with a variable that begins with ``mark``."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return b"\0" + mark in b"\0" + file.read()
    except OSError:  # somebody else's
        return False


def _kill_one(pid: int, start: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        facts = facts_of(pid)
        if facts is not None and facts[3] == start:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


def _watched(harness: int) -> int:
    """Return a descriptor that can be read when the harness is gone; -1 where the system has none."""
    try:
        return os.pidfd_open(harness)
    except OSError:
        return -1


class Orders:
    """What the harness tells, line by line."""

    def __init__(self) -> None:
        """Read from the standard input."""
        os.set_blocking(0, False)
        self._pending = b""
        self.ended = False

    def first(self) -> list[str]:
        """Return the words of the first line; none where the harness has ended before it."""
        while b"\n" not in self._pending and not self.ended:
            select.select([0], [], [])
            self._read()
        first, _, self._pending = self._pending.partition(b"\n")
        return first.decode().split()

    def follow(self, workers: Workers) -> None:
        """Take what is there; ``ended`` tells that no more can come."""
        more = True
        while more:
            more = self._read()
            *lines, self._pending = self._pending.split(b"\n")
            for line in lines:
                sign, *words = line.decode().split()
                if sign == "+":
                    workers.begin(words[0], int(words[1]), int(words[2]))
                elif sign == "-":
                    workers.end(words[0])
                else:
                    self.ended = True

    def _read(self) -> bool:
        try:
            content = os.read(0, 65536)
        except BlockingIOError:
            return False
        self._pending += content
        self.ended = self.ended or not content
        return bool(content)


def main() -> None:
    """Wait for the harness's end, and end what its workers have left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    orders = Orders()
    first = orders.first()
    if not first:
        return
    token, harness = first[0], int(first[1])
    workers, poll, watched = Workers(token), select.poll(), _watched(harness)
    poll.register(0, select.POLLIN)
    if watched >= 0:
        poll.register(watched, select.POLLIN)
    orders.follow(workers)
    # A process that the harness has forked may hold the pipe open: its end alone does not tell.
    while not orders.ended and os.getppid() == harness:
        ready = dict(poll.poll(_WAIT_MS))
        orders.follow(workers)
        if watched in ready:
            break
    orders.follow(workers)  # the harness's last words, where it was gone before they were read
    workers.end_all()


if __name__ == "__main__":
    main()
