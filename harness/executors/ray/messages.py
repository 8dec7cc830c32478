"""What the driver and the nodes tell each other; every message is JSON, so that versions cannot mix."""

from __future__ import annotations

from dataclasses import dataclass, field

from lram.agents.api import AgentInfo
from lram.agents.compute import Compute
from lram.harness.executors.ray.transfer import ShippedAgent
from lram.harness.rollout.loop import RolloutSettings
from lram.harness.storage.records import EpisodeRecord, Failure, PlannedTask


@dataclass(frozen=True, slots=True)
class AgentOrder:
    """An agent that a node is to build.

    Attributes:
        label: Its label.
        agent: Its specification.
        seed: Of the run.
        compute: How models compute.
        threads: Threads of the tensor library.
        place: The driver's working directory, where a node that shares it finds ``module:factory``.
        digest: What the agent's digest must be (None: not known yet).
        details: Likewise its details, which tell how it computes.
    """

    label: str
    agent: ShippedAgent
    seed: int
    compute: Compute
    threads: int
    place: str = ""
    digest: str | None = None
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """What a node says of an agent that it has built.

    Attributes:
        info: The agent's.
        refusals: By task id, why it cannot play it.
        note: What the gate noted; empty where there is none for it.
        start_s: Seconds to build it and let it pass the gate.
        problem: Why there is no such agent; then the rest has no meaning.
    """

    info: AgentInfo | None = None
    refusals: dict[str, str] = field(default_factory=dict)
    note: str = ""
    start_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """Episodes of one task that one agent is to play on a node.

    Attributes:
        agent: Who plays.
        task: What is played.
        python: Executable for the task's domain on that node; empty: the node's own.
        episodes: Their numbers, in plan order.
        settled: How other episodes of the task were settled, by agent label and number.
        settings: How; ``start_s`` is the node's to say.
        trajectories: Trajectories are wanted.
        begun: An episode of the domain has begun on some node: its simulator can live.
        domain_file: Path and SHA-256 of the file that the domain is from, where it is from one.
    """

    agent: AgentOrder
    task: PlannedTask
    python: str
    episodes: tuple[int, ...]
    settled: tuple[tuple[str, int, Failure | None], ...]
    settings: RolloutSettings
    trajectories: bool = False
    begun: bool = False
    domain_file: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job ended early.

    Attributes:
        kind: ``agent`` (it raised: the run stops), ``node`` (this node cannot do such jobs).
        message: One sentence.
        story: A traceback, where there is one.
    """

    kind: str
    message: str
    story: str = ""


@dataclass(frozen=True, slots=True)
class RolloutUpdate:
    """What a job says, now and then.

    Attributes:
        records: Of the episodes that ended since it spoke last.
        active: Episodes in flight.
        decisions: Decisions so far.
        done: It is over: without this, a stream that ends was cut off.
        error: Why it ended early.
        workers: Versions in the domain's interpreter, at the end.
        start_s: Seconds from its begin to the first episode's, at the end.
        wall_s: Seconds that it took, at the end.
        words: Last words of its workers' logs by file name, where an episode failed since it spoke last.
        flying: Numbers of the episodes in flight.
    """

    records: tuple[EpisodeRecord, ...] = ()
    active: int = 0
    decisions: int = 0
    done: bool = False
    error: JobError | None = None
    workers: dict[str, str] = field(default_factory=dict)
    start_s: float = 0.0
    wall_s: float = 0.0
    words: dict[str, str] = field(default_factory=dict)
    flying: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """Whether a node can play a domain.

    Attributes:
        python: Executable for it; empty: the node's own.
        fits: Names of the protocols that it can be played under.
        lacks: Why it cannot be played, or not under the others.
    """

    python: str = ""
    fits: tuple[str, ...] = ()
    lacks: str = ""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself.

    Attributes:
        problem: Why it is of no use; then the rest has no meaning.
        host: Name of the machine.
        python, cpu, gpu: As in :class:`lram.harness.storage.records.Provenance`.
        packages: Versions of what matters.
        source: SHA-256 over lram-bench's own code, which must be the driver's.
        domains: By name.
    """

    problem: str = ""
    host: str = ""
    python: str = ""
    cpu: str = ""
    gpu: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    source: str = ""
    domains: dict[str, DomainFacts] = field(default_factory=dict)
