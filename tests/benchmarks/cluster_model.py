"""What to expect of a cluster: a model from measured parts, not a measurement.

    python tests/benchmarks/cluster_model.py [--agents 10] [--episodes 10] [--cores 16]

It lets the driver's own code (``lram.harness.executors.ray.groups``) cut and order the jobs of an evaluation
on the 432 training tasks, and plays them in a simulated time: an episode costs its tabled core seconds times
a log-normal number (seeded), a job its start-up, and the driver what it was measured to take for a job
and for a record. What it leaves out: other users, slow file systems, networks, and nodes that are lost.
"""

from __future__ import annotations

import argparse
import heapq
import time

import numpy as np

from lram.agents.api import AgentInfo
from lram.envs.registry import load_domain, select
from lram.harness.executors.ray.groups import LAUNCH_S, Costs, EpisodeQueue, tabled
from lram.harness.rollout.occupancy import Occupancy
from lram.harness.storage.records import PlannedTask, WorkItem

CONNECT_S = 12.0  # connect, ask the nodes, build and check the agents
AGENT_S = 4.0  # a 16M model in a process that has none: torch, weights, packing
JOB_S = 0.002  # of the driver, for each job
RECORD_S = 30e-6  # of the driver, for each record
SPREAD = 0.3  # standard deviation of an episode's logarithmic seconds
SESSIONS = (
    2  # that a job of a domain with slow starts builds, whatever its lanes (lram.harness.rollout.schedule)
)


def simulate(agents: int, episodes: int, nodes: int, cores: int) -> tuple[float, float, float, int]:
    """Return wall seconds, core seconds of the episodes, the tail's share and the number of jobs."""
    draw = np.random.default_rng(0)
    planned = [PlannedTask(task, f"{task.domain}:lram@1") for task in select("lram432")]
    labels = [f"agent {number}" for number in range(agents)]
    infos = {label: AgentInfo("model", "16M", True, 16_000_000, label) for label in labels}
    told = tabled(planned, infos, "cpu")
    items = [WorkItem(a, one.task.id, e) for a in labels for one in planned for e in range(episodes)]
    lines = EpisodeQueue(items, Costs(told))
    slots = nodes * cores
    domains = {one.task.domain for one in planned}
    everywhere = {(label, domain): nodes for label in labels for domain in domains}
    start_s = {domain: load_domain(domain).start_s for domain in domains}
    free = [(0.0, slot) for slot in range(slots)]
    heapq.heapify(free)
    held: dict[int, str] = {}
    driver = end = useful = 0.0
    jobs = 0
    changes: list[tuple[float, int]] = []
    while (choice := lines.best(everywhere)) is not None:
        now, slot = heapq.heappop(free)
        agent, task = choice
        domain = task.partition("/")[0]
        group = lines.cut(agent, task, AGENT_S / 2 + start_s[domain] * SESSIONS, slots)
        driver = max(driver, now) + JOB_S + RECORD_S * len(group.attempts)
        work = float(
            (told[agent, task] * draw.lognormal(-(SPREAD**2) / 2, SPREAD, len(group.attempts))).sum()
        )
        load = AGENT_S if held.get(slot) != agent else 0.0
        held[slot] = agent
        done = driver + LAUNCH_S + load + start_s[domain] * min(SESSIONS, len(group.attempts)) + work
        changes += [(driver, 1), (done, -1)]
        heapq.heappush(free, (done, slot))
        useful, end, jobs = useful + work, max(end, done), jobs + 1
    occupancy, busy = Occupancy(slots), 0
    last_start = max(when for when, change in changes if change > 0)
    for when, change in sorted(changes):
        busy += change
        occupancy.note(when, busy, waits=when < last_start)
    return CONNECT_S + end, useful, occupancy.result().tail_share, jobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--cores", type=int, default=16, help="of a node")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    given = parser.parse_args()
    print(
        f"{given.agents} agents of 16M, 432 tasks, {given.episodes} episodes each, {given.cores} cores a node"
    )
    print("nodes  job slots  wall (min)  speed-up  efficiency  tail idle  jobs  reckoned in (s)")
    for nodes in given.nodes:
        began = time.perf_counter()
        wall, useful, tail, jobs = simulate(given.agents, given.episodes, nodes, given.cores)
        took = time.perf_counter() - began
        slots = nodes * given.cores
        print(
            f"{nodes:5d}  {slots:9d}  {wall / 60:10.1f}  {useful / wall:8.1f}  {useful / wall / slots:10.0%}"
            f"  {tail:9.1%}  {jobs:4d}  {took:15.1f}"
        )


if __name__ == "__main__":
    main()
