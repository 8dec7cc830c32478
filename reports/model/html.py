"""A summary as a notebook shows it."""

from __future__ import annotations

from collections.abc import Sequence

from lram.harness.notebook import html_table
from lram.reports.model.estimates import Aggregate
from lram.reports.model.results import AgentResult

_CAVEATS = 5


def summary_html(agents: Sequence[AgentResult], tasks: int, level: float, caveats: Sequence[str]) -> str:
    """Return a table of the agents' headline scores, and the first caveats below it.

    Args:
        agents: Of the summary.
        tasks: How many it has.
        level: Of its intervals.
        caveats: Their texts.
    """
    rows = [
        (
            agent.name,
            _shown(agent.mean_of_domain_means),
            f"{agent.mean_of_domain_means.rests_on.tasks} of {agent.mean_of_domain_means.rests_on.of_tasks}",
            agent.scored,
            agent.errored,
            agent.missing,
        )
        for agent in agents
    ]
    notes = [*caveats[:_CAVEATS]]
    if (more := len(caveats) - _CAVEATS) > 0:
        notes.append(f"and {more} more caveats, in summary.caveats")
    caption = (
        f"Score: mean of domain means of normalised scores over {tasks} tasks, with "
        f"{level:.0%} intervals of the noise between episodes"
    )
    return html_table(
        caption, ("agent", "score", "tasks with a score", "scored", "errored", "missing"), rows, notes
    )


def _shown(aggregate: Aggregate) -> str:
    estimate = aggregate.estimate
    if estimate is None:
        return "–"
    if estimate.interval is None:
        return f"{estimate.value:.3f} ({estimate.note})" if estimate.note else f"{estimate.value:.3f}"
    doubts = f" ({', '.join(estimate.interval.doubts)})" if estimate.interval.doubts else ""
    return f"{estimate.value:.3f} [{estimate.interval.low:.3f}, {estimate.interval.high:.3f}]{doubts}"
