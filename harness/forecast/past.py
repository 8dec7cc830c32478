"""What past runs of this machine measured of an evaluation's agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from lram.harness.errors import LramError
from lram.harness.forecast.costs import MeasuredSession, measured_session
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import AgentEntry, EpisodeRecord, Provenance, RunPlan
from lram.harness.storage.run_folder import PLAN_FILE, Run

Sessions = dict[tuple[str, str], MeasuredSession]
"""By label of an agent and name of a domain."""


def past_sessions(
    folder: Path, plan: RunPlan, compute: Mapping[str, Mapping[str, str]]
) -> tuple[Sessions, list[str]]:
    """Return the newest sessions in the runs of ``folder`` that measured what ``plan`` is to play.

    A session counts for an agent where it ran on this machine (processor, cores, GPU), the agent was the same
    (digest) and computed in the same way, and the domain was played under the same protocol and pace.

    Args:
        folder: Its folders are looked at, not what is in them.
        plan: What is to be played.
        compute: By label, how models compute here.

    Returns:
        Sessions, and a sentence for each run that cannot be read.
    """
    here = collect({}, {})
    wanted = {(agent, task.partition("/")[0]) for agent, task in plan.pairs()}
    found: Sessions = {}
    unread = []
    for place in _newest_first(folder):
        if wanted <= found.keys():
            break
        try:
            of_run = dict(_of_run(Run(place), plan, compute, here))  # of several sessions the last one counts
        except LramError as error:
            unread.append(str(error))
        else:
            found = {**of_run, **found}
    return found, unread


def _newest_first(folder: Path) -> list[Path]:
    """Return the runs in a folder, the one that was begun last first."""
    begun = {}
    for plan in folder.glob(f"*/{PLAN_FILE}") if folder.is_dir() else ():
        with suppress(OSError):  # it has just been moved away
            begun[plan.parent] = plan.stat().st_mtime_ns
    return sorted(begun, key=lambda place: (-begun[place], place))


def _of_run(
    run: Run, plan: RunPlan, compute: Mapping[str, Mapping[str, str]], here: Provenance
) -> Iterator[tuple[tuple[str, str], MeasuredSession]]:
    """Yield an agent and a domain of ``plan``, and what a session of ``run`` measured of them."""
    if run.plan.realtime_hz != plan.realtime_hz or run.plan.collected:
        return
    same = {
        (theirs.label, ours.label)
        for theirs in run.plan.agents
        for ours in plan.agents
        if _identity(theirs) == _identity(ours)
    }
    protocols = {one.task.domain: one.protocol for one in plan.tasks}
    domains = {one.task.domain for one in run.plan.tasks if protocols.get(one.task.domain) == one.protocol}
    if not same or not domains:
        return
    sessions = run.sessions()
    played: dict[str, list[EpisodeRecord]] = {}
    for record, segment in run.settled():
        if not record.measured.node:
            played.setdefault(segment, []).append(record)
    for segment, records in sorted(played.items()):
        made = sessions.get(segment)
        if made is None or (made.cpu, made.cores, made.gpu) != (here.cpu, here.cores, here.gpu):
            continue
        lanes, workers = (made.settings.get(name, "") for name in ("lanes", "workers"))
        if not (lanes.isdecimal() and workers.isdecimal()):
            continue
        for theirs, ours in sorted(same):
            if made.compute.get(theirs, {}) != compute.get(ours, {}):
                continue
            for domain in sorted(domains):
                mine = [one for one in records if (one.agent, one.task.partition("/")[0]) == (theirs, domain)]
                session = measured_session(f"run {run.path}", int(lanes), int(workers), records, mine)
                if session is not None:
                    yield (ours, domain), session


def _identity(entry: AgentEntry) -> tuple[object, ...]:
    info = entry.info
    spec = "" if info.digest else entry.spec  # what tells no digest is known by how it is built
    return info.kind, info.description, info.digest, spec, tuple(sorted(entry.code.items()))
