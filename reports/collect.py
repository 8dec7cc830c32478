"""Several runs as one body of evidence: what was planned and what was recorded, checked to agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from lram.agents.api import AgentInfo
from lram.harness.errors import LramError
from lram.harness.records import AgentEntry, EpisodeRecord, PlannedTask
from lram.harness.store import Run

EpisodeKey = tuple[int, int]
"""A run's seed and the episode's number: with the task, what names an initial state."""

Facts = dict[str, tuple[str, ...]]
"""The values that a fact has, such as the versions of a package."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One agent on one task over all runs.

    Attributes:
        planned: Number of episodes planned.
        records: What was recorded, by episode key, sorted.
        scored: Those of them that carry a return.
        skipped: Why no run lets the agent play the task; empty when one does.
    """

    planned: int
    records: dict[EpisodeKey, EpisodeRecord]
    scored: dict[EpisodeKey, EpisodeRecord]
    skipped: str


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
        collected: Whether the runs are collections' (:mod:`lram.harness.collection`).
        realtime_hz: By label of an agent for which the world did not wait: its steps a second.
        mixtures: By label of a model whose scored episodes were not all computed alike: what differed
            (device, precision, step, rows a pass, threads) and its values.
        simulators: By domain whose scored episodes were played with several versions of a package: the
            package and its versions.
        played: By domain: every package of its scored episodes, and its versions.
    """

    agents: tuple[AgentEntry, ...]
    tasks: tuple[PlannedTask, ...]
    cells: dict[tuple[str, str], Cell]
    run_seeds: tuple[int, ...]
    disagreements: tuple[str, ...]
    mixtures: dict[str, Facts]
    simulators: dict[str, Facts]
    collected: bool = False
    unsigned: tuple[str, ...] = ()
    realtime_hz: dict[str, float] = field(default_factory=dict)
    played: dict[str, Facts] = field(default_factory=dict)

    @property
    def domains(self) -> list[str]:
        """The domains in plan order."""
        return list(dict.fromkeys(planned.task.domain for planned in self.tasks))


def gathered(runs: Sequence[Run] | Evidence) -> Evidence:
    """Return what is known of ``runs``; evidence stands for runs that were read before."""
    return runs if isinstance(runs, Evidence) else collect(runs)


def collect(runs: Sequence[Run]) -> Evidence:
    """Read ``runs`` and merge what they say of the same agent and task.

    Episodes of runs with different seeds add up. An item that two runs of one seed recorded counts
    once; a scored record goes before an errored one.

    Raises:
        LramError: No run was given; evaluations and collections are mixed; one label stands for two
            agents; a task was run under two protocols, or with two score references; or a run is damaged.
    """
    if not runs:
        raise LramError("there is no run to report on; name at least one run folder")
    _check_kind(runs)
    agents: dict[str, AgentEntry] = {}
    tasks: dict[str, PlannedTask] = {}
    planned: dict[tuple[str, str], dict[int, int]] = {}
    records: dict[tuple[str, str], dict[EpisodeKey, EpisodeRecord]] = {}
    skipped: dict[tuple[str, str], str] = {}
    disagreements: dict[str, None] = {}
    # Where an agent, or a domain, was at work, in the order of the records; not once for each of them.
    computed: dict[tuple[str, int, str], dict[str, str]] = {}
    played: dict[tuple[str, int, str], dict[str, str]] = {}
    for number, run in enumerate(runs):
        plan = run.plan
        for agent in plan.agents:
            _check_agent(agents.setdefault(agent.label, agent), agent, run)
        for task in plan.tasks:
            _check_task(tasks.setdefault(task.task.id, task), task, run)
        for pair in plan.pairs():
            by_seed = planned.setdefault(pair, {})
            by_seed[plan.seed] = max(plan.episodes, by_seed.get(plan.seed, 0))
        for skip in plan.skipped:
            skipped.setdefault((skip.agent, skip.task), skip.reason)
        sessions = run.sessions()
        for record, segment in run.settled():
            _check_protocol(record, tasks[record.task], run)
            known = records.setdefault((record.agent, record.task), {})
            key = (plan.seed, record.episode)
            if key not in known or (known[key].status == "errored" and record.status == "scored"):
                known[key] = record
                if record.status == "scored" and segment in sessions:
                    domain = tasks[record.task].task.domain
                    if (record.agent, number, segment) not in computed:
                        made = sessions[segment].compute.get(record.agent, {})
                        computed[record.agent, number, segment] = made
                    if (domain, number, segment) not in played:
                        played[domain, number, segment] = sessions[segment].workers.get(domain, {})
            elif record.status == "scored" and _outcome(known[key]) != _outcome(record):
                disagreements[record.item.id] = None
    versions = _values(
        # Python's own version plays no part in what a simulator does.
        (domain, {name: facts[name] for name in facts if name != "python"})
        for (domain, _, _), facts in played.items()
    )
    return Evidence(
        agents=tuple(agents.values()),
        tasks=tuple(_by_domain(tasks.values())),
        cells={
            pair: _cell(sum(planned.get(pair, {}).values()), records.get(pair, {}), skipped.get(pair, ""))
            for pair in [*planned, *(pair for pair in skipped if pair not in planned)]
        },
        run_seeds=tuple(sorted({run.plan.seed for run in runs})),
        disagreements=tuple(disagreements),
        mixtures=severally(_values((agent, facts) for (agent, _, _), facts in computed.items())),
        simulators=severally(versions),
        played=versions,
        collected=runs[0].plan.collected,
        unsigned=tuple(f"{run.path.name}: {name}" for run in runs for name in run.without_checksums()),
        realtime_hz={
            agent.label: run.plan.realtime_hz
            for run in runs
            for agent in run.plan.agents
            if run.plan.realtime_hz
        },
    )


def _cell(planned: int, records: dict[EpisodeKey, EpisodeRecord], skipped: str) -> Cell:
    ordered = dict(sorted(records.items()))
    errored = any(record.status != "scored" for record in ordered.values())
    return Cell(
        planned=planned,
        records=ordered,
        scored={k: r for k, r in ordered.items() if r.status == "scored"} if errored else ordered,
        skipped="" if planned else skipped,
    )


def _check_kind(runs: Sequence[Run]) -> None:
    """Raise LramError where a run's number does not name the same initial states as in the others."""
    first = runs[0]
    for run in runs:
        if run.plan.collected != first.plan.collected:
            collected, evaluated = (run, first) if run.plan.collected else (first, run)
            raise LramError(
                f"{collected.path} is a collection's, whose initial states are not those of the evaluation "
                f"{evaluated.path}; report on them apart"
            )


def _values(known: Iterable[tuple[str, dict[str, str]]]) -> dict[str, Facts]:
    """Return by name the facts that are ``known`` of it, each with its values."""
    seen: dict[str, dict[str, dict[str, None]]] = {}
    for name, facts in known:
        for fact, value in facts.items():
            seen.setdefault(name, {}).setdefault(fact, {})[value] = None
    return {name: {fact: tuple(values) for fact, values in facts.items()} for name, facts in seen.items()}


def severally(known: dict[str, Facts]) -> dict[str, Facts]:
    """Return by name the facts that have several values."""
    mixed = {
        name: {fact: values for fact, values in facts.items() if len(values) > 1}
        for name, facts in known.items()
    }
    return {name: facts for name, facts in mixed.items() if facts}


def _by_domain(tasks: Iterable[PlannedTask]) -> list[PlannedTask]:
    groups: dict[str, list[PlannedTask]] = {}
    for planned in tasks:
        groups.setdefault(planned.task.domain, []).append(planned)
    return [planned for group in groups.values() for planned in group]


def _outcome(record: EpisodeRecord) -> tuple[object, ...]:
    return (record.seed, record.episode_return, record.success_any, record.success_last)


def _identity(agent: AgentEntry) -> tuple[str, AgentInfo]:
    # Details are for provenance: a device or a library's version does not make another agent.
    return agent.spec, replace(agent.info, details=())


def _check_agent(known: AgentEntry, agent: AgentEntry, run: Run) -> None:
    same_code = not (known.code and agent.code) or known.code == agent.code
    if same_code and _identity(known) == _identity(agent):
        return
    if not same_code:
        modules = [name for name in known.code if agent.code.get(name) != known.code[name]]
        what = f"different source in {', '.join(modules) or 'what it imports'}"
    elif known.info.digest != agent.info.digest:
        what = f"digests {known.info.digest or 'none'} and {agent.info.digest or 'none'}"
    elif known.spec != agent.spec:
        what = f"specifications {known.spec!r} and {agent.spec!r}"
    else:
        what = f"descriptions {known.info.description!r} and {agent.info.description!r}"
    raise LramError(
        f"the label {agent.label!r} stands for two agents in these runs ({what}; the second in {run.path}); "
        "report them apart, or evaluate one of them under another label"
    )


def _check_task(known: PlannedTask, planned: PlannedTask, run: Run) -> None:
    task = planned.task
    if known.protocol != planned.protocol:
        raise LramError(
            f"the task {task.id} was run under the protocols {known.protocol} and {planned.protocol} "
            f"(the second in {run.path}), whose returns do not compare; report these runs apart"
        )
    if (known.task.score_random, known.task.score_reference) != (task.score_random, task.score_reference):
        raise LramError(
            f"the task {task.id} has two score references in these runs (the second in {run.path}), so "
            "their scores do not compare; report these runs apart"
        )


def _check_protocol(record: EpisodeRecord, planned: PlannedTask, run: Run) -> None:
    if record.protocol != planned.protocol:
        raise LramError(
            f"{run.path} plans {planned.task.id} under the protocol {planned.protocol} but records it "
            f"under {record.protocol}; the run was changed by hand or by another version: make it again"
        )
