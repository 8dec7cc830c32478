"""Which folders stand in one table: those of the same tasks, protocols, references, domains' code and rate.

Scores over other tasks, under other protocols, by other code, from other references or in worlds of another
rate (``--realtime``) are other quantities: they are not ranked together, and the page says why; a folder of
several rates stands in several tables. In a table, agents of one label that are one agent are one entry,
whichever folders they come from; those that are two are told apart by their folders' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lram.harness.domain_files import differing
from lram.harness.storage.records import AgentEntry, DomainSource, PlannedTask
from lram.harness.storage.run_folder import Run
from lram.harness.words import count
from lram.reports.comparison.worlds import worlds
from lram.reports.evidence.collect import same_agent, with_code
from lram.reports.evidence.named_runs import PartOfRun
from lram.reports.leaderboard_site.folders import BoardFolder, unused
from lram.reports.text import listing


@dataclass(frozen=True, slots=True)
class BoardGroup:
    """Folders whose entries compare.

    Attributes:
        folders: In the order in which they were named.
        runs: Their runs, under labels that are unique in the group.
        sources: By label of the group: names of the folders that it comes from.
        entries: By label of the group: the agent as the first plan that notes its code has it, if any does.
        apart: Why the group does not stand in the first table; empty for the first.
    """

    folders: tuple[BoardFolder, ...]
    runs: tuple[Run, ...]
    sources: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, AgentEntry]
    apart: str = ""


@dataclass(frozen=True, slots=True)
class _Played:
    """What decides whether scores compare."""

    tasks: frozenset[tuple[str, str, float | None, float | None]]
    collected: bool
    realtime_hz: float


@dataclass(slots=True)
class _Alike:
    """Folders that compare: what was played, and by which code of domains from files.

    A run of an earlier version notes no code, and compares with any.
    """

    played: _Played
    domain_files: dict[str, DomainSource]
    folders: list[BoardFolder]


def group(folders: Sequence[BoardFolder]) -> list[BoardGroup]:
    """Return the groups of ``folders``, the one of the most folders first."""
    found: list[_Alike] = []
    for folder in (part for whole in folders for part in _by_rate(whole)):
        played, files = _played(folder.runs), _domain_files(folder.runs)
        known = next(
            (one for one in found if one.played == played and not differing(one.domain_files, files)), None
        )
        if known is None:
            found.append(_Alike(played, files, [folder]))
        else:
            known.domain_files = {**files, **known.domain_files}
            known.folders.append(folder)
    found.sort(key=lambda one: -len(one.folders))
    return [
        _labelled(one.folders, _apart(found[0], one) if number else "") for number, one in enumerate(found)
    ]


def _domain_files(runs: Sequence[Run]) -> dict[str, DomainSource]:
    """Return the sources of the domains from files that the runs note; runs of one folder note the same."""
    return {name: source for run in runs for name, source in run.plan.domain_files.items()}


def _played(runs: Sequence[Run]) -> _Played:
    def key(planned: PlannedTask) -> tuple[str, str, float | None, float | None]:
        task = planned.task
        return task.id, planned.protocol, task.score_random, task.score_reference

    return _Played(
        frozenset(key(planned) for run in runs for planned in run.plan.tasks),
        any(run.plan.collected for run in runs),
        runs[0].plan.realtime_hz,
    )


def _by_rate(folder: BoardFolder) -> list[BoardFolder]:
    """Return a folder a rate of the world that its runs have, in their order."""
    rates = dict.fromkeys(run.plan.realtime_hz for run in folder.runs)
    return [
        replace(folder, runs=tuple(run for run in folder.runs if run.plan.realtime_hz == hz)) for hz in rates
    ]


def _apart(main: _Alike, group: _Alike) -> str:
    """Return a clause on why scores of ``group`` do not compare with those of ``main``."""
    first, other = main.played, group.played
    if first.collected != other.collected:
        which = ("these", "those") if other.collected else ("those", "these")
        return f"{which[0]} are of a collection, whose initial states are not those of an evaluation"
    differences = []
    if apart := worlds((first.realtime_hz, other.realtime_hz)):
        differences.append(f"its agents and those of the first table acted in {apart}")
    theirs, ours = ({one[0]: one[1:] for one in played.tasks} for played in (first, other))
    shared = sorted(theirs.keys() & ours.keys())
    if protocols := [task for task in shared if theirs[task][0] != ours[task][0]]:
        task = protocols[0]
        differences.append(
            f"{count(len(protocols), 'task')} ran under another protocol ({task}: {ours[task][0]} here, "
            f"{theirs[task][0]} there)"
        )
    if references := [task for task in shared if theirs[task][1:] != ours[task][1:]]:
        differences.append(f"scores have other references ({listing(references, 3)})")
    if more := sorted(ours.keys() - theirs.keys()):
        differences.append(
            f"{count(len(more), 'task')} of it {_are(more)} not in the first table ({listing(more, 3)})"
        )
    if fewer := sorted(theirs.keys() - ours.keys()):
        differences.append(
            f"{count(len(fewer), 'task')} of the first table {_are(fewer)} not in it ({listing(fewer, 3)})"
        )
    if changed := differing(main.domain_files, group.domain_files):
        differences.append(f"another source of {listing(changed, 3)} played it")
    return "; ".join(differences)


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


def _labelled(folders: Sequence[BoardFolder], apart: str) -> BoardGroup:
    called = {label: _told_apart(places) for label, places in _called(folders).items()}
    used = [label for label, agents in called.items() if len(agents) == 1]
    labels: dict[tuple[str, str], str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    entries: dict[str, AgentEntry] = {}
    for label, agents in called.items():
        for agent, places in agents:
            new = label
            if len(agents) > 1:
                new = unused(f"{label} ({_printable(places[0].name)})", used)
                used.append(new)
            sources[new] = tuple(place.name for place in places)
            entries[new] = agent
            labels |= {(place.name, label): new for place in places}
    runs = tuple(
        _renamed(run, {agent.label: labels[folder.name, agent.label] for agent in run.plan.agents})
        for folder in folders
        for run in folder.runs
    )
    return BoardGroup(tuple(folders), runs, sources, entries, apart)


def _called(folders: Sequence[BoardFolder]) -> dict[str, list[tuple[AgentEntry, BoardFolder]]]:
    """Return by label the agents that are called so; the runs of a folder hold one of each label."""
    found: dict[str, dict[str, tuple[AgentEntry, BoardFolder]]] = {}
    for folder in folders:
        for agent in (agent for run in folder.runs for agent in run.plan.agents):
            known, _ = found.setdefault(agent.label, {}).get(folder.name, (agent, folder))
            found[agent.label][folder.name] = with_code(known, agent), folder
    return {label: list(by_folder.values()) for label, by_folder in found.items()}


_Entries = list[tuple[AgentEntry, list[BoardFolder]]]
"""Agents, each with the folders that it is in."""


def _told_apart(places: Sequence[tuple[AgentEntry, BoardFolder]]) -> _Entries:
    """Return the agents of one label, whatever the order of ``places``.

    A run of an earlier version notes no code, so that its agent may be any of those that differ in theirs
    alone. It is that one where there is one, and stands for itself where they are several.
    """
    coded: _Entries = []
    others: _Entries = []
    for agent, folder in (place for place in places if place[0].code):
        _put(coded, agent, folder)
    for agent, folder in (place for place in places if not place[0].code):
        candidates = [entry for entry in coded if same_agent(entry[0], agent)]
        _put(candidates if len(candidates) == 1 else others, agent, folder)
    order = {folder.name: number for number, (_, folder) in enumerate(places)}
    found = [(agent, sorted(inside, key=lambda one: order[one.name])) for agent, inside in [*coded, *others]]
    return sorted(found, key=lambda entry: order[entry[1][0].name])


def _put(entries: _Entries, agent: AgentEntry, folder: BoardFolder) -> None:
    """Add ``folder`` to the entry of ``agent``, or make one."""
    for known, inside in entries:
        if same_agent(known, agent):
            inside.append(folder)
            return
    entries.append((agent, [folder]))


def _printable(name: str) -> str:
    """Return a folder's name as a part of a label, which holds no ``|`` and nothing hidden."""
    return "".join(one if one.isprintable() and one != "|" else "_" for one in name)


def _renamed(run: Run, labels: Mapping[str, str]) -> Run:
    return run if all(label == new for label, new in labels.items()) else PartOfRun(run, labels)
