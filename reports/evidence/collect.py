"""Several runs as one body of evidence: what was planned and what was recorded, checked to agree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from lram.agents.api import AgentInfo
from lram.envs.scores import Normaliser, normalised_by
from lram.harness.domain_files import differing, recall
from lram.harness.errors import LramError
from lram.harness.gate.contract_note import broken_promise
from lram.harness.storage.records import CHECK_OF, AgentEntry, DomainSource, EpisodeRecord, PlannedTask
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.reports.evidence import counting
from lram.reports.evidence.evidence import EpisodeKey, Evidence, TaskEpisodes, ValuesByFact

Runs = Run | str | os.PathLike[str] | Sequence["Run | str | os.PathLike[str]"]
"""One run or several, each opened already or named by its folder."""


def opened(runs: Runs) -> list[Run]:
    """Return ``runs`` as a list of runs; LramError where one is none."""
    if isinstance(runs, Run | str | os.PathLike):
        runs = [runs]
    if not isinstance(runs, Iterable) or isinstance(runs, Mapping):
        raise LramError(f"give a run, its folder or a list of these, not a {type(runs).__name__}")
    return [one if isinstance(one, Run) else Run(one) for one in cast(Iterable["Run | str"], runs)]


def gathered(runs: Runs | Evidence, normaliser: Normaliser = "paper") -> Evidence:
    """Return what is known of ``runs``; evidence stands for runs that were read before, and how."""
    return runs if isinstance(runs, Evidence) else collect(opened(runs), normaliser)


def collect(runs: Sequence[Run], normaliser: Normaliser = "paper") -> Evidence:
    """Read ``runs`` and merge what they say of the same agent and task.

    Episodes of runs with different seeds add up. An item that two runs of one seed recorded counts
    once; a scored record goes before an errored one. Scores are by the references of the plans, or by
    those of another ``normaliser``.

    Raises:
        LramError: No run was given; evaluations and collections are mixed; one label stands for two
            agents, or for one in worlds of two rates; a task was run under two protocols, or with two
            score references; a domain's file had two contents; or a run is damaged.
    """
    if not runs:
        raise LramError("there is no run to report on; name at least one run folder")
    _check_kind(runs)
    rates: dict[str, tuple[float, Run]] = {}
    domains: dict[str, DomainSource] = {}
    agents: dict[str, AgentEntry] = {}
    tasks: dict[str, PlannedTask] = {}
    planned: dict[tuple[str, str], dict[int, int]] = {}
    records: dict[tuple[str, str], dict[EpisodeKey, EpisodeRecord]] = {}
    skipped: dict[tuple[str, str], str] = {}
    disagreements: dict[str, None] = {}
    # Where an agent, or a domain, was at work, in the order of the records; not once for each of them.
    computed: dict[tuple[str, int, str], dict[str, str]] = {}
    played: dict[tuple[str, int, str], dict[str, str]] = {}
    made_of: dict[tuple[str, int, str], dict[str, str]] = {}
    raised: dict[str, str] = {}
    for number, run in enumerate(runs):
        plan = run.plan
        recall(run.path / PLAN_FILE, plan)
        for agent in plan.agents:
            known_agent = agents.setdefault(agent.label, agent)
            _check_agent(known_agent, agent, run)
            agents[agent.label] = with_code(known_agent, agent)
            _check_rate(*rates.setdefault(agent.label, (plan.realtime_hz, run)), agent.label, run)
        _check_domains(domains, run)
        domains = {**plan.domain_files, **domains}
        for task in plan.tasks:
            _check_task(tasks.setdefault(task.task.id, task), task, run)
        for pair in plan.pairs():
            by_seed = planned.setdefault(pair, {})
            by_seed[plan.seed] = max(plan.episodes, by_seed.get(plan.seed, 0))
        for skip in plan.skipped:
            skipped.setdefault((skip.agent, skip.task), skip.reason)
        sessions = run.sessions()
        for _, session in sorted(sessions.items()):
            raised |= session.raised
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
                        made_of[record.agent, number, segment] = sessions[segment].sources.get(
                            record.agent, {}
                        )
                    if (domain, number, segment) not in played:
                        played[domain, number, segment] = sessions[segment].workers.get(domain, {})
            elif record.status == "scored" and _outcome(known[key]) != _outcome(record):
                disagreements[record.item.id] = None
    cells = _cells(tasks, planned, records, skipped, raised)
    lacking = {agent for (agent, _), cell in cells.items() if len(cell.records) < cell.planned}
    versions = _values(
        # Python's own version plays no part in what a simulator does.
        (domain, {name: facts[name] for name in facts if name != "python"})
        for (domain, _, _), facts in played.items()
    )
    return Evidence(
        agents=tuple(agents.values()),
        tasks=tuple(
            replace(planned, task=normalised_by(normaliser, planned.task, planned.protocol))
            for planned in _by_domain(tasks.values())
        ),
        cells=cells,
        run_seeds=tuple(sorted({run.plan.seed for run in runs})),
        disagreements=tuple(disagreements),
        mixtures=severally(_values((agent, facts) for (agent, _, _), facts in computed.items())),
        simulators=severally(versions),
        played=versions,
        collected=runs[0].plan.collected,
        unsigned=tuple(f"{run.path.name}: {name}" for run in runs for name in run.without_checksums()),
        realtime_hz={label: hz for label, (hz, _) in rates.items() if hz},
        sources=severally(_values((agent, facts) for (agent, _, _), facts in made_of.items())),
        raised={label: error for label, error in sorted(raised.items()) if label in lacking},
        broken_promises=_broken_promises(runs),
        normaliser=normaliser,
        domain_files=domains,
        own_rows={} if normaliser == "paper" else {name: one.task for name, one in tasks.items()},
    )


def _cells(
    tasks: Mapping[str, PlannedTask],
    planned: Mapping[tuple[str, str], Mapping[int, int]],
    records: Mapping[tuple[str, str], dict[EpisodeKey, EpisodeRecord]],
    skipped: Mapping[tuple[str, str], str],
    raised: Mapping[str, str],
) -> dict[tuple[str, str], TaskEpisodes]:
    """Return what is known of each pair of an agent and a task that a plan holds."""
    known = counting.notions({name: planned.task for name, planned in tasks.items()}, records.values())
    cells = {}
    for pair in [*planned, *(pair for pair in skipped if pair not in planned)]:
        agent, task = pair
        number = sum(planned.get(pair, {}).values())
        ordered = dict(sorted(records.get(pair, {}).items()))
        errored = any(record.status != "scored" for record in ordered.values())
        scored = {k: r for k, r in ordered.items() if r.status == "scored"} if errored else ordered
        outcome = counting.counted(
            tasks[task].task, ordered, scored, number, known[task], raised=agent in raised
        )
        cells[pair] = TaskEpisodes(
            planned=number,
            records=ordered,
            scored=scored,
            skipped="" if number else skipped.get(pair, ""),
            counted=outcome.records,
            failed=outcome.failed,
            obstacle=outcome.obstacle,
        )
    return cells


def _broken_promises(runs: Sequence[Run]) -> dict[str, str]:
    """Return by label what the sessions of ``runs`` noted of agents that do not keep their contract."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        notes = [session.settings for session in run.provenance()]
        for label in (agent.label for agent in run.plan.agents):
            for settings in notes:
                if what := broken_promise(settings.get(f"{CHECK_OF}{label}", "")):
                    found.setdefault(label, {})[what] = None
    return {label: "; ".join(texts) for label, texts in found.items()}


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


def _values(known: Iterable[tuple[str, dict[str, str]]]) -> dict[str, ValuesByFact]:
    """Return by name the facts that are ``known`` of it, each with its values."""
    seen: dict[str, dict[str, dict[str, None]]] = {}
    for name, facts in known:
        for fact, value in facts.items():
            seen.setdefault(name, {}).setdefault(fact, {})[value] = None
    return {name: {fact: tuple(values) for fact, values in facts.items()} for name, facts in seen.items()}


def severally(known: dict[str, ValuesByFact]) -> dict[str, ValuesByFact]:
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
    # Details are for provenance: a device or a library's version does not make another agent. Which tasks
    # it was trained on follows from its digest, and earlier versions did not tell.
    return agent.spec, replace(agent.info, details=(), training_tasks=None, training_tasks_complete=True)


def same_agent(known: AgentEntry, agent: AgentEntry) -> bool:
    """Return whether two entries of one label stand for one agent, as far as they tell."""
    return _same_code(known, agent) and _identity(known) == _identity(agent)


def with_code(known: AgentEntry, agent: AgentEntry) -> AgentEntry:
    """Return ``known``, with the code that ``agent``, the same agent, notes where it notes none itself.

    A run of an earlier version notes no code and is the same as any. Kept so, it would make one agent of two
    that are not the same.
    """
    return known if known.code else replace(known, code=agent.code)


def _same_code(known: AgentEntry, agent: AgentEntry) -> bool:
    return not (known.code and agent.code) or known.code == agent.code


def _check_agent(known: AgentEntry, agent: AgentEntry, run: Run) -> None:
    if same_agent(known, agent):
        return
    if not _same_code(known, agent):
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


def _check_rate(known: float, first: Run, label: str, run: Run) -> None:
    hz = run.plan.realtime_hz
    if hz != known:
        worlds = [f"takes {one:g} steps a second in" if one else "waits in" for one in (known, hz)]
        raise LramError(
            f"the world of {label!r} {worlds[0]} {first.path} and {worlds[1]} {run.path}, whose returns do "
            f"not compare; give one of them another label, such as 'NEW={run.path}:AGENT'"
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


def _check_domains(known: Mapping[str, DomainSource], run: Run) -> None:
    if others := differing(known, run.plan.domain_files):
        raise LramError(
            f"the source of {', '.join(others)} is not the same in these runs (another one in {run.path}), "
            "whose returns do not compare; report these runs apart"
        )


def _check_protocol(record: EpisodeRecord, planned: PlannedTask, run: Run) -> None:
    if record.protocol != planned.protocol:
        raise LramError(
            f"{run.path} plans {planned.task.id} under the protocol {planned.protocol} but records it "
            f"under {record.protocol}; the run was changed by hand or by another version: make it again"
        )
