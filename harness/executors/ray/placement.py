"""Which node plays what next: its free processors and memory, and what it can play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lram.agents.api import AgentInfo
from lram.harness.errors import LramError
from lram.harness.executors.ray.connection import Node
from lram.harness.executors.ray.groups import EpisodeQueue
from lram.harness.executors.ray.loop import ClusterContext, NodeCapacity
from lram.harness.executors.ray.resources import JobResources, needs
from lram.harness.interpreters.readiness import adapter
from lram.harness.machine import Machine

_SESSIONS = (
    2  # that a job builds at most where that is slow, whatever its lanes (lram.harness.rollout.schedule)
)

_LEAST_CPUS = 0.5 - 1e-6  # that any job takes


class Placement:
    """Tells what a run's jobs ask for, and which node gets the next one.

    Attributes:
        capacity: What is free of each node.
        request: What the user asks for.
        most: The most jobs that can run at the same time.
        alone: A job has its node to itself.
    """

    def __init__(
        self,
        context: ClusterContext,
        infos: Mapping[str, AgentInfo],
        protocols: Mapping[str, str],
        machine: Machine,
        starts: Mapping[str, float],
    ) -> None:
        """Prepare.

        Args:
            context: The cluster.
            infos: Of the agents that have something to play, by label.
            protocols: Name of the protocol by domain.
            machine: How each job is played.
            starts: Seconds to build each agent, by label.

        Raises:
            LramError: A job asks for more than any node has.
        """
        self._registry, self._protocols, self.request = context.registry, protocols, context.request
        self.capacity = NodeCapacity(context.registry)
        self.alone = False
        self._starts = dict(starts)
        self._started: dict[tuple[str, str], float] = {}
        self._excluded: dict[tuple[str, str, str], str] = {}
        self._nodes: dict[tuple[str, str], set[str]] = {}
        self._needs = {
            (label, domain): needs(adapter(domain), info, machine.device, machine.lanes, self.request)
            for label, info in infos.items()
            for domain in protocols
        }
        self._fit()
        self.update()

    def _fit(self) -> None:
        """Ask for no more cores than the largest node has; complain of what no node has."""
        for (agent, domain), wanted in self._needs.items():
            nodes = self._registry.able(domain, self._protocols[domain])
            if not nodes:
                continue
            asked = "" in self.request.cpus or domain in self.request.cpus
            largest = max(node.cpus for node in nodes)
            if wanted.cpus > largest and not asked:
                wanted = replace(wanted, cpus=largest)
            for name, need, most, unit, option in (
                ("cores", wanted.cpus, largest, "", "--job-cpus"),
                ("GPUs", wanted.gpus, max(node.gpus for node in nodes), "", "--device cpu or --job-gpus"),
                (
                    "memory",
                    wanted.memory / 2**30,
                    max(node.memory for node in nodes) / 2**30,
                    " GiB",
                    "--job-memory, or fewer --lanes",
                ),
            ):
                if need > most * (1 + 1e-9):
                    raise LramError(
                        f"a job of {agent} in {domain} asks for {need:.3g}{unit} {name}, and no node that "
                        f"can play it offers more than {most:.3g}{unit}; change that with {option}"
                    )
            self._needs[agent, domain] = wanted

    def update(self) -> None:
        """Take account of nodes that have joined or gone."""
        self._nodes.clear()
        self.most = self.slots()

    def needs(self, agent: str, domain: str, node: Node) -> JobResources:
        """Return what a job takes of ``node``."""
        wanted = self._needs[agent, domain]
        return replace(wanted, cpus=node.cpus) if self.alone else wanted

    def choose(self, queue: EpisodeQueue) -> tuple[Node, str, str] | None:
        """Return a node with room, and agent and task of the line to take its next job from."""
        pairs = queue.pairs()
        able = {pair: self._able(*pair) for pair in pairs}
        for node in self.capacity.open_nodes():
            if self.capacity.cpus(node) < _LEAST_CPUS:
                continue
            playable = {
                pair: len(nodes)
                for pair, nodes in able.items()
                if node.id in nodes and self.capacity.has_room(node, self.needs(*pair, node))
            }
            if playable and (best := queue.best(playable)) is not None:
                return node, *best
        return None

    def _able(self, agent: str, domain: str) -> set[str]:
        if (agent, domain) not in self._nodes:
            self._nodes[agent, domain] = {
                node.id
                for node in self._registry.able(domain, self._protocols[domain])
                if node.cpus > 0
                and self.needs(agent, domain, node).fits(node.cpus, node.gpus, node.memory)
                and not {(node.id, agent, domain), (node.id, "", domain)} & self._excluded.keys()
            }
        return self._nodes[agent, domain]

    def exclude(self, node: Node, agent: str, domain: str, reason: str) -> None:
        """Give ``node`` no more such jobs; of any agent where that is empty."""
        self._excluded[node.id, agent, domain] = reason
        self._nodes.clear()

    def readmit(self, node_id: str, domain: str) -> None:
        """Let a node play a domain again that it was excluded from for all agents."""
        self._excluded.pop((node_id, "", domain), None)
        self._nodes.clear()

    def playable(self, agent: str, domain: str) -> bool:
        """Return whether any node may play such jobs."""
        return bool(self._able(agent, domain))

    def why_not(self, queue: EpisodeQueue) -> str:
        """Return why nothing of ``queue`` can be placed."""
        texts = []
        for agent, domain in sorted(queue.pairs()):
            wanted = self._needs[agent, domain]
            excluded = [why for (_, a, d), why in self._excluded.items() if a in ("", agent) and d == domain]
            text = f"{agent} in {domain} asks for {wanted.cpus:g} cores, {wanted.memory / 2**30:.1f} GiB"
            text += f" and {wanted.gpus:g} GPUs" if wanted.gpus else ""
            nodes = self._registry.able(domain, self._protocols[domain])
            text += f", of {len(self._registry.nodes)} nodes {len(nodes)} have the domain"
            texts.append(text + (f", and one of them was left out: {excluded[0]}" if excluded else ""))
        return "; ".join(texts)

    def slots(self, agent: str | None = None, domain: str | None = None) -> int:
        """Return how many jobs can run at the same time: such ones, or of the kind that takes least."""
        pairs = [(agent, domain)] if agent is not None and domain is not None else list(self._needs)
        return max([1, *(self._slots(*pair) for pair in pairs)])

    def _slots(self, agent: str, domain: str) -> int:
        total = 0
        able = self._able(agent, domain)
        for node in self._registry.nodes.values():
            if node.id not in able:
                continue
            wanted = self.needs(agent, domain, node)
            shares = [node.cpus / wanted.cpus, node.memory / max(1, wanted.memory)]
            if wanted.gpus:
                shares.append(node.gpus / wanted.gpus)
            total += int(min(shares) + 1e-6)
        return total

    def start_s(self, agent: str, domain: str) -> float:
        """Return the seconds that a job takes before its first decision: measured, or expected."""
        if (agent, domain) in self._started:
            return self._started[agent, domain]
        return self._starts.get(agent, 0.0) / 2 + adapter(domain).start_s * _SESSIONS

    def measure_start(self, agent: str, domain: str, seconds: float) -> None:
        """Take note that a job took so long to its first decision."""
        before = self._started.get((agent, domain), seconds)
        self._started[agent, domain] = 0.7 * before + 0.3 * seconds
