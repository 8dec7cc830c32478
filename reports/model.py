"""What a summary says: frozen dataclasses that msgspec writes as ``summary.json``.

Nothing in here depends on the machine, the moment or the order in which episodes were recorded, save the
caveats on models that did not always compute alike and on simulators of several versions.
Floats are rounded to 12 significant digits, so that a processor's last bit does not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lram.reports.training_model import TrainingResult

LAYOUT = 1
"""Version of ``summary.json``."""

ALL_EQUAL = "all equal"
"""The note of a task's estimate whose episodes, two or more, all gave the same value."""

UNSEEN = "unseen outcomes"
"""What limits a comparison of agents some of whose tasks' episodes all ended alike."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval at the summary's level; ``method`` tells how it was made."""

    low: float
    high: float
    method: Literal["bootstrap", "wilson", "sign flips", "t"] = "bootstrap"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; where there is none, ``note`` says why."""

    value: float
    interval: Interval | None
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
        borrowed_noise: Tasks that show no noise of their own (one episode, or all equal) and take it
            from the agent's other tasks.
        left_out: Planned tasks that did not enter.
        unfinished: Those of ``of_tasks`` that did not enter and still lack records.
    """

    tasks: int
    of_tasks: int
    episodes: int
    domains: tuple[str, ...]
    borrowed_noise: int = 0
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


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as it was planned.

    Attributes:
        audit: Why the task's reference cannot carry a score; empty when it can.
        note: What a reader of its scores must know (the task table's ``score_note``).
    """

    id: str
    domain: str
    split: str
    protocol: str
    score_kind: str
    score_random: float | None
    score_reference: float | None
    score_source: str
    audit: str
    note: str


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many episodes failed in one way (a kind and message of ``lram.harness.records.Failure``)."""

    kind: str
    episodes: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One agent on one task.

    Attributes:
        planned: Episodes planned (0 when skipped).
        scored, errored, missing: These three sum to ``planned``.
        failures: The errored ones by kind and message.
        skipped: Why the agent cannot play the task; empty when it can.
        mean_return: Mean unclipped return of the scored episodes (None: no scored one).
        score: Mean normalised score (None: also where the reference cannot carry one).
        success_any, success_last: Share of scored episodes solved at any and at the last step
            (None: also where the task has no notion of success).
    """

    agent: str
    task: str
    planned: int
    scored: int
    errored: int
    missing: int
    failures: tuple[FailureCount, ...]
    skipped: str
    mean_return: Estimate | None
    score: Estimate | None
    success_any: Estimate | None
    success_last: Estimate | None


@dataclass(frozen=True, slots=True)
class DomainResult:
    """One agent on the tasks of one domain; success is None in a domain without that notion."""

    domain: str
    score: Aggregate
    success_any: Aggregate | None
    success_last: Aggregate | None


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One agent on the tasks of one group; success is None where no task of it has that notion.

    Attributes:
        domain: The group's domain, or ``all domains``.
        facet: What the tasks are grouped by (:mod:`lram.envs.facets`), such as ``robot`` or ``split``.
        value: The group, such as ``Panda``.
        score: Mean of domain means of the normalised score.
        success_any: Share of episodes solved at any step.
    """

    domain: str
    facet: str
    value: str
    score: Aggregate
    success_any: Aggregate | None


@dataclass(frozen=True, slots=True)
class AgentResult:
    """One agent over everything.

    Attributes:
        label: The label of the plan.
        name: The label as tables and figures print it: an untrained model is called so.
        trained: False for random weights, None for agents without weights.
        planned, scored, errored, missing: Episodes.
        skipped: Tasks that it cannot play.
        mean_of_domains: Mean over domains of the domain's mean score, the headline.
        interquartile_mean: 25% trimmed mean over all tasks' mean scores.
        domains: In plan order; all of the report's domains.
        groups: The same groups for every agent of a report.
    """

    label: str
    name: str
    spec: str
    kind: str
    description: str
    trained: bool | None
    parameters: int | None
    digest: str
    planned: int
    scored: int
    errored: int
    missing: int
    skipped: int
    mean_of_domains: Aggregate
    interquartile_mean: Aggregate
    domains: tuple[DomainResult, ...]
    groups: tuple[GroupResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference of two agents' headline, over the tasks and seeds that both scored.

    Attributes:
        first, second: Agent labels; the difference is first minus second.
        difference: Of the mean of domain means (None: no shared episode).
        p: Two-sided, of the studentised sign-flip test, and no less than outcomes that no episode showed
            allow; the interval, where there is one, leaves out 0 exactly where ``p`` is below 1 - level.
            ``p_holm`` corrects it for all pairs of the report.
        tasks, episodes: What the difference rests on.
        domains: Likewise.
        limit: ``UNSEEN`` where such outcomes, and not the sign flips, set ``p``; else empty.
    """

    first: str
    second: str
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    tasks: int
    episodes: int
    domains: tuple[str, ...]
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something a reader must know before the numbers.

    Attributes:
        kind: A stable word for programs, such as ``untrained``.
        text: One or two sentences for people.
        items: The tasks or agents concerned.
    """

    kind: str
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that the records say, in numbers.

    Attributes:
        layout: Version of this layout.
        seed, resamples, level: Of the bootstrap.
        run_seeds: Seeds of the runs that were read, sorted.
        episodes_per_task: Planned episodes per agent and task, as ``(least, most)``.
        caveats: First what concerns trust, then coverage, then notes on references, then trainings.
        training: Trainings shown beside the agents; ``summary.json`` has the field where there is one.
    """

    layout: int
    seed: int
    resamples: int
    level: float
    run_seeds: tuple[int, ...]
    episodes_per_task: tuple[int, int]
    caveats: tuple[Caveat, ...]
    agents: tuple[AgentResult, ...]
    tasks: tuple[TaskEntry, ...]
    results: tuple[TaskResult, ...]
    comparisons: tuple[Comparison, ...]
    training: tuple[TrainingResult, ...] = ()

    def result(self, agent: str, task: str) -> TaskResult:
        """Return one agent's result on one task; KeyError where it was not planned."""
        for result in self.results:
            if result.agent == agent and result.task == task:
                return result
        raise KeyError((agent, task))

    def agent(self, label: str) -> AgentResult:
        """Return one agent's result; KeyError for an unknown label."""
        for agent in self.agents:
            if agent.label == label:
                return agent
        raise KeyError(label)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains, in plan order."""
        return tuple(dict.fromkeys(task.domain for task in self.tasks))


def rounded(value: float) -> float:
    """Return ``value`` at 12 significant digits (and never minus zero)."""
    return float(f"{value:.12g}") + 0.0
