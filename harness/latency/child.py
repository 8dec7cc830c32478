"""One process of a sweep: ``python -m lram.harness.latency.child``.

Reads what to do as JSON from its standard input, and writes one ``LatencyPoint`` a line to the descriptor
that is named there. What else is printed goes to the log. It ends when its parent does.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import OUT_OF_MEMORY, SCHEMA, Job, LatencyPoint, end_of

_WORDS = 500  # of an error, at most


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is told to do.

    Attributes:
        folder: Of the sweep.
        job: Which process this is.
        contexts: To measure, ascending.
        descriptor: Where points go.
        parent: Process id of the sweep; 0: not tied to it.
    """

    folder: str
    job: Job
    contexts: tuple[int, ...]
    descriptor: int
    parent: int = 0


def measure(order: Order, send: Callable[[LatencyPoint], object]) -> None:
    """Measure all contexts of a process, and send each point as soon as it is known.

    An error ends it, after a point that tells of it.
    """
    from lram.harness.timing.memory import is_lack, limit_memory

    context = order.contexts[0]
    try:
        plan = LatencyRun(order.folder).plan
        if plan.device == "cpu":
            limit_memory(plan.memory_gib)
        from lram.harness.latency.session import LatencySession

        session = LatencySession(plan, order.job, order.contexts, Path(order.folder))
        with session.simulators_closed():
            for context in order.contexts:
                point = session.point(context)
                send(point)
                if end_of(point, plan.effort):
                    return
    except Exception as error:  # whatever it was, it belongs to this point, and the sweep goes on
        outcome = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:_WORDS]
        if is_lack(error):
            outcome = OUT_OF_MEMORY
        traceback.print_exc()
        send(LatencyPoint(SCHEMA, order.job, context, outcome, started=time.time()))


def main() -> None:
    """Do what standard input says."""
    faulthandler.enable()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    # Ctrl-C reaches the whole process group; the sweep decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if order.parent:
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != order.parent:
            os._exit(1)
    with os.fdopen(order.descriptor, "wb", buffering=0) as out:
        measure(order, lambda point: out.write(msgspec.json.encode(point) + b"\n"))


if __name__ == "__main__":
    main()
