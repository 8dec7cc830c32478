"""From records to a summary: every agent on every task, in every domain, and over all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from lram.envs.random_play import random_play
from lram.envs.scores import Normaliser, audit, normalise
from lram.envs.task import Task
from lram.harness.storage.records import AgentEntry, PlannedTask
from lram.reports.aggregates import aggregate_metrics, pair_metrics
from lram.reports.comparison.compare import compare
from lram.reports.comparison.pairs import ALL_OR_NONE, Pairs
from lram.reports.evidence.collect import Runs, gathered, opened
from lram.reports.evidence.evidence import Evidence, TaskEpisodes, display_name
from lram.reports.evidence.trainings import Trainings, load_trainings
from lram.reports.model import (
    LAYOUT,
    AgentResult,
    Aggregate,
    DomainResult,
    FailureCount,
    MeasuredRandom,
    Summary,
    TaskEntry,
    TaskResult,
    rounded,
)
from lram.reports.samples import (
    RETURN,
    SCORE,
    SUCCESS_ANY,
    SUCCESS_LAST,
    AgentSamples,
    Resampling,
    covered,
)
from lram.reports.statistics import equal_task_weights
from lram.reports.summary import seen
from lram.reports.summary import trainings as training
from lram.reports.summary.caveats import caveats, left_out
from lram.reports.summary.groups import group_results


def summarise(
    runs: Runs | Evidence,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    trainings: Trainings = (),
    empty: bool = False,
    pairs: Pairs = ALL_OR_NONE,
    normaliser: Normaliser = "paper",
) -> Summary:
    """Return what ``runs`` measured, in numbers.

    Equal records give an equal summary, in whatever order and segments they were written.

    Args:
        runs: A run or several, opened or by their folders (or none, with trainings), or what
            :func:`lram.reports.evidence.collect.collect` made of them; the same agent's episodes on the
            same task are put together.
        seed: Of what is resampled: the paired comparisons. Other intervals need no resampling.
        resamples: Replicates and random sign patterns of the comparisons.
        level: Of every interval.
        trainings: A training run or several to show beside them, loaded or by their folders.
        empty: There may be neither.
        pairs: Agents to compare.
        normaliser: Whose references scores have; evidence has its own already.

    Raises:
        LramError: The runs contradict each other (see :func:`lram.reports.evidence.collect.collect`), or
            have not the agents of ``pairs``; an announced metric is none.
        ValueError: ``resamples`` or ``level`` is out of range.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples={resamples} must be at least 1 and level={level} between 0 and 1")
    how = Resampling(seed, resamples, level)
    runs = runs if isinstance(runs, Evidence) else opened(runs)
    trainings = load_trainings(trainings)
    if runs or not (trainings or empty):
        summary = _summary(gathered(runs, normaliser), how, pairs)
    else:
        summary = replace(_nothing(how), normaliser=normaliser)
    found = training.results(trainings, summary.agents)
    more = training.caveats(trainings, found, summary.agents)
    return replace(summary, caveats=(*summary.caveats, *more), training=found)


def _nothing(how: Resampling) -> Summary:
    return Summary(LAYOUT, how.seed, how.resamples, how.level, (), (0, 0), (), (), (), (), ())


def _summary(evidence: Evidence, how: Resampling, pairs: Pairs) -> Summary:
    pairs.check(agent.label for agent in evidence.agents)
    reach = _Reach(
        score=covered(evidence, SCORE),
        success_any=covered(evidence, SUCCESS_ANY),
        success_last=covered(evidence, SUCCESS_LAST),
    )
    # One agent's samples at a time: they are what takes memory.
    by_agent = [_agent(evidence, agent, reach, how) for agent in evidence.agents]
    agents = tuple(agent for agent, _ in by_agent)
    results = tuple(
        results[planned.task.id]
        for planned in evidence.tasks
        for _, results in by_agent
        if planned.task.id in results
    )
    tasks = tuple(_task_entry(planned, evidence.own_rows.get(planned.task.id)) for planned in evidence.tasks)
    comparisons = compare(evidence, how, pairs, pair_metrics())
    planned_episodes = [cell.planned for cell in evidence.cells.values() if cell.planned] or [0]
    return Summary(
        layout=LAYOUT,
        seed=how.seed,
        resamples=how.resamples,
        level=how.level,
        run_seeds=evidence.run_seeds,
        episodes_per_task=(min(planned_episodes), max(planned_episodes)),
        caveats=(*caveats(evidence, agents, tasks, results), *left_out(len(agents), len(comparisons))),
        agents=agents,
        tasks=tasks,
        results=results,
        comparisons=comparisons,
        normaliser=evidence.normaliser,
    )


@dataclass(frozen=True, slots=True)
class _Reach:
    """Ids of the tasks that have a value for at least one agent, by measure."""

    score: set[str]
    success_any: set[str]
    success_last: set[str]


@dataclass(frozen=True, slots=True)
class _Measured:
    """One agent's samples of every measure."""

    returns: AgentSamples
    score: AgentSamples
    success_any: AgentSamples
    success_last: AgentSamples


def _agent(
    evidence: Evidence, agent: AgentEntry, reach: _Reach, how: Resampling
) -> tuple[AgentResult, dict[str, TaskResult]]:
    measured = _Measured(
        *(
            AgentSamples(evidence, agent.label, measure, how)
            for measure in (RETURN, SCORE, SUCCESS_ANY, SUCCESS_LAST)
        )
    )
    results = {
        planned.task.id: replace(
            _task_result(measured, agent.label, planned.task.id, cell),
            seen=seen.has_seen(agent.info, planned.task),
        )
        for planned in evidence.tasks
        if (cell := evidence.cells.get((agent.label, planned.task.id))) is not None
    }
    tasks = [planned.task for planned in evidence.tasks]
    played = [task for task in tasks if task.id in results and results[task.id].planned]
    result = AgentResult(
        label=agent.label,
        name=display_name(agent),
        spec=agent.spec,
        kind=agent.info.kind,
        description=agent.info.description,
        trained=agent.info.trained,
        parameters=agent.info.parameters,
        digest=agent.info.digest,
        planned=sum(r.planned for r in results.values()),
        scored=sum(r.scored for r in results.values()),
        errored=sum(r.errored for r in results.values()),
        missing=sum(r.missing for r in results.values()),
        skipped=sum(bool(r.skipped) for r in results.values()),
        aggregates={
            metric.key: metric.interval(metric, measured.score, tasks, reach.score)
            for metric in aggregate_metrics()
        },
        domains=tuple(_domain_result(evidence, measured, reach, name) for name in evidence.domains),
        groups=group_results(tasks, measured.score, measured.success_any, reach.score, reach.success_any),
        failed_by_agent=sum(r.failed_by_agent for r in results.values()),
        split=seen.agent_split(agent, played, measured.score, reach.score),
        realtime_hz=evidence.realtime_hz.get(agent.label, 0.0),
    )
    return result, results


def _domain_result(evidence: Evidence, measured: _Measured, reach: _Reach, domain: str) -> DomainResult:
    tasks = [planned.task for planned in evidence.tasks if planned.task.domain == domain]

    def success(samples: AgentSamples, ids: set[str]) -> Aggregate | None:
        if not any(task.id in ids for task in tasks):
            return None
        return samples.aggregate(tasks, ids, equal_task_weights)

    return DomainResult(
        domain=domain,
        score=measured.score.aggregate(tasks, reach.score, equal_task_weights),
        success_any=success(measured.success_any, reach.success_any),
        success_last=success(measured.success_last, reach.success_last),
    )


def _task_result(measured: _Measured, agent: str, task: str, cell: TaskEpisodes) -> TaskResult:
    failures = Counter(
        (record.failure.kind, record.failure.message) if record.failure else ("unknown", "")
        for record in cell.records.values()
        if record.status == "errored"
    )
    return TaskResult(
        agent=agent,
        task=task,
        planned=cell.planned,
        scored=len(cell.scored),
        errored=len(cell.records) - len(cell.scored),
        missing=cell.planned - len(cell.records),
        failures=tuple(FailureCount(kind, n, message) for (kind, message), n in sorted(failures.items())),
        skipped=cell.skipped,
        mean_return=measured.returns.task(task),
        score=measured.score.task(task),
        success_any=measured.success_any.task(task),
        success_last=measured.success_last.task(task),
        failed_by_agent=cell.failed,
        uncounted=cell.obstacle,
    )


def _task_entry(planned: PlannedTask, own_row: Task | None) -> TaskEntry:
    task, sources = planned.task, dict(planned.task.sources)
    return TaskEntry(
        id=task.id,
        domain=task.domain,
        split=task.split,
        protocol=planned.protocol,
        score_kind=task.score_kind,
        score_random=task.score_random,
        score_reference=task.score_reference,
        score_source=sources.get("score", ""),
        audit=audit(task) or "",
        note=sources.get("score_note", ""),
        random_play=_measured_random(own_row or task, planned.protocol),
    )


def _measured_random(task: Task, protocol: str) -> MeasuredRandom | None:
    found = random_play(task.id, protocol)
    if found is None:
        return None
    values = (found.mean, found.low, found.high)
    scores = [None if value is None else normalise(task, value) for value in values]
    return MeasuredRandom(*values, found.episodes, *(None if s is None else rounded(s) for s in scores))
