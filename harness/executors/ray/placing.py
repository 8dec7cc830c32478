"""Which node plays what next: its free processors and memory, and what it can play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lram.agents.api import AgentInfo
from lram.harness.errors import LramError
from lram.harness.executors.ray.connection import Node
from lram.harness.executors.ray.groups import Group, Lines
from lram.harness.executors.ray.resources import Needs, Wishes, needs
from lram.harness.executors.ray.roster import Roster
from lram.harness.interpreters.readiness import adapter
from lram.harness.machine import Machine

_SESSIONS = (
    2  # that a job builds at most where that is slow, whatever its lanes (lram.harness.rollout.schedule)
)

_LEAST_CPUS = 0.5 - 1e-6  # that any job takes


class Placing:
    """Keeps count of what this run's jobs take of each node.

    Other users' jobs are not counted: Ray holds ours back until there is room.

    Attributes:
        wishes: What the user asks for.
        most: The most jobs that can run at the same time.
        alone: A job has its node to itself.
    """

    def __init__(
        self,
        roster: Roster,
        infos: Mapping[str, AgentInfo],
        protocols: Mapping[str, str],
        machine: Machine,
        wishes: Wishes,
        starts: Mapping[str, float],
    ) -> None:
        """Prepare.

        Args:
            roster: The nodes.
            infos: Of the agents that have something to play, by label.
            protocols: Name of the protocol by domain.
            machine: How each job is played.
            wishes: What the user asks for.
            starts: Seconds to build each agent, by label.

        Raises:
            LramError: A job asks for more than any node has.
        """
        self._roster, self._protocols, self.wishes = roster, protocols, wishes
        self.alone = False
        self._starts = dict(starts)
        self._started: dict[tuple[str, str], float] = {}
        self._barred: dict[tuple[str, str, str], str] = {}
        self._suspended: set[str] = set()
        self._nodes: dict[tuple[str, str], set[str]] = {}
        self._free: dict[str, list[float]] = {}
        self._needs = {
            (label, domain): needs(adapter(domain), info, machine.device, machine.lanes, wishes)
            for label, info in infos.items()
            for domain in protocols
        }
        self.update()
        self._fit()
        self.update()

    def _fit(self) -> None:
        """Ask for no more cores than the largest node has; complain of what no node has."""
        for (agent, domain), wanted in self._needs.items():
            nodes = self._roster.able(domain, self._protocols[domain])
            if not nodes:
                continue
            asked = "" in self.wishes.cpus or domain in self.wishes.cpus
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
        for node in self._roster.nodes.values():
            self._free.setdefault(node.id, [node.cpus, node.gpus, node.memory])
        for gone in self._free.keys() - self._roster.nodes.keys():
            del self._free[gone]
        self._nodes.clear()
        self.most = self.slots()

    def needs(self, agent: str, domain: str, node: Node) -> Needs:
        """Return what a job takes of ``node``."""
        wanted = self._needs[agent, domain]
        return replace(wanted, cpus=node.cpus) if self.alone else wanted

    def needs_of(self, group: Group, node: Node) -> Needs:
        """Return what the job of ``group`` takes of ``node``."""
        return self.needs(group.agent, group.domain, node)

    def begin(self, node: Node, taken: Needs) -> None:
        """Take note that a job has begun."""
        self._add(node, taken, -1)

    def end(self, node: Node, taken: Needs) -> None:
        """Take note that a job has ended."""
        self._add(node, taken, 1)

    def _add(self, node: Node, taken: Needs, sign: int) -> None:
        if node.id in self._free:
            free = self._free[node.id]
            for index, amount in enumerate((taken.cpus, taken.gpus, taken.memory)):
                free[index] += sign * amount

    def choose(self, lines: Lines) -> tuple[Node, str, str] | None:
        """Return a node with room, and agent and task of the line to take its next job from."""
        pairs = lines.pairs()
        able = {pair: self._able(*pair) for pair in pairs}
        for node in sorted(self._roster.nodes.values(), key=lambda node: -self._free[node.id][0]):
            if node.id in self._suspended or self._free[node.id][0] < _LEAST_CPUS:
                continue
            playable = {
                pair: len(nodes)
                for pair, nodes in able.items()
                if node.id in nodes and self.needs(*pair, node).fits(*self._free[node.id])
            }
            if playable and (best := lines.best(playable)) is not None:
                return node, *best
        return None

    def _able(self, agent: str, domain: str) -> set[str]:
        if (agent, domain) not in self._nodes:
            self._nodes[agent, domain] = {
                node.id
                for node in self._roster.able(domain, self._protocols[domain])
                if node.cpus > 0
                and self.needs(agent, domain, node).fits(node.cpus, node.gpus, node.memory)
                and not {(node.id, agent, domain), (node.id, "", domain)} & self._barred.keys()
            }
        return self._nodes[agent, domain]

    def suspend(self, node: Node) -> None:
        """Give ``node`` nothing for now."""
        self._suspended.add(node.id)

    def resume(self, node: Node) -> None:
        """Give ``node`` jobs again."""
        self._suspended.discard(node.id)

    def bar(self, node: Node, agent: str, domain: str, reason: str) -> None:
        """Give ``node`` no more such jobs; of any agent where that is empty."""
        self._barred[node.id, agent, domain] = reason
        self._nodes.clear()

    def lift(self, node_id: str, domain: str) -> None:
        """Let a node play a domain again that it was barred from for all agents."""
        self._barred.pop((node_id, "", domain), None)
        self._nodes.clear()

    def playable(self, agent: str, domain: str) -> bool:
        """Return whether any node may play such jobs."""
        return bool(self._able(agent, domain))

    def why_not(self, lines: Lines) -> str:
        """Return why nothing of ``lines`` can be placed."""
        texts = []
        for agent, domain in sorted(lines.pairs()):
            wanted = self._needs[agent, domain]
            barred = [why for (_, a, d), why in self._barred.items() if a in ("", agent) and d == domain]
            text = f"{agent} in {domain} asks for {wanted.cpus:g} cores, {wanted.memory / 2**30:.1f} GiB"
            text += f" and {wanted.gpus:g} GPUs" if wanted.gpus else ""
            nodes = self._roster.able(domain, self._protocols[domain])
            text += f", of {len(self._roster.nodes)} nodes {len(nodes)} have the domain"
            texts.append(text + (f", and one of them was left out: {barred[0]}" if barred else ""))
        return "; ".join(texts)

    def slots(self, agent: str | None = None, domain: str | None = None) -> int:
        """Return how many jobs can run at the same time: such ones, or of the kind that takes least."""
        pairs = [(agent, domain)] if agent is not None and domain is not None else list(self._needs)
        return max([1, *(self._slots(*pair) for pair in pairs)])

    def _slots(self, agent: str, domain: str) -> int:
        total = 0
        able = self._able(agent, domain)
        for node in self._roster.nodes.values():
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
