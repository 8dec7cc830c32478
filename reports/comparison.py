"""Agents against each other, on the tasks and the initial states that both have met.

Agents of one run meet the same seeds, so their episodes pair up, and the luck of an initial state
that both had cancels in the difference. Every pair of agents is compared on the tasks that both
scored: an agent that plays fewer tasks is not ranked against one that plays all.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from lram.envs.scores import normalise
from lram.envs.task import Task
from lram.reports.collect import Evidence
from lram.reports.model import Comparison, Estimate, Interval, rounded
from lram.reports.samples import NO_NOISE, Resampling
from lram.reports.statistics import (
    Array,
    centred_interval,
    equal_domain_weights,
    holm,
    sign_flip_p,
    stream,
    task_replicates,
)


def compare(evidence: Evidence, how: Resampling) -> tuple[Comparison, ...]:
    """Return every pair of agents' difference in the mean of domain means, Holm-corrected."""
    pairs = [
        paired(evidence, first.label, second.label, how) for first, second in combinations(evidence.agents, 2)
    ]
    tested = [place for place, pair in enumerate(pairs) if pair.p is not None]
    adjusted = holm([pairs[place].p or 0.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        pairs[place] = replace(pairs[place], p_holm=rounded(p))
    return tuple(pairs)


def paired(evidence: Evidence, first: str, second: str, how: Resampling) -> Comparison:
    """Return first minus second over the episodes that began alike; without Holm's correction."""
    found = [
        (planned.task, _differences(evidence, first, second, planned.task)) for planned in evidence.tasks
    ]
    shared = [(task, values) for task, values in found if len(values)]
    if not shared:
        return Comparison(first, second, None, None, None, 0, 0, ())
    domains = [task.domain for task, _ in shared]
    values = [values for _, values in shared]
    weights = equal_domain_weights(domains)
    difference = float((weights * [v.mean() for v in values]).sum())
    replicates = task_replicates(
        values,
        domains,
        how.resamples,
        [stream(how.seed, first, second, task.id) for task, _ in shared],
        across=True,
    )
    if np.isnan(replicates[0]).any():
        estimate = Estimate(rounded(difference), None, NO_NOISE)
    else:
        low, high = centred_interval((replicates * weights).sum(axis=1), difference, how.level)
        estimate = Estimate(rounded(difference), Interval(rounded(low), rounded(high)))
    p = sign_flip_p(values, weights, how.resamples, stream(how.seed, "sign flips", first, second))
    return Comparison(
        first=first,
        second=second,
        difference=estimate,
        p=rounded(p),
        p_holm=None,
        tasks=len(shared),
        episodes=sum(len(v) for v in values),
        domains=tuple(dict.fromkeys(domains)),
    )


def _differences(evidence: Evidence, first: str, second: str, task: Task) -> Array:
    """Return first minus second, in score, for the episodes that began alike; often empty."""
    one, other = evidence.cells.get((first, task.id)), evidence.cells.get((second, task.id))
    if one is None or other is None:
        return np.array([])
    partners = other.scored
    found = []
    for key, record in one.scored.items():
        partner = partners.get(key)
        if partner is None or partner.seed != record.seed:
            continue
        if record.episode_return is None or partner.episode_return is None:
            continue
        a, b = normalise(task, record.episode_return), normalise(task, partner.episode_return)
        if a is not None and b is not None:
            found.append(a - b)
    return np.array(found, dtype=np.float64)
