"""Episodes an hour of a random agent on robosuite tasks: ours against one environment after the other.

Three ways play the same tasks, as many episodes and as many steps, in turns, each in a process of its own::

    OMP_NUM_THREADS=1 python tests/benchmarks/robosuite_throughput.py -o robosuite.json

* ``one by one`` is the usual loop in one process, as the public reference implementation of LRAM evaluates:
  an environment at a time, made with its package's own function, anew for each task, reset for each episode.
* ``plan order`` is this project's pool of workers with the tasks in the order of the plan, each episode in
  the next free slot.
* ``lram`` is the pool as it is: a worker stays with a task, and builds few sessions.

Seconds are those of the whole process, its imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("one by one", "plan order", "lram")
TASKS = {
    "robosuite": "Lift,Stack,Door,NutAssemblySquare",
    "composuite": "Panda_Box_None_PickPlace,IIWA_Plate_GoalWall_Push,"
    "Jaco_Dumbbell_ObjectDoor_Shelf,Kinova3_Hollowbox_ObjectWall_Trashcan",
    "mimicgen": "Stack_D0,Square_D0,Threading_D0,Coffee_D0",
}


class Clock:
    """Seconds and calls by what they went into."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def add(self, what: str, seconds: float) -> None:
        """Count one call."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds
        self.calls[what] = self.calls.get(what, 0) + 1


def made(domain: str, task: str) -> Any:
    """Return a task's environment as its package makes it."""
    import robosuite

    if domain == "composuite":
        import composuite

        robot, thing, obstacle, objective = task.split("_")
        return composuite.make(robot, thing, obstacle, objective, use_task_id_obs=True)
    if domain == "mimicgen":
        import mimicgen  # noqa: F401  # registers its tasks
    name, _, robot = task.partition("-")
    return robosuite.make(
        name,
        robots=robot or "Panda",
        controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        reward_shaping=domain == "robosuite",
        ignore_done=True,
    )


def one_by_one(domain: str, steps: dict[str, int], episodes: int) -> dict[str, Any]:
    """Play ``episodes`` of each task (steps by task), one environment at a time; needs no lram here."""
    import numpy as np

    clock, rng = Clock(), np.random.default_rng(0)

    def timed(what: str, call: Any) -> Any:
        began = time.perf_counter()
        result = call()
        clock.add(what, time.perf_counter() - began)
        return result

    for task, length in steps.items():
        environment = timed("build", lambda task=task: made(domain, task))
        low, _ = getattr(environment, "unwrapped", environment).action_spec
        for _ in range(episodes):
            timed("reset", environment.reset)
            for _ in range(length):
                action = rng.uniform(-1, 1, low.size)
                timed("step", lambda action=action, step=environment.step: step(action))
        environment.close()
    return {"seconds": clock.seconds, "calls": clock.calls}


def pooled(domain: str, tasks: list[str], how: argparse.Namespace, way: str) -> dict[str, Any]:
    """Play with this project's pool. A session counts as built when its slot held another task before."""
    from lram.envs.workers.pool import Pool
    from lram.envs.workers.process import Begun, Stepped
    from lram.harness.plan import RunRequest, make_plan
    from lram.harness.rollout.loop import Rollout, RolloutSettings
    from lram.harness.storage.records import EpisodeRecord

    clock, held, records = Clock(), dict[tuple[int, int], str](), list[EpisodeRecord]()

    class Counted(Rollout):
        def _begun(self, lane: Any, event: Begun) -> None:
            place = event.worker.pid, event.slot
            what = "reset" if held.get(place) == lane.item.task else "build"
            clock.add(what, event.seconds)
            held[place] = lane.item.task
            super()._begun(lane, event)

        def _stepped(self, lane: Any, event: Stepped) -> None:
            clock.add("step", event.seconds)
            super()._stepped(lane, event)

    plan, agents = make_plan(
        RunRequest(
            agents="random",
            tasks=[f"{domain}/{task}" for task in tasks],
            episodes=how.episodes,
            protocols={domain: how.protocol} if how.protocol else None,
            interpreters={domain: how.python} if how.python else None,
        )
    )
    settings = RolloutSettings(
        seed=0, lanes=how.lanes, workers=how.workers, start_s={} if way == "plan order" else None
    )
    planned = {planned.task.id: planned for planned in plan.tasks}
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        Pool(log_folder=Path(folder), interpreters=plan.interpreters) as pool,
    ):
        Counted(agents, planned, pool, settings).run(plan.items(), records.append)
        playing = time.perf_counter() - began
    errored = [record.failure.message for record in records if record.failure]
    if errored:
        raise SystemExit(f"{len(errored)} episodes errored: {errored[0]}")
    return {
        "seconds": clock.seconds,
        "calls": clock.calls,
        "playing": playing,
        "own": time.process_time(),
        "python": plan.interpreters.get(domain, sys.executable),
        "steps": {
            task: max(r.length or 0 for r in records if r.task == f"{domain}/{task}") for task in tasks
        },
    }


def play(way: str, python: str, *more: str) -> dict[str, Any]:
    """Run one way in a process of its own; return its seconds and what they went into."""
    command = [python, __file__, *sys.argv[1:], "--way", way, *more]
    began, used = time.perf_counter(), _processor_seconds()
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    taken = {"wall": time.perf_counter() - began, "processor": _processor_seconds() - used}
    return {**taken, **json.loads(answer.stdout.splitlines()[-1])}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, print, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--domain", choices=TASKS, default="robosuite")
    parser.add_argument("--tasks", help="names within the domain, a comma list (default: four)")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--protocol", help="of the domain (default: what fits the interpreter)")
    parser.add_argument("--python", help="interpreter that has the simulator (default: as lram chooses)")
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    how = parser.parse_args()
    tasks = (how.tasks or TASKS[how.domain]).split(",")
    if how.way:
        if how.way == "one by one":
            found = one_by_one(how.domain, json.loads(how.steps), how.episodes)
        else:
            found = pooled(how.domain, tasks, how, how.way)
        print(json.dumps(found))
        return

    from lram.harness.timing.intervals import median_interval

    turns: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    # The first turn fills caches, and tells where the domain is played and how long its episodes are.
    first = play("lram", sys.executable)
    order, shuffle = list(WAYS), random.Random(0).shuffle
    for _ in range(how.repeats):
        shuffle(order)
        for way in order:
            if way == "one by one":
                last = play(way, first["python"], "--steps", json.dumps(first["steps"]))
            else:
                last = play(way, sys.executable)
            turns[way].append(last)
            print(f"{way}: {last['wall']:.1f} s ({last['processor']:.1f} s of processors)", file=sys.stderr)
    played, results = how.episodes * len(tasks), dict[str, Any]()
    for way, taken in turns.items():
        one = min(taken, key=lambda turn: turn["wall"])
        ratios = [ours["wall"] / theirs["wall"] for theirs, ours in zip(turns["lram"], taken, strict=True)]
        times = median_interval(ratios)
        results[way] = {
            "wall": [turn["wall"] for turn in taken],
            "episodes an hour": played * 3600 / statistics.median(turn["wall"] for turn in taken),
            "times as long as lram": {"median": times.median, "low": times.low, "high": times.high},
            "fastest": one,
        }
        parts = ", ".join(
            f"{count} x {what} {one['seconds'][what]:.1f} s" for what, count in one["calls"].items()
        )
        print(f"{way:10} {results[way]['episodes an hour']:6.0f} episodes/h; {parts}")
        used = statistics.median(turn["processor"] for turn in taken) / played
        print(
            f"{'':10} {times.median:.2f} times as long as lram ({times.low:.2f} to {times.high:.2f}), "
            f"{used:.2f} s of a processor an episode"
        )
    if how.output:
        facts = {"processor": platform.processor(), "cores": os.cpu_count(), "domain": how.domain}
        settings = {name: getattr(how, name) for name in ("episodes", "lanes", "workers", "repeats")}
        document = {**facts, **settings, "steps": first["steps"], "results": results}
        how.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
