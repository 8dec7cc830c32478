"""The records of a run: what was planned, what each episode gave, and where it was measured.

All three are frozen dataclasses, written as JSON by msgspec and read back with their types checked.
``RunPlan`` is ``run.json``; one ``EpisodeRecord`` is one line of ``records/*.jsonl``; one
``Provenance`` is one file of ``provenance/``.

``SCHEMA`` changes when an older record could not be read any more, or would be read wrongly. A new field
with a default that says "not known" does neither: old runs still open, and older versions skip it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from lram.agents.api import AgentInfo
from lram.agents.compute import Compute
from lram.envs.task import Task

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """An agent of a plan.

    Attributes:
        label: What records carry.
        spec: What builds it.
        info: What it says of itself.
        code: SHA-256 by module of the user's own source behind it (:mod:`lram.agents.own_code`); empty where
            there is none, or in plans of versions that did not note it.
    """

    label: str
    spec: str
    info: AgentInfo
    code: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task of a plan with the protocol that it is run under, such as ``atari:lram@1``."""

    task: Task
    protocol: str


@dataclass(frozen=True, slots=True)
class DomainSource:
    """A domain that no package brings.

    Attributes:
        path: Its file.
        digest: SHA-256 of the file.
        modules: SHA-256 of the modules beside it that it imports, by name.
    """

    path: str
    digest: str
    modules: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A task that an agent cannot play, and why; it is counted, never run."""

    agent: str
    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run sets out to measure: every agent plays every task ``episodes`` times.

    The work items are the product agents x tasks x episodes (in that order), less ``skipped``.

    Attributes:
        compute: How models compute, as asked for; None in runs of versions that did not note it here.
        threads: Threads of the agents' tensor library; known where ``compute`` is.
        collected: The run is a collection's: each agent meets initial states of its own, and the
            trajectories are in the store that the run lies in.
        interpreters: Python executable by domain, where another one than lram-bench's own plays it.
        realtime_hz: Steps that the world takes in a second of the agent's thinking; 0: it waits.
        domain_files: By domain that is from a plain file: the file.
    """

    schema: int
    seed: int
    episodes: int
    agents: tuple[AgentEntry, ...]
    tasks: tuple[PlannedTask, ...]
    skipped: tuple[Skipped, ...] = ()
    compute: Compute | None = None
    threads: int = 1
    collected: bool = False
    interpreters: dict[str, str] = field(default_factory=dict)
    realtime_hz: float = 0.0
    domain_files: dict[str, DomainSource] = field(default_factory=dict)

    def pairs(self) -> list[tuple[str, str]]:
        """Return agent label and task id of what is played, in plan order."""
        skipped = {(s.agent, s.task) for s in self.skipped}
        every = ((agent.label, planned.task.id) for agent in self.agents for planned in self.tasks)
        return [pair for pair in every if pair not in skipped]

    def items(self) -> list[WorkItem]:
        """Return the work items in plan order."""
        return [
            WorkItem(agent, task, episode) for agent, task in self.pairs() for episode in range(self.episodes)
        ]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One episode to play: the unit of planning, of retrying and of recording."""

    agent: str
    task: str
    episode: int

    @property
    def id(self) -> str:
        """``agent|domain/name|episode``: stable over runs of the same plan."""
        return f"{self.agent}|{self.task}|{self.episode}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an episode gave no score.

    Attributes:
        kind: ``crash`` (the worker died), ``timeout`` (it missed its deadline), ``session`` (the
            simulator raised or broke the contract), ``agent`` (the agent returned something that is no
            action), ``quarantine`` (its task had failed too often before).
        message: One sentence, with the last words of the worker where it left any.
        by_agent: Of a quarantine: whether what had failed before was the agent's fault. None for the other
            kinds, and in records of versions that did not note it
            (:attr:`EpisodeRecord.failed_by_agent` knows them all).
    """

    kind: Literal["crash", "timeout", "session", "agent", "quarantine"]
    message: str
    by_agent: bool | None = None


def given_up_words(task: str, agent: str | None) -> str:
    """Return how the message of a quarantine begins: of a task, or of a task with one agent.

    Records of versions that did not note :attr:`Failure.by_agent` are distinguished by it.
    """
    return f"{task}{'' if agent is None else f' with agent {agent}'} was given up: "


@dataclass(frozen=True, slots=True)
class Measured:
    """What depends on the machine and the moment; never part of a score or of a comparison.

    Attributes:
        started: Seconds since the epoch.
        wall_s: From the first reset of the attempt that counted to its end.
        simulator_s: Spent inside the simulator (reset and step), in the worker.
        agent_s: This episode's equal share of the time of the ``act`` calls that it was part of.
        lane: Lane number.
        worker: Worker process id.
        incidents: What went wrong on the way and cost a repetition, such as
            ``attempt 1: worker 4711 died (signal 9)``.
        held: Steps that the world took while the agent thought, with its last action (``--realtime``).
        node: Name of the machine, in a run that was spread over a cluster.
    """

    started: float
    wall_s: float
    simulator_s: float
    agent_s: float
    lane: int
    worker: int
    incidents: tuple[str, ...] = ()
    held: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One finished episode, or one that could not be finished.

    Attributes:
        schema: Version of this layout.
        agent, task, episode: The work item.
        seed: The seed given to ``Session.reset``.
        protocol: Protocol id, such as ``metaworld:lram@1``.
        status: ``scored`` or ``errored``.
        episode_return: Sum of the unclipped rewards; None when errored.
        length: Decisions taken; None when errored.
        success_any: Solved at any step; None when errored or where the task has no such notion.
        success_last: Solved at the last step; likewise.
        terminated, truncated: How the episode ended.
        trajectory: CRC-32 over all observations, rewards and actions of the episode, eight hex
            digits: equal trajectories have equal ones.
        failures: Attempts at this episode that failed by its own fault before this record.
        failure: Why there is no score; None when scored.
        measured: Times and incidents.
        parts: Returns of the inner episodes, in order, where a task holds several in one context.
        repeated: Steps whose action lies in the same bins as the one before (equal, where actions are
            discrete), of ``length - 1`` that have one before, those held in real time counted too; None
            when errored or not known.
    """

    schema: int
    agent: str
    task: str
    episode: int
    seed: int
    protocol: str
    status: Literal["scored", "errored"]
    episode_return: float | None
    length: int | None
    success_any: bool | None
    success_last: bool | None
    terminated: bool
    truncated: bool
    trajectory: str
    failures: int
    failure: Failure | None
    measured: Measured
    parts: tuple[float, ...] = ()
    repeated: int | None = None

    @property
    def item(self) -> WorkItem:
        """The work item that this record settles."""
        return WorkItem(self.agent, self.task, self.episode)

    @property
    def failed_by_agent(self) -> bool:
        """Whether there is no score by the agent's own fault, and not by the simulator's.

        An episode that was not tried because the agent's first ones on the task all failed so is one, too.
        """
        if self.failure is None:
            return False
        if self.failure.kind == "quarantine" and self.failure.by_agent is None:
            return self.failure.message.startswith(given_up_words(self.task, self.agent))
        return self.failure.by_agent or self.failure.kind == "agent"

    def with_fault_noted(self) -> EpisodeRecord:
        """Return this record with the fault of a quarantine in a field, whatever its message may become."""
        if self.failure is None or self.failure.kind != "quarantine":
            return self
        return replace(self, failure=replace(self.failure, by_agent=self.failed_by_agent))


CHECK_OF = "check of "
"""How the setting begins under which a session notes the check of an agent; the agent's label follows."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and with what a run, or a resumed part of it, was made.

    Attributes:
        started: ISO 8601, UTC.
        command: The command line, or the Python call.
        python, platform, cpu, cores, memory_gib, gpu: The machine (``gpu`` empty: none).
        git: Commit of the checkout that lram-bench runs from, with ``+changes`` where it is not clean
            (``+unchecked`` where asking could run programs that its configuration names); empty where it is
            installed as a package (``packages`` has its version).
        working_git: Likewise, of the working directory: the user's own project.
        packages: Version of every relevant distribution of the harness's interpreter.
        workers: By domain: version of every relevant distribution of the worker's interpreter.
        settings: Lanes, workers, threads, deadlines and so on, as text.
        compute: By label of the models that had something to play: device, precision, step, rows a pass
            and threads, as they came to be.
        raised: By label of an agent that ended the session with an error of its own: the sentence.
        sources: By label of an agent that had something to play: ``weights`` (the digest that it tells), and
            SHA-256 by ``module NAME`` of the user's own source behind it, as they were in this session.
    """

    started: str
    command: str
    python: str
    platform: str
    cpu: str
    cores: int
    memory_gib: float
    gpu: str
    git: str
    packages: dict[str, str] = field(default_factory=dict)
    workers: dict[str, dict[str, str]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    working_git: str = ""
    compute: dict[str, dict[str, str]] = field(default_factory=dict)
    raised: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
