"""Sizes, order and needs of jobs; no cluster is needed to find them."""

from __future__ import annotations

from collections import Counter

import pytest

from lram.agents.api import AgentInfo
from lram.envs.registry import load_domain, select
from lram.harness import LramError
from lram.harness.executors.ray.groups import LAUNCH_S, MOST_S, Costs, EpisodeQueue, tabled
from lram.harness.executors.ray.messages import JobOrder
from lram.harness.executors.ray.resources import ResourceRequest, needs
from lram.harness.rollout.schedule import Attempt
from lram.harness.storage.records import PlannedTask, WorkItem

BASELINE = AgentInfo("baseline", "random")
MODEL = AgentInfo("model", "a model", True, 16_000_000, "digest")
TASKS = ("toy/reach", "toy/steps", "metaworld/reach-v3")


def items(
    agents: tuple[str, ...] = ("a", "b"), tasks: tuple[str, ...] = TASKS, episodes: int = 40
) -> list[WorkItem]:
    return [WorkItem(agent, task, number) for agent in agents for task in tasks for number in range(episodes)]


def costs(seconds: float = 1.0, agents: tuple[str, ...] = ("a", "b"), **others: float) -> Costs:
    told = {(agent, task): seconds for agent in agents for task in TASKS}
    told |= {(agent, task.replace("_", "/")): value for agent in agents for task, value in others.items()}
    return Costs(told)


EVERYWHERE = {(agent, domain): 2 for agent in "ab" for domain in ("toy", "metaworld")}


def drain(lines: EpisodeQueue, start_s: float = 1.0, slots: int = 4) -> list[tuple[str, str, list[int]]]:
    jobs = []
    while (choice := lines.best(EVERYWHERE)) is not None:
        group = lines.cut(*choice, start_s, slots)
        jobs.append((group.agent, group.task, [attempt.item.episode for attempt in group.attempts]))
    return jobs


def test_every_episode_is_in_one_job_and_in_plan_order() -> None:
    lines = EpisodeQueue(items(), costs())
    jobs = drain(lines)
    played = Counter((agent, task, episode) for agent, task, numbers in jobs for episode in numbers)
    assert played == Counter((item.agent, item.task, item.episode) for item in items())
    for agent in "ab":
        for task in TASKS:
            assert [e for a, t, es in jobs if (a, t) == (agent, task) for e in es] == list(range(40))
    assert len(lines) == 0


def test_a_job_grows_with_its_start_up_and_shrinks_with_the_number_of_places() -> None:
    def first(start_s: float, slots: int) -> int:
        return len(
            EpisodeQueue(items(episodes=4000), costs(0.1)).cut("a", "toy/reach", start_s, slots).attempts
        )

    assert first(10.0, 4) > 2 * first(0.0, 4)
    assert first(1.0, 4) > 2 * first(1.0, 64)


def test_jobs_shrink_as_work_runs_out() -> None:
    jobs = drain(EpisodeQueue(items(("a",), ("toy/reach",), 20_000), costs(0.1)))
    sizes = [len(numbers) for _, _, numbers in jobs]
    assert sizes[0] > 4 * sizes[-1]
    assert sizes[-1] * 0.1 < 8 * LAUNCH_S


@pytest.mark.slow
def test_no_job_is_longer_than_what_a_lost_node_may_cost() -> None:
    lines = EpisodeQueue(items(episodes=100_000), costs(1.0))
    assert len(lines.cut("a", "toy/reach", 1000.0, 1).attempts) <= MOST_S


def test_the_longest_line_goes_first_and_agents_one_after_the_other() -> None:
    order = [(agent, task) for agent, task, _ in drain(EpisodeQueue(items(), costs(toy_steps=9.0), 40))]
    assert order[0] == ("a", "toy/steps")
    assert [agent for agent, _ in order] == ["a"] * 3 + ["b"] * 3


def test_what_few_nodes_can_play_goes_first_where_it_can_be_played() -> None:
    lines = EpisodeQueue(items(), costs(toy_steps=9.0), 40)
    rare = {**EVERYWHERE, ("a", "metaworld"): 1}
    assert lines.best(rare) == ("a", "metaworld/reach-v3")
    assert lines.best({("b", "metaworld"): 1}) == ("b", "metaworld/reach-v3")
    assert lines.best({}) is None


def test_measured_costs_take_the_place_of_tabled_ones_also_for_a_domain_s_other_tasks() -> None:
    found = costs(1.0)
    found.measure("a", "toy/reach", 50.0, 10)
    assert found.episode("a", "toy/reach") == pytest.approx(5.0)
    assert found.episode("a", "toy/steps") == pytest.approx(5.0)
    assert found.episode("a", "metaworld/reach-v3") == pytest.approx(1.0)
    assert found.episode("b", "toy/reach") == pytest.approx(1.0)


def test_what_is_to_be_repeated_alone_is_a_job_of_its_own_and_comes_first() -> None:
    lines = EpisodeQueue(items(("a",), ("toy/reach",), 10), costs(), 5)
    group = lines.cut("a", "toy/reach", 0.0, 1)
    group.attempts[0].incidents.append("it happened")
    lines.give_back(group.attempts, alone=True)
    assert len(lines) == 10
    again = [lines.cut("a", "toy/reach", 0.0, 1) for _ in range(5)]
    assert [[attempt.item.episode for attempt in one.attempts] for one in again] == [[0], [1], [2], [3], [4]]
    assert again[0].attempts[0].incidents == ["it happened"]
    assert [attempt.item.episode for attempt in lines.cut("a", "toy/reach", 0.0, 1).attempts] == [
        5,
        6,
        7,
        8,
        9,
    ]


def test_a_task_that_is_given_up_is_taken_whole() -> None:
    lines = EpisodeQueue(items(), costs())
    lines.give_back([Attempt(WorkItem("a", "toy/reach", 99))])
    assert len(lines.take_all("a", "toy/reach")) == 41
    assert len(lines) == 5 * 40
    assert len(lines.take_all(None, "toy/reach")) == 40


def test_a_model_asks_for_a_graphics_processor_only_where_it_acts_on_one() -> None:
    domain = load_domain("toy")
    assert needs(domain, MODEL, "cpu", 8, ResourceRequest()).gpus == 0
    assert needs(domain, BASELINE, "cuda", 8, ResourceRequest()).gpus == 0
    assert needs(domain, MODEL, "cuda", 8, ResourceRequest()).gpus == 1
    assert needs(domain, MODEL, "cuda", 8, ResourceRequest(gpus={"": 0.25})).gpus == 0.25


def test_memory_follows_domain_model_and_lanes() -> None:
    toy, robots = load_domain("toy"), load_domain("composuite")
    plain = needs(toy, BASELINE, "cpu", 8, ResourceRequest()).memory
    assert needs(robots, BASELINE, "cpu", 8, ResourceRequest()).memory > plain + 5 * robots.session_mb * 2**20
    assert (
        needs(robots, BASELINE, "cpu", 16, ResourceRequest()).memory
        > needs(robots, BASELINE, "cpu", 8, ResourceRequest()).memory
    )
    big = AgentInfo("model", "a large model", True, 200_000_000, "digest")
    assert needs(toy, big, "cpu", 8, ResourceRequest()).memory > plain + 200_000_000 * 8
    assert needs(toy, MODEL, "cpu", 8, ResourceRequest(memory_gib={"toy": 3.0})).memory == 3 * 2**30


def test_requests_go_by_domain() -> None:
    request = ResourceRequest(cpus={"": 2.0, "toy": 4.0})
    assert needs(load_domain("toy"), BASELINE, "cpu", 8, request).cpus == 4
    assert needs(load_domain("darkroom"), BASELINE, "cpu", 8, request).cpus == 2


@pytest.mark.parametrize(
    "asked",
    [
        ResourceRequest(cpus={"": 0.1}),
        ResourceRequest(gpus={"toy": 0.0}),
        ResourceRequest(memory_gib={"": -1}),
        ResourceRequest(episodes=0),
    ],
)
def test_requests_that_make_no_sense_are_refused(asked: ResourceRequest) -> None:
    with pytest.raises(LramError, match="must be"):
        asked.check()


def test_tabled_costs_are_known_for_every_task_of_the_table() -> None:
    planned = [PlannedTask(task, f"{task.domain}:lram@1") for task in select("*")]
    found = tabled(planned, {"random": BASELINE, "model": MODEL}, "cpu")
    assert len(found) == 2 * len(planned)
    assert all(found["model", one.task.id] > found["random", one.task.id] > 0 for one in planned)


def test_a_job_order_survives_its_way() -> None:
    import msgspec

    from lram.agents.compute import Compute
    from lram.envs.workers.process import Deadlines
    from lram.harness.executors.ray.messages import AgentOrder
    from lram.harness.executors.ray.transfer import ShippedAgent
    from lram.harness.rollout.loop import RolloutSettings
    from lram.harness.storage.records import Failure

    agent = AgentOrder("a", ShippedAgent("random"), 0, Compute(), 1)
    planned = PlannedTask(select("toy/reach")[0], "toy:lram@1")
    order = JobOrder(
        agent,
        planned,
        "",
        (3, 4),
        (("a", 0, None), ("b", 1, Failure("crash", "it died"))),
        RolloutSettings(0, 8, 2, deadlines=Deadlines(30.0, 2.0), seeds={"a": 5}, realtime_hz=20.0),
    )
    assert msgspec.json.decode(msgspec.json.encode(order), type=JobOrder) == order
