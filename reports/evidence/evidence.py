"""Several runs as one body of evidence: what was planned, what was recorded, and what counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from lram.envs.scores import Normaliser
from lram.envs.task import Task
from lram.harness.storage.records import AgentEntry, DomainSource, EpisodeRecord, PlannedTask

EpisodeKey = tuple[int, int]
"""A run's seed and the episode's number: with the task, what names an initial state."""

ValuesByFact = dict[str, tuple[str, ...]]
"""The values that a fact has, such as the versions of a package."""


@dataclass(frozen=True, slots=True)
class TaskEpisodes:
    """One agent on one task over all runs.

    Attributes:
        planned: Number of episodes planned.
        records: What was recorded, by episode key, sorted.
        scored: Those of them that carry a return.
        skipped: Why no run lets the agent play the task; empty when one does.
        counted: What counts in every number: ``scored``, and a record for each episode that failed by the
            agent's own fault (:mod:`lram.reports.evidence.counting`).
        failed: Episodes that failed by the agent's own fault.
        obstacle: Why the agent has no return and no score on the task; empty where it may have.
    """

    planned: int
    records: dict[EpisodeKey, EpisodeRecord]
    scored: dict[EpisodeKey, EpisodeRecord]
    skipped: str
    counted: dict[EpisodeKey, EpisodeRecord]
    failed: int = 0
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All runs together.

    Attributes:
        agents, tasks: In the order of the plans, each once.
        cells: By agent label and task id; only pairs that a plan holds.
        run_seeds: Sorted.
        disagreements: Items that two runs of one seed recorded with different results; the first
            run's counts.
        unsigned: Files without checksums, each with its run: those of earlier versions.
        collected: Whether the runs are collections' (:mod:`lram.harness.collection.collect`).
        realtime_hz: By label of an agent for which the world did not wait: its steps a second.
        mixtures: By label of a model whose scored episodes were not all computed alike: what differed
            (device, precision, step, rows a pass, threads) and its values.
        sources: By label of an agent whose scored episodes were not all played with one code and weights:
            what differed (``weights``, ``module NAME``) and its digests.
        simulators: By domain whose scored episodes were played with several versions of a package: the
            package and its versions.
        raised: By label of an agent that ended a run with an error of its own and misses episodes: the error.
        broken_promises: By label of an agent that does not keep its contract bit for bit: what was found
            before it played (:mod:`lram.harness.gate.contract`).
        normaliser: Whose references ``tasks`` have.
        own_rows: By task id, the rows as they were planned, where ``tasks`` have others.
        perturbed: What was run under protocols that perturb what agents see, beside this that was not
            (:mod:`lram.reports.evidence.perturbed`), by protocol.
        domain_files: By domain from a plain file: the file, as the first run that has the domain notes it.
        played: By domain: every package of its scored episodes, and its versions.
    """

    agents: tuple[AgentEntry, ...]
    tasks: tuple[PlannedTask, ...]
    cells: dict[tuple[str, str], TaskEpisodes]
    run_seeds: tuple[int, ...]
    disagreements: tuple[str, ...]
    mixtures: dict[str, ValuesByFact]
    simulators: dict[str, ValuesByFact]
    collected: bool = False
    unsigned: tuple[str, ...] = ()
    realtime_hz: dict[str, float] = field(default_factory=dict)
    raised: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    broken_promises: dict[str, str] = field(default_factory=dict)
    normaliser: Normaliser = "paper"
    own_rows: dict[str, Task] = field(default_factory=dict)
    played: dict[str, ValuesByFact] = field(default_factory=dict)
    perturbed: tuple[Evidence, ...] = ()
    domain_files: dict[str, DomainSource] = field(default_factory=dict)

    @property
    def domains(self) -> list[str]:
        """The domains in plan order."""
        return list(dict.fromkeys(planned.task.domain for planned in self.tasks))


def display_name(agent: AgentEntry) -> str:
    """Return the label, with the word that keeps random weights from passing for a model."""
    return f"{agent.label} (untrained)" if agent.info.trained is False else agent.label
