"""Agents on a node: built from what the driver says, held while jobs ask for them, and checked once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lram.agents.api import Agent, AgentInfo
from lram.agents.own_modules import search_first
from lram.harness.errors import LramError
from lram.harness.executors.ray.messages import AgentOrder, Described
from lram.harness.executors.ray.node import held, scratch
from lram.harness.executors.ray.source import source_digest
from lram.harness.executors.ray.transfer import Artifacts
from lram.harness.gate.contract import contract_note
from lram.harness.gate.equivalence import pass_gate
from lram.harness.machine import calm_threads, threads
from lram.harness.plan import build_agent, refusal
from lram.harness.storage.records import PlannedTask

_held: dict[bytes, tuple[Agent, str]] = {}
"""The agent that this process has built last, by its order: jobs mostly come with the same."""


def describe(order: AgentOrder, artifacts: Artifacts, tasks: Sequence[PlannedTask]) -> Described:
    """Build an agent, let it pass the gate, and tell what a plan needs to know of it."""
    began = time.perf_counter()
    try:
        agent, note = prepared(order, artifacts)
        took = time.perf_counter() - began
        refusals = {}
        for planned in tasks:
            if (reason := refusal(order.label, agent, planned)) is not None:
                refusals[planned.task.id] = reason
        with threads(order.threads):
            note = note or contract_note(order.label, agent, tasks)
    except LramError as error:
        return Described(problem=str(error))
    return Described(agent.info, refusals, note, took)


def prepared(order: AgentOrder, artifacts: Artifacts) -> tuple[Agent, str]:
    """Return the agent of ``order``, checked, and what the gate noted.

    Raises:
        LramError: It cannot be built here, it is another one than on the driver, or it computes otherwise.
    """
    key = msgspec.json.encode(order)
    if key not in _held:
        _held.clear()  # before the next one is loaded
        _held[key] = _prepare(order, artifacts)
    return _held[key]


def _prepare(order: AgentOrder, artifacts: Artifacts) -> tuple[Agent, str]:
    calm_threads()
    if order.place and Path(order.place).is_dir():
        search_first(order.place)
    agent = build_agent(order.agent.there(artifacts), order.seed, order.compute)
    _check_same(order, agent.info)
    with threads(order.threads):
        return agent, _gate(order, agent)


def _check_same(order: AgentOrder, now: AgentInfo) -> None:
    if order.digest is None:
        return
    if now.digest != order.digest:
        raise LramError(
            f"agent {order.label} is another one here (digest {now.digest[:12]}, planned {order.digest[:12]})"
        )
    planned = dict(order.details)
    other = [
        f"{name} {text} instead of {planned.get(name)}"
        for name, text in now.details
        if planned.get(name, text) != text
    ]
    if other:
        raise LramError(f"agent {order.label} computes otherwise here: {', '.join(other)}")


def _gate(order: AgentOrder, agent: Agent) -> str:
    """Let a model pass the gate, once a node for the same model computing the same way."""
    if agent.info.kind != "model":
        return ""
    known = repr((agent.info, order.compute, order.threads, source_digest())).encode()
    name = f"gate-{hashlib.sha256(known).hexdigest()[:24]}"
    with held(name):
        passed = scratch() / f"{name}.txt"
        if passed.is_file() and agent.info.digest:
            return passed.read_text(encoding="utf-8")
        note = pass_gate({order.label: agent}).get(order.label, "")
        passed.write_text(note, encoding="utf-8")
        return note
