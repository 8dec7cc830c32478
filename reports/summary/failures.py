"""What is said of agents that failed by their own fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lram.harness.words import count
from lram.reports.model import Caveat, TaskResult


def own_failures(results: Sequence[TaskResult], raised: Mapping[str, str]) -> Iterator[Caveat]:
    """Yield what is to be said of agents that failed by their own fault, and of those that ``raised``."""
    failed = [result for result in results if result.failed_by_agent]
    if failed:
        without = [result for result in failed if result.uncounted]
        text = (
            f"{count(sum(r.failed_by_agent for r in failed), 'episode')} failed by the agent's own errors. "
            "Such episodes count as the worst that could have come of them: not solved, and with the least "
            "return of the task."
        )
        if without:
            text += (
                f" On {count(len(without), 'task')} (counted by agent) no least return is known: there the "
                "agent has no return and no score, its aggregates are not comparable, and it is compared "
                "with no agent that plays the task."
            )
        yield Caveat(
            "own errors",
            text,
            tuple(
                f"{r.agent} on {r.task}: {r.failed_by_agent} of {r.planned}"
                f"{', not comparable' if r.uncounted else ''}"
                for r in failed
            ),
        )
    if raised:
        yield Caveat(
            "raised",
            f"{count(len(raised), 'agent has', 'agents have')} ended a run with an error of its own, and "
            "episodes are missing since. On tasks that miss any, such an agent has no number until the run "
            "is complete: what was recorded before may be its better episodes.",
            tuple(f"{label}: {error}" for label, error in raised.items()),
        )
