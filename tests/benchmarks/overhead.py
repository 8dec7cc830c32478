"""What a local evaluation's time goes into, beside simulators and networks.

For each group of tasks an agent plays for some seconds in the driver that ``lram eval`` has::

    OMP_NUM_THREADS=1 python tests/benchmarks/overhead.py --agent 'xlstm[7:1]-16M' --lanes 16 --seconds 20

Every moment of the steady state belongs to one of these, so that they add up to the wall time:

* ``network``: the model computes, within ``Agent.act``: encoders, tokens, backbone, head.
* ``simulator``: the driver waits for simulators: no lane is ready and some worker is in ``Session.reset`` or
  ``step``, or every worker is, so that a decision could begin nothing.
* ``queued``: the driver has work and no core, because simulators (or other programs) run on all of them.
* ``act``: the rest of ``Agent.act`` and ``Agent.reset``: packing of inputs, masks, choice of actions.
* ``driver``: the rest of the driver: frames, checks, bookkeeping, records.
* ``batching timeout``: the driver waits although a lane is ready and some worker is in no session.
* ``transport``: the driver waits, no lane is ready, and no worker is in a session: requests and answers
  are on their way, or a worker packs and unpacks them.

Overhead is the sum of the last four, of which ``act`` and ``driver`` are the thread's processor time. A
worker tells how long each call took, not when; its calls are laid one before the other, the last before its
answer's arrival. The steady state begins when every lane has decided; what comes before it is start-up,
and is shown apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

TASKS = {
    "atari": "breakout,freeway,qbert,seaquest",
    "procgen": "coinrun,starpilot,bigfish,maze",
    "dmcontrol": "walker-walk,cheetah-run,finger-spin,reacher-easy",
    "metaworld": "reach-v3,door-open-v3,pick-place-v3,button-press-v3",
    "robosuite": "Lift,Stack",
    "composuite": "Panda_Box_None_PickPlace,IIWA_Box_None_PickPlace",
    "mimicgen": "Stack_D0,Threading_D0",
}
OVERHEAD = ("act", "driver", "batching timeout", "transport")
PARTS = ("network", "simulator", "queued", *OVERHEAD)
_NEVER = 1e9
_START_S = 15.0
_LONGEST_START_S = 60.0


class Ledger:
    """Intervals of the driver's time, by what it did; and of the workers', in their sessions."""

    def __init__(self) -> None:
        """Begin now."""
        self.spans: list[tuple[float, float, str, float]] = []
        self.sessions: dict[int, list[tuple[float, float]]] = {}
        self.starts: list[tuple[float, float]] = []

    def timed(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call`` with its time noted as ``what``."""

        def measured(*arguments: Any, **named: Any) -> Any:
            began, used = time.perf_counter(), time.thread_time()
            result = call(*arguments, **named)
            self.spans.append((began, time.perf_counter(), what, time.thread_time() - used))
            return result

        return measured

    def inside(self, what: str, begin: float, end: float) -> float:
        """Return the processor's seconds of ``what`` between two moments."""
        return sum(used for b, e, name, used in self.spans if name == what and begin <= b and e <= end)


def joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of intervals, in order and without overlap."""
    union: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if union and begin <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((begin, end))
    return union


def shared(union: list[tuple[float, float]], begin: float, end: float) -> float:
    """Return how much of an interval lies within a union of others."""
    place, total = max(0, bisect_right(union, (begin, _NEVER)) - 1), 0.0
    while place < len(union) and union[place][0] < end:
        total += max(0.0, min(end, union[place][1]) - max(begin, union[place][0]))
        place += 1
    return total


def common(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where two unions of intervals overlap."""
    found, place = [], 0
    for begin, end in one:
        while place < len(other) and other[place][1] < begin:
            place += 1
        at = place
        while at < len(other) and other[at][0] < end:
            found.append((max(begin, other[at][0]), min(end, other[at][1])))
            at += 1
    return found


def watched(agent: Any, ledger: Ledger) -> Any:
    """Return ``agent`` with its network's time noted; a baseline has none."""
    from lram.agents.acting.model_agent import ModelAgent

    if isinstance(agent, ModelAgent):
        reader = agent.reader
        agent.reader = replace(
            reader,
            stepper=replace(reader.stepper, call=ledger.timed("network", reader.stepper.call)),
            action_head=ledger.timed("network", reader.action_head),
            images=ledger.timed("network", reader.images),
        )
        # Methods of modules: what is set on the object is found before the class's.
        for owner, name in ((agent.model, "decision_tokens"), (agent.model.encoders, "observation")):
            object.__setattr__(owner, name, ledger.timed("network", getattr(owner, name)))
    return agent


def measure(how: argparse.Namespace, tasks: list[str]) -> dict[str, float]:
    """Play ``tasks`` for a while; return shares of the steady state, and what else is told."""
    from lram.envs.workers.pool import Pool
    from lram.envs.workers.process import Begun, Event, Stepped, WorkerProcess
    from lram.harness.machine import calm_threads, threads
    from lram.harness.plan import RunRequest, make_plan
    from lram.harness.rollout.loop import Rollout, RolloutSettings

    calm_threads()
    ledger = Ledger()

    class Watched(Rollout):
        """Notes what the loop does."""

        def watch_calls(self) -> None:
            ask, self.passes = self._calls.ask, []

            def noted(label: str, lanes: Any) -> Any:
                self.passes.append((time.perf_counter(), len(lanes)))
                return ask(label, lanes)

            self._calls.ask = noted  # type: ignore[method-assign]

        passes: list[tuple[float, int]]

    class Waited(Pool):
        """Notes when the driver waits, and what the workers did meanwhile."""

        rollout: Watched

        def wait(self, timeout: float) -> list[Event]:
            began, ready = time.perf_counter(), bool(self.rollout._groups)
            events = super().wait(timeout)
            ended = time.perf_counter()
            latest: dict[WorkerProcess, float] = {}
            for event in reversed(events):
                if isinstance(event, Begun | Stepped):
                    end = min(latest.get(event.worker, ended), ended)
                    latest[event.worker] = end - event.seconds
                    ledger.sessions.setdefault(event.worker.pid, []).append((end - event.seconds, end))
                    if isinstance(event, Begun):
                        ledger.starts.append((end - event.seconds, end))
            self.waits.append((began, ended, "batching timeout" if ready else "waiting"))
            return events

        waits: list[tuple[float, float, str]]

    plan, agents = make_plan(
        RunRequest(agents=how.agent, tasks=tasks, episodes=how.episodes, compute=how.compute)
    )
    agent = watched(dict(agents)[plan.agents[0].label], ledger)
    settings = RolloutSettings(seed=0, lanes=how.lanes, workers=how.workers)
    with (
        tempfile.TemporaryDirectory() as folder,
        Waited(log_folder=Path(folder), interpreters=plan.interpreters, parked=how.workers) as pool,
        threads(1),
    ):
        planned = {each.task.id: each for each in plan.tasks}
        rollout = Watched({plan.agents[0].label: agent}, planned, pool, settings)
        rollout.watch_calls()
        pool.waits, pool.rollout = [], rollout
        pool._selector.select = ledger.timed("select", pool._selector.select)  # type: ignore[method-assign]
        for name in ("act", "reset"):
            setattr(agent, name, ledger.timed("agent", getattr(agent, name)))
        records: list[Any] = []
        began = time.perf_counter()
        rollout.start(plan.items(), records.append)
        seen: set[int] = set()
        steady, used = 0.0, time.thread_time()
        while time.perf_counter() < (steady or began + _LONGEST_START_S) + how.seconds:
            if not rollout.turn():
                break
            if not steady:
                seen |= {lane.number for lane in rollout._flying.values() if lane.length}
                # Where sessions are slow to build, not every lane is given one.
                late = time.perf_counter() - began > _START_S
                whole = late and all(lane.length for lane in rollout._flying.values())
                steady = time.perf_counter() if len(seen) == how.lanes or whole else 0.0
                used = time.thread_time()
        ended, used = time.perf_counter(), time.thread_time() - used
        occupied = rollout.occupancy.result()
    if occupied.tail_s:
        raise SystemExit("lanes ran out of episodes before the time was over; ask for more --episodes")
    return account(ledger, pool.waits, rollout.passes, began, steady or began, ended, used)


def account(
    ledger: Ledger,
    waits: list[tuple[float, float, str]],
    passes: list[tuple[float, int]],
    began: float,
    steady: float,
    ended: float,
    used: float,
) -> dict[str, float]:
    """Divide the time from ``steady`` to ``ended``, of which the thread ``used`` so much processor time."""
    wall = ended - steady
    union = joined([span for spans in ledger.sessions.values() for span in spans])
    everywhere = reduce(common, (joined(spans) for spans in ledger.sessions.values()))
    starting = joined(ledger.starts)
    kinds = [(begin, kind) for begin, _, kind in waits]
    found = dict.fromkeys(PARTS, 0.0)
    sessions = 0.0
    for begin, end, what, _ in ledger.spans:
        if what != "select" or begin < steady or end > ended:
            continue
        kind = kinds[bisect_right(kinds, (begin, "z")) - 1][1]
        if kind == "batching timeout":
            inside = shared(everywhere, begin, end)
            found["simulator"] += inside
            found["batching timeout"] += end - begin - inside
            continue
        inside = shared(union, begin, end)
        found["simulator"] += inside
        sessions += shared(starting, begin, end)
        found["transport"] += end - begin - inside
    found["network"] = ledger.inside("network", steady, ended)
    found["act"] = ledger.inside("agent", steady, ended) - found["network"]
    found["driver"] = used - ledger.inside("agent", steady, ended)
    found["queued"] = wall - sum(found.values())
    steps = [each for each in passes if steady <= each[0] <= ended]
    decisions = sum(lanes for _, lanes in steps)
    return {
        **{part: seconds / wall for part, seconds in found.items()},
        "overhead": sum(found[part] for part in OVERHEAD) / wall,
        "starting sessions": sessions / wall,
        "startup_s": steady - began,
        "steady_s": wall,
        "decisions/s": decisions / wall,
        "lanes a pass": decisions / max(1, len(steps)),
        "ms a pass": 1000 * wall / max(1, len(steps)),
        "overhead us a decision": 1e6 * sum(found[part] for part in OVERHEAD) / max(1, decisions),
    }


def main() -> None:
    """Measure, print a table, and write JSON where it is asked for."""
    from lram.agents.compute import ROWS, Compute

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agent", default="xlstm[7:1]-16M")
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--step", default="auto")
    parser.add_argument(
        "--tasks", action="append", help="a group, as lram eval takes it (default: each domain)"
    )
    parser.add_argument("--episodes", type=int, default=200, help="so many that the time is over first")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the steady state, for each group")
    parser.add_argument("-o", "--output", type=Path)
    how = parser.parse_args()
    how.compute = Compute(step=how.step, rows=how.rows)
    groups = how.tasks or [
        ",".join(f"{domain}/{name}" for name in names.split(",")) for domain, names in TASKS.items()
    ]
    results: dict[str, dict[str, float]] = {}
    columns = ["overhead", *OVERHEAD, "network", "simulator", "queued"]
    print(
        f"{'':12}"
        + "".join(f"{name:>10}" for name in [*columns, "decis./s", "lanes", "ms a pass", "us/decis."])
    )
    for group in groups:
        name = "+".join(dict.fromkeys(task.partition("/")[0] for task in group.split(",")))
        found = results[group] = measure(how, group.split(","))
        print(
            f"{name:12.12}" + "".join(f"{found[column]:10.1%}" for column in columns),
            f"{found['decisions/s']:9.0f}{found['lanes a pass']:10.1f}{found['ms a pass']:10.1f}"
            f"{found['overhead us a decision']:10.0f}   start-up {found['startup_s']:.1f} s, "
            f"sessions {found['starting sessions']:.1%} of the time",
            flush=True,
        )
    if how.output:
        settings = {
            name: getattr(how, name) for name in ("agent", "lanes", "workers", "rows", "step", "seconds")
        }
        how.output.write_text(json.dumps({**settings, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
