"""What a run of very many episodes costs: planning, playing, reading, reporting.

Each line is measured in a process of its own; memory is its highest resident size::

    OMP_NUM_THREADS=1 python tests/benchmarks/scale.py -o scale.json     # some five minutes, 0.7 GB of disk
    OMP_NUM_THREADS=1 python tests/benchmarks/scale.py --play 10000 --read 10000

* ``plan``: a plan of so many items, by ``make_plan`` (one toy task) and as agents x tasks x episodes over
  the 432 tasks, its list of items, and the queue over them.
* ``play``: the random agent plays ``toy/blink`` (1 to 3 decisions an episode) with ``evaluate``, whole; and
  once more with a clock around each part of the driver, which costs time itself.
* ``read``: a run with records as they are written, of 432 tasks and ten agents, with returns drawn from a
  seed (between a task's random and reference score, a fifth of the tasks with equal returns in many
  episodes, one episode in 200 errored). Then each way of reading it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AGENTS = 10
READERS = ("missing", "outcomes", "records", "frame", "report")


class Parts:
    """Seconds and calls by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner = [0.0]

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Let a clock run whenever ``owner.name`` is called."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                inner = self._inner.pop()
                self._inner[-1] += took
                self.seconds[part] = self.seconds.get(part, 0.0) + took - inner
                self.calls[part] = self.calls.get(part, 0) + 1

        setattr(owner, name, timed)


def synthetic_plan(items: int) -> Any:
    """Return a plan of the 432 tasks and ten agents with about so many items."""
    from lram.agents.api import AgentInfo
    from lram.envs.registry import load_domain, select
    from lram.harness.storage.records import SCHEMA, AgentEntry, PlannedTask, RunPlan

    tasks = select("lram432")
    return RunPlan(
        schema=SCHEMA,
        seed=0,
        episodes=max(1, round(items / AGENTS / len(tasks))),
        agents=tuple(
            AgentEntry(f"agent-{number}", "random", AgentInfo("baseline", "drawn from a seed"))
            for number in range(AGENTS)
        ),
        tasks=tuple(PlannedTask(task, load_domain(task.domain).protocol().id(task.domain)) for task in tasks),
    )


def drawn_record(item: Any, planned: Any, rng: random.Random, skill: float) -> Any:
    """Return a record of ``item`` as a run would have it, its return drawn around ``skill``."""
    from lram.harness.rollout.seeds import simulator_seed
    from lram.harness.storage.records import SCHEMA, EpisodeRecord, Failure, Measured

    task, errored = planned.task, rng.random() < 1 / 200
    low, high = task.score_random or 0.0, task.score_reference or 100.0
    value = low + (high - low) * (skill + rng.gauss(0, 0.3))
    if len(task.name) % 5 == 0:
        value = high if rng.random() < skill else low
    success = rng.random() < skill if task.domain in ("metaworld", "composuite", "mimicgen") else None
    length = rng.randint(20, task.horizon or 500)
    return EpisodeRecord(
        schema=SCHEMA,
        agent=item.agent,
        task=item.task,
        episode=item.episode,
        seed=simulator_seed(0, item.task, item.episode),
        protocol=planned.protocol,
        status="errored" if errored else "scored",
        episode_return=None if errored else value,
        length=None if errored else length,
        success_any=None if errored else success,
        success_last=None if errored else success,
        terminated=not errored and rng.random() < 0.5,
        truncated=False,
        trajectory="" if errored else f"{rng.getrandbits(32):08x}",
        failures=2 * errored,
        failure=Failure("crash", f"the {task.domain} worker died (signal 11, SIGSEGV)") if errored else None,
        measured=Measured(
            started=1.7e9 + rng.random() * 1e6,
            wall_s=rng.random() * 10,
            simulator_s=rng.random() * 5,
            agent_s=rng.random() * 5,
            lane=rng.randrange(16),
            worker=rng.randrange(1000, 60000),
        ),
        repeated=None if errored else rng.randrange(length),
    )


def write(folder: Path, items: int) -> dict[str, Any]:
    """Write a run that nobody played; return what it cost to write it."""
    from dataclasses import replace

    from lram.harness.storage.provenance import collect
    from lram.harness.storage.run_folder import RunWriter

    plan, rng = synthetic_plan(items), random.Random(0)
    tasks = {planned.task.id: planned for planned in plan.tasks}
    skills = {pair: rng.random() for pair in ((a.label, task) for a in plan.agents for task in tasks)}
    seconds = 0.0
    with RunWriter.create(folder, plan) as writer:
        facts = {planned.task.domain: {"numpy": "1.26.4"} for planned in plan.tasks}
        writer.write_provenance(replace(collect({}, {}, "drawn"), workers=facts))
        for item in plan.items():
            record = drawn_record(item, tasks[item.task], rng, skills[item.agent, item.task])
            began = time.perf_counter()
            writer.append(record)
            seconds += time.perf_counter() - began
    size = sum(file.stat().st_size for file in (folder / "records").iterdir())
    return {"seconds": seconds, "records": len(plan.items()), "gigabytes": size / 1e9}


def plan(shape: str, items: int) -> dict[str, Any]:
    """Plan so many items and queue them."""
    from lram.harness.plan import RunRequest, make_plan
    from lram.harness.rollout.schedule import Queue, WorkerSlot

    made = (
        make_plan(RunRequest(agents="random", tasks="toy/blink", episodes=items))[0]
        if shape == "one task"
        else synthetic_plan(items)
    )
    base, began = memory(), time.perf_counter()
    listed = made.items()
    planned = time.perf_counter() - began
    began = time.perf_counter()
    costs = {planned.task.id: planned.task.horizon or 1000 for planned in made.tasks}
    queue, worker_slots = Queue(listed, costs, None), [WorkerSlot(), WorkerSlot()]
    queued = time.perf_counter() - began
    began, calls = time.perf_counter(), min(len(listed), 1000)
    for _ in range(calls):
        choice = queue.take(worker_slots)
        assert choice is not None
        choice.worker_slot.begin(choice.slot, choice.attempt.item.task)
        choice.worker_slot.end(choice.slot, rests=False)
    took = (time.perf_counter() - began) / calls
    return {"items": len(listed), "plan": planned, "queue": queued, "take": took, "grew": memory() - base}


def play(folder: Path, episodes: int, clocks: bool) -> dict[str, Any]:
    """Play the toy task; with ``clocks``, tell what the driver's time went into."""
    import msgspec

    from lram.agents.experts.baselines import RandomAgent
    from lram.envs.workers.pool import Pool
    from lram.envs.workers.process import WorkerProcess
    from lram.harness.evaluation import Machine, evaluate
    from lram.harness.progress import shown
    from lram.harness.rollout.loop import Rollout
    from lram.harness.rollout.schedule import Queue
    from lram.harness.storage.segments import SegmentWriter

    evaluate("random", "toy/blink", folder / "first", episodes=100)
    base, parts = memory(), Parts()
    if clocks:
        for owner, name, part in (
            (Queue, "take", "queue"),
            (Pool, "wait", "pool"),
            (selectors.DefaultSelector, "select", "waiting for workers"),
            (WorkerProcess, "begin", "pool"),
            (WorkerProcess, "step", "pool"),
            (RandomAgent, "reset", "agent"),
            (RandomAgent, "act", "agent"),
            (msgspec.json, "encode", "record: encode"),
            (SegmentWriter, "append", "record: write"),
            (os, "fdatasync", "record: disk"),
            (Rollout, "turn", "rollout"),
        ):
            parts.watch(owner, name, part)

    @contextmanager
    def progress(*given: Any, **more: Any) -> Iterator[Any]:
        with shown(*given, **more) as reporter:
            if clocks:
                parts.watch(reporter, "record", "progress")
                parts.watch(reporter, "heartbeat", "progress")
            yield reporter

    wall, used = time.perf_counter(), time.process_time()
    machine = Machine(lanes=16, workers=2)
    run = evaluate(
        "random", "toy/blink", folder / "run", episodes=episodes, machine=machine, progress=progress
    )
    wall, used = time.perf_counter() - wall, time.process_time() - used
    peak = memory()
    assert len(run.records()) == episodes
    return {"wall": wall, "driver": used, "grew": peak - base, "peak": peak, "parts": parts.seconds}


def read(folder: Path, reader: str) -> dict[str, Any]:
    """Read a run in one of the ways of ``READERS``."""
    from lram.harness.storage.run_folder import Run

    run = Run(folder)
    if reader == "frame":
        import pandas  # noqa: F401
    if reader == "report":
        from lram.reports.writing import export
    began = time.perf_counter()
    if reader == "missing":
        run.missing()
    elif reader == "outcomes":
        sum(1 for _ in run.outcomes())
    elif reader == "records":
        run.records()
    elif reader == "frame":
        run.episodes()
    else:
        export.write_report([run], folder.parent / f"{folder.name}-report")
    return {"seconds": time.perf_counter() - began}


def memory() -> float:
    """Return the highest resident size so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def apart(what: str, *more: object) -> dict[str, Any]:
    """Measure one line in a process of its own."""
    command = [sys.executable, __file__, "--line", what, *map(str, more)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def line(what: str, *more: str) -> dict[str, Any]:
    """Measure one line here."""
    if what == "plan":
        found = plan(more[0], int(more[1]))
    elif what == "play":
        found = play(Path(more[0]), int(more[1]), more[2] == "clocks")
    elif what == "write":
        found = write(Path(more[0]), int(more[1]))
    else:
        found = read(Path(more[0]), more[1])
    return {"peak": memory(), **found}


def main() -> None:
    """Measure, print, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], metavar="ITEMS")
    parser.add_argument("--play", type=int, nargs="*", default=[100_000], metavar="EPISODES")
    parser.add_argument("--read", type=int, nargs="*", default=[100_000, 1_000_000], metavar="RECORDS")
    parser.add_argument("--readers", nargs="*", choices=READERS, default=READERS)
    parser.add_argument("--folder", type=Path, help="where runs go, and stay (default: a folder for a while)")
    parser.add_argument("--line", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, help="JSON file of all that was measured")
    how = parser.parse_args()
    if how.line:
        print(json.dumps(line(*how.line)))
        return
    measured: dict[str, Any] = {}

    def note(name: str, found: dict[str, Any], words: str) -> None:
        measured[name] = found
        print(f"{name:38} {words}", flush=True)

    with tempfile.TemporaryDirectory(dir=how.folder) as own:
        for shape in ("one task", "432 tasks x 10"):
            for items in how.plan:
                found = apart("plan", shape, items)
                note(
                    f"plan {items:,} ({shape})",
                    found,
                    f"items {found['plan']:.2f} s, queue {found['queue']:.2f} s, take "
                    f"{found['take'] * 1e6:.1f} us, {found['grew']:.0f} MB more, peak {found['peak']:.0f} MB",
                )
        for episodes in how.play:
            for way in ("plain", "clocks"):
                found = apart("play", Path(own) / f"play-{way}-{episodes}", episodes, way)
                each = 1e6 / episodes
                note(
                    f"play {episodes:,} ({way})",
                    found,
                    f"{found['wall']:.1f} s, an episode {found['wall'] * each:.0f} us, the driver's "
                    f"processor {found['driver'] * each:.0f} us, {found['grew']:.0f} MB more, "
                    f"peak {found['peak']:.0f} MB",
                )
                for part, seconds in sorted(found["parts"].items(), key=lambda pair: -pair[1]):
                    print(f"    {part:34} {seconds * each:6.1f} us an episode")
        for records in how.read:
            run = (how.folder or Path(own)) / f"run-{records}"
            if not run.exists():
                found = apart("write", run, records)
                each = 1e6 / found["records"]
                note(
                    f"write {records:,}",
                    found,
                    f"{found['seconds'] * each:.1f} us a record, {found['gigabytes']:.2f} GB",
                )
            for reader in how.readers:
                if reader == "report":
                    shutil.rmtree(run.parent / f"{run.name}-report", ignore_errors=True)
                found = apart("read", run, reader)
                note(
                    f"{reader} of {records:,}",
                    found,
                    f"{found['seconds']:.1f} s, peak {found['peak']:.0f} MB",
                )
    if how.output:
        facts = {
            "processor": platform.processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        how.output.write_text(json.dumps({**facts, "measured": measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()
