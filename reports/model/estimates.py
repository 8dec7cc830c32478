"""A number with its interval, and what an aggregate rests on.

Floats are rounded to 12 significant digits, so that a processor's last bit does not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ALL_EQUAL = "all equal"
"""The note of a task's estimate whose episodes, two or more, all gave the same value."""

UNSEEN = "unseen outcomes"
"""What limits a comparison of agents some of whose tasks' episodes all ended alike."""


NOT_ESTIMABLE = "cannot be told from"
"""How the note of an estimate begins whose episodes differ, but are too few to tell by how much."""

NO_IQM_INTERVAL = "no interval holds"
"""The note of an interquartile mean of task means: :mod:`lram.reports.statistics.aggregates` tells why."""

Doubt = Literal["few episodes", "borrowed noise", "not simulated"]
"""Why an interval may hold less often than its level says.

``few episodes``: it rests on so few that it holds for returns near a normal law only. ``borrowed noise``: it
holds if a task whose own episodes show no noise is as noisy as its neighbours. ``not simulated``: how often
it holds for this metric was not looked at.
"""

FEW: Doubt = "few episodes"
BORROWED: Doubt = "borrowed noise"
UNSIMULATED: Doubt = "not simulated"


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """An interval at the summary's level.

    Attributes:
        low, high: Its ends.
        method: ``t``: Welch's, of means (:mod:`lram.reports.statistics.means`). ``score``: of rates
            (:mod:`lram.reports.statistics.rates`). ``sign flips``: of paired differences
            (:mod:`lram.reports.statistics.paired`). ``bootstrap``: resampled.
        doubts: Why it may hold less often than promised; none where the level is backed by simulation.
    """

    low: float
    high: float
    method: Literal["bootstrap", "t", "score", "sign flips"] = "bootstrap"
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; where there is none, ``note`` says why."""

    value: float
    interval: ConfidenceInterval | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A task that an aggregate does not rest on, and why."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestsOn:
    """What an aggregate is made of.

    Attributes:
        tasks: Tasks that entered.
        of_tasks: Planned tasks, of any agent, that could enter: for scores those with a usable
            reference, for success those with that notion.
        episodes: Episodes that entered.
        domains: Their domains.
        borrowed_noise: Tasks whose noise is taken from the agent's other tasks, because they have one
            episode, or because theirs are all alike and the task weighs more than all that is known.
        alike: Tasks whose episodes, two or more, were all alike.
        left_out: Planned tasks that did not enter.
        unfinished: Those of ``of_tasks`` that did not enter and still lack records.
    """

    tasks: int
    of_tasks: int
    episodes: int
    domains: tuple[str, ...]
    borrowed_noise: int = 0
    alike: int = 0
    left_out: tuple[LeftOut, ...] = ()
    unfinished: int = 0

    @property
    def comparable(self) -> bool:
        """Whether it rests on every task that it could rest on."""
        return self.tasks == self.of_tasks


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number over several tasks; ``estimate`` is None where no task entered."""

    estimate: Estimate | None
    rests_on: RestsOn


def rounded(value: float) -> float:
    """Return ``value`` at 12 significant digits (and never minus zero)."""
    return float(f"{value:.12g}") + 0.0
