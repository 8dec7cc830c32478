"""What episodes cost, from records: seconds, decisions and bytes of some that were measured together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

import msgspec

from lram.agents.checksums import sign_line
from lram.envs.task import Task
from lram.harness.storage.records import EpisodeRecord

ENOUGH = 5
"""Measured episodes of a task from which on the longest of them stands for the longest to come."""


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most that something comes to, under assumptions that are stated beside it."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Range:
        """Return the range of ``factor`` (0 or more) such things."""
        return Range(self.low * factor, self.high * factor)


def span(values: Iterable[float]) -> Range:
    """Return the smallest and the largest of some values."""
    found = list(values)
    return Range(min(found), max(found))


NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class MeasuredSession:
    """Episodes of one agent in one domain that were measured together.

    Attributes:
        where: What measured them, in words.
        lanes: Episodes that were played at the same time, at most.
        workers: Simulator processes.
        pace: Episodes that were in flight on average: seconds of episodes in a second.
        records: Those that were scored, without the first of each simulator process where others are there.
        start_s: The longest of those first ones, which starts a process and a simulator.
    """

    where: str
    lanes: int
    workers: int
    pace: float
    records: Sequence[EpisodeRecord]
    start_s: float


def measured_session(
    where: str, lanes: int, workers: int, played: Sequence[EpisodeRecord], mine: Sequence[EpisodeRecord]
) -> MeasuredSession | None:
    """Return what a session measured of one agent in one domain; None where nothing of it was scored.

    Args:
        where: What it was, in words.
        lanes: It had.
        workers: It had.
        played: Everything that it played, for its pace.
        mine: What it played of the agent in the domain.
    """
    first: dict[int, EpisodeRecord] = {}
    for record in sorted(played, key=lambda record: record.measured.started):
        first.setdefault(record.measured.worker, record)
    cold = {id(record) for record in first.values()}
    scored = [record for record in mine if record.status == "scored" and record.length]
    warm = [record for record in scored if id(record) not in cold]
    if not scored:
        return None
    begun = min(record.measured.started for record in played)
    ended = max(record.measured.started + record.measured.wall_s for record in played)
    seconds = sum(record.measured.wall_s for record in played)
    pace = max(1.0, min(float(lanes), seconds / (ended - begun))) if ended > begun else 1.0
    start = max((record.measured.wall_s for record in scored if id(record) in cold), default=0.0)
    return MeasuredSession(where, lanes, workers, pace, warm or scored, start)


@dataclass(frozen=True, slots=True)
class EpisodeCost:
    """What one episode of an agent on a task costs.

    Attributes:
        wall_s: Seconds in its lane.
        simulator_s: Seconds of the simulator.
        agent_s: Its share of the agent's seconds.
        bytes: Of its record.
    """

    wall_s: Range
    simulator_s: Range
    agent_s: Range
    bytes: Range


def episode_cost(task: Task, session: MeasuredSession) -> EpisodeCost:
    """Return what an episode of ``task`` costs by what ``session`` measured.

    Where the task was measured itself, from the shortest to the longest of its episodes; of fewer than
    :data:`ENOUGH`, up to one that lasts to the task's horizon. Where other tasks of the domain were, their
    seconds a decision, from the smallest share of its horizon that one of them lasted to the whole horizon.
    """
    own = [record for record in session.records if record.task == task.id]
    records = own or list(session.records)
    lengths = _lengths(task, own, session)

    def seconds(of: str) -> Range:
        each = span(getattr(record.measured, of) / (record.length or 1) for record in records)
        made = Range(each.low * lengths.low, each.high * lengths.high)
        if not own:
            return made
        found = span(getattr(record.measured, of) for record in own)
        return Range(found.low, found.high if len(own) >= ENOUGH else max(found.high, made.high))

    sizes = span(len(sign_line(msgspec.json.encode(record))) + 1 for record in records)
    return EpisodeCost(seconds("wall_s"), seconds("simulator_s"), seconds("agent_s"), sizes)


def _lengths(task: Task, own: Sequence[EpisodeRecord], session: MeasuredSession) -> Range:
    """Return the decisions of the shortest and of the longest episode to expect."""
    horizon = float(task.horizon or 0)
    if own:
        found = span(record.length or 1 for record in own)
        return found if len(own) >= ENOUGH else Range(found.low, max(found.high, horizon))
    found = span(record.length or 1 for record in session.records)
    return Range(min(found.low, horizon or inf), max(horizon, 0.0 if horizon else found.high))
