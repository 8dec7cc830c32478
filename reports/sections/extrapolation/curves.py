"""Predictions against position: means by timestep, and what a longer context does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lram.reports.model import rounded
from lram.reports.samples import Resampling
from lram.reports.sections.extrapolation.model import over_tasks
from lram.reports.sections.extrapolation.values import Read, Values
from lram.reports.statistics import Array


@dataclass(frozen=True)
class PositionCurve:
    """Means by timestep, each task alike, in bins.

    Attributes:
        agent, domain, reading: Whose, where, and how it was read.
        starts, stops: First timestep of each bin, and the one after its last: (n,).
        loss, error, top1: (n,); NaN where a prediction is not finite.
        trajectories: How many there are.
        lasting: How many of them last to each bin's end: (n,).
    """

    agent: str
    domain: str
    reading: str
    starts: Array
    stops: Array
    loss: Array
    error: Array
    top1: Array
    trajectories: int
    lasting: npt.NDArray[np.int64]

    def of(self, measure: str) -> Array:
        """Return one of ``MEASURES``."""
        return self.loss if measure == "loss" else self.error


@dataclass(frozen=True)
class Gap:
    """Loss read whole minus loss read within the trained length, past it, in bins, with an interval."""

    agent: str
    domain: str
    middles: Array
    value: Array
    low: Array | None
    high: Array | None


def curves(values: Values, bins: int = 50) -> tuple[PositionCurve, ...]:
    """Return the means by timestep of every agent, domain and reading.

    A curve ends where the first of its tasks has no trajectory that is long enough.
    """
    found = []
    for domain in values.loss_domains:
        for agent in values.agents:
            within = [read for _, read in values.both(agent.label, domain)]
            for reading, reads in (("whole", values.whole(agent.label, domain)), ("within", within)):
                if reads:
                    found.append(_curve(agent.label, domain, reading, reads, bins))
    return tuple(found)


def _curve(agent: str, domain: str, reading: str, reads: Sequence[Read], bins: int) -> PositionCurve:
    tasks = sorted({read.task for read in reads})
    reach = min(max(len(read.loss) for read in reads if read.task == task) for task in tasks)
    edges = _edges(reach, bins)

    def binned(of: Callable[[Read], Array]) -> Array:
        by_task = [_by_timestep([of(read) for read in reads if read.task == task], reach) for task in tasks]
        mean = np.mean(by_task, axis=0)
        return np.array([rounded(mean[a:b].mean()) for a, b in pairwise(edges)])

    return PositionCurve(
        agent=agent,
        domain=domain,
        reading=reading,
        starts=edges[:-1].astype(np.float64),
        stops=edges[1:].astype(np.float64),
        loss=binned(lambda read: read.loss),
        error=binned(lambda read: read.error),
        top1=binned(lambda read: read.top1),
        trajectories=len(reads),
        lasting=np.array([sum(len(read.loss) >= stop for read in reads) for stop in edges[1:].tolist()]),
    )


def _by_timestep(rows: Sequence[Array], reach: int) -> Array:
    """Return the mean at each of the first ``reach`` timesteps, over those that have it."""
    total, count = np.zeros(reach), np.zeros(reach)
    for row in rows:
        total[: len(row)] += row[:reach]
        count[: len(row)] += 1
    return total / count


def _edges(reach: int, bins: int) -> npt.NDArray[np.int64]:
    size = max(1, -(-reach // bins))
    return np.append(np.arange(0, reach, size, dtype=np.int64), np.int64(reach))


def gaps(values: Values, how: Resampling, bins: int = 20) -> tuple[Gap, ...]:
    """Return what a longer context does to the loss at each timestep past the trained length."""
    found = []
    for domain in values.loss_domains:
        for agent in values.agents:
            trained = agent.trained or 0
            pairs = [pair for pair in values.both(agent.label, domain) if len(pair[0].loss) > trained]
            if not pairs or not trained:
                continue
            tasks = sorted({whole.task for whole, _ in pairs})
            reach = min(max(len(w.loss) for w, _ in pairs if w.task == task) for task in tasks)
            edges = trained + _edges(reach - trained, bins)
            estimates = []
            for start, stop in pairwise(edges.tolist()):
                by_task = {
                    task: np.array(
                        [
                            float((whole.loss - within.loss)[start:stop].mean())
                            for whole, within in pairs
                            if whole.task == task and len(whole.loss) >= stop
                        ]
                    )
                    for task in tasks
                }
                estimates.append(over_tasks(by_task, how.level))
            intervals = [estimate.interval if estimate else None for estimate in estimates]
            there = [interval for interval in intervals if interval is not None]
            whole_band = len(there) == len(intervals)
            found.append(
                Gap(
                    agent=agent.label,
                    domain=domain,
                    middles=(edges[:-1] + edges[1:]) / 2,
                    value=np.array([estimate.value if estimate else np.nan for estimate in estimates]),
                    low=np.array([interval.low for interval in there]) if whole_band else None,
                    high=np.array([interval.high for interval in there]) if whole_band else None,
                )
            )
    return tuple(found)
