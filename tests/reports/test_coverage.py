"""What reports promise of their intervals, by seeded simulation of the functions that they call."""

import numpy as np
import pytest

from lram.reports import statistics

LEVEL = 0.95
ZERO_INFLATED = 0.3 * np.exp(0.5)
LAWS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "lognormal": (lambda rng, size: rng.lognormal(size=size), np.exp(0.5)),
    "t(2.5)": (lambda rng, size: rng.standard_t(2.5, size=size), 0.0),
    "zero-inflated": (lambda rng, size: (rng.random(size) < 0.3) * rng.lognormal(size=size), ZERO_INFLATED),
    "jackpots": (lambda rng, size: rng.normal(size=size) + 100.0 * (rng.random(size) < 0.03), 3.0),
    "0.98": (lambda rng, size: (rng.random(size) < 0.98) * 1.0, 0.98),
}


def simulated(law, episodes, weights, domains=None, scale=None, simulations=2000):
    """Return the intervals, and which of them hold the true mean."""
    draw, mean = LAWS[law]
    rng = statistics.stream(0, law, str(episodes), str(len(weights)))
    scales = np.ones(len(weights)) if scale is None else scale
    counts = [episodes] * len(weights) if isinstance(episodes, int) else episodes
    tasks = [s * draw(rng, (simulations, n)) for s, n in zip(scales, counts, strict=True)]
    truth = float((weights * scales).sum() * mean)
    found = statistics.mean_interval(weights, statistics.Moments.of(tasks), LEVEL, domains)
    return found, (found.low <= truth) & (truth <= found.high)


def equal(tasks):
    return np.full(tasks, 1 / tasks)


BESIDE_45 = np.array([1 / 90] * 45 + [1 / 2])
TWO_DOMAINS = ["a"] * 45 + ["b"]


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [3, 5, 10, 20])
@pytest.mark.parametrize("tasks", [1, 8, 50])
def test_normal_returns_are_covered_at_any_number_of_episodes(tasks, episodes):
    _, holds = simulated("normal", episodes, equal(tasks))
    assert 0.93 <= holds.mean() <= 0.985


@pytest.mark.parametrize("episodes", [3, 5, 10])
def test_a_domain_of_one_task_beside_one_of_45_is_covered_and_in_doubt(episodes):
    found, holds = simulated("normal", episodes, BESIDE_45, TWO_DOMAINS)
    assert 0.92 <= holds.mean() <= 0.98
    assert found.few.all()


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("tasks", "episodes"), [(8, 20), (50, 5), (50, 10)])
def test_without_a_doubt_an_interval_holds_for_every_law(law, tasks, episodes):
    found, holds = simulated(law, episodes, equal(tasks))
    clear = found.estimable & ~found.few
    assert clear.mean() >= 0.4
    assert holds[clear].mean() >= 0.9


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("weights", "domains", "most"), [(equal(1), None, 50), (BESIDE_45, TWO_DOMAINS, 50)])
def test_few_episodes_are_never_without_a_doubt(law, weights, domains, most):
    for episodes in (3, 10, most):
        found, _ = simulated(law, episodes, weights, domains, simulations=200)
        assert found.few[found.estimable].all()


def test_deterministic_tasks_take_no_noise_from_a_noisy_one():
    scale = np.array([1.0] + [0.0] * 49)
    found, holds = simulated("normal", 10, equal(50), scale=scale)
    right = 2 * 1.96 / (50 * np.sqrt(10))
    assert 0.93 <= holds.mean() <= 0.98
    assert 1.0 <= np.mean(found.high - found.low) / right <= 1.4
    assert found.few.all()
    assert not found.borrowed.any()


def test_a_task_with_one_episode_takes_its_neighbours_noise_with_a_doubt():
    found, holds = simulated("normal", [1] + [5] * 7, equal(8))
    assert 0.93 <= holds.mean() <= 0.99
    assert (found.borrowed == 1).all()


def test_an_alike_task_that_weighs_most_takes_noise_with_a_doubt():
    # Nine times in ten solved, three episodes: the lone task is alike in three of four evaluations.
    rng = np.random.default_rng(0)
    tasks = [(rng.random((2000, 3)) < 0.9) * 1.0 for _ in BESIDE_45]
    found = statistics.mean_interval(BESIDE_45, statistics.Moments.of(tasks), LEVEL, TWO_DOMAINS)
    holds = (found.low <= 0.9) & (found.high >= 0.9)
    alike = np.ptp(tasks[-1], axis=1) == 0
    assert holds[found.estimable].mean() >= 0.93
    assert (found.borrowed[alike] >= 1).all()
    assert not found.borrowed[~alike].any()


def test_one_or_two_jackpots_are_no_interval():
    found, _ = simulated("0.98", 3, equal(8))
    assert found.estimable.mean() < 0.05
    assert np.isnan(found.low[~found.estimable]).all()


@pytest.mark.filterwarnings("error")
def test_returns_that_differ_by_next_to_nothing_have_no_skew():
    """The cube of their standard error is 0 in floating point."""
    moments = statistics.Moments.of([np.array([[0.0, 1.8e-161]]), np.array([[0.0, 1.8e-161, 3.7e-161]])])
    assert (moments.variance > 0).all()
    found = statistics.mean_interval(equal(2), moments, LEVEL)
    assert found.low.shape == (1,)


def coverage_of_rates(p, counts, simulations):
    rng = statistics.stream(0, str(p), str(counts))
    solved = rng.binomial(counts, p, size=(simulations, len(counts)))
    low, high = statistics.rate_interval(solved, np.array(counts), equal(len(counts)), LEVEL)
    mean = (solved / np.array(counts)).mean(axis=1)
    assert ((low <= mean + 1e-9) & (mean - 1e-9 <= high)).all()
    return float(((low <= np.mean(p) + 1e-12) & (np.mean(p) - 1e-12 <= high)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("episodes", [3, 5, 10, 50])
@pytest.mark.parametrize("tasks", [1, 2, 8, 50])
def test_success_rates_are_covered_at_equal_counts(tasks, episodes, p):
    assert coverage_of_rates([p] * tasks, [episodes] * tasks, simulations=1000) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(30, 3), (3, 30), (1, 10, 50, 5), (2, 100, 2, 100)])
@pytest.mark.parametrize("p", [(0.97, 0.03), (0.9, 0.9), (0.98, 0.98), (0.8, 0.4)])
def test_success_rates_are_covered_at_unequal_counts(p, counts):
    # Of a few the coverage is just that: it takes more simulations to tell.
    assert coverage_of_rates(list(np.resize(p, len(counts))), list(counts), simulations=3000) >= 0.9


@pytest.mark.parametrize("episodes", [3, 10])
def test_bounds_of_rates_are_not_wide_for_many_tasks(episodes):
    rng = np.random.default_rng(1)
    solved = rng.binomial(episodes, 0.9, size=(500, 50))
    low, high = statistics.rate_interval(solved, np.full(50, episodes), equal(50), LEVEL)
    assert np.mean(high - low) / (2 * 1.96 * np.sqrt(0.09 / (50 * episodes))) < 1.3


def test_intervals_of_one_evaluation_are_those_of_many():
    rng = np.random.default_rng(2)
    tasks = [rng.lognormal(size=(5, n)) for n in (3, 3, 7, 1)]
    domains = ["a", "a", "b", "b"]
    together = statistics.mean_interval(equal(4), statistics.Moments.of(tasks), LEVEL, domains)
    for place in range(5):
        one = statistics.Moments.of([values[place] for values in tasks])
        alone = statistics.mean_interval(equal(4), one, LEVEL, domains)
        assert float(alone.low) == pytest.approx(together.low[place])
        assert float(alone.high) == pytest.approx(together.high[place])
