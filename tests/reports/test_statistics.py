from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lram.reports import statistics

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def generators(count: int) -> list[np.random.Generator]:
    return [statistics.stream(0, str(place)) for place in range(count)]


def rate(successes: list[int], trials: list[int], level: float = 0.95) -> tuple[float, float]:
    weights = np.full(len(trials), 1 / len(trials))
    low, high = statistics.rate_interval(np.array(successes), np.array(trials), weights, level)
    return float(low), float(high)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_the_interval_of_one_rate_is_wilsons_as_published(successes, trials, low, high):
    assert rate([successes], [trials]) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.slow
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.data())
def test_an_interval_of_rates_holds_its_estimate_and_is_symmetric(trials, data):
    successes = [data.draw(st.integers(0, n)) for n in trials]
    low, high = rate(successes, trials, 0.9)
    mirrored = rate([n - x for x, n in zip(successes, trials, strict=True)], trials, 0.9)
    mean = np.mean([x / n for x, n in zip(successes, trials, strict=True)])
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert low < high
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_equal_tasks_that_are_always_solved_are_as_sure_as_their_episodes_together():
    assert rate([3] * 10, [3] * 10)[0] == pytest.approx(rate([30], [30])[0], abs=0.05)
    assert rate([3] * 10, [3] * 10)[1] == 1.0
    assert rate([0] * 10, [3] * 10)[0] == 0.0


@pytest.mark.parametrize(("successes", "trials"), [([3], [2]), ([-1], [2]), ([0], [0])])
def test_what_is_no_rate_is_refused(successes, trials):
    with pytest.raises(ValueError, match="successes must lie between"):
        rate(successes, trials)


@given(st.lists(FINITE, min_size=1, max_size=60))
def test_interquartile_mean_is_scipys_trimmed_mean(scores):
    expected = stats.trim_mean(scores, 0.25)
    assert float(statistics.interquartile_mean(np.array(scores))) == pytest.approx(
        expected, rel=1e-9, abs=1e-6
    )


def test_interquartile_mean_of_a_matrix_goes_along_its_rows():
    rows = np.random.default_rng(0).normal(size=(5, 11))
    assert statistics.interquartile_mean(rows) == pytest.approx(stats.trim_mean(rows, 0.25, axis=1))


def test_domains_weigh_equally_whatever_their_size():
    assert statistics.equal_domain_weights(["a", "a", "b"]) == pytest.approx([0.25, 0.25, 0.5])
    assert statistics.equal_task_weights(["a", "a", "b"]) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_domain_weights_sum_to_one(domains):
    assert statistics.equal_domain_weights(domains).sum() == pytest.approx(1.0)


def test_bootstrap_matches_every_possible_resample():
    values = np.array([0.0, 1.0, 5.0])
    drawn = np.array([np.mean(sample) for sample in product(values, repeat=3)])
    exact = values.mean() + np.sqrt(3 / 2) * (drawn - values.mean())
    replicates = statistics.resampled_means(values, 200_000, np.random.default_rng(1))
    assert replicates.mean() == pytest.approx(exact.mean(), abs=0.02)
    # The scaling makes the bootstrap's variance the unbiased variance of the mean.
    assert replicates.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)
    assert set(np.round(np.unique(replicates), 9)) == set(np.round(np.unique(exact), 9))


def test_bootstrap_refuses_a_single_episode():
    with pytest.raises(ValueError, match="single episode"):
        statistics.resampled_means(np.array([1.0]), 10, np.random.default_rng(0))


def test_ragged_tasks_keep_their_own_number_of_episodes():
    tasks = [np.array([0.0, 1.0]), np.arange(7.0), np.array([2.0, 2.0, 5.0])]
    replicates = statistics.task_replicates(tasks, ["a", "a", "b"], 4000, generators(3), across=True)
    assert replicates.shape == (4000, 3)
    assert replicates.mean(axis=0) == pytest.approx([0.5, 3.0, 3.0], abs=0.1)
    assert replicates.var(axis=0) == pytest.approx([0.25, np.arange(7.0).var(ddof=1) / 7, 1.0], rel=0.1)


@pytest.mark.parametrize("episodes", [1, 3])
def test_episodes_that_show_no_noise_borrow_that_of_their_domain(episodes):
    tasks = [np.full(episodes, 10.1), np.array([-1.0, 1.0]), np.array([-9.0, 9.0])]
    replicates = statistics.task_replicates(tasks, ["a", "a", "b"], 4000, generators(3), across=True)
    # One episode's standard deviation is that of the other task's episodes: sqrt(2).
    assert replicates[:, 0].mean() == pytest.approx(10.1, abs=0.1)
    assert replicates[:, 0].std() == pytest.approx(np.sqrt(2 / episodes), rel=0.05)


@pytest.mark.parametrize("values", [[10.0], [10.0, 10.0]])
def test_a_domain_without_noise_borrows_that_of_others_if_their_unit_is_the_same(values):
    tasks = [np.array(values), np.array([-1.0, 1.0])]
    replicates = statistics.task_replicates(tasks, ["a", "b"], 4000, generators(2), across=True)
    assert replicates[:, 0].std() == pytest.approx(np.sqrt(2 / len(values)), rel=0.05)
    replicates = statistics.task_replicates(tasks, ["a", "b"], 50, generators(2), across=False)
    assert np.isnan(replicates[:, 0]).all()
    assert np.isfinite(replicates[:, 1]).all()


def test_without_any_noise_to_borrow_nothing_is_known():
    tasks = [np.array([10.0]), np.full(5, 0.1), np.full(3, -0.7)]
    replicates = statistics.task_replicates(tasks, ["a", "a", "b"], 50, generators(3), across=True)
    assert np.isnan(replicates).all()


def test_rounding_is_no_noise():
    luck = np.random.default_rng(0).normal(size=20)
    assert not statistics.shows_noise((luck + 0.1) - luck)
    assert not statistics.shows_noise(np.zeros(3))
    assert statistics.shows_noise(np.array([0.0, 1e-6]))


def test_streams_are_reproducible_and_their_own():
    same = statistics.stream(3, "agent", "task").integers(1 << 62)
    assert statistics.stream(3, "agent", "task").integers(1 << 62) == same
    others = [(4, "agent", "task"), (3, "agent", "tasks"), (3, "agentt", "ask"), (3, "task", "agent")]
    assert all(statistics.stream(*names).integers(1 << 62) != same for names in others)


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [3, 5])
def test_intervals_cover_the_truth_as_often_as_they_promise(episodes):
    """Without the scaling, 3 episodes a task give about 87% and 5 about 91%."""
    generator = np.random.default_rng(episodes)
    tasks, trials, covered = 12, 400, 0
    for _ in range(trials):
        data = list(generator.normal(size=(tasks, episodes)))
        replicates = statistics.task_replicates(data, ["a"] * tasks, 300, [generator] * tasks, across=True)
        low, high = statistics.centred_interval(replicates.mean(axis=1), np.mean(data), 0.95)
        covered += low <= 0 <= high
    assert 0.92 <= covered / trials <= 0.985


@pytest.mark.slow
def test_intervals_of_the_interquartile_mean_cover_what_another_evaluation_gives():
    """The plain percentile interval holds the expectation about 73 times in 100 here."""
    generator = np.random.default_rng(1)
    tasks, episodes, trials = 400, 3, 120
    truth = generator.lognormal(-1, 0.8, tasks)[:, None]
    estimates, intervals = [], []
    for _ in range(trials):
        data = list(truth + 0.3 * generator.normal(size=(tasks, episodes)))
        estimates.append(float(statistics.interquartile_mean(np.mean(data, axis=1))))
        replicates = statistics.task_replicates(data, ["a"] * tasks, 150, [generator] * tasks, across=True)
        over = statistics.interquartile_mean(replicates)
        intervals.append(statistics.centred_interval(over, estimates[-1], 0.95))
    expectation = np.mean(estimates)
    assert np.mean([low <= expectation <= high for low, high in intervals]) >= 0.88
    assert all(low < own < high for own, (low, high) in zip(estimates, intervals, strict=True))


def test_a_centred_interval_of_a_mean_is_its_percentile_interval():
    values = np.random.default_rng(2).exponential(size=8)
    replicates = statistics.resampled_means(values, 100_000, np.random.default_rng(3))
    centred = statistics.centred_interval(replicates, values.mean(), 0.9)
    assert centred == pytest.approx(np.quantile(replicates, [0.05, 0.95]), abs=0.005)


def test_holm_gives_the_textbook_values():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values):
    adjusted = statistics.holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    ranked = [adjusted[place] for place in order]
    assert ranked == sorted(ranked)
