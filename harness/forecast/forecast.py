"""An evaluation before it is played: what it would play, whether it could, how long and on how much disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lram.agents.checksums import sign_file
from lram.envs.task import Task
from lram.harness.computing import of_models
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.local import LOCAL
from lram.harness.forecast.costs import NOTHING, MeasuredSession, Range, episode_cost
from lram.harness.forecast.past import past_sessions
from lram.harness.forecast.trial import play_trials
from lram.harness.interpreters.choosing import resolve
from lram.harness.interpreters.readiness import adapter, readiness
from lram.harness.machine import Machine, calm_threads, cores, rollout_settings
from lram.harness.plan import RunRequest, plan_for
from lram.harness.selecting import selected
from lram.harness.storage.json_files import encode
from lram.harness.storage.records import RunPlan, Skipped


@dataclass(frozen=True, slots=True)
class DomainReadiness:
    """Whether a domain can be played here.

    Attributes:
        domain: Its name.
        tasks: How many of it are selected.
        protocol: Id of the protocol that it would be played under; empty where it cannot.
        python: The Python that plays it; empty: lram's own.
        problem: Why it cannot be played, with what helps; empty where it can.
    """

    domain: str
    tasks: int
    protocol: str
    python: str
    problem: str


@dataclass(frozen=True, slots=True)
class ForecastPart:
    """The episodes of an agent in a domain.

    Attributes:
        agent: Its label.
        domain: The domain's name.
        tasks: Tasks that the agent can play.
        episodes: Over all these tasks.
        measured: What measured such episodes, in words; empty where nothing did.
        problem: Why nothing did; empty otherwise.
        seconds: That all of them take, by themselves; None where nothing was measured.
        bytes: Of their records; likewise.
    """

    agent: str
    domain: str
    tasks: int
    episodes: int
    measured: str
    problem: str
    seconds: Range | None
    bytes: Range | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an evaluation would play.

    Attributes:
        agents: Labels; empty where no domain can be played.
        tasks: Selected tasks.
        episodes: Episodes per agent and task.
        planned: Episodes in all, of what can be played.
        skipped: Pairs of agent and task that are left out, and why.
        domains: Whether each domain can be played.
        lanes: Episodes at the same time, at most.
        workers: Simulator processes.
        parts: By agent and domain.
        seconds: From the first episode's begin to the last one's end, of the parts that were measured; None
            where none was. It leaves out what loading and checking the agents takes.
        bytes: Of plan and records, of the same parts. It leaves out the provenance of each session, some
            kB, and what simulators print.
        unread: Past runs that could not be read, a sentence each.
    """

    agents: tuple[str, ...]
    tasks: int
    episodes: int
    planned: int
    skipped: tuple[Skipped, ...]
    domains: tuple[DomainReadiness, ...]
    lanes: int
    workers: int
    parts: tuple[ForecastPart, ...]
    seconds: Range | None
    bytes: Range | None
    unread: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """Why domains cannot be played, a sentence each."""
        return [one.problem for one in self.domains if one.problem]


def forecast(
    request: RunRequest, machine: Machine, past: Path | None = None, *, silent: bool = False
) -> Forecast:
    """Return what an evaluation on this machine would play; nothing is written.

    What it costs is taken from the runs in ``past``, and where they have measured nothing of an agent in a
    domain, from a trial of two episodes that is played now.

    Args:
        request: What is asked for.
        machine: How the work would be spread.
        past: Folder in which runs lie (None: there are none).
        silent: Say nothing on standard error.

    Raises:
        LramError: As for :func:`lram.harness.evaluation.evaluate`, but for domains that cannot be played:
            they are among ``domains``, and left out of the rest.
    """
    machine.check()
    calm_threads()
    with as_lram_error():
        tasks = selected(request.tasks)
    domains = examined(tasks, request.protocols or {}, request.interpreters or {})
    ready = {one.domain for one in domains if not one.problem}
    if not ready:
        return Forecast((), len(tasks), request.episodes, 0, (), domains, 0, 0, (), None, None, ())
    lacking = {task.domain for task in tasks} - ready
    with LOCAL.open(machine) as session:
        plan, built = plan_for(
            replace(
                request,
                tasks=[task.id for task in tasks if task.domain in ready],
                protocols={
                    name: one for name, one in (request.protocols or {}).items() if name not in lacking
                },
                interpreters={
                    name: one for name, one in (request.interpreters or {}).items() if name not in lacking
                },
            ),
            session,
        )
    compute = of_models(built, machine.compute(), machine.threads)
    measured, unread = past_sessions(past, plan, compute) if past is not None else ({}, [])
    pairs = dict.fromkeys((agent, task.partition("/")[0]) for agent, task in plan.pairs())
    trials, failed = play_trials(
        plan, built, [pair for pair in pairs if pair not in measured], machine, silent=silent
    )
    return _put_together(plan, len(tasks), domains, machine, {**measured, **trials}, failed, unread)


def examined(
    tasks: Sequence[Task], protocols: Mapping[str, str], interpreters: Mapping[str, str]
) -> tuple[DomainReadiness, ...]:
    """Return whether each domain of ``tasks`` can be played on this machine."""
    names = list(dict.fromkeys(task.domain for task in tasks))
    found = []
    pythons = resolve(names, interpreters)
    for name in names:
        mine = [task.name for task in tasks if task.domain == name]
        protocol = problem = ""
        try:
            made = readiness(adapter(name), mine, pythons.get(name), protocols.get(name))
            protocol = made.protocol.id(name)
        except LramError as error:
            problem = str(error)
        found.append(DomainReadiness(name, len(mine), protocol, pythons.get(name, ""), problem))
    return tuple(found)


def _put_together(
    plan: RunPlan,
    tasks: int,
    domains: tuple[DomainReadiness, ...],
    machine: Machine,
    measured: Mapping[tuple[str, str], MeasuredSession],
    failed: Mapping[tuple[str, str], str],
    unread: Sequence[str],
) -> Forecast:
    planned = len(plan.pairs()) * plan.episodes
    settings = rollout_settings(plan, machine, planned, machine.workers or cores())
    sums = _Sums(settings.lanes, settings.workers, machine.rows)
    known = {task.task.id: task.task for task in plan.tasks}
    parts = []
    for label, domain in dict.fromkeys((agent, task.partition("/")[0]) for agent, task in plan.pairs()):
        mine = [
            known[task] for agent, task in plan.pairs() if agent == label and task.startswith(f"{domain}/")
        ]
        session = measured.get((label, domain))
        own = _Sums(settings.lanes, settings.workers, machine.rows)
        if session is not None:
            for one in (own, sums):
                one.add(domain, mine, plan.episodes, session)
        parts.append(
            ForecastPart(
                agent=label,
                domain=domain,
                tasks=len(mine),
                episodes=len(mine) * plan.episodes,
                measured="" if session is None else session.where,
                problem=failed.get((label, domain), ""),
                seconds=own.seconds(),
                bytes=None if session is None else own.bytes,
            )
        )
    fixed = len(sign_file(encode(plan)))
    return Forecast(
        agents=tuple(agent.label for agent in plan.agents),
        tasks=tasks,
        episodes=plan.episodes,
        planned=planned,
        skipped=plan.skipped,
        domains=domains,
        lanes=settings.lanes,
        workers=settings.workers,
        parts=tuple(parts),
        seconds=sums.seconds(),
        bytes=sums.bytes + Range(fixed, fixed) if any(part.measured for part in parts) else None,
        unread=tuple(unread),
    )


class _Sums:
    """Adds up episodes that share lanes, simulator processes and passes.

    At best, more lanes or processes than were measured raise the pace in proportion, and no resource is used
    better than fully; at worst, they do not raise it at all, every process is started after the other, and
    the longest episode is played last and alone.
    """

    def __init__(self, lanes: int, workers: int, rows: int) -> None:
        self._lanes, self._workers, self._rows = lanes, workers, rows
        self._paced = self._simulator = self._agent = self.bytes = NOTHING
        self._last = 0.0
        self._start: dict[str, float] = {}

    def add(self, domain: str, tasks: Sequence[Task], episodes: int, session: MeasuredSession) -> None:
        """Add ``episodes`` episodes of each task, by what ``session`` measured."""
        ratios = (1.0, self._lanes / session.lanes, self._workers / session.workers)
        for task in tasks:
            cost = episode_cost(task, session)
            wall = cost.wall_s.times(episodes)
            paced = Range(wall.low / (session.pace * max(ratios)), wall.high / (session.pace * min(ratios)))
            self._paced += paced
            self._simulator += cost.simulator_s.times(episodes)
            self._agent += cost.agent_s.times(episodes)
            self.bytes += cost.bytes.times(episodes)
            self._last = max(self._last, cost.wall_s.high)
        self._start[domain] = max(self._start.get(domain, 0.0), session.start_s)

    def seconds(self) -> Range | None:
        """Return what all of it takes; None where nothing was added."""
        if not self._start:
            return None
        shared = max(1, min(self._rows, self._lanes))
        low = max(self._paced.low, self._simulator.low / self._workers, self._agent.low / shared)
        return Range(low, self._paced.high + self._last + self._workers * sum(self._start.values()))
