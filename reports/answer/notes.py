"""The caveats of a report, sorted by where a reader must meet them."""

from __future__ import annotations

from collections.abc import Sequence

from lram.reports.model import AgentResult, Caveat, Summary

OF_EVERYTHING = frozenset(
    {
        "empty",
        "collected",
        "disagreement",
        "several simulator versions",
        "protocol",
        "normaliser",
    }
)
"""Kinds that change what every number means; they stand open below the first table."""

_NOT_IN_A_ROW = frozenset(
    {
        "untrained",
        "coverage",
        "errored",
        "missing",
        "few episodes",
        "single episode",
        "seen by the paper's split",
        "unseen tasks",
    }
)
"""Kinds that an agent's name, its numbers or the signs at them say already, or that doubt no score."""


def open_notes(summary: Summary) -> list[Caveat]:
    """Return the caveats that a reader must meet beside the first table."""
    return [caveat for caveat in summary.caveats if caveat.kind in OF_EVERYTHING]


def of_agents(summary: Summary) -> dict[str, str]:
    """Return by label what kinds of caveats touch an agent; empty for one that none touches."""
    in_rows = [caveat for caveat in summary.caveats if caveat.kind not in _NOT_IN_A_ROW | OF_EVERYTHING]
    return {agent.label: ", ".join([*_lost(agent), *_touching(agent, in_rows)]) for agent in summary.agents}


def _lost(agent: AgentResult) -> list[str]:
    lost = {"errored": agent.errored, "missing": agent.missing}
    return [f"{number:,} of {agent.planned:,} {what}" for what, number in lost.items() if number]


def _touching(agent: AgentResult, caveats: Sequence[Caveat]) -> list[str]:
    begins = (f"{agent.label}: ", f"{agent.label} on ", f"{agent.label} cannot play ")
    return list(
        dict.fromkeys(
            caveat.kind
            for caveat in caveats
            if any(item == agent.label or item.startswith(begins) for item in caveat.items)
        )
    )
