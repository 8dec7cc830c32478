"""Policies from outside by name: ``SCHEME:WHERE``, each scheme by an adapter that ships. Imports no torch.

An adapter is a module with ``load(where, seed, compute)``, which returns an agent or raises AgentError in one
sentence. It says what the policy sees and how its actions map to those of a task, and refuses tasks that do
not fit.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from lram.agents.api import Agent
from lram.agents.compute import Compute

__all__ = ["ADAPTERS", "Adapter", "adapter_of", "load"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A scheme.

    Attributes:
        scheme: What stands before the colon.
        example: A whole name.
        description: Of what it names, for listings.
        module: That loads it.
        connects: Whether loading it connects to a server, which may be asked for a token.
    """

    scheme: str
    example: str
    description: str
    module: str
    connects: bool = False


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(
        "ws",
        "ws://host:port",
        "a policy that another process serves: 'lram serve', openpi, vla-evaluation-harness",
        "lram.agents.adapters.served.ws",
        connects=True,
    ),
    Adapter("wss", "wss://host:port", "the same over TLS", "lram.agents.adapters.served.wss", connects=True),
)
"""The schemes, in the order of listings."""


def adapter_of(base: str) -> Adapter | None:
    """Return the adapter that an agent's name without suffixes asks for."""
    scheme, colon, where = base.partition(":")
    if not colon or not where:
        return None
    return next((one for one in ADAPTERS if one.scheme == scheme), None)


def load(adapter: Adapter, base: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``base``, ``SCHEME:WHERE``; AgentError where it cannot be loaded."""
    loader: Any = importlib.import_module(adapter.module)
    agent: Agent = loader.load(base.partition(":")[2], seed, compute)
    return agent
