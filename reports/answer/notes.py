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
    labels = [agent.label for agent in summary.agents]
    touched = [(caveat.kind, {_concerned(item, labels) for item in caveat.items}) for caveat in in_rows]
    return {
        agent.label: ", ".join(
            dict.fromkeys([*_lost(agent), *(kind for kind, whom in touched if agent.label in whom)])
        )
        for agent in summary.agents
    }


def _lost(agent: AgentResult) -> list[str]:
    lost = {"errored": agent.errored, "missing": agent.missing}
    return [f"{number:,} of {agent.planned:,} {what}" for what, number in lost.items() if number]


def _concerned(item: str, labels: Sequence[str]) -> str:
    """Return the label of the agent that an item of a caveat is about; empty where it is about none.

    A label may begin another one, so the longest that the item begins with is it.
    """
    ends = (": ", " on ", " cannot play ")
    found = [
        label for label in labels if item == label or item.startswith(tuple(label + end for end in ends))
    ]
    return max(found, key=len, default="")
