"""What works on the nodes of a cluster: each tries for itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import msgspec

from lram.harness.doctor import Finding
from lram.harness.executors.ray import rollout_node
from lram.harness.executors.ray.connection import JobLost, connected
from lram.harness.executors.ray.registry import NodeRegistry

_MOST_S = 900.0


@dataclass(frozen=True, slots=True)
class Examined:
    """A node and what was found there.

    Attributes:
        name: Host and the start of Ray's id.
        offers: Cores, memory and graphics processors that it offers.
        problem: Why it is not used, or could not be examined; then there are no findings.
        findings: As ``lram doctor`` has them on one machine.
    """

    name: str
    offers: str
    problem: str
    findings: tuple[Finding, ...] = ()


def examine_nodes(address: str | None) -> list[Examined]:
    """Let every node of the cluster at ``address`` try every domain; LramError where nobody answers."""
    with connected(address, lambda line: print(f"lram: {line}", file=sys.stderr)) as cluster:
        problems: dict[str, str] = {}
        nodes = cluster.nodes()
        registry = NodeRegistry(cluster, lambda line: None)
        registry.examine({}, {}, needed=False)
        asked = {
            node.id: cluster.start(node, rollout_node.examine, cpus=min(1.0, node.cpus))
            for node in registry.nodes.values()
        }
        found: dict[str, tuple[Finding, ...]] = {}
        for id_, reference in asked.items():
            try:
                found[id_] = msgspec.json.decode(cluster.result(reference, _MOST_S), type=tuple[Finding, ...])
            except JobLost as lost:
                problems[id_] = str(lost)
        return [
            Examined(
                str(node),
                f"{node.cpus:g} cores, {node.memory / 2**30:.0f} GiB and {node.gpus:g} GPUs offered",
                problems.get(node.id) or registry.problems.get(node.id, ""),
                found.get(node.id, ()),
            )
            for node in nodes
        ]
