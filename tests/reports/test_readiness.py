"""Ready 99 times in 100: exact bounds, what they take, and how often they err."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lram.reports.sections.latency.readiness import (
    decisions_needed,
    design_effect,
    late_share,
    processes_like_these,
    ready,
)


def test_as_many_decisions_are_needed_as_make_99_in_100_improbable_otherwise() -> None:
    assert (decisions_needed(), decisions_needed(level=0.99)) == (299, 459)
    assert 0.99**299 <= 0.05 < 0.99**298
    assert 0.99**459 <= 0.01 < 0.99**458


@pytest.mark.parametrize(
    ("late", "decisions", "verdict"),
    [
        ([0], [298], None),
        ([0], [299], True),
        ([0, 0], [149, 149], None),
        ([0, 0], [150, 149], True),
        ([1], [472], None),
        ([1], [473], True),
        ([3], [150], None),
        ([6], [150], False),
        ([1], [1], False),
        ([200] * 5, [200] * 5, False),
        ([0] * 5, [3] * 5, None),
    ],
)
def test_a_verdict_is_given_from_as_many_decisions_as_it_takes(
    late: list[int], decisions: list[int], verdict: bool | None
) -> None:
    assert ready(late, decisions) is verdict


@pytest.mark.parametrize(("late", "total"), [(0, 299), (3, 150), (17, 1000), (5, 5)])
def test_bounds_are_those_of_clopper_and_pearson(late: int, total: int) -> None:
    test = stats.binomtest(late, total)
    both = test.proportion_ci(0.90, method="exact")  # two-sided 90% is one-sided 95% at each end
    assert late_share([late], [total]) == pytest.approx((both.low, both.high))


def shares(late: float, processes: int, decisions: int, correlation: float) -> tuple[float, float]:
    """Return how often an agent that is late so often is called ready, and late, of 1,500 sweeps."""
    rng = np.random.default_rng(0)
    given = []
    for _ in range(1500):
        rates = np.full(processes, late)
        if correlation:
            size = (1 - correlation) / correlation
            rates = rng.beta(late * size, (1 - late) * size, processes)
        given.append(ready(rng.binomial(decisions, rates).tolist(), [decisions] * processes))
    return float(np.mean([one is True for one in given])), float(np.mean([one is False for one in given]))


@pytest.mark.slow
@pytest.mark.parametrize("decisions", [30, 75, 200])
def test_an_agent_that_is_late_too_often_passes_seldom(decisions: int) -> None:
    assert shares(0.02, 5, decisions, 0.0)[0] <= 0.05
    assert shares(0.0101, 5, decisions, 0.0)[0] <= 0.065  # at the limit: 0.05 + 2.5 standard errors
    assert shares(0.02, 5, decisions, 0.02)[0] <= 0.05  # processes differ


@pytest.mark.slow
def test_an_agent_that_is_in_time_is_seldom_called_late_and_often_ready() -> None:
    ready_, late = shares(0.001, 5, 200, 0.0)
    assert ready_ > 0.9
    assert late == 0.0
    assert shares(0.0099, 5, 200, 0.0)[1] <= 0.065


def test_late_decisions_of_one_process_count_for_fewer() -> None:
    assert design_effect([2, 2, 2, 2, 2], [200] * 5) == 1.0
    assert design_effect([10, 0, 0, 0, 0], [200] * 5) == pytest.approx(10.1, abs=0.1)
    assert late_share([3, 0, 0, 0, 0], [200] * 5)[1] > late_share([1, 1, 1, 0, 0], [200] * 5)[1]
    assert ready([1, 1, 1, 0, 0], [200] * 5) is True
    assert ready([3, 0, 0, 0, 0], [200] * 5) is None


def test_few_processes_speak_for_few() -> None:
    assert processes_like_these(5) == pytest.approx(0.549, abs=1e-3)
    assert processes_like_these(1) == pytest.approx(0.05)
