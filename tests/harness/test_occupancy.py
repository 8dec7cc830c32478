"""How the use of places is added up."""

from __future__ import annotations

import random

import pytest

from lram.harness.rollout.occupancy import Occupancy, Occupied


def test_the_mean_share_of_busy_places_weighs_each_state_by_its_time() -> None:
    occupancy = Occupancy(4)
    occupancy.note(100.0, 4, waits=True)
    occupancy.note(103.0, 1, waits=True)
    occupancy.note(104.0, 0, waits=False)
    result = occupancy.result()
    assert result.places == 4
    assert result.wall_s == 4.0
    assert result.busy_share == pytest.approx((4 * 3 + 1) / 16)


def test_the_tail_begins_when_a_place_is_empty_and_nothing_waits() -> None:
    occupancy = Occupancy(2)
    occupancy.note(0.0, 1, waits=True)  # empty, but for something that waits
    occupancy.note(1.0, 2, waits=False)  # nothing waits, but every place is busy
    occupancy.note(7.0, 1, waits=False)
    occupancy.note(10.0, 0, waits=False)
    result = occupancy.result()
    assert (result.tail_s, result.tail_share) == (3.0, pytest.approx(3 / 20))


def test_an_end_without_empty_places_has_no_tail() -> None:
    occupancy = Occupancy(2)
    occupancy.note(0.0, 2, waits=True)
    occupancy.note(5.0, 2, waits=False)
    assert occupancy.result(9.0) == Occupied(2, 9.0, 1.0, 0.0, 0.0)


def test_work_that_comes_back_ends_a_tail_and_a_later_one_counts() -> None:
    occupancy = Occupancy(2)
    occupancy.note(0.0, 1, waits=False)
    occupancy.note(4.0, 1, waits=True)
    occupancy.note(5.0, 2, waits=False)
    occupancy.note(8.0, 1, waits=False)
    result = occupancy.result(10.0)
    assert (result.tail_s, result.tail_share) == (2.0, pytest.approx(2 / 20))


def test_an_intermediate_result_counts_up_to_now_and_changes_nothing() -> None:
    occupancy = Occupancy(1)
    assert occupancy.result(3.0) == Occupied(1, 0.0, 0.0, 0.0, 0.0)
    occupancy.note(3.0, 1, waits=False)
    assert occupancy.result() == Occupied(1, 0.0, 0.0, 0.0, 0.0)
    assert occupancy.result(5.0) == Occupied(1, 2.0, 1.0, 0.0, 0.0)
    occupancy.note(6.0, 0, waits=False)
    assert occupancy.result(7.0) == Occupied(1, 4.0, pytest.approx(0.75), 1.0, pytest.approx(0.25))


def test_it_agrees_with_counting_every_second() -> None:
    rng = random.Random(0)
    for _ in range(100):
        places = rng.randint(1, 5)
        states = [(rng.randint(0, places), rng.random() < 0.5) for _ in range(rng.randint(1, 30))]
        occupancy = Occupancy(places)
        for second, (busy, waits) in enumerate(states):
            occupancy.note(float(second), busy, waits=waits)
        ends = [second for second, (_, waits) in enumerate(states) if waits]
        rest = list(enumerate(states))[ends[-1] + 1 if ends else 0 :]
        began = next((second for second, (busy, _) in rest if busy < places), len(states))
        result = occupancy.result(float(len(states)))
        assert result.busy_share == pytest.approx(sum(b for b, _ in states) / places / len(states))
        assert result.tail_s == len(states) - began
        empty = sum(places - busy for busy, _ in states[began:])
        assert result.tail_share == pytest.approx(empty / places / len(states))
