"""Tests of paired differences: exact where that is promised, in agreement with their intervals, no power
invented."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lram.reports import statistics
from lram.reports.statistics import Array, SignFlips, Stakes, fewest_pairs

PATTERNS = 500


def seeded(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def weights_of(tasks: int) -> Array:
    """Return the weights of up to 8 tasks of one domain, or of one task and many of another."""
    return np.array([0.5 / (tasks - 1)] * (tasks - 1) + [0.5]) if tasks > 8 else np.full(tasks, 1 / tasks)


def studentised(differences: list[Array], weights: Array) -> float:
    mean = sum(w * d.mean() for w, d in zip(weights, differences, strict=True))
    variance = sum(
        w**2 * (d.var(ddof=1) / len(d) if len(d) > 1 else d[0] ** 2)
        for w, d in zip(weights, differences, strict=True)
    )
    return float(abs(mean) / np.sqrt(variance))


@pytest.mark.parametrize("theta", [0.0, 0.7, -2.0])
def test_p_is_the_share_of_sign_patterns_that_are_as_extreme(theta: float) -> None:
    differences = [np.array([1.0, 2.1, -0.3]), np.array([4.0]), np.array([0.4, 0.9])]
    weights = np.array([0.3, 0.2, 0.5])
    shifted = [values - theta for values in differences]
    observed = studentised(shifted, weights)
    more = 0
    for signs in product((1.0, -1.0), repeat=6):
        parts = np.split(np.array(signs), [3, 4])
        flipped = [s * d for s, d in zip(parts, shifted, strict=True)]
        more += studentised(flipped, weights) >= observed * (1 - 1e-9)
    assert SignFlips(differences, weights, PATTERNS, seeded(0)).p(theta) == more / 2**6


def test_for_one_task_it_is_the_plain_sign_flip_test_and_for_many_pairs_the_t_test() -> None:
    few = seeded(1).normal(0.5, 1, 9)
    plain = np.mean([abs(few @ signs) >= abs(few.sum()) - 1e-12 for signs in product((1, -1), repeat=9)])
    assert SignFlips([few], np.ones(1), 1000, seeded(0)).p() == plain
    many = seeded(4).normal(0.2, 1.0, size=120)
    test = SignFlips([many], np.ones(1), 20_000, seeded(0))
    assert test.p() == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.01)
    expected = stats.t.interval(0.95, 119, many.mean(), stats.sem(many))
    assert test.interval(0.95) == pytest.approx(expected, abs=0.01)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(-4, 6), min_size=1, max_size=6), min_size=1, max_size=5),
    st.sampled_from([0.8, 0.95, 0.99]),
    st.integers(0, 9),
)
def test_the_interval_leaves_out_zero_exactly_where_p_is_small(tasks, level, seed) -> None:
    differences = [np.array(values, dtype=float) for values in tasks]
    test = SignFlips(differences, np.full(len(tasks), 1 / len(tasks)), PATTERNS, seeded(seed))
    interval = test.interval(level)
    if interval is None:
        assert test.p() >= 1 - level
    else:
        assert interval[0] <= test.estimate <= interval[1]
        assert (interval[0] > 0 or interval[1] < 0) == (test.p() < 1 - level)


def test_the_fewest_pairs_follow_from_the_level() -> None:
    assert [fewest_pairs(level) for level in (0.8, 0.9, 0.95, 0.99, 0.999)] == [4, 5, 6, 8, 11]
    for pairs in (5, 6):
        test = SignFlips([np.arange(1.0, pairs + 1)], np.ones(1), PATTERNS, seeded(0))
        assert (test.p(), test.interval(0.95) is None) == (2 / 2**pairs, pairs == 5)


def test_equal_agents_and_equal_differences() -> None:
    assert SignFlips([np.zeros(30)], np.ones(1), PATTERNS, seeded(0)).p() == 1.0
    same = SignFlips([np.full(8, 0.3)], np.ones(1), PATTERNS, seeded(0))
    assert (same.p(), same.noisy) == (2 / 2**8, False)
    assert same.interval(0.95) == pytest.approx((0.3, 0.3))


LAWS = {
    "normal": lambda draw, size: draw.normal(size=size),
    "lognormal": lambda draw, size: draw.lognormal(size=size) - draw.lognormal(size=size),
    "won or lost": lambda draw, size: draw.integers(0, 2, size) - 1.0 * draw.integers(0, 2, size),
}


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_at_exchangeable_laws_the_error_is_what_is_promised(law: str) -> None:
    rejected = [
        SignFlips(list(LAWS[law](draw, (tasks, pairs))), weights_of(tasks), 200, draw).p() < 0.05
        for tasks, pairs in ((1, 10), (8, 3), (46, 3), (46, 5))
        for draw in [seeded(tasks, pairs)]
        for _ in range(150)
    ]
    assert np.mean(rejected) <= 0.06


@pytest.mark.slow
def test_intervals_cover_where_tasks_have_differences_of_their_own() -> None:
    """Bootstrap intervals of 45 + 1 tasks with 3 and 10 pairs leave out the truth in 17 and 8 of 100."""
    for tasks, pairs in ((8, 5), (46, 3), (46, 10)):
        draw, covered = seeded(tasks, pairs), 0
        for _ in range(120):
            means = draw.normal(size=(tasks, 1))
            truth = float(weights_of(tasks) @ means[:, 0])
            test = SignFlips(list(means + draw.normal(size=(tasks, pairs))), weights_of(tasks), 200, draw)
            low, high = test.interval(0.95) or (np.nan, np.nan)
            covered += low <= truth <= high
        assert 0.9 <= covered / 120 <= 0.995, (tasks, pairs)


def test_what_stays_unseen_is_the_worst_that_the_pairs_allow() -> None:
    weights, counts = np.array([0.5, 0.3, 0.2]), np.array([5.0, 3.0, 10.0])
    losses = np.array([1.0, 0.4, 2.0])
    stakes = Stakes(weights, counts, losses)
    worst = optimize.minimize(
        lambda rates: -(weights * losses * rates).sum(),
        [0.1, 0.1, 0.1],
        bounds=[(0, 0.99)] * 3,
        constraints={"type": "ineq", "fun": lambda rates: (counts * np.log1p(-rates)).sum() - np.log(0.05)},
    )
    assert stakes.loss(0.05) == pytest.approx(-worst.fun, rel=1e-5)
    assert stakes.p(stakes.loss(0.05)) == pytest.approx(0.05)
    one = Stakes(np.ones(1), np.array([10.0]), np.array([2.0]))
    assert one.loss(0.05) == pytest.approx(2 * (1 - 0.05**0.1))
    assert (one.p(2.0), Stakes(np.ones(1), np.ones(1), np.zeros(1)).p(0.1)) == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "pairs"), [(1, 6), (8, 4)])
def test_what_is_called_detectable_is_shown_four_times_in_five(tasks: int, pairs: int) -> None:
    """Over data sets from which it is estimated; each named difference is tried on new data."""
    draw, weights, shown = seeded(tasks, pairs), weights_of(tasks), []
    for _ in range(9):
        seen = list(draw.normal(size=(tasks, pairs)))
        found = statistics.reach(seen, weights, 0.95, draw)
        assert found is not None
        for _ in range(30):
            new = SignFlips(list(draw.normal(found.detectable, 1, size=(tasks, pairs))), weights, 256, draw)
            shown.append(new.p() < 0.05 and new.estimate > 0)
    assert 0.68 <= np.mean(shown) <= 0.92


@pytest.mark.slow
def test_the_episodes_that_are_called_needed_suffice() -> None:
    draw, weights, shown = seeded(3), weights_of(3), []
    counts = (4, 9, 6)
    for _ in range(9):
        seen = [draw.normal(0.45, 1, n) for n in counts]
        found = statistics.reach(seen, weights, 0.95, draw)
        size = abs(np.mean([values.mean() for values in seen]))
        if found is None or found.needed is None or found.needed > 200:
            continue
        for _ in range(30):
            new = SignFlips(list(draw.normal(size, 1, size=(3, found.needed))), weights, 256, draw)
            shown.append(new.p() < 0.05)
    assert 0.68 <= np.mean(shown) <= 0.94


@pytest.mark.slow
def test_nothing_is_said_of_power_without_noise_or_pairs() -> None:
    assert statistics.reach([np.arange(5.0)], np.ones(1), 0.95, seeded(0)) is None
    assert statistics.reach([np.full(20, 0.3)], np.ones(1), 0.95, seeded(0)) is None
    silent = [np.full(20, 0.3), np.arange(20.0)]
    assert statistics.reach(silent, np.array([0.6, 0.4]), 0.95, seeded(0)) is None
    assert statistics.reach(silent, np.array([0.4, 0.6]), 0.95, seeded(0)) is not None
    none = statistics.reach([np.array([1.0, -1.0] * 5)], np.ones(1), 0.95, seeded(0))
    assert none is not None
    assert none.needed is None, "no number of episodes shows a difference of 0"
