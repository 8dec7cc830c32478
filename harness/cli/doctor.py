"""``lram doctor``: what works here, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lram.harness.cli.options import JsonOption
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.errors import LramError
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.harness.doctor import Finding


def doctor(
    *,
    backend: Annotated[
        Literal["local", "ray"], Parameter(help="Look at this machine, or at every node of a Ray cluster.")
    ] = "local",
    address: Annotated[str | None, Parameter(help="Address of the Ray cluster, as for 'lram eval'.")] = None,
    json: JsonOption = False,
) -> int:
    """Try out every domain, renderer and device, and say what to install for the rest.

    With --backend ray, every node does so for itself: 'lram eval' sends a node only tasks of domains that are
    installed there.
    """
    if backend == "local":
        if address is not None:
            raise LramError("--address belongs to a cluster: add --backend ray")
        from lram.harness.doctor import examine

        with still("trying out domains and renderers"):
            findings = examine()
        if json:
            print_json([asdict(finding) for finding in findings])
        else:
            _show_findings(findings)
        return 0
    from lram.harness.executors.ray.examining import examine_nodes

    with still("the nodes try out domains and renderers"):
        nodes = examine_nodes(address)
    if json:
        print_json([asdict(node) for node in nodes])
        return 0
    for node in nodes:
        print(f"{'' if node is nodes[0] else chr(10)}{node.name}, {node.offers}")
        if node.problem:
            print(f"not used: {node.problem}")
        else:
            _show_findings(node.findings)
    return 0


def _show_findings(findings: Sequence[Finding]) -> None:
    print_table(
        ("what", "works", "details"),
        [(f.name, {True: "yes", False: "NO", None: "-"}[f.works], f.details) for f in findings],
    )
    for finding in findings:
        if finding.advice:
            print(f"\n{finding.name}: {finding.advice}")
