"""What is known here of the protocols that a run names."""

from __future__ import annotations

from collections.abc import Sequence

from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import load_domain
from lram.envs.session import EvaluationProtocol
from lram.reports.model import TaskEntry


def summary_of(protocol_id: str) -> str:
    """Return a protocol's sentence, empty where its adapter is not at hand."""
    parsed = _parsed(protocol_id)
    if parsed is None:
        return ""
    found = [known.summary for known in _known(parsed.domain) if known.id(parsed.domain) == protocol_id]
    return found[0] if found else ""


def departures(tasks: Sequence[TaskEntry]) -> dict[str, tuple[str, str]]:
    """Return the domains that ran under another protocol than their default: both protocols' names.

    A domain whose adapter is not at hand is left out: its default is not known.
    """
    found = {}
    for domain, protocol_id in dict.fromkeys((task.domain, task.protocol) for task in tasks):
        parsed = _parsed(protocol_id)
        defaults = [protocol.name for protocol in _known(domain)[:1]]
        if defaults and (parsed is None or parsed.name != defaults[0]):
            found[domain] = (parsed.versioned_name if parsed else protocol_id, defaults[0])
    return found


def _parsed(protocol_id: str) -> ProtocolId | None:
    """Return the id; None for what is none, in a run that was changed by hand."""
    try:
        return ProtocolId.parse(protocol_id)
    except SelectionError:
        return None


def _known(domain: str) -> tuple[EvaluationProtocol, ...]:
    try:
        return load_domain(domain).protocols
    except Exception:
        return ()  # a report is made anywhere, also where the domain's package is absent or broken
