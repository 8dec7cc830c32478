"""``lram agents``: the agents that can be named."""

from __future__ import annotations

from dataclasses import asdict

from lram.harness.cli.options import JsonOption
from lram.harness.cli.printing.output import print_json, print_table


def agents(*, json: JsonOption = False) -> None:
    """List the agents that can be named: baselines, trained and untrained models, other packages'."""
    from lram.agents.factory import list_agents

    rows = list_agents()
    if json:
        print_json([asdict(row) for row in rows])
        return
    print_table(("agent", "kind", "what it is"), [(row.name, row.kind, row.description) for row in rows])
    print(
        "\nAn agent is also a checkpoint folder, or module:factory from your own code."
        "\nGive it a name of your choice with label=specification."
    )
