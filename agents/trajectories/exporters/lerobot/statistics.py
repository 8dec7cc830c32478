"""Statistics of features, as LeRobot keeps them of each episode and of a data set (``compute_stats.py``).

Of an episode they are exact. Of a data set, the quantiles are the means of the episodes', weighted by length,
as LeRobot has them; the rest is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.readers.source import Array

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

FeatureStatistics: TypeAlias = dict[str, Array]
"""``min``, ``max``, ``mean``, ``std``, quantiles: (n,), or (3, 1, 1) of images; ``count``: frames, (1,)."""


def of_numbers(values: Array) -> FeatureStatistics:
    """Return the statistics of a column (T,) or (T, n)."""
    rows = values.reshape(len(values), -1)
    exact = rows.astype(np.float64)
    found = {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": exact.mean(axis=0),
        "std": exact.std(axis=0),
        "count": np.array([len(rows)]),
    }
    quantiles = np.quantile(exact, list(QUANTILES.values()), axis=0)
    return {**found, **dict(zip(QUANTILES, quantiles, strict=True))}


def of_images(images: npt.NDArray[np.uint8]) -> FeatureStatistics:
    """Return the statistics of images (T, 3, H, W) by colour, as shares of 255, each (3, 1, 1)."""
    levels = np.arange(256) / 255
    found: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
    for colour in range(images.shape[1]):
        counts = np.bincount(images[:, colour].reshape(-1), minlength=256)
        there = np.flatnonzero(counts)
        total = counts.sum()
        mean = float((counts * levels).sum() / total)
        found["min"].append(levels[there[0]])
        found["max"].append(levels[there[-1]])
        found["mean"].append(mean)
        found["std"].append(float(np.sqrt((counts * (levels - mean) ** 2).sum() / total)))
        below = np.cumsum(counts)
        for name, share in QUANTILES.items():
            found[name].append(levels[int(np.searchsorted(below, share * total))])
    shaped = {name: np.array(values).reshape(-1, 1, 1) for name, values in found.items()}
    return {**shaped, "count": np.array([len(images)])}


class RunningStatistics:
    """Statistics of a data set, an episode added at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Array]] = {}

    def add(self, episode: Mapping[str, FeatureStatistics]) -> None:
        """Add the statistics of an episode, by feature."""
        for key, stats in episode.items():
            count = float(stats["count"][0])
            squares = (stats["std"] ** 2 + stats["mean"] ** 2) * count
            sums = {name: stats[name] * count for name in ("mean", *QUANTILES)} | {"squares": squares}
            kept = self._kept.get(key)
            if kept is None:
                self._kept[key] = {**sums, **{name: stats[name] for name in ("min", "max", "count")}}
                continue
            for name, value in sums.items():
                kept[name] = kept[name] + value
            kept["count"] = kept["count"] + stats["count"]
            kept["min"] = np.minimum(kept["min"], stats["min"])
            kept["max"] = np.maximum(kept["max"], stats["max"])

    def result(self) -> dict[str, dict[str, Any]]:
        """Return them by feature, as lists for JSON."""
        return {key: listed(self._of(kept)) for key, kept in self._kept.items()}

    def _of(self, kept: Mapping[str, Array]) -> FeatureStatistics:
        count = float(kept["count"][0])
        mean = kept["mean"] / count
        spread = np.sqrt(np.maximum(kept["squares"] / count - mean**2, 0))
        quantiles = {name: kept[name] / count for name in QUANTILES}
        return {
            **{name: kept[name] for name in ("min", "max")},
            "mean": mean,
            "std": spread,
            "count": kept["count"],
            **quantiles,
        }


def listed(stats: FeatureStatistics) -> dict[str, Any]:
    """Return statistics as lists."""
    return {name: value.tolist() for name, value in stats.items()}
