"""What was found: tasks, agents on them, and differences between agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lram.reports.model.estimates import Aggregate, Estimate


@dataclass(frozen=True, slots=True)
class MeasuredRandom:
    """What uniform actions earned on a task under its protocol (:mod:`lram.envs.random_play`).

    Attributes:
        mean, low, high: Mean return with its 95% interval (None: all episodes earned the same).
        episodes: Episodes that were played.
        score, score_low, score_high: The same by the task's own references, whatever the summary's
            normaliser is (None: also where they carry no score).
    """

    mean: float
    low: float | None
    high: float | None
    episodes: int
    score: float | None
    score_low: float | None
    score_high: float | None


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as it was planned, with the references that the summary's scores have.

    Attributes:
        audit: Why the task's reference cannot carry a score; empty when it can.
        note: What a reader of its scores must know (the task table's ``score_note``).
        random_play: Random play as measured; None where it was not.
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
    random_play: MeasuredRandom | None = None


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many episodes failed in one way (kind and message of ``lram.harness.storage.records.Failure``)."""

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
        failed_by_agent: Of the errored ones, those that failed by the agent's own fault: they are in every
            number, with the worst that could have come of them (:mod:`lram.reports.evidence.counting`).
        seen: Whether the agent was trained on the task, as :class:`AgentSplit` tells; None where nothing was
            trained.
        uncounted: Why there is no return and no score though episodes have one; empty where there may be.
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
    failed_by_agent: int = 0
    uncounted: str = ""
    seen: bool | None = None


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
        facet: The attribute that the tasks are grouped by (:mod:`lram.envs.attributes`), such as ``robot``.
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
class AgentSplit:
    """One agent's scores on the planned tasks that it has seen in training, and on the others.

    Attributes:
        source: What tells them apart: the agent's ``card``, or the ``paper``'s split, where the agent tells
            nothing.
        complete: Whether the card tells all of its training tasks.
        training_tasks: How many tasks the card names.
        seen, unseen: Ids of the tasks that it plays.
        seen_score, unseen_score: Mean of domain means of the normalised score.
    """

    source: Literal["card", "paper"]
    complete: bool
    training_tasks: int
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    seen_score: Aggregate
    unseen_score: Aggregate


@dataclass(frozen=True, slots=True)
class AgentResult:
    """One agent over everything.

    Attributes:
        label: The label of the plan.
        name: The label as tables and figures print it: an untrained model is called so.
        trained: False for random weights, None for agents without weights.
        planned, scored, errored, missing: Episodes.
        skipped: Tasks that it cannot play.
        aggregates: Over all tasks, by the key of the metric (:mod:`lram.reports.aggregates`).
        domains: In plan order; all of the report's domains.
        groups: The same groups for every agent of a report.
        failed_by_agent: Of the errored episodes, those that failed by the agent's own fault.
        split: What it has seen in training; None where nothing was trained.
        realtime_hz: Steps that its world took in a second of its thinking; 0: the world waited.
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
    aggregates: dict[str, Aggregate]
    domains: tuple[DomainResult, ...]
    groups: tuple[GroupResult, ...] = ()
    failed_by_agent: int = 0
    split: AgentSplit | None = None
    realtime_hz: float = 0.0

    @property
    def mean_of_domain_means(self) -> Aggregate:
        """The headline: mean over domains of the domain's mean score."""
        return self.aggregates["mean_of_domain_means"]


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
        reason: Why the two are not compared; empty where they are, or share no episode.
        limit: ``UNSEEN`` where such outcomes, and not the sign flips, set ``p``; else empty.
        aggregates: Other numbers of the pair, by the key of the metric (:mod:`lram.reports.aggregates`).
    """

    first: str
    second: str
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    tasks: int
    episodes: int
    domains: tuple[str, ...]
    reason: str = ""
    limit: str = ""
    aggregates: dict[str, Estimate] = field(default_factory=dict)
