"""Which episode goes where."""

from __future__ import annotations

from lram.harness.records import WorkItem
from lram.harness.schedule import Attempt, Queue, Seat

COST = {"x/one": 10, "x/two": 10, "y/one": 1000}


def items(*names: str, agents: tuple[str, ...] = ("a",), episodes: int = 2) -> list[WorkItem]:
    return [
        WorkItem(agent, name, episode) for agent in agents for name in names for episode in range(episodes)
    ]


def take_all(queue: Queue, seats: list[Seat]) -> list[tuple[int, Attempt]]:
    """Take until nothing more is given, every episode staying in flight."""
    taken = []
    while (choice := queue.take(seats)) is not None:
        seat, attempt = choice
        seat.busy += 1
        taken.append((seats.index(seat), attempt))
    return taken


def test_seats_spread_over_domains_the_costliest_first() -> None:
    seats = [Seat(), Seat()]
    taken = take_all(Queue(items("x/one", "y/one", episodes=1), COST, None), seats)
    assert [(place, attempt.item.task) for place, attempt in taken] == [(0, "y/one"), (1, "x/one")]


def test_seats_of_one_domain_share_its_episodes_evenly() -> None:
    seats = [Seat(), Seat()]
    take_all(Queue(items("x/one", "x/two", episodes=3), COST, None), seats)
    assert [(seat.domain, seat.busy) for seat in seats] == [("x", 3), ("x", 3)]


def test_a_seat_keeps_its_domain_while_it_holds_an_episode() -> None:
    queue, seat = Queue(items("x/one", "y/one", episodes=1), COST, None), Seat()
    assert [attempt.item.task for _, attempt in take_all(queue, [seat])] == ["y/one"]
    assert queue.take([seat]) is None
    seat.busy = 0
    assert [attempt.item.task for _, attempt in take_all(queue, [seat])] == ["x/one"]
    assert seat.domain == "x"


def test_free_lanes_help_where_there_is_work_and_leave_no_domain_waiting_for_ever() -> None:
    queue = Queue(items("x/one", "y/one", "z/one", agents=("a", "b"), episodes=2), {**COST, "z/one": 1}, None)
    seats = [Seat(), Seat()]
    first = take_all(queue, seats)
    # Both seats are busy and z of agent a waits: one seat takes nothing new, the other goes on with b.
    assert [attempt.item.task for _, attempt in first[:4]].count("z/one") == 0
    assert {attempt.item.agent for _, attempt in first[4:]} == {"b"}
    assert len({place for place, _ in first[4:]}) == 1
    drained = min(seats, key=lambda seat: seat.busy)
    drained.busy = 0
    choice = queue.take(seats)
    assert choice is not None
    assert (choice[0], choice[1].item.agent, choice[1].item.task) == (drained, "a", "z/one")


def test_work_is_taken_agent_by_agent() -> None:
    queue = Queue(items("x/one", agents=("a", "b", "c"), episodes=2), COST, None)
    assert [attempt.item.agent for _, attempt in take_all(queue, [Seat()])] == ["a", "a", "b", "b", "c", "c"]


def test_a_given_back_attempt_is_next_and_keeps_its_history() -> None:
    queue, seat = Queue(items("x/one"), COST, None), Seat()
    choice = queue.take([seat])
    assert choice is not None
    choice[1].failures = 1
    queue.give_back(choice[1])
    again = queue.take([seat])
    assert again is not None
    assert again[1] is choice[1]


def test_shuffling_is_a_permutation_named_by_its_seed() -> None:
    def order(seed: int | None) -> list[WorkItem]:
        queue = Queue(items("x/one", "x/two", episodes=20), COST, seed)
        return [attempt.item for _, attempt in take_all(queue, [Seat()])]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1), key=str) == sorted(order(None), key=str)
