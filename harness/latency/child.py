"""One process of a sweep: ``python -m lram.harness.latency.child``.

It is given an :class:`Order` and sends one ``LatencyPoint`` a line
(:mod:`lram.harness.timing.fresh_process`).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import OUT_OF_MEMORY, SCHEMA, Job, LatencyPoint, end_of
from lram.harness.timing.fresh_process import serve

_WORDS = 500  # of an error, at most


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to measure.

    Attributes:
        folder: Of the sweep.
        job: Which process this is.
        contexts: To measure, ascending.
    """

    folder: str
    job: Job
    contexts: tuple[int, ...]


def measure(order: Order, send: Callable[[LatencyPoint], object]) -> None:
    """Measure all contexts of a process, and send each point as soon as it is known.

    An error ends it, after a point that tells of it.
    """
    from lram.agents.memory import is_lack
    from lram.harness.timing.memory import limit_memory

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
    except Exception as error:  # whatever it was, it belongs to this point, and the sweep continues
        outcome = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:_WORDS]
        if is_lack(error):
            outcome = OUT_OF_MEMORY
        traceback.print_exc()
        send(LatencyPoint(SCHEMA, order.job, context, outcome, started=time.time()))


if __name__ == "__main__":
    serve(Order, measure)
