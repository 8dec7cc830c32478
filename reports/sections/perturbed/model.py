"""What hiding, delaying or dropping observations costs: pairs of episodes that began alike under both "
"protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lram.envs.perturbing import unperturbed
from lram.envs.scores import audit
from lram.reports.comparison.barrier import barrier_between
from lram.reports.comparison.compare import finer, not_compared, over_tasks
from lram.reports.comparison.paired_episodes import pairs_of, scores_of, weights_of
from lram.reports.evidence.evidence import Evidence, display_name
from lram.reports.model import Comparison, rounded
from lram.reports.samples import Resampling
from lram.reports.statistics import holm


@dataclass(frozen=True, slots=True)
class Perturbed:
    """One agent under one protocol, against the protocol that it perturbs.

    Attributes:
        agent, name: Label, and what it is called in reports.
        protocol, base: Ids.
        tasks, of_tasks: That the difference rests on, and that were planned under ``protocol``.
        without, score: Mean normalised score of the pairs without the perturbation, and with it; None without
            any pair, and where failures of the agent's own keep the two from being compared.
        difference: Perturbed minus unperturbed, with its test, or with the reason why there is none.
    """

    agent: str
    name: str
    protocol: str
    base: str
    tasks: int
    of_tasks: int
    without: float | None
    score: float | None
    difference: Comparison


@dataclass(frozen=True, slots=True)
class PerturbedResult:
    """All of it; what ``summary.json`` keeps of the section.

    Attributes:
        level: Of the intervals.
        rows: By protocol, then by agent.
        alone: Protocols that perturb one of which the report has no run, with that one.
    """

    level: float
    rows: tuple[Perturbed, ...]
    alone: tuple[tuple[str, str], ...]


def estimate_perturbed(evidence: Evidence, how: Resampling) -> PerturbedResult | None:
    """Return what every perturbation costs every agent; None where nothing is perturbed."""
    planned = dict.fromkeys(one.protocol for one in evidence.tasks)
    alone = tuple((protocol, base) for protocol in planned if (base := unperturbed(protocol)))
    tests = sum(
        len({one.protocol for one in found.tasks}) * len(found.agents) for found in evidence.perturbed
    )
    rows = [row for found in evidence.perturbed for row in _rows(evidence, found, how, tests)]
    return PerturbedResult(how.level, _corrected(rows), alone) if rows or alone else None


def _rows(main: Evidence, found: Evidence, how: Resampling, tests: int) -> list[Perturbed]:
    """Return a row a protocol and agent of ``found``; ``tests`` is the number of rows of all of them."""
    protocols = dict.fromkeys(one.protocol for one in found.tasks)
    rows = []
    for protocol in protocols:
        planned = [one.task for one in found.tasks if one.protocol == protocol]
        mine = {task.id for task in planned}
        for agent in found.agents:
            arms = {protocol: (found, agent.label), unperturbed(protocol): (main, agent.label)}
            reason = barrier_between([task for task in planned if audit(task) is None], arms)
            scores = {task: one for task, one in scores_of(found, agent.label).items() if task in mine}
            pairs = [] if reason else pairs_of(main, scores, scores_of(main, agent.label))
            names = f"{agent.label} {protocol}", agent.label
            weights = weights_of(pairs) if pairs else np.zeros(0)
            means = [
                rounded(float((weights * [values.mean() for values in side]).sum())) if pairs else None
                for side in ([one.first for one in pairs], [one.second for one in pairs])
            ]
            rows.append(
                Perturbed(
                    agent.label,
                    display_name(agent),
                    protocol,
                    unperturbed(protocol),
                    len(pairs),
                    len(mine),
                    means[1],
                    means[0],
                    not_compared(*names, reason)
                    if reason
                    else finer(over_tasks(*names, pairs, how), how, tests),
                )
            )
    return rows


def _corrected(rows: Sequence[Perturbed]) -> tuple[Perturbed, ...]:
    """Return the rows with p-values that are corrected for how many are tested."""
    adjusted = iter(holm([row.difference.p for row in rows if row.difference.p is not None]))
    return tuple(
        row
        if row.difference.p is None
        else replace(row, difference=replace(row.difference, p_holm=rounded(next(adjusted))))
        for row in rows
    )
