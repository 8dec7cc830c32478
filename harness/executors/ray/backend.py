"""The backend that ``--backend ray`` names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec

from lram.agents.api import Agent, AgentInfo, TaskSpec
from lram.envs.task import Task
from lram.harness.errors import LramError
from lram.harness.executors.contract import Sink, Stage, Told, Work, spread_text
from lram.harness.executors.ray import jobs
from lram.harness.executors.ray.connection import Cluster, Lost, Node, connected
from lram.harness.executors.ray.driver import Driver
from lram.harness.executors.ray.groups import Costs, tabled
from lram.harness.executors.ray.messages import AgentOrder, Described
from lram.harness.executors.ray.placing import Placing
from lram.harness.executors.ray.resources import Wishes
from lram.harness.executors.ray.roster import Roster
from lram.harness.executors.ray.shipping import digest_of, folder_of, read_folder
from lram.harness.interpreters.folder import data_folder
from lram.harness.interpreters.readiness import adapter
from lram.harness.machine import Machine
from lram.harness.plan import Player
from lram.harness.storage.records import PlannedTask

_DESCRIBE_S = 900.0  # to load, compile and check a large model


@dataclass(frozen=True, slots=True)
class _Player:
    """An agent that nodes build."""

    info: AgentInfo
    refusals: Mapping[str, str]
    note: str
    start_s: float
    order: AgentOrder

    def refuses(self, task: TaskSpec) -> str | None:
        return self.refusals.get(task.id)


class RayBackend:
    """Plays on a Ray cluster."""

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        wishes: Wishes | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare; nothing is connected before :meth:`open`.

        Args:
            address: Such as ``10.0.0.1:6379``; None: ``RAY_ADDRESS``, else the cluster that runs on this
                machine, else one that is started for as long as it is needed.
            wishes: What jobs are to ask for.
            say: Told what people should know, line by line (None: standard error).
        """
        self._address, self._wishes, self._say = address, wishes or Wishes(), say or _tell

    @contextmanager
    def open(self, machine: Machine) -> Iterator[Stage]:
        """Connect, and return a stage on the cluster; ``machine`` tells how each job is played.

        Raises:
            LramError: Ray is not installed, nobody answers, or a wish makes no sense.
        """
        self._wishes.check()
        if machine.shuffle:
            raise LramError("--shuffle is for one machine; leave it out with --backend ray")
        with connected(self._address, self._say) as cluster:
            yield _RayStage(cluster, machine, self._wishes, self._say)

    @property
    def wishes(self) -> Wishes:
        """What jobs are to ask for."""
        return self._wishes

    @contextmanager
    def connect(self) -> Iterator[Cluster]:
        """Connect for other work than a run's."""
        with connected(self._address, self._say) as cluster:
            yield cluster


class _RayStage:
    def __init__(
        self, cluster: Cluster, machine: Machine, wishes: Wishes, say: Callable[[str], None]
    ) -> None:
        self._cluster, self._machine, self._wishes, self._say = cluster, machine, wishes, say
        self._roster = Roster(cluster, say)
        self._files: dict[str, Any] = {}
        self._protocols: dict[str, str] = {}
        self._placing: Placing | None = None
        self._told = Told()

    def protocols(
        self, tasks: Sequence[Task], chosen: Mapping[str, str], interpreters: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what the nodes can play; this machine need not have any simulator."""
        names: dict[str, list[str]] = {}
        for task in tasks:
            names.setdefault(task.domain, []).append(task.name)
        # Those that this machine has installed say nothing of the nodes, which look for their own.
        told = {name: python for name, python in interpreters.items() if not _installed_here(python)}
        self._roster.examine(names, {**told, **(self._machine.interpreters or {})})
        found = {}
        for name in names:
            protocol = self._roster.protocol(name, chosen.get(name))
            found[name] = adapter(name).protocol(protocol).id(name)
            self._protocols[name] = protocol
        if len(kinds := self._roster.processors()) > 1:
            texts = [f"{kind}: {len(nodes)} nodes" for kind, nodes in kinds.items()]
            self._say(
                f"the nodes' processors differ ({'; '.join(texts)}): last digits of models may, too, and "
                "with them the course of episodes"
            )
            self._told.notes["processors differ"] = "; ".join(texts)
        return found

    def players(
        self, specs: Mapping[str, str | Agent], tasks: Sequence[PlannedTask], seed: int
    ) -> Mapping[str, Player]:
        """Let nodes build the agents, several at a time, and return what they tell of them."""
        orders = {label: self._order(label, spec, seed) for label, spec in specs.items()}
        wanted = msgspec.json.encode(tuple(tasks))
        gpus = 0.0 if self._machine.device == "cpu" else self._wishes.gpus.get("", 1.0)
        nodes = [node for node in self._roster.nodes.values() if node.gpus >= gpus and node.cpus > 0]
        if not nodes:
            raise LramError(f"no node of the cluster offers {gpus:g} GPUs; give --device cpu or --job-gpus")
        # The second of a label's two nodes is for the case that the first is lost.
        places = {
            label: (nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)])
            for number, label in enumerate(orders)
        }
        asked = {
            label: self._describe(places[label][0], order, wanted, gpus) for label, order in orders.items()
        }
        found = {}
        for label, order in orders.items():
            first, second = places[label]
            try:
                answer = self._cluster.result(asked[label], _DESCRIBE_S)
            except Lost:
                again = self._describe(second, order, wanted, gpus)
                found[label] = self._player(order, second, again)
            else:
                found[label] = _known(order, first, answer)
        return found

    def _describe(self, node: Node, order: AgentOrder, tasks: bytes, gpus: float) -> Any:
        return self._cluster.start(
            node,
            jobs.describe,
            msgspec.json.encode(order),
            [self._files[order.files]] if order.files else None,
            tasks,
            cpus=min(1.0, node.cpus),
            gpus=gpus,
        )

    def _player(self, order: AgentOrder, node: Node, reference: Any) -> _Player:
        try:
            answer = self._cluster.result(reference, _DESCRIBE_S)
        except Lost as lost:
            raise LramError(
                f"agent {order.label} could not be built, last on the node {node}: {lost}; see what "
                "'lram doctor --backend ray' says of it, then start the command again"
            ) from lost
        return _known(order, node, answer)

    def _order(self, label: str, spec: str | Agent, seed: int) -> AgentOrder:
        if not isinstance(spec, str):
            raise LramError(
                f"agent {label} was given as a Python object, which cannot be sent to a cluster; give "
                "module:factory, with the module where every node finds it"
            )
        folder, digest = folder_of(spec), ""
        if folder:
            files = read_folder(folder)
            digest = digest_of(files)
            if digest not in self._files:
                self._files[digest] = self._cluster.put(files)
        return AgentOrder(
            label=label,
            spec=spec,
            folder=folder,
            files=digest,
            name=Path(folder).resolve().name if folder else "",
            seed=seed,
            compute=self._machine.compute(),
            threads=self._machine.threads,
            place=str(Path.cwd()),
        )

    def check(self, players: Mapping[str, Player]) -> dict[str, str]:
        """Return what the gate noted where the agents were built; every node checks its own copy, too.

        Raises:
            LramError: A job of one of them asks for more than any node has.
        """
        known = cast(Mapping[str, _Player], players)
        self._placing = Placing(
            self._roster,
            {label: player.info for label, player in known.items()},
            self._protocols,
            self._machine,
            self._wishes,
            {label: player.start_s for label, player in known.items()},
        )
        return {label: player.note for label, player in known.items() if player.note}

    def play(self, work: Work, sink: Sink) -> None:
        players = cast(Mapping[str, _Player], work.players)
        assert self._placing is not None, "check comes before play"
        self._placing.alone = work.plan.realtime_hz > 0
        self._placing.update()
        infos = {label: player.info for label, player in players.items()}
        driver = Driver(
            self._cluster,
            self._roster,
            self._placing,
            work,
            sink,
            self._machine,
            Costs(tabled(work.plan.tasks, infos, self._machine.device)),
            {label: player.order for label, player in players.items()},
            self._files,
            self._say,
        )
        self._note_nodes()
        try:
            driver.run()
        finally:
            self._note_nodes()
            self._told.notes["jobs"] = str(driver.jobs.total())
            self._told.notes["jobs by node"] = ", ".join(f"{node}: {n}" for node, n in driver.jobs.items())
            self._told.notes["spread"] = spread_text(driver.occupancy.result(), "job slots")
            self._take_versions(driver.workers)

    def _note_nodes(self) -> None:
        self._told.notes["backend"] = "ray"
        for node in self._roster.nodes.values():
            facts = self._roster.facts[node.id]
            packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
            self._told.notes[f"node {node}"] = (
                f"{facts.cpu}, {node.cpus:g} cores offered, {node.memory / 2**30:.0f} GiB, "
                f"{facts.gpu or 'no GPU'}, Python {facts.python}, {packages}"
            )

    def _take_versions(self, seen: Mapping[str, Mapping[str, dict[str, str]]]) -> None:
        for domain, by_node in seen.items():
            self._told.workers[domain] = next(iter(by_node.values()))
            if len(by_node) > 1:
                texts = [f"{node}: {_listed(versions)}" for node, versions in by_node.items()]
                self._told.notes[f"versions of {domain} differ"] = "; ".join(texts)
                self._say(f"nodes have different versions for {domain} ({'; '.join(texts)})")

    def told(self) -> Told:
        return self._told


def _known(order: AgentOrder, node: Node, answer: bytes) -> _Player:
    found = msgspec.json.decode(answer, type=Described)
    if found.info is None:
        raise LramError(f"{found.problem} (on the node {node})")
    known = replace(order, digest=found.info.digest, details=found.info.details)
    return _Player(found.info, found.refusals, found.note, found.start_s, known)


def _installed_here(python: str) -> bool:
    return Path(python).is_relative_to(data_folder())


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _tell(line: str) -> None:
    with suppress(OSError):  # a reader that is gone must not end the run
        print(f"lram: {line}", file=sys.stderr, flush=True)
