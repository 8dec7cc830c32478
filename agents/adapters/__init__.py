"""Policies from outside by name: ``SCHEME:WHERE``, each scheme by an adapter that ships. Imports no torch.

An adapter is a module with ``load(where, seed, compute)``, which returns an agent or raises AgentError in one
sentence. It says what the policy sees and how its actions map to those of a task, and refuses tasks that do
not fit. One that reads files has ``files(where)``, too, which tells them.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

from lram.agents.adapters.files import AdapterFiles
from lram.agents.api import Agent
from lram.agents.compute import Compute

__all__ = [
    "ADAPTERS",
    "Adapter",
    "adapter_of",
    "files_of",
    "load",
    "with_absolute_file",
    "without_folder",
]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A scheme.

    Attributes:
        scheme: What stands before the colon.
        example: A whole name.
        description: Of what it names, for listings.
        module: That loads it.
        file: Whether what follows the colon begins with the path of a file or folder.
        connects: Whether loading it connects to a server, which may be asked for a token.
        starts: Whether loading it starts a program that its name or the environment tells.
    """

    scheme: str
    example: str
    description: str
    module: str
    file: bool = False
    connects: bool = False
    starts: bool = False


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(
        "sb3",
        "sb3:FILE.zip",
        "a policy of Stable-Baselines3 (PPO, A2C, SAC, TD3, DDPG, DQN), without that package",
        "lram.agents.adapters.sb3",
        file=True,
    ),
    Adapter(
        "torchscript",
        "torchscript:FILE",
        "a TorchScript program, with FILE.toml beside it (a program is trusted when it is named)",
        "lram.agents.adapters.exported.torchscript",
        file=True,
    ),
    Adapter(
        "onnx",
        "onnx:FILE",
        "an ONNX network, with FILE.toml beside it (extra onnx)",
        "lram.agents.adapters.exported.onnx",
        file=True,
    ),
    Adapter(
        "lerobot",
        "lerobot:FOLDER",
        "a policy of LeRobot (ACT, Diffusion, ...), in a Python of its own",
        "lram.agents.adapters.lerobot",
        file=True,
        starts=True,
    ),
    Adapter(
        "hf-dt",
        "hf-dt:FOLDER",
        "a Decision Transformer of transformers, without that package",
        "lram.agents.adapters.decision_transformer",
        file=True,
    ),
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


def with_absolute_file(spec: str, folder: str) -> str:
    """Return ``spec`` with what an adapter reads as a path from ``folder``; others as they are.

    Args:
        spec: An agent's name, with suffixes or without.
        folder: An absolute path.
    """
    adapter = adapter_of(spec)
    if adapter is None or not adapter.file:
        return spec
    scheme, _, where = spec.partition(":")
    return f"{scheme}:{os.path.join(folder, where)}"  # noqa: PTH118 (arguments follow, which no path may touch)


def without_folder(spec: str) -> str:
    """Return ``spec`` with the name alone of the file or folder that an adapter reads, for people."""
    adapter = adapter_of(spec)
    if adapter is None or not adapter.file:
        return spec
    scheme, _, where = spec.partition(":")
    file, mark, arguments = where.partition("(")
    return f"{scheme}:{file.rstrip('/').rpartition('/')[2]}{mark}{arguments}"


def load(adapter: Adapter, base: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``base``, ``SCHEME:WHERE``; AgentError where it cannot be loaded."""
    loader: Any = importlib.import_module(adapter.module)
    agent: Agent = loader.load(base.partition(":")[2], seed, compute)
    return agent


def files_of(base: str) -> AdapterFiles | None:
    """Return the files that the adapter of ``base``, ``SCHEME:WHERE``, reads; None where it reads none.

    Raises:
        AgentError: They are not there, or not in one folder; one sentence.
    """
    adapter = adapter_of(base)
    if adapter is None or not adapter.file:
        return None
    module: Any = importlib.import_module(adapter.module)
    found: AdapterFiles = module.files(base.partition(":")[2])
    return found
