"""From what a user asks for to a plan: labels, agents, tasks, protocols, and what cannot be played."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from lram.agents.adapters import with_absolute_file, without_folder
from lram.agents.api import Agent, AgentInfo, MinimalAgent, TaskSpec, checked_agent
from lram.agents.compute import Compute
from lram.agents.devices import placed_in_turn
from lram.agents.factory import names_agent
from lram.agents.own_code import changed, check_loaded, code_of, is_code_beside, named_module
from lram.agents.seed import check_seed
from lram.agents.spec import parse_agent
from lram.envs.protocol_id import ProtocolId
from lram.envs.task import Task
from lram.envs.text import message_of, printable, type_of
from lram.harness import domain_files
from lram.harness.domain_files import sources
from lram.harness.errors import LramError, as_lram_error
from lram.harness.interpreters.choosing import overridden, resolve
from lram.harness.interpreters.readiness import adapter, protocols_here
from lram.harness.rollout.translation import task_spec
from lram.harness.selecting import selected
from lram.harness.storage.record_checks import check_size, is_name
from lram.harness.storage.records import SCHEMA, AgentEntry, PlannedTask, RunPlan, Skipped

if TYPE_CHECKING:
    from lram.harness.machine import Machine

OBJECT_SPEC = "a Python object"
# small-mamba@reset=50 is an agent with its context, not a label with its agent.
_LABELLED = re.compile(r"(?P<label>[^=/\\]+)(?<!@reset)(?<!@window)=(?P<spec>.+)")
_BY_LABEL = "give agents as texts, such as 'random', or objects by label, such as {'mine': agent}"
_CHECKPOINT = "checkpoint"  # where a training puts its last weights


class PlannedAgent(Protocol):
    """An agent as a plan sees it: here, or elsewhere."""

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        ...

    def refuses(self, task: TaskSpec) -> str | None:
        """Return None when the agent can play ``task``, otherwise why not, in one sentence."""
        ...


AgentsArgument = (
    str
    | os.PathLike[str]
    | Sequence["str | os.PathLike[str]"]
    | Mapping[str, "str | os.PathLike[str] | MinimalAgent"]
)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a user asks for, before anything is looked up.

    Attributes:
        agents: Specifications, each plain or ``label=specification``; or label -> specification or
            :class:`lram.agents.api.Agent` object. A path object is a checkpoint's folder.
        tasks: A selection (:mod:`lram.envs.registry`).
        episodes: Episodes of every agent on every task.
        seed: Names the initial states and everything random.
        protocols: Protocol by domain, where it is not the domain's default.
        interpreters: What the user says of interpreters, by domain; see
            :func:`lram.harness.interpreters.resolve`.
        compute: How models compute.
        threads: Threads of the agents' tensor library.
        realtime_hz: Steps that the world takes in a second of the agent's thinking; 0: it waits. Labels
            then tell the rate.
    """

    agents: AgentsArgument
    tasks: str | Sequence[str]
    episodes: int = 10
    seed: int = 0
    protocols: Mapping[str, str] | None = None
    interpreters: Mapping[str, str] | None = None
    compute: Compute = field(default_factory=Compute)
    threads: int = 1
    realtime_hz: float = 0.0

    def on(self, machine: Machine) -> RunRequest:
        """Return it with the interpreters, and the way to compute, of ``machine``."""
        return replace(
            self, interpreters=machine.interpreters, compute=machine.compute(), threads=machine.threads
        )


class PlanningPlace(Protocol):
    """What planning asks of the place where a run is played: a part of an ``ExecutorSession``."""

    def protocols(
        self, tasks: Sequence[Task], chosen: Mapping[str, str], interpreters: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the protocol id of each domain of ``tasks``."""
        ...

    def agents(
        self, specs: Mapping[str, str | Agent], tasks: Sequence[PlannedTask], seed: int
    ) -> Mapping[str, PlannedAgent]:
        """Return the agents by label."""
        ...


class LocalPlanning:
    """This machine, where models compute as requested; of several devices they take one after the other."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    def protocols(
        self, tasks: Sequence[Task], chosen: Mapping[str, str], interpreters: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the protocol id of each domain of ``tasks``."""
        return protocols_here(tasks, chosen, interpreters)

    def agents(
        self, specs: Mapping[str, str | Agent], tasks: Sequence[PlannedTask], seed: int
    ) -> Mapping[str, Agent]:
        """Return the agents by label."""
        devices = placed_in_turn(specs, self._compute.device)
        return {
            label: build_agent(spec, seed, self._compute.on(devices[label])) for label, spec in specs.items()
        }


def make_plan(request: RunRequest) -> tuple[RunPlan, dict[str, Agent]]:
    """Return a plan for this machine and its agents by label; raises as :func:`plan_for`."""
    plan, agents = plan_for(request, LocalPlanning(request.compute))
    return plan, dict(cast(Mapping[str, Agent], agents))


def plan_for(request: RunRequest, place: PlanningPlace) -> tuple[RunPlan, Mapping[str, PlannedAgent]]:
    """Return a plan for ``place`` and its agents by label.

    Raises:
        LramError: Something asked for does not exist, is not installed, or cannot be played.
    """
    for name in ("episodes", "seed"):
        value: object = getattr(request, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise LramError(f"{name} is {value!r}; give a whole number")
    for name in ("protocols", "interpreters"):
        given: object = getattr(request, name)
        if given is not None and not isinstance(given, Mapping):
            raise LramError(f"{name} is {given!r}; give them by domain, such as {{'atari': ...}}")
    if request.episodes < 1:
        raise LramError(f"the number of episodes is {request.episodes}; it must be 1 or more")
    check_seed(request.seed)
    hz = request.realtime_hz
    if not 0 <= hz < math.inf:
        raise LramError(f"the world's rate is {hz:g} Hz; it must be above 0")
    tasks, interpreters = _planned_tasks(request, place)
    specs = labelled_specs(request.agents)
    check_size(len(specs), len(tasks), request.episodes)
    if hz:
        specs = {f"{label} ({hz:g} Hz)": spec for label, spec in specs.items()}
    agents = place.agents(specs, tasks, request.seed)
    skipped = [
        Skipped(label, planned.task.id, reason)
        for label, agent in agents.items()
        for planned in tasks
        if (reason := refusal(label, agent, planned)) is not None
    ]
    for label in agents:
        mine = [skip for skip in skipped if skip.agent == label]
        if len(mine) == len(tasks):
            raise LramError(
                f"agent {label} can play none of the selected tasks ({mine[0].task}: {mine[0].reason}); "
                "leave it out or select other tasks"
            )
    plan = RunPlan(
        schema=SCHEMA,
        seed=request.seed,
        episodes=request.episodes,
        agents=tuple(
            agent_entry(label, spec if isinstance(spec, str) else OBJECT_SPEC, agents[label].info)
            for label, spec in specs.items()
        ),
        tasks=tuple(tasks),
        skipped=tuple(skipped),
        compute=request.compute,
        threads=request.threads,
        interpreters=interpreters,
        realtime_hz=hz,
        domain_files=sources(dict.fromkeys(planned.task.domain for planned in tasks)),
    )
    return plan, agents


def reopen(
    plan: RunPlan,
    given: Mapping[str, MinimalAgent] | None,
    interpreters: Mapping[str, str],
    place: PlanningPlace,
) -> Mapping[str, PlannedAgent]:
    """Return the agents of an existing plan, after checking that nothing has changed since.

    Args:
        plan: The run's plan.
        given: Agents that the plan knows as Python objects only.
        interpreters: Executable by domain, where it is not this one, as :func:`interpreters_of` gave them.
        place: Where the run is played.

    Raises:
        LramError: An agent or a protocol is another one now, or a simulator is not installed.
    """
    planned = {task.task.domain: task.protocol for task in plan.tasks}
    with as_lram_error():
        names = {name: ProtocolId.parse(protocol).name for name, protocol in planned.items()}
    for name, protocol in place.protocols([task.task for task in plan.tasks], names, interpreters).items():
        if protocol != planned[name]:
            raise LramError(
                f"the run was started with the protocol {planned[name]}, and this version has {protocol}; "
                "continue with the lram-bench that started it, or start a new run"
            )
    specs: dict[str, str | Agent] = {}
    for entry in plan.agents:
        check_code(entry)
        if entry.spec == OBJECT_SPEC:
            if given is None or entry.label not in given:
                raise LramError(
                    f"agent {entry.label} was given as a Python object; resume from Python with "
                    f"lram.harness.resume(run, agents={{{entry.label!r}: ...}})"
                )
            with as_lram_error():
                specs[entry.label] = checked_agent(given[entry.label], f"agent {entry.label}")
        else:
            specs[entry.label] = entry.spec
    agents = place.agents(specs, plan.tasks, plan.seed)
    for entry in plan.agents:
        check_same(entry, agents[entry.label].info)
    return agents


def interpreters_of(plan: RunPlan, explicit: Mapping[str, str] | None) -> dict[str, str]:
    """Return the executable of each domain of an existing plan that is not played in this interpreter.

    They are those that the plan was made with, unless others are requested now: an interpreter that was
    installed since does not take a run over.

    Raises:
        LramError: One is requested for a domain that is not in the plan.
    """
    _check_named("an interpreter", explicit or {}, domains_of(plan))
    return overridden(plan.interpreters, explicit)


def domains_of(plan: RunPlan) -> set[str]:
    """Return the names of the domains that ``plan`` has tasks of."""
    return {planned.task.domain for planned in plan.tasks}


def agent_entry(label: str, spec: str, info: AgentInfo) -> AgentEntry:
    """Return an agent's line of a plan, with the code behind it as it is now.

    Raises:
        LramError: The process has loaded other files by the names of the agent's modules.
    """
    if spec == OBJECT_SPEC:
        return AgentEntry(label, spec, info)
    with as_lram_error():
        check_loaded(spec)
    return AgentEntry(label, spec, info, code_of(spec))


def check_code(entry: AgentEntry) -> None:
    """Raise LramError when the source behind an agent of a plan is another one now; nothing is imported."""
    now = code_of(entry.spec) if entry.code else {}
    if now and (modules := changed(entry.code, now)):
        if is_code_beside(entry.spec, entry.code):
            raise LramError(
                f"agent {entry.label} may not be the one that was started with: the source of "
                f"{', '.join(modules)} was noted as the working directory has it, and another one is "
                "imported (an earlier version of lram-bench did not tell the two apart); start anew, or "
                "install that of the working directory where it is what ran"
            )
        raise LramError(
            f"agent {entry.label} is not the one that was started with: the source of "
            f"{', '.join(modules)} has changed since; put it back, or start anew"
        )


def check_sources(plan: RunPlan) -> None:
    """Raise LramError where the user's source behind a plan's agents or domains is another one now.

    For what the user names now: a domain's file that is not known yet is run.
    """
    for entry in plan.agents:
        check_code(entry)
    domain_files.reopen(plan.domain_files)


def sources_of(entry: AgentEntry, now: AgentInfo) -> dict[str, str]:
    """Return what an agent of a plan is made of in this session: its weights' digest and its own modules'."""
    code = {} if entry.spec == OBJECT_SPEC else code_of(entry.spec)
    found = {f"module {name}": digest for name, digest in code.items()}
    return {"weights": now.digest, **found} if now.digest else found


def check_same(entry: AgentEntry, now: AgentInfo) -> None:
    """Raise LramError when an agent of a plan is another one now."""
    if now.digest == entry.info.digest:
        return
    before, after = (dict(info.details).get("precision") for info in (entry.info, now))
    if before != after and before and after:
        raise LramError(
            f"agent {entry.label} was started with --precision {before} and is {after} now: rounded weights "
            f"make another agent; continue with --precision {before}, or start a new run"
        )
    raise LramError(
        f"agent {entry.label} is not the one the run was started with (digest {now.digest[:12]}, "
        f"the run has {entry.info.digest[:12]}); put its files back or start a new run"
    )


@as_lram_error()
def build_agent(spec: str | Agent, seed: int, compute: Compute) -> Agent:
    """Return the agent that ``spec`` names; LramError when it cannot be built, or keeps no contract."""
    from lram.agents.factory import create_agent

    if not isinstance(spec, str):
        return checked_agent(spec, "the agent")
    return create_agent(spec, seed=seed, compute=compute)


def labelled_specs(agents: AgentsArgument) -> dict[str, str | Agent]:
    """Return specification by label; LramError for two agents of one label, and for what names no agent.

    Labels that differ in upper and lower case only are one: no reader, and not every file system, tells them
    apart.
    """
    pairs = _labelled_objects(agents) if isinstance(agents, Mapping) else _labelled_texts(agents)
    if not pairs:
        raise LramError("no agent is given; 'lram agents' lists what there is")
    for label, _ in pairs:
        if not is_name(label):
            raise LramError(f"{label!r} cannot label an agent; use printable characters other than '|'")
    label, count = Counter(label for label, _ in pairs).most_common(1)[0]
    if count > 1:
        raise LramError(f"{count} agents are called {label!r}; tell them apart with label=specification")
    by_folded: dict[str, str] = {}
    for label, _ in pairs:
        if (other := by_folded.setdefault(label.casefold(), label)) != label:
            raise LramError(
                f"the labels {other!r} and {label!r} differ in upper and lower case only; tell the agents "
                "apart with label=specification"
            )
    return dict(pairs)


def _labelled_objects(
    agents: Mapping[str, str | os.PathLike[str] | MinimalAgent],
) -> list[tuple[str, str | Agent]]:
    pairs: list[tuple[str, str | Agent]] = []
    for label, spec in agents.items():
        if not isinstance(label, str):
            raise LramError(f"an agent's label is {label!r}; give a text, as in {{'mine': agent}}")
        if isinstance(spec, str):
            pairs.append((label, _located(spec)))
        elif isinstance(spec, os.PathLike):
            pairs.append((label, _path_of(spec)))
        else:
            with as_lram_error():
                pairs.append((label, checked_agent(spec, f"agent {label}")))
    return pairs


def _labelled_texts(agents: object) -> list[tuple[str, str | Agent]]:
    single = isinstance(agents, str | os.PathLike)
    if not single and not isinstance(agents, Iterable):
        raise LramError(f"{_BY_LABEL}, not {type(agents).__name__}")
    pairs: list[tuple[str, str | Agent]] = []
    for one in [agents] if single else cast(Iterable[object], agents):
        if isinstance(one, os.PathLike):
            folder = _path_of(one)
            pairs.append((_name_of(Path(folder)), folder))
        elif isinstance(one, str):
            pairs.append(_labelled(one))
        else:
            raise LramError(f"{_BY_LABEL}, not {type(one).__name__}")
    return pairs


def _path_of(folder: os.PathLike[str]) -> str:
    """Return a folder's absolute path: as a path it names no agent, whatever it is called."""
    return str(Path(folder).resolve())


def refusal(label: str, agent: PlannedAgent, planned: PlannedTask) -> str | None:
    """Return why an agent cannot play a task, None when it can; LramError where it raises when asked."""
    spec = task_spec(planned)
    try:
        reason: object = agent.refuses(spec)
    except (LramError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise LramError(
            f"agent {label} raised {type_of(error)} when asked whether it can play "
            f"{planned.task.id}: {message_of(error)}; fix its method refuses"
        ) from error
    if reason is not None and not isinstance(reason, str):
        raise LramError(
            f"agent {label} gave a {type(reason).__name__} when asked whether it can play "
            f"{planned.task.id}; fix its method refuses, which gives a reason or None"
        )
    return None if reason is None else printable(reason)


def split_label(text: str) -> tuple[str, str]:
    """Return the label and the specification of an agent as it is named; no label: the first is empty.

    A folder that is there goes before a label: its name may have a ``=`` in it, as those of Hydra have.
    """
    match = None if _is_call(text) or _in_folder(text) else _LABELLED.fullmatch(text)
    # constant=0.5 is an agent with its value, not a label with its agent; and so is xlstm[layers=4]-16M
    whole = match is not None and match["label"].count("[") == match["label"].count("]")
    if match and whole and match["label"] != "constant" and not _is_context_like(text):
        return match["label"].strip(), match["spec"]
    return "", text


def _labelled(text: str) -> tuple[str, str]:
    if _is_call(text):
        return without_folder(text), _located(text)
    label, spec = split_label(text)
    located = _located(spec)
    if spec != text:
        return label, located
    return (_name_of(Path(located)) if _in_folder(text) else without_folder(text)), located


def _is_call(text: str) -> bool:
    """Return whether ``text`` is a factory with arguments and no label, such as ``mine:make(size=3)``."""
    head, mark, _ = text.partition("=")
    if not mark or head.count("(") <= head.count(")"):
        return False
    name = head.partition("(")[0]
    return bool(named_module(name)) or names_agent(name)


def _name_of(folder: Path) -> str:
    """Return the folder's name; of ``RUN/checkpoint``, with noise or a context or without, the training's."""
    rest = folder.name.removeprefix(_CHECKPOINT)
    if folder.name.startswith(_CHECKPOINT) and rest[:1] in ("", "@", "~") and folder.parent.name:
        return folder.parent.name + rest
    return folder.name


def _is_context_like(text: str) -> bool:
    """Return whether ``text`` is an agent with a context that is none, such as ``small-mamba@win=3``."""
    return re.fullmatch(r"[^=]*@\w+=\d+(~.*)?", text) is not None


def _located(spec: str) -> str:
    """Return ``spec``, a folder or file (also with context or noise) absolute, to resume from anywhere."""
    return str(Path(spec).resolve()) if _in_folder(spec) else with_absolute_file(spec, str(Path.cwd()))


def _in_folder(spec: str) -> bool:
    """Return whether ``spec`` is a folder, and not an agent's name that a folder here happens to have."""
    return not names_agent(spec) and parse_agent(spec).folder != ""


def _planned_tasks(request: RunRequest, place: PlanningPlace) -> tuple[list[PlannedTask], dict[str, str]]:
    """Return the tasks with their protocols, and the executables of the domains played elsewhere."""
    with as_lram_error():
        tasks = selected(request.tasks)
    names = dict.fromkeys(task.domain for task in tasks)
    chosen = dict(request.protocols or {})
    _check_named("a protocol", chosen, names)
    _check_named("an interpreter", request.interpreters or {}, names)
    interpreters = resolve(names, request.interpreters)
    protocols = place.protocols(tasks, chosen, interpreters)
    return [
        PlannedTask(_under(task, protocols[task.domain]), protocols[task.domain]) for task in tasks
    ], interpreters


def _under(task: Task, protocol: str) -> Task:
    """Return the row of ``task`` as it is under the protocol of that id."""
    domain = adapter(task.domain)
    if domain.under is None:
        return task
    return domain.under(task, domain.protocol(ProtocolId.parse(protocol).name))


def _check_named(what: str, given: Iterable[str], names: Iterable[str]) -> None:
    for name in given:
        if name not in names:
            raise LramError(f"{what} is given for the domain {name}, but none of its tasks is selected")
