"""The driver's decisions when things go wrong, with jobs that say what a test has them say: no Ray needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lram.agents.api import AgentInfo
from lram.agents.compute import Compute
from lram.envs.registry import select
from lram.harness import Machine
from lram.harness.executors.contract import RolloutJob
from lram.harness.executors.ray.connection import JobLost, Node
from lram.harness.executors.ray.groups import Costs, tabled
from lram.harness.executors.ray.loop import ClusterContext
from lram.harness.executors.ray.messages import (
    AgentOrder,
    DomainFacts,
    JobError,
    JobOrder,
    NodeFacts,
    RolloutUpdate,
)
from lram.harness.executors.ray.placement import Placement
from lram.harness.executors.ray.registry import NodeRegistry
from lram.harness.executors.ray.resources import ResourceRequest
from lram.harness.executors.ray.rollouts import RolloutSource
from lram.harness.executors.ray.transfer import ArtifactTransfer, ShippedAgent
from lram.harness.storage.records import (
    SCHEMA,
    AgentEntry,
    EpisodeRecord,
    Failure,
    Measured,
    PlannedTask,
    RunPlan,
)

INFO = AgentInfo("baseline", "random")
Script = Callable[[Node, JobOrder], Iterator[RolloutUpdate]]


class Cluster:
    """Nodes whose jobs follow a script."""

    def __init__(self, script: Script, nodes: int = 2) -> None:
        self.script = script
        self.there = [
            Node(f"{number}" * 8, "address", f"host{number}", 1.0, 0.0, 2.0**36) for number in range(nodes)
        ]
        self.orders: list[tuple[Node, JobOrder]] = []

    def nodes(self) -> list[Node]:
        return self.there

    def start(self, node: Node, function: Any, order: bytes, files: Any, **more: Any) -> Any:
        job = msgspec.json.decode(order, type=JobOrder)
        self.orders.append((node, job))
        return self.script(node, job)

    def ready(self, streams: list[Any], timeout: float) -> list[Any]:
        return list(streams)

    def next(self, stream: Any) -> tuple[bytes, list[Any]]:
        try:
            return msgspec.json.encode(next(stream)), []
        except StopIteration as error:
            raise JobLost("ended", "its process ended early") from error

    def cancel(self, stream: Any) -> None:
        stream.close()

    def ping(self, node: Node) -> Node:
        return node

    def answers(self, node: Node) -> bool | None:
        return True if node in self.there else None


class Sink:
    def __init__(self) -> None:
        self.records: list[EpisodeRecord] = []

    def record(self, record: EpisodeRecord, trajectory: Any = None) -> None:
        assert trajectory is None
        self.records.append(record)

    def heartbeat(self, active: int, decisions: int) -> None:
        pass


class Played:
    """What came of a run."""

    def __init__(
        self,
        folder: Path,
        script: Script,
        tasks: str = "toy/reach",
        episodes: int = 8,
        nodes: int = 2,
        size: int = 4,
    ) -> None:
        planned = tuple(PlannedTask(task, "toy:lram@1") for task in select(tasks))
        plan = RunPlan(SCHEMA, 0, episodes, (AgentEntry("a", "random", INFO),), planned)
        self.cluster, self.sink, self.said = Cluster(script, nodes), Sink(), list[str]()
        registry = NodeRegistry(self.cluster, self.said.append)  # type: ignore[arg-type]
        for node in self.cluster.there:
            registry.nodes[node.id] = node
            registry.facts[node.id] = NodeFacts(domains={"toy": DomainFacts(fits=("lram",))})
        machine = Machine(lanes=2)
        context = ClusterContext(
            self.cluster,  # type: ignore[arg-type]
            registry,
            ArtifactTransfer(self.cluster),  # type: ignore[arg-type]
            ResourceRequest(episodes=size),
            self.said.append,
        )
        placement = Placement(context, {"a": INFO}, {"toy": "lram"}, machine, {})
        self.capacity = placement.capacity
        job = RolloutJob(plan, plan.items(), {}, [], {}, folder)
        order = AgentOrder("a", ShippedAgent("random"), 0, Compute(), 1)
        costs = Costs(tabled(planned, {"a": INFO}, "cpu"))
        source = RolloutSource(context, placement, job, self.sink, machine, costs, {"a": order})
        source.run()
        self.items = plan.items()

    @property
    def failures(self) -> Counter[str]:
        return Counter(record.failure.kind if record.failure else "" for record in self.sink.records)

    def check(self) -> None:
        """Every item has one record, and the nodes have back what they had."""
        assert sorted(record.item.id for record in self.sink.records) == sorted(
            item.id for item in self.items
        )
        for node in self.cluster.there:
            assert self.capacity._free[node.id] == [node.cpus, node.gpus, node.memory]


def scored(job: JobOrder, episode: int, failure: Failure | None = None, failures: int = 0) -> EpisodeRecord:
    right = failure is None
    return EpisodeRecord(
        SCHEMA,
        "a",
        job.task.task.id,
        episode,
        1,
        "toy:lram@1",
        "scored" if right else "errored",
        1.0 if right else None,
        5 if right else None,
        None,
        None,
        right,
        False,
        "",
        failures,
        failure,
        Measured(0, 0, 0, 0, 0, 0),
    )


def play(job: JobOrder) -> Iterator[RolloutUpdate]:
    yield RolloutUpdate(tuple(scored(job, episode) for episode in job.episodes), 0, 9, done=True, wall_s=1.0)


def test_jobs_that_go_well(tmp_path: Path) -> None:
    played = Played(tmp_path, lambda node, job: play(job))
    played.check()
    assert played.failures == {"": 8}
    assert {node.id for node, _ in played.cluster.orders} == {node.id for node in played.cluster.there}


def test_a_node_on_which_simulators_die_leaves_the_domain_to_others(tmp_path: Path) -> None:
    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        if node.host == "host0":
            yield RolloutUpdate(
                done=True, error=JobError("dead", "the domain toy was given up: 4 workers died, none began")
            )
        else:
            yield from play(job)

    played = Played(tmp_path, script, episodes=20)
    played.check()
    assert played.failures == {"": 20}
    assert [node.host for node, _ in played.cluster.orders].count("host0") == 1
    assert any("host0" in line and "gets no more of toy" in line for line in played.said)


def test_a_task_whose_simulators_die_on_all_nodes_is_given_up_and_the_others_are_played(
    tmp_path: Path,
) -> None:
    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        if job.task.task.id == "toy/crash":
            yield RolloutUpdate(
                done=True, error=JobError("dead", "the domain toy was given up: 4 workers died, none began")
            )
        else:
            yield from play(job)

    played = Played(tmp_path, script, tasks="toy/crash,toy/reach,toy/steps")
    played.check()
    assert {r.task for r in played.sink.records if r.failure} == {"toy/crash"}
    assert played.failures == {"": 16, "quarantine": 8}


def test_a_domain_that_lives_nowhere_is_given_up(tmp_path: Path) -> None:
    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        yield RolloutUpdate(
            done=True, error=JobError("dead", "the domain toy was given up: 4 workers died, none began")
        )

    played = Played(tmp_path, script, tasks="toy/reach,toy/steps")
    played.check()
    assert played.failures == {"quarantine": 16}


def test_a_task_that_is_given_up_frees_its_nodes_once(tmp_path: Path) -> None:
    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        failed = Failure("session", "it raised")
        records = tuple(scored(job, episode, failed, 2) for episode in job.episodes)
        yield RolloutUpdate(records, 0, 9, done=True, words={"worker-001-toy.log": "its last words"})

    played = Played(tmp_path, script, episodes=12)
    played.check()
    assert played.failures["quarantine"] >= 4
    assert played.failures["session"] >= 3
    assert next(file.read_text() for file in tmp_path.glob("*worker-001-toy.log")) == "its last words"


@pytest.mark.parametrize("why", ["ended", "memory"])
def test_the_episode_that_ends_its_process_is_found_and_only_it_pays(tmp_path: Path, why: str) -> None:
    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        yield RolloutUpdate((), 2, 1, flying=job.episodes[:2])
        if 5 in job.episodes:
            raise JobLost(why, "its process died")
        yield from play(job)

    played = Played(tmp_path, script, episodes=12, nodes=1)
    played.check()
    lost = [record for record in played.sink.records if record.failure]
    assert [record.episode for record in lost] == [5]
    assert lost[0].failure is not None
    assert lost[0].failure.kind == "crash"
    assert all(record.failures == 0 for record in played.sink.records if not record.failure)
    assert lost[0].failures == (2 if why == "ended" else 0)


def test_an_attempt_that_has_paid_shares_no_job_with_others(tmp_path: Path) -> None:
    died: list[int] = []

    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        yield RolloutUpdate((), 1, 1, flying=job.episodes)
        if 2 in job.episodes and len(died) < 2:
            died.append(2)
            raise JobLost("ended", "its process died")
        yield from play(job)

    played = Played(tmp_path, script, nodes=1)
    played.check()
    assert all(len(job.episodes) == 1 for _, job in played.cluster.orders if job.settings.attempts == 1)
    assert {record.episode: record.failures for record in played.sink.records if record.failures} == {2: 1}


def test_a_lost_node_costs_nobody_a_try(tmp_path: Path) -> None:
    def script(node: Node, job: JobOrder) -> Iterator[RolloutUpdate]:
        yield RolloutUpdate((scored(job, job.episodes[0]),), 1, 1)
        if node.host == "host0":
            cluster.there = [one for one in cluster.there if one.host != "host0"]
            raise JobLost("ended", "its process died")
        yield RolloutUpdate(tuple(scored(job, e) for e in job.episodes[1:]), 0, 9, done=True, wall_s=1.0)

    cluster: Cluster
    original = Cluster.__init__

    def remember(self: Cluster, *arguments: Any) -> None:
        nonlocal cluster
        original(self, *arguments)
        cluster = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cluster, "__init__", remember)
        played = Played(tmp_path, script)
    played.check()
    assert played.failures == {"": 8}
    assert all(record.failures == 0 for record in played.sink.records)
    repeated = [record for record in played.sink.records if record.measured.incidents]
    assert len(repeated) == 3
    assert all("host0" in record.measured.incidents[0] for record in repeated)


def test_a_job_runs_in_a_folder_of_its_own_that_is_removed_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from lram.harness.executors.ray import node

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with node.own_folder("jobs") as folder:
        assert tempfile.gettempdir() == str(folder)
        left = folder.with_name("999999999")
        left.mkdir()
        (left / "log").write_text("of a process that was killed")
    assert not folder.exists()
    assert tempfile.gettempdir() == str(tmp_path)
    with node.own_folder("jobs"):
        assert not left.exists()
    assert folder.name == str(os.getpid())


def test_a_checkpoint_that_does_not_come_whole_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from lram.harness import LramError
    from lram.harness.executors.ray import transfer

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(transfer, "follow", lambda reference: reference)
    mine = tmp_path / "mine"
    mine.mkdir()
    files = {"config.json": b"{}", "model.safetensors": b"weights", "empty": b""}
    for name, content in files.items():
        (mine / name).write_bytes(content)
    digest, sent = transfer.digest_of(mine), list(transfer.pieces(mine, list(files)))
    with pytest.raises(LramError, match="has not come whole"):
        transfer.unpacked([("config.json", 0, b""), *sent[1:]], digest, "mine")
    folder = transfer.unpacked(sent, digest, "mine")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert transfer.unpacked([], digest, "mine") == folder
