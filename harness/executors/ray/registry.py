"""The nodes of a cluster, and what each of them can play: asked once, and again of those that join."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lram.envs.registry import file_of
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.contract import Log
from lram.harness.executors.ray.connection import PROBE_S, Cluster, JobLost, Node, by_value
from lram.harness.executors.ray.messages import DomainFacts, NodeFacts
from lram.harness.executors.ray.source import source_digest
from lram.harness.interpreters.readiness import adapter


def _ask(domains: dict[str, list[str]], pythons: dict[str, str], files: dict[str, tuple[str, str]]) -> bytes:
    """Runs on a node that may have no lram-bench, or an old one; so it is sent as code."""
    try:
        import msgspec as json

        from lram.harness.executors.ray.rollout_node import facts
    except Exception as error:
        import sys

        text = f"{type(error).__name__}: {error}"
        return b"lacks " + f"{text}, in {sys.executable}".encode()
    return json.json.encode(facts(domains, pythons, files))


class NodeRegistry:
    """Nodes by id, with their facts. Nodes that are of no use are named once and left alone."""

    def __init__(self, cluster: Cluster, log: Log) -> None:
        self._cluster, self._log = cluster, log
        self._question: tuple[dict[str, list[str]], dict[str, str]] = ({}, {})
        self._asked: dict[str, tuple[Node, Any]] = {}
        self._refused: set[str] = set()
        self.problems: dict[str, str] = {}
        self.nodes: dict[str, Node] = {}
        self.facts: dict[str, NodeFacts] = {}

    def examine(
        self, domains: Mapping[str, Sequence[str]], pythons: Mapping[str, str], *, needed: bool = True
    ) -> None:
        """Ask every node what it can play; returns when all have answered.

        Args:
            domains: By name, the names of the tasks to play.
            pythons: What the user says of interpreters, by domain.
            needed: There must be a node that can be used.

        Raises:
            LramError: There is no node that is of any use.
        """
        self._question = {name: list(tasks) for name, tasks in domains.items()}, dict(pythons)
        self.nodes, self.facts, self._refused = {}, {}, set()
        nodes = self._cluster.nodes()
        for node in nodes:
            self._ask(node)
        end = time.monotonic() + PROBE_S
        for node in nodes:
            self._take_answer(node, max(1.0, end - time.monotonic()))
        if needed and not self.nodes:
            raise LramError(
                f"none of the cluster's {len(nodes)} nodes can be used; see the reasons above, and "
                "'lram doctor --backend ray'"
            )

    def refresh(self) -> tuple[list[Node], list[Node]]:
        """Return the nodes that have gone, which are to be removed, and those that have joined."""
        alive = {node.id: node for node in self._cluster.nodes()}
        gone = [node for node in self.nodes.values() if node.id not in alive]
        joined = []
        for node in alive.values():
            if node.id not in self.nodes and node.id not in self._refused and node.id not in self._asked:
                self._ask(node)
        for node, reference in list(self._asked.values()):
            if node.id not in alive:
                del self._asked[node.id]
            elif self._cluster.ready([reference], 0.0):
                self._take_answer(node)
                if node.id in self.nodes:
                    joined.append(node)
        return gone, joined

    def remove(self, node: Node) -> bool:
        """Forget a node that is gone; return False where that was known.

        Should it come back, Ray gives it another id.
        """
        self._refused.add(node.id)
        return self.nodes.pop(node.id, None) is not None

    @property
    def asking(self) -> bool:
        """Whether a node that has joined is still to tell what it can play."""
        return bool(self._asked)

    def able(self, domain: str, protocol: str) -> list[Node]:
        """Return the nodes that can play ``domain`` under the protocol of that name."""
        return [
            node
            for node in self.nodes.values()
            if protocol in self.facts[node.id].domains.get(domain, DomainFacts()).fits
        ]

    def protocol(self, domain: str, chosen: str | None) -> str:
        """Return the name of the protocol to play ``domain`` under: the first that any node fits.

        Raises:
            LramError: No node can play it, or not under the one that is ``chosen``.
        """
        with as_lram_error():
            candidates = adapter(domain).protocols if chosen is None else (adapter(domain).protocol(chosen),)
        for candidate in candidates:
            if self.able(domain, candidate.name):
                return candidate.name
        reasons: dict[str, list[str]] = {}
        for node in self.nodes.values():
            reasons.setdefault(self.facts[node.id].domains[domain].lacks, []).append(str(node))
        texts = [f"{', '.join(nodes)}: {lacks}" for lacks, nodes in reasons.items()]
        under = f" under the protocol {chosen}" if chosen else ""
        raise LramError(f"no node can play {domain}{under} ({'; '.join(texts)})")

    def processors(self) -> dict[str, list[str]]:
        """Return the names of the nodes by kind of processor."""
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            found.setdefault(self.facts[node.id].cpu, []).append(str(node))
        return found

    def _ask(self, node: Node) -> None:
        domains, pythons = self._question
        files = {name: (str(file.path), file.digest) for name in domains if (file := file_of(name))}
        self._asked[node.id] = node, self._cluster.start(node, _ASK, domains, pythons, files)

    def _take_answer(self, node: Node, timeout: float = PROBE_S) -> None:
        _, reference = self._asked.pop(node.id)
        try:
            answer: bytes = self._cluster.result(reference, timeout)
        except JobLost as lost:
            found = NodeFacts(problem=str(lost))
        else:
            found = _facts(answer)
        if found.problem:
            self._refused.add(node.id)
            self.problems[node.id] = found.problem
            self._log(f"the node {node} is not used: {found.problem}")
            return
        self.nodes[node.id], self.facts[node.id] = node, found


_ASK = by_value(_ask)


def _facts(answer: bytes) -> NodeFacts:
    if answer.startswith(b"lacks "):
        words = answer.removeprefix(b"lacks ").decode(errors="replace")
        return NodeFacts(problem=f"it has no lram-bench that fits ({words}); install the driver's there")
    found = msgspec.json.decode(answer, type=NodeFacts)
    if found.source != source_digest():
        version = found.packages.get("lram-bench", "of no known version")
        return NodeFacts(
            problem=f"its lram-bench ({version}) is not the driver's, so records could differ; install that"
        )
    return found
