"""Whether a record holds what can be written, read back and counted."""

from __future__ import annotations

import re
from dataclasses import replace

from lram.harness.storage.number_checks import LARGEST, LARGEST_INT
from lram.harness.storage.records import EpisodeRecord, Failure

_LATEST = 253402300800.0  # the year 10000, in seconds since the epoch: the end of what dates can tell
_TRAJECTORY = re.compile(r"[0-9a-f]{8}")


def flaw(record: EpisodeRecord) -> str:
    """Return what keeps ``record`` from being one, a clause about it; empty when nothing does.

    A scored one has a finite return, a length, a trajectory and an end; an errored one has a failure instead.
    No number is NaN, infinite or beyond what sums can carry, no count and no time below 0. It is asked of
    every record that is read, so it does without loops.
    """
    scored = record.status == "scored"
    if scored != (record.episode_return is not None) or scored != (record.length is not None):
        return "has a status that its return and length contradict"
    if scored != (record.failure is None):
        return "has a status that its failure contradicts"
    if record.episode_return is not None and not -LARGEST <= record.episode_return <= LARGEST:
        return f"has a return of {record.episode_return}"
    if record.parts and not all(-LARGEST <= part <= LARGEST for part in record.parts):
        return f"has inner returns of {record.parts}"
    if record.length is not None:
        if not 1 <= record.length <= LARGEST_INT:
            return f"has length {record.length}"
        if not _TRAJECTORY.fullmatch(record.trajectory):
            return f"has the trajectory checksum {record.trajectory!r}, which is none"
    if record.repeated is not None and not 0 <= record.repeated < (record.length or 1):
        return f"has {record.repeated} repeated of {record.length} decisions"
    if not 0 <= record.failures <= LARGEST_INT or record.episode < 0 or record.seed < 0:
        return f"has failures {record.failures}, episode {record.episode}, seed {record.seed}"
    if record.success_last and not record.success_any:
        return "was solved at the last step and at none"
    measured = record.measured
    if not (
        0 <= measured.wall_s < _LATEST
        and 0 <= measured.simulator_s < _LATEST
        and 0 <= measured.agent_s < _LATEST
        and 0 <= measured.started < _LATEST
        and 0 <= measured.held <= LARGEST_INT
        and -LARGEST_INT <= measured.lane <= LARGEST_INT
        and -LARGEST_INT <= measured.worker <= LARGEST_INT
    ):
        return f"has times that none can be: {measured}"
    return ""


def errored(record: EpisodeRecord, failure: Failure) -> EpisodeRecord:
    """Return ``record`` as one of an episode that gave no score; times that are none become 0."""
    measured = record.measured
    return replace(
        record,
        status="errored",
        episode_return=None,
        length=None,
        success_any=None,
        success_last=None,
        terminated=False,
        truncated=False,
        trajectory="",
        failure=failure,
        parts=(),
        repeated=None,
        measured=replace(
            measured,
            held=max(0, measured.held),
            started=_seconds(measured.started),
            wall_s=_seconds(measured.wall_s),
            simulator_s=_seconds(measured.simulator_s),
            agent_s=_seconds(measured.agent_s),
        ),
    )


def _seconds(value: float) -> float:
    return value if 0 <= value < _LATEST else 0.0
