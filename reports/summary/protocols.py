"""What is known here of the protocols that a run names."""

from __future__ import annotations

from collections.abc import Sequence

from lram.envs.registry import load_domain
from lram.envs.session import EvaluationProtocol
from lram.reports.model import TaskEntry


def summary_of(protocol_id: str) -> str:
    """Return a protocol's sentence, empty where its adapter is not at hand."""
    domain = protocol_id.partition(":")[0]
    found = [known.summary for known in _known(domain) if known.id(domain) == protocol_id]
    return found[0] if found else ""


def departures(tasks: Sequence[TaskEntry]) -> dict[str, tuple[str, str]]:
    """Return the domains that ran under another protocol than their default: both protocols' names.

    A domain whose adapter is not at hand is left out: its default is not known.
    """
    found = {}
    for domain, protocol_id in dict.fromkeys((task.domain, task.protocol) for task in tasks):
        name = protocol_id.partition(":")[2]
        defaults = [protocol.name for protocol in _known(domain)[:1]]
        if defaults and name.partition("@")[0] != defaults[0]:
            found[domain] = (name, defaults[0])
    return found


def _known(domain: str) -> tuple[EvaluationProtocol, ...]:
    try:
        return load_domain(domain).protocols
    except Exception:
        return ()  # a report is made anywhere, also where the domain's package is absent or broken
