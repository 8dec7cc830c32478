"""Agents against each other, on the tasks and the initial states that both have met.

Agents of one run meet the same seeds, so their episodes pair up, and the luck of an initial state
that both had cancels in the difference. A pair of agents is compared on the tasks that both
scored: an agent that plays fewer tasks is not ranked against one that plays all. Which pairs are compared,
:mod:`lram.reports.pairs` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from lram.envs.scores import normalise
from lram.reports.collect import EpisodeKey, Evidence
from lram.reports.model import Comparison, Estimate, Interval, rounded
from lram.reports.pairs import ALL_OR_NONE, Pairs
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


def compare(evidence: Evidence, how: Resampling, chosen: Pairs = ALL_OR_NONE) -> tuple[Comparison, ...]:
    """Return the difference of each chosen pair of agents in the mean of domain means, Holm-corrected."""
    labels = chosen.of([agent.label for agent in evidence.agents])
    scores = {label: _scores(evidence, label) for label in dict.fromkeys(chain.from_iterable(labels))}
    pairs = [_paired(evidence, first, second, scores, how) for first, second in labels]
    tested = [place for place, pair in enumerate(pairs) if pair.p is not None]
    adjusted = holm([pairs[place].p or 0.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        pairs[place] = replace(pairs[place], p_holm=rounded(p))
    return tuple(pairs)


def paired(evidence: Evidence, first: str, second: str, how: Resampling) -> Comparison:
    """Return first minus second over the episodes that began alike; without Holm's correction."""
    scores = {label: _scores(evidence, label) for label in (first, second)}
    return _paired(evidence, first, second, scores, how)


def _paired(
    evidence: Evidence, first: str, second: str, scores: Mapping[str, Mapping[str, _Scores]], how: Resampling
) -> Comparison:
    nothing = _Scores([], np.zeros(0, np.int64), np.zeros(0))
    found = [
        (
            planned.task,
            _differences(*(scores[label].get(planned.task.id, nothing) for label in (first, second))),
        )
        for planned in evidence.tasks
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


@dataclass(frozen=True, slots=True)
class _Scores:
    """One agent's scores on one task.

    Attributes:
        keys: Of the episodes that have one, sorted.
        seeds: The simulator's, by episode.
        values: The scores.
    """

    keys: list[EpisodeKey]
    seeds: npt.NDArray[np.int64]
    values: Array


def _scores(evidence: Evidence, agent: str) -> dict[str, _Scores]:
    """Return the scores of ``agent`` by task."""
    found = {}
    for planned in evidence.tasks:
        cell = evidence.cells.get((agent, planned.task.id))
        known = [
            (key, record.seed, score)
            for key, record in (cell.scored.items() if cell else ())
            if record.episode_return is not None
            and (score := normalise(planned.task, record.episode_return)) is not None
        ]
        if known:
            keys, seeds, values = zip(*known, strict=True)
            found[planned.task.id] = _Scores(list(keys), np.array(seeds, np.int64), np.array(values))
    return found


def _differences(first: _Scores, second: _Scores) -> Array:
    """Return first minus second for the episodes that began alike; often empty."""
    if first.keys == second.keys:
        mine = theirs = np.arange(len(first.keys))
    else:
        places = {key: place for place, key in enumerate(second.keys)}
        both = [(at, places[key]) for at, key in enumerate(first.keys) if key in places]
        mine, theirs = np.array(both, dtype=np.intp).reshape(-1, 2).T
    alike = first.seeds[mine] == second.seeds[theirs]
    return np.asarray(first.values[mine[alike]] - second.values[theirs[alike]])
