"""Laws of returns, and how tasks, weights, counts and noise are laid out: the cases of the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

JACKPOT = 0.03
_ZERO = 0.7


@dataclass(frozen=True)
class Law:
    """A law of returns: how to draw them, and their mean."""

    draw: Draw
    mean: float


def bernoulli(p: float) -> Law:
    """Return the law of a return that is 1 with probability ``p`` and 0 otherwise."""
    return Law(lambda rng, size: (rng.random(size) < p).astype(float), p)


LAWS = MappingProxyType(
    {
        "normal": Law(lambda rng, size: rng.normal(size=size), 0.0),
        "lognormal": Law(lambda rng, size: rng.lognormal(size=size), float(np.exp(0.5))),
        "t(2.5)": Law(lambda rng, size: rng.standard_t(2.5, size=size), 0.0),
        "zero-inflated": Law(
            lambda rng, size: (rng.random(size) >= _ZERO) * rng.lognormal(size=size),
            (1 - _ZERO) * float(np.exp(0.5)),
        ),
        "Bernoulli 0.5": bernoulli(0.5),
        "Bernoulli 0.9": bernoulli(0.9),
        "Bernoulli 0.98": bernoulli(0.98),
    }
)

FRESH = MappingProxyType(
    {
        "exponential": Law(lambda rng, size: rng.exponential(size=size), 1.0),
        "gamma(0.3)": Law(lambda rng, size: rng.gamma(0.3, size=size), 0.3),
        "Pareto(3)": Law(lambda rng, size: rng.pareto(3, size=size), 0.5),
        "lognormal, sd 1.5 of its logarithm": Law(
            lambda rng, size: rng.lognormal(0, 1.5, size=size), float(np.exp(1.5**2 / 2))
        ),
        "uniform": Law(lambda rng, size: rng.random(size), 0.5),
        "beta(0.2, 0.2)": Law(lambda rng, size: rng.beta(0.2, 0.2, size=size), 0.5),
        "beta(0.2, 2)": Law(lambda rng, size: rng.beta(0.2, 2, size=size), 0.2 / 2.2),
        "Laplace": Law(lambda rng, size: rng.laplace(size=size), 0.0),
        "normal, 8 times as wide in 1 of 10": Law(
            lambda rng, size: rng.normal(size=size) * np.where(rng.random(size) < 0.1, 8, 1), 0.0
        ),
        "normal, 10 lower in 1 of 10": Law(
            lambda rng, size: rng.normal(size=size) - 10 * (rng.random(size) < 0.1), -1.0
        ),
        "Poisson(0.3)": Law(lambda rng, size: rng.poisson(0.3, size=size).astype(float), 0.3),
    }
)
"""Laws that had no part in choosing when an interval is in doubt."""

JACKPOTS = MappingProxyType(
    {
        "0, or a jackpot of 100": Law(lambda rng, size: 100.0 * (rng.random(size) < JACKPOT), 100 * JACKPOT),
        "normal, and a jackpot of 100": Law(
            lambda rng, size: rng.normal(size=size) + 100.0 * (rng.random(size) < JACKPOT), 100 * JACKPOT
        ),
    }
)


@dataclass(frozen=True)
class Design:
    """Tasks: their weights, domains, numbers of episodes and the scale of their noise."""

    name: str
    weights: Array
    domains: tuple[str, ...]
    episodes: tuple[int, ...]
    scale: Array


def design(name: str, episodes: int, *, counts: str = "equal", noise: str = "equal") -> Design:
    """Return the design ``name``: a number of tasks, or ``45+1`` for a domain of 45 beside one of 1.

    Unequal counts are a half, one and two times ``episodes``, at least 2, in turns; unequal noise is
    1, 3 and 10 in turns.
    """
    if name == "45+1":
        weights, domains = np.array([1 / 90] * 45 + [0.5]), ("a",) * 45 + ("b",)
    else:
        tasks = int(name)
        weights, domains = np.full(tasks, 1 / tasks), ("a",) * tasks
    shares = (0.5, 1.0, 2.0) if counts == "unequal" else (1.0,)
    scales = (1.0, 3.0, 10.0) if noise == "unequal" else (1.0,)
    n = tuple(max(2, round(episodes * shares[t % len(shares)])) for t in range(len(weights)))
    scale = np.array([scales[t % len(scales)] for t in range(len(weights))])
    return Design(name, weights, domains, n, scale)


def sample(law: Law, plan: Design, simulations: int, rng: np.random.Generator) -> tuple[list[Array], float]:
    """Return every task's returns, (simulations, episodes) each, and the true weighted mean."""
    tasks = [s * law.draw(rng, (simulations, n)) for n, s in zip(plan.episodes, plan.scale, strict=True)]
    return tasks, float((plan.weights * plan.scale).sum()) * law.mean


def one_of(tasks: Sequence[Array], simulation: int) -> list[Array]:
    """Return the returns of one simulation."""
    return [values[simulation] for values in tasks]
