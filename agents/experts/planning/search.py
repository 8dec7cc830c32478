"""Sampling search for the next actions: a few knots, normal draws around them, the mean of the best.

A plan runs in straight lines through ``knots`` action vectors at even distances over the horizon. Each
search draws plans around the last one, has each rolled out from the observed state, and moves to the mean
of the best: the cross-entropy method (Rubinstein 1999), with the warm start of predictive sampling (Howell
et al. 2022, arXiv:2212.00541) and its choice of a single drawn plan where that is much better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
# Cost of each plan: actions (plans, decisions, action size) -> (plans,). Lower is better.
Evaluate: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How plans are searched.

    Attributes:
        horizon: Decisions that a plan covers.
        knots: Action vectors that a plan is drawn through.
        every: Decisions between searches.
        samples: Plans drawn in one round.
        rounds: Rounds of drawing, each around the last one's elites.
        elites: How many of the best are averaged.
        spread: Standard deviation of the widest draw; actions lie in [-1, 1].
        finest: That of the narrowest; the draws' deviations are spaced geometrically between the two, so
            that one round both explores and refines.
        contented: A plan that costs no more than this is followed without a search.
        margin: A single drawn plan is preferred to the mean of the elites only where it costs less by
            this share: means are smoother.
    """

    horizon: int
    knots: int
    every: int = 4
    samples: int = 32
    rounds: int = 2
    elites: int = 5
    spread: float = 0.5
    finest: float = 0.1
    contented: float = -np.inf
    margin: float = 0.05


def interpolation(options: SearchOptions) -> Array:
    """Return the matrix (decisions, knots) that makes a plan's actions from its knots."""
    places = np.linspace(0, options.knots - 1, options.horizon)
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(options.knots)[None])))


def shifted(knots: Array, options: SearchOptions) -> Array:
    """Return ``knots`` (knots, action size) as seen ``every`` decisions later; the last one is held."""
    move = options.every * (options.knots - 1) / (options.horizon - 1)
    places = np.minimum(np.arange(options.knots) + move, options.knots - 1)
    low = np.minimum(places.astype(int), options.knots - 2)
    share = (places - low)[:, None]
    return np.asarray((1 - share) * knots[low] + share * knots[low + 1])


def search(knots: Array, evaluate: Evaluate, options: SearchOptions, rng: np.random.Generator) -> Array:
    """Return better knots than ``knots`` (knots, action size), or the same where none were found."""
    basis = interpolation(options)
    # Nothing added comes first, so that it is kept where the old plan is no better.
    known = np.stack([np.zeros_like(knots), knots])
    known_costs = evaluate(np.matmul(basis, known))
    best: Array = known[np.argmin(known_costs)]
    best_cost = float(known_costs.min())
    if best_cost <= options.contented:
        return best
    mean = best
    scales = np.geomspace(options.spread, options.finest, options.samples)[:, None, None]
    for _ in range(options.rounds):
        drawn = np.clip(mean + scales * rng.standard_normal((options.samples, *knots.shape)), -1.0, 1.0)
        drawn[0] = mean / 2
        costs = evaluate(np.matmul(basis, drawn))
        order = np.argsort(costs, kind="stable")[: options.elites]
        mean = drawn[order].mean(axis=0)
        mean_cost = float(evaluate((basis @ mean)[None])[0])
        if mean_cost < best_cost:
            best, best_cost = mean, mean_cost
        if costs[order[0]] < best_cost - options.margin * abs(best_cost):
            best, best_cost = drawn[order[0]], float(costs[order[0]])
        mean = best
    return best
