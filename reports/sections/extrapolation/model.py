"""Numbers of extrapolations: scores by context, losses at and past the trained length, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lram.agents.acting.contexts import Context
from lram.envs.returns import UNBOUNDED
from lram.harness.extrapolation.records import Candidate
from lram.reports.comparison.compare import compare
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Aggregate, Estimate, rounded
from lram.reports.samples import SCORE, AgentSamples, Resampling, covered, estimate_of, too_few_note
from lram.reports.sections.extrapolation.values import MEASURES, Read, Values
from lram.reports.statistics import Array, Moments, equal_task_weights, holm, mean_interval

ONE_TRAJECTORY = "one trajectory a task"
"""Why a loss has no interval."""


@dataclass(frozen=True)
class Score:
    """The normalised score of an agent with a context in one domain."""

    agent: str
    context: Context
    domain: str
    score: Aggregate


@dataclass(frozen=True)
class ScorePair:
    """What another context than the trained length is worth: ``context`` minus ``base``, same starts."""

    agent: str
    domain: str
    context: Context
    base: Context
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    tasks: int
    episodes: int


@dataclass(frozen=True)
class Loss:
    """A measure at and past the trained length in one domain.

    Attributes:
        agent, domain: Whose, and where.
        measure: One of ``MEASURES``.
        trained: The trained length T.
        at: Mean over timesteps T / 2 to T of the trajectories, read whole.
        past: Mean over the timesteps beyond T.
        difference: ``past`` minus ``at``, by trajectory: it holds what another phase of the episode does.
        length: At the same timesteps, beyond T: read whole minus read within T. What a longer context does.
        tasks, trajectories: What they rest on.

    A number is None where a prediction that it rests on is not finite.
    """

    agent: str
    domain: str
    measure: str
    trained: int
    at: float | None
    past: float | None
    difference: Estimate | None
    length: Estimate | None
    tasks: int
    trajectories: int


def scores(values: Values, how: Resampling) -> tuple[Score, ...]:
    """Return the score of every agent, context and domain."""
    evidence = values.evidence
    if evidence is None:
        return ()

    reach, found = covered(evidence, SCORE), []
    for agent in values.agents:
        for context in values.contexts[agent.label]:
            samples = AgentSamples(evidence, agent.variant(context), SCORE, how)
            for domain in evidence.domains:
                tasks = [planned.task for planned in evidence.tasks if planned.task.domain == domain]
                found.append(
                    Score(agent.label, context, domain, samples.aggregate(tasks, reach, equal_task_weights))
                )
    return tuple(found)


def score_pairs(values: Values, how: Resampling) -> tuple[ScorePair, ...]:
    """Compare each agent's contexts with the limited one that is as long as it was trained on.

    Carried state against a window and against resets of the trained length, and the longest window beyond
    it against that of the trained length, where episodes are longer than that. Holm's correction is over
    all of them.
    """
    evidence = values.evidence
    if evidence is None:
        return ()
    asked = []
    entries = {entry.label: entry for entry in evidence.agents}
    for agent in values.agents:
        for context, base in _asked(values.contexts[agent.label], agent.trained):
            for domain in evidence.domains:
                labels = [agent.variant(context), agent.variant(base)]
                if not all(label in entries for label in labels):
                    continue
                if _longest(evidence, labels, domain) <= base.timesteps:
                    continue  # both saw everything, so there is nothing to compare
                part = replace(
                    evidence,
                    agents=tuple(entries[label] for label in labels),
                    tasks=tuple(p for p in evidence.tasks if p.task.domain == domain),
                )
                asked.append((agent.label, domain, context, base, part))
    found = []
    for agent_label, domain, context, base, part in asked:
        (pair,) = compare(part, how, tests=len(asked))
        facts = (pair.difference, pair.p, None, pair.tasks, pair.episodes)
        found.append(ScorePair(agent_label, domain, context, base, *facts))
    tested = [place for place, pair in enumerate(found) if pair.p is not None]
    for place, p in zip(tested, holm([found[place].p or 0.0 for place in tested]), strict=True):
        found[place] = replace(found[place], p_holm=rounded(p))
    return tuple(found)


def _longest(evidence: Evidence, labels: Sequence[str], domain: str) -> int:
    return max(
        (
            record.length or 0
            for label in labels
            for planned in evidence.tasks
            if planned.task.domain == domain and (label, planned.task.id) in evidence.cells
            for record in evidence.cells[label, planned.task.id].scored.values()
        ),
        default=0,
    )


def _asked(contexts: Sequence[Context], trained: int | None) -> list[tuple[Context, Context]]:
    if trained is None:
        return []
    carried = [context for context in contexts if context.mode == "carry"]
    pairs = []
    for mode in ("window", "reset"):
        base = Context(mode, trained)
        if base not in contexts:
            continue
        pairs += [(context, base) for context in carried]
        longer = [c for c in contexts if c.mode == mode and c.timesteps > trained]
        pairs += [(max(longer, key=lambda context: context.timesteps), base)] if longer else []
    return pairs


def without_base(values: Values, agent: Candidate) -> bool:
    """Whether ``agent`` was played beyond its trained length, but with no context of that length."""
    trained, contexts = agent.trained, values.contexts[agent.label]
    if trained is None or values.evidence is None or _asked(contexts, trained):
        return False
    bases = {Context("window", trained), Context("reset", trained)}
    beyond = any(context.mode == "carry" or context.timesteps > trained for context in contexts)
    return beyond and not bases & set(contexts)


def losses(values: Values, how: Resampling) -> tuple[Loss, ...]:
    """Return both measures of every agent whose trained length is known, at it and past it."""
    found = []
    for measure in MEASURES:
        for domain in values.loss_domains:
            for agent in values.agents:
                pairs = [
                    (whole, within)
                    for whole, within in values.both(agent.label, domain)
                    if agent.trained is not None and len(whole.loss) > agent.trained
                ]
                if agent.trained is None or not pairs:
                    continue
                found.append(_loss(agent.label, domain, measure, agent.trained, pairs, how))
    return tuple(found)


def _loss(
    agent: str, domain: str, measure: str, trained: int, pairs: Sequence[tuple[Read, Read]], how: Resampling
) -> Loss:
    by_task: dict[str, list[tuple[float, float, float]]] = {}
    for whole, within in pairs:
        read, limited = whole.of(measure), within.of(measure)
        row = (
            float(read[trained // 2 : trained].mean()),
            float(read[trained:].mean()),
            float((read[trained:] - limited[trained:]).mean()),
        )
        by_task.setdefault(whole.task, []).append(row)
    columns = {task: np.array(rows) for task, rows in sorted(by_task.items())}

    def estimate(of: Callable[[Array], Array]) -> Estimate | None:
        return over_tasks({task: of(rows) for task, rows in columns.items()}, how.level)

    at, past = (float(np.mean([rows[:, i].mean() for rows in columns.values()])) for i in (0, 1))
    return Loss(
        agent=agent,
        domain=domain,
        measure=measure,
        trained=trained,
        at=rounded(at) if np.isfinite(at) else None,
        past=rounded(past) if np.isfinite(past) else None,
        difference=estimate(lambda rows: rows[:, 1] - rows[:, 0]),
        length=estimate(lambda rows: rows[:, 2]),
        tasks=len(columns),
        trajectories=len(pairs),
    )


def over_tasks(by_task: dict[str, Array], level: float) -> Estimate | None:
    """Return the mean over tasks of the mean over trajectories, with an interval over trajectories.

    None where a value is not finite.
    """
    tasks = list(by_task.values())
    value = float(np.mean([values.mean() for values in tasks]))
    if not np.isfinite(value):
        return None
    domains = [task.partition("/")[0] for task in by_task]
    found = mean_interval(equal_task_weights(domains), Moments.of(tasks), level, domains)
    return estimate_of(found, UNBOUNDED, ONE_TRAJECTORY, too_few_note(sum(map(len, tasks)), "trajectory"))
