"""Which lanes share a pass, and for which of them a decision is due."""

from __future__ import annotations

from collections.abc import Callable

from lram.agents.api import TaskSpec
from lram.harness.rollout.groups import Groups
from lram.harness.rollout.lane import Lane
from lram.harness.rollout.schedule import Attempt, WorkerSlot
from lram.harness.storage.records import WorkItem


def entered(groups: Groups, task: str, agent: str = "a") -> Lane:
    """Return a lane that has been given an episode of ``task``."""
    domain = task.partition("/")[0]
    spec = TaskSpec(task, domain, "vector", (4,), "discrete", 4, 1.0, 1.0)
    number = groups.number(agent, domain)
    lane = Lane(
        number=number, worker_slot=WorkerSlot(), attempt=Attempt(WorkItem(agent, task, 0)), spec=spec, seed=0
    )
    groups.enter(lane)
    return lane


def everyone(lane: Lane) -> bool:
    return True


def nobody_but(*coming: Lane) -> Callable[[Lane], bool]:
    return lambda lane: lane in coming


def test_lanes_are_given_out_from_the_first_and_again_when_they_are_free() -> None:
    groups = Groups(3, {"a": 8})
    lanes = [entered(groups, "x/one") for _ in range(3)]
    assert [lane.number for lane in lanes] == [0, 1, 2]
    assert not groups.room
    groups.leave(lanes[1])
    assert groups.room
    assert entered(groups, "x/one").number == 1


def test_an_episode_joins_the_pass_that_has_most_of_its_domain() -> None:
    groups = Groups(8, {"a": 4})
    lanes = [entered(groups, "x/one") for _ in range(4)] + [entered(groups, "y/one") for _ in range(3)]
    assert [lane.number for lane in lanes] == list(range(7))
    for lane in (lanes[0], lanes[1], lanes[5]):
        groups.leave(lane)
    assert entered(groups, "y/two").number == 5
    assert entered(groups, "x/two").number == 0
    assert entered(groups, "y/three").number == 7
    assert entered(groups, "y/four").number == 1


def test_a_group_is_complete_when_all_its_lanes_wait_whatever_others_do() -> None:
    groups = Groups(4, {"a": 2})
    one, two, three, _ = (entered(groups, "x/one") for _ in range(4))
    groups.wait(one)
    groups.wait(three)
    assert not groups.complete(everyone)
    groups.wait(two)
    assert groups.complete(everyone)
    assert groups.take() == [one, two]
    assert not groups.complete(everyone)
    assert groups.take() == [three]
    assert not groups


def test_a_lane_that_will_not_come_soon_is_not_waited_for() -> None:
    groups = Groups(2, {"a": 2})
    one, two = entered(groups, "x/one"), entered(groups, "x/one")
    groups.wait(one)
    assert not groups.complete(nobody_but(two))
    assert groups.complete(nobody_but())


def test_a_lane_whose_episode_is_over_is_neither_waited_for_nor_decided_for() -> None:
    groups = Groups(2, {"a": 2})
    one, two = entered(groups, "x/one"), entered(groups, "x/one")
    groups.wait(one)
    groups.leave(two)
    assert groups.complete(everyone)
    groups.leave(one)
    assert not groups


def test_agents_never_share_a_pass_and_one_that_tells_no_rows_is_asked_for_all_its_lanes() -> None:
    groups = Groups(4, {"a": 4})
    lanes = [entered(groups, "x/one", agent) for agent in ("a", "b", "a", "b")]
    for lane in lanes:
        groups.wait(lane)
    assert groups.agents == {"a", "b"}
    taken = [groups.take(), groups.take()]
    assert [{lane.item.agent for lane in lanes} for lanes in taken] == [{"a"}, {"b"}]
    assert [len(lanes) for lanes in taken] == [2, 2]
