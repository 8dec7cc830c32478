"""``ws://host:port``: a policy that is served without encryption."""

from __future__ import annotations

from lram.agents.adapters.served.address import parse_address
from lram.agents.adapters.served.choosing import served_agent
from lram.agents.api import Agent
from lram.agents.compute import Compute


def load(where: str, seed: int, compute: Compute) -> Agent:
    """Return the agent that is served at ``ws:WHERE``; how it computes is the server's. AgentError else."""
    return served_agent(parse_address("ws", where), compute)
