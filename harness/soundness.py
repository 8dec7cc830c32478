"""Whether a record holds what can be written, read back and counted."""

from __future__ import annotations

import math
from dataclasses import replace

from lram.harness.records import EpisodeRecord, Failure, Measured

_COUNTS = ("length", "repeated", "failures", "episode", "seed")
_SECONDS = ("started", "wall_s", "simulator_s", "agent_s")


def flaw(record: EpisodeRecord) -> str:
    """Return what keeps ``record`` from being one, a clause about it; empty when nothing does.

    A scored one has a finite return, a length and an end; an errored one has none of them and a failure. No
    number is NaN or infinite, no count and no time below 0.
    """
    scored = record.status == "scored"
    if scored != (record.episode_return is not None) or scored != (record.length is not None):
        return "has a status that its return and length contradict"
    if scored != (record.failure is None):
        return "has a status that its failure contradicts"
    for value in (record.episode_return, *record.parts):
        if value is not None and not math.isfinite(value):
            return f"has a return of {value}"
    for name in _COUNTS:
        value = getattr(record, name)
        if value is not None and value < 0:
            return f"has {name} {value}"
    return _measured_flaw(record.measured)


def _measured_flaw(measured: Measured) -> str:
    for name in _SECONDS:
        value = getattr(measured, name)
        if not (math.isfinite(value) and value >= 0):
            return f"has {name} {value}"
    return f"has {measured.held} steps held" if measured.held < 0 else ""


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
    return value if math.isfinite(value) and value >= 0 else 0.0
