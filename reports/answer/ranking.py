"""Agents by score, with ties where nothing tells them apart.

Agents whose worlds had different rates do not compare (:mod:`lram.reports.comparison.worlds`): those of each
rate are ranked among themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtri

from lram.reports.model import AgentResult, Comparison, Estimate, Summary


@dataclass(frozen=True, slots=True)
class RankedAgent:
    """An agent's place.

    Attributes:
        agent: The agent.
        rank: 1 more than the number of agents that are shown to be better, in worlds of one rate; None for
            one without a score that compares.
        tied: Others have the same rank there.
        beats: Labels of the agents that it is shown to be better than.
        open: Labels of the agents that it cannot be told apart from, though the rate is one.
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

    Of worlds with several rates, that in which the most agents acted comes first.

    An agent is shown to be better than another where their paired comparison says so (Holm's p below
    1 - level). Where the report does not compare the two, it is where their intervals do not overlap when
    they are widened for the number of pairs, as Bonferroni does; that takes a larger difference.
    """
    worlds = _by_rate(agent for agent in summary.agents if _compares(agent))
    others = sorted((agent for agent in summary.agents if not _compares(agent)), key=_descending)
    better = _better(summary, _pairs(worlds))
    found = [one for agents in worlds for one in _ranked(agents, better)]
    return [*found, *(RankedAgent(agent, None, False, (), ()) for agent in others)]


def _by_rate(agents: Iterable[AgentResult]) -> list[list[AgentResult]]:
    """Return the agents of each rate, by score; the rate of the most agents first, then the lower one."""
    found: dict[float, list[AgentResult]] = {}
    for agent in agents:
        found.setdefault(agent.realtime_hz, []).append(agent)
    ordered = sorted(found.items(), key=lambda one: (-len(one[1]), one[0]))
    return [sorted(inside, key=_descending) for _, inside in ordered]


def _pairs(worlds: Sequence[Sequence[AgentResult]]) -> int:
    """Return how many pairs of agents compare."""
    return sum(len(agents) * (len(agents) - 1) // 2 for agents in worlds)


_IsBetter = Callable[[AgentResult, AgentResult], bool]


def _ranked(entered: Sequence[AgentResult], better: _IsBetter) -> Iterator[RankedAgent]:
    """Yield the agents of one rate."""
    losses = {a.label: sum(better(b, a) for b in entered) for a in entered}
    ranks = list(losses.values())
    for agent in entered:
        yield RankedAgent(
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


def _compares(agent: AgentResult) -> bool:
    score = agent.mean_of_domain_means
    return score.estimate is not None and score.rests_on.comparable


def _descending(agent: AgentResult) -> tuple[bool, float, str]:
    score = agent.mean_of_domain_means.estimate
    return score is None, 0.0 if score is None else -score.value, agent.label


def _better(summary: Summary, pairs: int) -> _IsBetter:
    """Return what says whether the first of two agents of one rate is shown to be better than the second.

    ``pairs`` is how many pairs of agents it is asked of.
    """
    pairs = max(1, pairs)
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
    worlds = _by_rate(agent for agent in summary.agents if _compares(agent))
    pairs = _pairs(worlds)
    rates = {agent.label: agent.realtime_hz for agent in summary.agents}
    compared = sum(rates[one.first] == rates[one.second] for one in summary.comparisons)
    share = 1 - summary.level
    paired = f"their paired comparison says so (Holm's p below {share:.3g})"
    apart = (
        f"their intervals stay apart when they are widened for all {pairs:,} pairs (--against LABEL and "
        "--compare test pairs episode by episode, which shows smaller differences)"
    )
    if compared >= pairs:
        how = paired
    elif not compared:
        how = apart
    else:
        how = f"{paired}, or, for pairs that are not compared, where {apart}"
        share *= 2  # each of the two may err so often
    return (
        "A rank is 1 more than the number of agents that are shown to be better; agents of one rank are "
        f"tied. One agent is shown to be better than another where {how}. Of agents that are equal in truth, "
        f"one is called better than another in about {100 * share:.0f} of 100 reports at most. "
        "Agents without a score on some of the tasks have no rank."
    ) + (
        " Agents whose worlds had different rates (--realtime) do not compare: those of each rate are ranked "
        "among themselves."
        if len(worlds) > 1
        else ""
    )
