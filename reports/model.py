"""What a summary says: frozen dataclasses that msgspec writes as ``summary.json``.

Nothing in here depends on the machine, the moment or the order in which episodes were recorded, save the
caveats on models that did not always compute alike and on simulators of several versions.
Floats are rounded to 12 significant digits, so that a processor's last bit does not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lram.envs.scores import Normaliser
from lram.reports.sections.training.model import TrainingResult

LAYOUT = 2
"""Version of ``summary.json``.

2: intervals have ``doubts``; ``interquartile_mean`` of an agent is ``iqm_of_task_means``.
"""

ALL_EQUAL = "all equal"
"""The note of a task's estimate whose episodes, two or more, all gave the same value."""

UNSEEN = "unseen outcomes"
"""What limits a comparison of agents some of whose tasks' episodes all ended alike."""


UNTOLD = "cannot be told from"
"""How the note of an estimate begins whose episodes differ, but are too few to tell by how much."""

NO_IQM_INTERVAL = "no interval holds"
"""The note of an interquartile mean of task means: :mod:`lram.reports.statistics.aggregates` tells why."""

Doubt = Literal["few episodes", "borrowed noise"]
"""Why an interval may hold less often than its level says.

``few episodes``: it rests on so few that it holds for returns near a normal law only. ``borrowed noise``: it
holds if a task whose own episodes show no noise is as noisy as its neighbours.
"""

FEW: Doubt = "few episodes"
BORROWED: Doubt = "borrowed noise"


@dataclass(frozen=True, slots=True)
class Interval:
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
            number, with the worst that could have come of them (:mod:`lram.reports.counting`).
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
        mean_of_domains: Mean over domains of the domain's mean score, the headline.
        iqm_of_task_means: 25% trimmed mean over all tasks' mean scores: not rliable's interquartile mean,
            which is over episodes. It has no interval.
        domains: In plan order; all of the report's domains.
        groups: The same groups for every agent of a report.
        failed_by_agent: Of the errored episodes, those that failed by the agent's own fault.
        split: What it has seen in training; None where nothing was trained.
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
    iqm_of_task_means: Aggregate
    domains: tuple[DomainResult, ...]
    groups: tuple[GroupResult, ...] = ()
    failed_by_agent: int = 0
    split: AgentSplit | None = None


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
        seed, resamples: Of what is resampled, the paired comparisons. Intervals of scores, returns and rates
            need no resampling.
        level: Of every interval.
        run_seeds: Seeds of the runs that were read, sorted.
        episodes_per_task: Planned episodes per agent and task, as ``(least, most)``.
        caveats: First what concerns trust, then coverage, then notes on references, then trainings.
        training: Trainings shown beside the agents; ``summary.json`` has the field where there is one.
        normaliser: Whose references the scores have (:data:`lram.envs.scores.Normaliser`).
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
    normaliser: Normaliser = "paper"

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
