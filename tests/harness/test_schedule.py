"""Which episode goes where."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lram.harness.rollout.measured_times import MeasuredTimes
from lram.harness.rollout.schedule import Attempt, Choice, Queue, WorkerSlot
from lram.harness.storage.records import WorkItem

COST = {"x/one": 10, "x/two": 10, "y/one": 1000}
# A simulator that is slow to build: 200 steps a second, and an agent that takes no time.
SLOW = MeasuredTimes(start={"s": 1.0}, step={"s": 0.005}, decide={"a": 0.0, "b": 0.0})


def items(*names: str, agents: tuple[str, ...] = ("a",), episodes: int = 2) -> list[WorkItem]:
    return [
        WorkItem(agent, name, episode) for agent in agents for name in names for episode in range(episodes)
    ]


def take_all(queue: Queue, worker_slots: list[WorkerSlot]) -> list[tuple[int, Attempt]]:
    """Take until nothing more is given, every episode staying in flight."""
    taken = []
    while (choice := queue.take(worker_slots)) is not None:
        worker_slot, slot, attempt = choice
        worker_slot.begin(slot, attempt.item.task)
        taken.append((worker_slots.index(worker_slot), attempt))
    return taken


def test_worker_slots_spread_over_domains_the_costliest_first() -> None:
    worker_slots = [WorkerSlot(), WorkerSlot()]
    taken = take_all(Queue(items("x/one", "y/one", episodes=1), COST, None), worker_slots)
    assert [(place, attempt.item.task) for place, attempt in taken] == [(0, "y/one"), (1, "x/one")]


def test_worker_slots_of_one_domain_share_its_episodes_evenly() -> None:
    worker_slots = [WorkerSlot(), WorkerSlot()]
    take_all(Queue(items("x/one", "x/two", episodes=3), COST, None), worker_slots)
    assert [(worker_slot.domain, worker_slot.busy) for worker_slot in worker_slots] == [("x", 3), ("x", 3)]


def test_a_worker_slot_keeps_its_domain_while_it_holds_an_episode() -> None:
    queue, worker_slot = Queue(items("x/one", "y/one", episodes=1), COST, None), WorkerSlot()
    assert [attempt.item.task for _, attempt in take_all(queue, [worker_slot])] == ["y/one"]
    assert queue.take([worker_slot]) is None
    worker_slot.playing.clear()
    assert [attempt.item.task for _, attempt in take_all(queue, [worker_slot])] == ["x/one"]
    assert worker_slot.domain == "x"


def test_free_lanes_help_where_there_is_work_and_leave_no_domain_waiting_for_ever() -> None:
    queue = Queue(items("x/one", "y/one", "z/one", agents=("a", "b"), episodes=2), {**COST, "z/one": 1}, None)
    worker_slots = [WorkerSlot(), WorkerSlot()]
    first = take_all(queue, worker_slots)
    # Both are busy and z of agent a waits: one worker slot takes nothing new, the other continues with b.
    assert [attempt.item.task for _, attempt in first[:4]].count("z/one") == 0
    assert {attempt.item.agent for _, attempt in first[4:]} == {"b"}
    assert len({place for place, _ in first[4:]}) == 1
    drained = min(worker_slots, key=lambda worker_slot: worker_slot.busy)
    drained.playing.clear()
    choice = queue.take(worker_slots)
    assert choice is not None
    assert (choice.worker_slot, choice.attempt.item.agent, choice.attempt.item.task) == (
        drained,
        "a",
        "z/one",
    )


def test_work_is_taken_agent_by_agent() -> None:
    queue = Queue(items("x/one", agents=("a", "b", "c"), episodes=2), COST, None)
    assert [attempt.item.agent for _, attempt in take_all(queue, [WorkerSlot()])] == [
        "a",
        "a",
        "b",
        "b",
        "c",
        "c",
    ]


def test_a_given_back_attempt_is_next_and_keeps_its_history() -> None:
    queue, worker_slot = Queue(items("x/one"), COST, None), WorkerSlot()
    choice = queue.take([worker_slot])
    assert choice is not None
    choice.attempt.failures = 1
    queue.give_back(choice.attempt)
    again = queue.take([worker_slot])
    assert again is not None
    assert again.attempt is choice.attempt


def test_shuffling_is_a_permutation_named_by_its_seed() -> None:
    def order(seed: int | None) -> list[WorkItem]:
        queue = Queue(items("x/one", "x/two", episodes=20), COST, seed)
        return [attempt.item for _, attempt in take_all(queue, [WorkerSlot()])]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1), key=str) == sorted(order(None), key=str)


def test_domains_that_start_fast_are_played_in_plan_order_with_the_smallest_free_slot() -> None:
    queue = Queue(items("x/one", "x/two", episodes=3), COST, None, MeasuredTimes(start={"x": 0.49}))
    worker_slots = [WorkerSlot(), WorkerSlot()]
    tasks = [attempt.item.task for _, attempt in take_all(queue, worker_slots)]
    assert tasks == ["x/one"] * 3 + ["x/two"] * 3
    assert [sorted(worker_slot.playing) for worker_slot in worker_slots] == [[0, 1, 2]] * 2


def test_of_domains_that_start_fast_the_longest_episodes_begin_first_and_equal_ones_in_plan_order() -> None:
    cost = {"x/short": 10, "x/long": 100, "x/long2": 100, "x/middle": 50}
    every = items("x/short", "x/long", "x/middle", "x/long2", episodes=2)
    tasks = [attempt.item for _, attempt in take_all(Queue(every, cost, None), [WorkerSlot()])]
    assert [(item.task, item.episode) for item in tasks] == [
        *(("x/long", 0), ("x/long", 1), ("x/long2", 0), ("x/long2", 1)),
        *(("x/middle", 0), ("x/middle", 1), ("x/short", 0), ("x/short", 1)),
    ]


def test_agents_keep_their_order_however_long_their_work_is() -> None:
    every = [WorkItem("a", "x/one", 0), WorkItem("b", "y/one", 0), WorkItem("a", "x/two", 0)]
    taken = take_all(Queue(every, COST, None), [WorkerSlot(), WorkerSlot(), WorkerSlot()])
    assert [attempt.item.agent for _, attempt in taken] == ["a", "a", "b"]


def test_the_domain_with_the_longest_episodes_begins_first_by_seconds_not_by_decisions() -> None:
    cost = {"x/many": 1000, "y/slow": 100}
    for step, first in (({"x": 0.001, "y": 0.1}, "y/slow"), ({"x": 0.001, "y": 0.001}, "x/many")):
        queue = Queue(items(*cost, episodes=1), cost, None, MeasuredTimes(step=step, decide={"a": 0.0}))
        choice = queue.take([WorkerSlot()])
        assert choice is not None
        assert choice.attempt.item.task == first


def test_a_task_that_a_lane_stays_with_counts_with_all_its_episodes() -> None:
    cost = {"s/one": 100, "x/one": 500}
    pace = MeasuredTimes({"s": 1.0}, {"s": 0.01, "x": 0.01}, {"a": 0.0})
    queue = Queue(items(*cost, episodes=10), cost, None, pace)
    choice = queue.take([WorkerSlot()])
    assert choice is not None
    assert choice.attempt.item.task == "s/one"


def test_a_shuffled_order_is_not_sorted() -> None:
    names = [f"x/{number}" for number in range(30)]
    cost = {name: place + 1 for place, name in enumerate(names)}
    tasks = [attempt.item.task for _, attempt in take_all(Queue(items(*names), cost, 3), [WorkerSlot()])]
    assert tasks != sorted(tasks, key=lambda name: -cost[name])


def test_a_queue_knows_whether_anything_waits_for_whom() -> None:
    queue, worker_slot = Queue(items("x/one", agents=("a", "b"), episodes=1), COST, None), WorkerSlot()
    assert not queue.empty
    assert (queue.has_work_of("a"), queue.has_work_of("b"), queue.has_work_of("c")) == (True, True, False)
    (_, first), (_, second) = take_all(queue, [worker_slot])
    assert queue.empty
    assert not queue.has_work_of("a")
    queue.give_back(second)
    queue.give_back(first)
    assert [attempt for _, attempt in take_all(queue, [worker_slot])] == [first, second]


def test_taking_from_a_long_queue_looks_at_little_of_it() -> None:
    class Counted(dict[str, int]):
        looks = 0

        def __getitem__(self, name: str) -> int:
            Counted.looks += 1
            return super().__getitem__(name)

    every = [WorkItem(agent, "x/one", episode) for agent in "abc" for episode in range(2000)]
    queue, worker_slots = Queue(every, Counted(COST), None), [WorkerSlot(), WorkerSlot()]
    Counted.looks = 0
    for _ in range(6000):
        choice = queue.take(worker_slots)
        assert choice is not None
    assert queue.take(worker_slots) is None
    assert Counted.looks <= 2 * 6000


# Slow starts


def slow_queue(
    *names: str,
    episodes: int = 10,
    decisions: int = 500,
    agents: tuple[str, ...] = ("a",),
    pace: MeasuredTimes = SLOW,
) -> Queue:
    return Queue(items(*names, agents=agents, episodes=episodes), dict.fromkeys(names, decisions), None, pace)


def taken(queue: Queue, worker_slots: list[WorkerSlot]) -> Choice:
    choice = queue.take(worker_slots)
    assert choice is not None
    choice.worker_slot.begin(choice.slot, choice.attempt.item.task)
    return choice


def ended(choice: Choice) -> None:
    choice.worker_slot.end(choice.slot, rests=True)


def test_lanes_begin_different_tasks_and_the_longest_first() -> None:
    names = ("s/short", "s/long", "s/middle", "s/middle2")
    cost = dict(zip(names, (100, 1000, 500, 500), strict=True))
    queue = Queue(items(*names, episodes=4), cost, None, SLOW)
    worker_slots = [WorkerSlot(), WorkerSlot()]
    tasks = [taken(queue, worker_slots).attempt.item.task for _ in names]
    assert tasks == ["s/long", "s/middle", "s/middle2", "s/short"]
    assert [worker_slot.busy for worker_slot in worker_slots] == [2, 2]


def test_a_lane_goes_on_with_its_task_in_the_slot_that_holds_the_session() -> None:
    queue, worker_slots = (
        slow_queue("s/1", "s/2", "s/3", "s/4", "s/5", episodes=3),
        [WorkerSlot(), WorkerSlot()],
    )
    first = [taken(queue, worker_slots) for _ in range(4)]
    for _ in range(2):
        for choice in first[::-1]:
            ended(choice)
            again = taken(queue, worker_slots)
            assert (again.worker_slot, again.slot) == (choice.worker_slot, choice.slot)
            assert again.attempt.item.task == choice.attempt.item.task


def test_the_next_task_takes_the_slot_of_one_that_is_done() -> None:
    queue, worker_slot = slow_queue("s/1", "s/2", "s/3", "s/4", episodes=1), WorkerSlot()
    _, second = taken(queue, [worker_slot]), taken(queue, [worker_slot])
    ended(second)
    third = taken(queue, [worker_slot])
    assert (third.attempt.item.task, third.slot) == ("s/3", second.slot)
    assert not worker_slot.resting


def test_the_session_that_gives_way_is_one_that_no_agent_waits_for() -> None:
    queue, worker_slot = slow_queue("s/1", "s/2", "s/3", episodes=1), WorkerSlot()
    queue.give_back(Attempt(WorkItem("b", "s/1", 0)))
    first, second = taken(queue, [worker_slot]), taken(queue, [worker_slot])
    ended(first)
    ended(second)
    third = taken(queue, [worker_slot])
    assert (third.attempt.item.task, third.slot) == ("s/3", second.slot)
    assert taken(queue, [worker_slot]).slot == first.slot


def test_a_task_in_a_crowded_worker_is_shared_sooner() -> None:
    names = [f"s/{number}" for number in range(4)]
    crowded, free = WorkerSlot("s"), WorkerSlot()
    queue = slow_queue(*names, episodes=2, decisions=150)
    crowd = [taken(queue, [crowded]) for _ in names]
    shared = taken(queue, [crowded, free])
    assert shared.worker_slot is free
    for choice in crowd[1:]:
        crowded.end(choice.slot, rests=True)
        taken(queue, [crowded])  # its last episode
        crowded.end(choice.slot, rests=True)
    ended(shared)
    queue.give_back(shared.attempt)
    free.leave()
    assert queue.take([crowded, free]) is None


@pytest.mark.parametrize(
    ("what", "episodes", "decisions", "decide", "busy"),
    [
        ("a worker that would be idle helps, and one session fills it", 10, 500, 0.0, [1, 1]),
        ("nor leaves an agent that decides at once room for two", 10, 500, 0.0002, [1, 1]),
        ("too little is left to be worth a second session", 2, 50, 0.0, [1, 0]),
        ("the last episode ends sooner where it is", 2, 300, 0.0, [1, 0]),
        ("while a slow agent decides, one worker steps several sessions", 20, 500, 0.02, [5, 5]),
        ("an agent as fast as the simulator leaves room for two", 20, 500, 0.005, [2, 2]),
    ],
)
def test_a_task_gets_further_sessions_only_where_that_pays(
    what: str, episodes: int, decisions: int, decide: float, busy: list[int]
) -> None:
    pace = MeasuredTimes(SLOW.start, SLOW.step, {"a": decide})
    queue, worker_slots = (
        slow_queue("s/1", episodes=episodes, decisions=decisions, pace=pace),
        [WorkerSlot(), WorkerSlot()],
    )
    take_all(queue, worker_slots)
    assert [worker_slot.busy for worker_slot in worker_slots] == busy, what
    assert queue.has_work_of("a")


def test_lanes_that_a_task_has_no_use_for_go_on_with_the_next_agent() -> None:
    queue, worker_slots = (
        slow_queue("s/1", "s/2", episodes=2, decisions=50, agents=("a", "b")),
        [WorkerSlot(), WorkerSlot()],
    )
    first, second = taken(queue, worker_slots), taken(queue, worker_slots)
    assert queue.take(worker_slots) is None, "both tasks are played, for the next agent as well"
    ended(first)
    again = taken(queue, worker_slots)
    assert (again.attempt.item, again.slot) == (WorkItem("a", "s/1", 1), first.slot)
    ended(again)
    following = taken(queue, worker_slots)
    assert (following.attempt.item, following.worker_slot) == (WorkItem("b", "s/1", 0), first.worker_slot)
    ended(second)
    assert taken(queue, worker_slots).attempt.item == WorkItem("a", "s/2", 1)


def test_the_tail_of_a_slow_domain_keeps_no_worker_slot_from_other_work() -> None:
    names = ("s/1", "x/one", "x/two")
    pace = MeasuredTimes({"s": 1.0}, {"s": 0.005}, {"a": 0.0})
    queue = Queue(items(*names, episodes=3), dict.fromkeys(names, 50), None, pace)
    worker_slots = [WorkerSlot(), WorkerSlot()]
    tasks = Counter(attempt.item.task for _, attempt in take_all(queue, worker_slots))
    assert tasks == {"s/1": 1, "x/one": 3, "x/two": 3}


def test_the_worker_slot_that_runs_empty_for_waiting_work_is_none_with_a_session_of_it() -> None:
    names = ("s/1", "s/2", "x/one", "y/one")
    every = [WorkItem("a", "s/1", episode) for episode in range(3)] + items("x/one", "y/one", episodes=3)
    every += items("s/2", "x/one", agents=("b",))
    queue = Queue(every, {**dict.fromkeys(names, 50), "y/one": 1}, None, SLOW)
    worker_slots = [WorkerSlot(), WorkerSlot()]
    served = [taken(queue, worker_slots) for _ in range(4)]
    assert [choice.attempt.item.task for choice in served] == ["s/1", "x/one", "x/one", "x/one"]
    following = taken(queue, worker_slots)
    assert (following.attempt.item, following.worker_slot) == (WorkItem("b", "s/2", 0), served[0].worker_slot)
    assert queue.take(worker_slots) is None, "the other worker slot is needed for y"


def test_a_dead_workers_sessions_are_forgotten() -> None:
    queue, worker_slots = slow_queue("s/1", "s/2", episodes=3, decisions=50), [WorkerSlot(), WorkerSlot()]
    choice, other = taken(queue, worker_slots), taken(queue, worker_slots)
    choice.worker_slot.end(choice.slot, rests=False)
    choice.worker_slot.leave()
    queue.give_back(choice.attempt)
    again = taken(queue, worker_slots)
    assert again.attempt is choice.attempt
    assert again.worker_slot is not other.worker_slot


def test_a_worker_slot_that_changes_its_domain_keeps_no_session() -> None:
    names = ("s/1", "x/one")
    queue = Queue(items(*names, episodes=1), {"s/1": 1, "x/one": 50}, None, SLOW)
    worker_slots = [WorkerSlot("s", resting={0: "s/1"}), WorkerSlot()]
    choices = [taken(queue, worker_slots) for _ in names]
    assert [(choice.attempt.item.task, choice.worker_slot) for choice in choices] == [
        ("x/one", worker_slots[0]),
        ("s/1", worker_slots[1]),
    ]


def test_a_session_that_failed_is_not_waited_for() -> None:
    queue, worker_slots = slow_queue("s/1", "s/2", episodes=2, decisions=50), [WorkerSlot(), WorkerSlot()]
    choice, _ = taken(queue, worker_slots), taken(queue, worker_slots)
    choice.worker_slot.end(choice.slot, rests=False)
    assert not choice.worker_slot.resting
    queue.give_back(choice.attempt)
    assert taken(queue, worker_slots).attempt is choice.attempt


@dataclass
class Floor:
    """A model of workers whose sessions share one core each: seconds, and sessions built."""

    start_s: float = 1.2
    reset_s: float = 0.3
    step_s: float = 0.006
    decide_s: float = 0.0
    seconds: float = 0.0
    builds: int = 0
    most: int = 0
    held: dict[int, dict[int, str]] = field(default_factory=dict)

    def play(self, queue: Queue, cost: dict[str, int], lanes: int, worker_slots: list[WorkerSlot]) -> Floor:
        """Play all that waits."""
        rng, flying = random.Random(0), list[tuple[Choice, list[float]]]()
        while True:
            while len(flying) < lanes and (choice := queue.take(worker_slots)) is not None:
                decisions = cost[choice.attempt.item.task] * rng.uniform(0.7, 1.3)
                flying.append((choice, [self._entered(choice, worker_slots), decisions]))
                choice.worker_slot.begin(choice.slot, choice.attempt.item.task)
            if not flying:
                return self
            needs = [self._seconds(choice, *left) for choice, left in flying]
            passed = min(needs)
            self.seconds += passed
            for (choice, left), needed in list(zip(flying, needs, strict=True)):
                stage = 0 if left[0] > 0 else 1
                left[stage] *= 1 - passed / needed
                if left == [0.0, 0.0]:
                    flying.remove((choice, left))
                    ended(choice)

    def _entered(self, choice: Choice, worker_slots: list[WorkerSlot]) -> float:
        held = self.held.setdefault(worker_slots.index(choice.worker_slot), {})
        built = held.get(choice.slot) != choice.attempt.item.task
        held[choice.slot] = choice.attempt.item.task
        self.builds += built
        self.most = max(self.most, len(held))
        return self.reset_s + built * self.start_s

    def _seconds(self, choice: Choice, entering: float, decisions: float) -> float:
        busy = choice.worker_slot.busy
        if entering > 0:
            return entering * busy
        return decisions * max(self.step_s + self.decide_s, busy * self.step_s)


@pytest.mark.parametrize(("decide_s", "slack"), [(0.0, 1.03), (0.02, 1.15)])
def test_a_benchmarks_sessions_are_built_hardly_more_than_once(decide_s: float, slack: float) -> None:
    names = [f"s/{number}" for number in range(20)]
    cost = {name: (400, 500, 1000)[place % 3] for place, name in enumerate(names)}
    played = {}
    for start_s in (0.0, 1.2):
        pace = MeasuredTimes({"s": start_s}, {"s": 0.006}, {"a": decide_s})
        queue = Queue(items(*names, episodes=10), cost, None, pace)
        played[start_s] = Floor(decide_s=decide_s).play(queue, cost, 8, [WorkerSlot(), WorkerSlot()])
    naive, ours = played[0.0], played[1.2]
    least = (20 * 1.2 + sum(cost.values()) * 10 * 0.006 + 200 * 0.3) / 2
    assert naive.builds > 120
    assert ours.builds <= 26
    assert ours.most <= 4
    assert ours.seconds < slack * least < naive.seconds


@given(seed=st.integers(0, 2**32))
def test_every_episode_is_played_once_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    domains = rng.sample(["s", "t", "x", "y"], rng.randint(1, 3))
    names = [f"{domain}/{number}" for domain in domains for number in range(rng.randint(1, 4))]
    every = items(*names, agents=("a", "b", "c")[: rng.randint(1, 3)], episodes=rng.randint(1, 5))
    cost = {name: rng.choice([5, 500, 500, 1000]) for name in names}
    decide = {"a": 0.0, "b": 0.02, "c": 0.1}
    pace = MeasuredTimes({"s": 1.0, "t": 4.0}, {"s": 0.005, "t": 0.01}, decide)
    queue = Queue(every, cost, rng.choice([None, 1]), pace)
    worker_slots = [WorkerSlot() for _ in range(rng.randint(1, 4))]
    lanes, trouble = rng.randint(len(worker_slots), 9), 30
    flying: list[Choice] = []
    scored: list[WorkItem] = []
    while True:
        while len(flying) < lanes and (choice := queue.take(worker_slots)) is not None:
            assert choice.slot not in choice.worker_slot.playing
            task = choice.attempt.item.task
            assert choice.worker_slot.domain == task.partition("/")[0]
            assert all(
                other.startswith(f"{choice.worker_slot.domain}/")
                for other in choice.worker_slot.playing.values()
            )
            choice.worker_slot.begin(choice.slot, task)
            flying.append(choice)
            decide["a"] = rng.choice([0.0, 0.03])
        for worker_slot in worker_slots:
            if not worker_slot.busy:
                worker_slot.leave()
                worker_slot.domain = None
        if not flying:
            break
        choice = rng.choice(flying)
        outcome = rng.choice(["scored", "failed", "died"]) if trouble else "scored"
        trouble -= outcome != "scored"
        for lost in [other for other in flying if other.worker_slot is choice.worker_slot or other is choice]:
            if outcome == "died" or lost is choice:
                flying.remove(lost)
                lost.worker_slot.end(lost.slot, rests=outcome == "scored")
                if outcome == "scored":
                    scored.append(lost.attempt.item)
                else:
                    queue.give_back(lost.attempt)
        if outcome == "died":
            choice.worker_slot.leave()
    assert sorted(scored, key=str) == sorted(every, key=str)


@given(seed=st.integers(0, 2**32))
def test_no_lane_is_idle_while_nobody_plays_a_task_that_a_worker_could_begin(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"{domain}/{number}" for domain in ("s", "t") for number in range(rng.randint(1, 6))]
    every = items(*names, episodes=rng.randint(1, 4))
    cost = {name: rng.choice([5, 500]) for name in names}
    queue = Queue(every, cost, None, MeasuredTimes({"s": 1.0, "t": 4.0}))
    worker_slots, lanes = [WorkerSlot() for _ in range(rng.randint(1, 3))], rng.randint(3, 9)
    flying: list[Choice] = []
    waiting = Counter(item.task for item in every)
    while True:
        while len(flying) < lanes and (choice := queue.take(worker_slots)) is not None:
            choice.worker_slot.begin(choice.slot, choice.attempt.item.task)
            flying.append(choice)
            waiting[choice.attempt.item.task] -= 1
        if not flying:
            return
        if len(flying) < lanes:
            played = {task for worker_slot in worker_slots for task in worker_slot.playing.values()}
            served = {worker_slot.domain for worker_slot in worker_slots if worker_slot.busy}
            unplayed = {task for task, number in waiting.items() if number} - played
            assert not [task for task in unplayed if task[0] in served]
            assert not unplayed or all(worker_slot.busy for worker_slot in worker_slots)
        ended(flying.pop(rng.randrange(len(flying))))


def test_an_attempt_that_failed_is_played_where_no_other_is() -> None:
    queue, worker_slots = Queue(items("x/one", episodes=4), COST, None), [WorkerSlot(), WorkerSlot()]
    for worker_slot in worker_slots:
        choice = queue.take([worker_slot])
        assert choice is not None
        worker_slot.begin(choice.slot, "x/one")
    attempt = choice.attempt
    attempt.failures = 1
    queue.give_back(attempt)
    worker_slots[0].begin(1, "x/one")
    other = queue.take(worker_slots)
    assert other is not None
    nearest = worker_slots[1]
    assert other.worker_slot is worker_slots[0], "the one nearest to being empty takes nothing new"
    other.worker_slot.begin(other.slot, "x/one")
    nearest.end(0, rests=False)
    alone = queue.take(worker_slots)
    assert alone is not None
    assert (alone.worker_slot, alone.attempt) == (nearest, attempt)
    alone.worker_slot.closed = True
    alone.worker_slot.begin(alone.slot, "x/one")
    last = queue.take(worker_slots)
    assert last is not None
    assert last.worker_slot is not nearest
    assert queue.take([nearest]) is None
    nearest.end(alone.slot, rests=True)
    assert not nearest.closed
    assert queue.empty


def test_an_attempt_that_is_lost_again_and_again_is_played_alone() -> None:
    attempt = Attempt(WorkItem("a", "x/one", 0))
    assert not attempt.alone
    attempt.losses = 3
    assert attempt.alone
