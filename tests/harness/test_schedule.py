"""Which episode goes where."""

from __future__ import annotations

from lram.harness.records import WorkItem
from lram.harness.schedule import Queue, make_seats

COST = {"x/one": 10, "x/two": 10, "y/one": 1000}


def items(*names: str, agents: tuple[str, ...] = ("a",), episodes: int = 2) -> list[WorkItem]:
    return [
        WorkItem(agent, name, episode) for agent in agents for name in names for episode in range(episodes)
    ]


def test_lanes_are_shared_evenly_and_seats_never_exceed_lanes() -> None:
    assert [seat.lanes for seat in make_seats(5, 2)] == [(0, 2, 4), (1, 3)]
    assert len(make_seats(1, 4)) == 1


def test_seats_spread_over_domains_the_costliest_first() -> None:
    queue, seats = Queue(items("x/one", "y/one"), COST, None), make_seats(2, 2)
    first = queue.take(seats[0], seats)
    assert first is not None
    assert first.item.task == "y/one"
    seats[0].free.clear()
    second = queue.take(seats[1], seats)
    assert second is not None
    assert seats[1].domain in ("x", "y")


def test_a_seat_keeps_its_domain_while_a_lane_of_it_is_busy() -> None:
    queue, (seat,) = Queue(items("x/one", "y/one", episodes=1), COST, None), make_seats(2, 1)
    taken = queue.take(seat, [seat])
    assert taken is not None
    assert seat.domain == "y"
    seat.free.pop()
    assert queue.take(seat, [seat]) is None
    seat.free.append(0)
    after = queue.take(seat, [seat])
    assert after is not None
    assert (after.item.task, seat.domain) == ("x/one", "x")


def test_work_is_taken_agent_by_agent_with_one_agent_of_foresight() -> None:
    queue, seats = Queue(items("x/one", agents=("a", "b", "c"), episodes=1), COST, None), make_seats(3, 1)
    order = []
    while (attempt := queue.take(seats[0], seats)) is not None:
        order.append(attempt.item.agent)
    assert order == ["a", "b", "c"]


def test_a_given_back_attempt_is_next_and_keeps_its_history() -> None:
    queue, (seat,) = Queue(items("x/one"), COST, None), make_seats(1, 1)
    attempt = queue.take(seat, [seat])
    assert attempt is not None
    attempt.failures = 1
    queue.give_back(attempt)
    assert queue.take(seat, [seat]) is attempt


def test_shuffling_is_a_permutation_named_by_its_seed() -> None:
    def order(seed: int | None) -> list[WorkItem]:
        queue, (seat,) = Queue(items("x/one", "x/two", episodes=20), COST, seed), make_seats(1, 1)
        taken = []
        while (attempt := queue.take(seat, [seat])) is not None:
            taken.append(attempt.item)
        return taken

    assert order(1) == order(1) != order(2)
    assert sorted(order(1), key=str) == sorted(order(None), key=str)
