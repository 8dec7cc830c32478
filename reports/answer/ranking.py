"""Agents by score, with ties where nothing tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scipy.special import ndtri

from lram.reports.model import AgentResult, Comparison, Estimate, Summary


@dataclass(frozen=True, slots=True)
class RankedAgent:
    """An agent's place.

    Attributes:
        agent: The agent.
        rank: 1 more than the number of agents that are shown to be better; None for one without a score that
            compares.
        tied: Others have the same rank.
        beats: Labels of the agents that it is shown to be better than.
        open: Labels of the agents that it cannot be told apart from.
    """

    agent: AgentResult
    rank: int | None
    tied: bool
    beats: tuple[str, ...]
    open: tuple[str, ...]

    @property
    def estimate(self) -> Estimate | None:
        """Its score over all tasks."""
        return self.agent.mean_of_domain_means.estimate

    @property
    def shown(self) -> str:
        """The rank as people read it."""
        return "–" if self.rank is None else f"{'=' * self.tied}{self.rank}"


def ranked(summary: Summary) -> list[RankedAgent]:
    """Return the agents, the highest score first, and those whose scores do not compare last.

    An agent is shown to be better than another where their paired comparison says so (Holm's p below
    1 - level). Where the report does not compare the two, it is where their intervals do not overlap when
    they are widened for the number of pairs, as Bonferroni does; that takes a larger difference.
    """
    entered = [agent for agent in summary.agents if _compares(agent)]
    entered.sort(key=_descending)
    others = sorted((agent for agent in summary.agents if not _compares(agent)), key=_descending)
    better = _better(summary, len(entered))
    losses = {a.label: sum(better(b, a) for b in entered) for a in entered}
    ranks = list(losses.values())
    found = [
        RankedAgent(
            agent,
            losses[agent.label] + 1,
            ranks.count(losses[agent.label]) > 1,
            tuple(other.label for other in entered if better(agent, other)),
            tuple(
                other.label
                for other in entered
                if other is not agent and not better(agent, other) and not better(other, agent)
            ),
        )
        for agent in entered
    ]
    return [*found, *(RankedAgent(agent, None, False, (), ()) for agent in others)]


def _compares(agent: AgentResult) -> bool:
    score = agent.mean_of_domain_means
    return score.estimate is not None and score.rests_on.comparable


def _descending(agent: AgentResult) -> tuple[bool, float, str]:
    score = agent.mean_of_domain_means.estimate
    return score is None, 0.0 if score is None else -score.value, agent.label


def _better(summary: Summary, entered: int) -> Callable[[AgentResult, AgentResult], bool]:
    """Return what says whether the first of two agents is shown to be better than the second."""
    pairs = max(1, entered * (entered - 1) // 2)
    # By the normal law, though the intervals are Student's: that two do not overlap asks for more than that
    # their difference leaves out 0, which pays for the longer tails (tests/reports/test_answer.py).
    widened = float(ndtri((1 - summary.level) / (2 * pairs)) / ndtri((1 - summary.level) / 2))
    compared: Mapping[frozenset[str], Comparison] = {
        frozenset((one.first, one.second)): one for one in summary.comparisons
    }

    def better(one: AgentResult, other: AgentResult) -> bool:
        if one.label == other.label:
            return False
        found = compared.get(frozenset((one.label, other.label)))
        if found is not None:
            if found.difference is None or found.p_holm is None:
                return False
            ahead = found.difference.value > 0 if found.first == one.label else found.difference.value < 0
            return ahead and found.p_holm < 1 - summary.level
        return _apart(one.mean_of_domain_means.estimate, other.mean_of_domain_means.estimate, widened)

    return better


def _apart(high: Estimate | None, low: Estimate | None, widened: float) -> bool:
    """Return whether the intervals, widened so, do not overlap."""
    if high is None or low is None or high.interval is None or low.interval is None:
        return False
    below = widened * (high.value - high.interval.low)
    above = widened * (low.interval.high - low.value)
    return high.value - below > low.value + above


def method(summary: Summary) -> str:
    """Return how ranks are made, in sentences."""
    entered = sum(map(_compares, summary.agents))
    pairs = entered * (entered - 1) // 2
    share = 1 - summary.level
    paired = f"their paired comparison says so (Holm's p below {share:.3g})"
    apart = (
        f"their intervals stay apart when they are widened for all {pairs:,} pairs (--against LABEL and "
        "--compare test pairs episode by episode, which shows smaller differences)"
    )
    if len(summary.comparisons) >= pairs:
        how = paired
    elif not summary.comparisons:
        how = apart
    else:
        how = f"{paired}, or, for pairs that are not compared, where {apart}"
        share *= 2  # each of the two may err so often
    return (
        "A rank is 1 more than the number of agents that are shown to be better; agents of one rank are "
        f"tied. One agent is shown to be better than another where {how}. Of agents that are equal in truth, "
        f"one is called better than another in about {100 * share:.0f} of 100 reports at most. "
        "Agents without a score on some of the tasks have no rank."
    )
