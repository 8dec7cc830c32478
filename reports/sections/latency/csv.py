"""The tables of latencies, for programs: one row a fact, full precision."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from lram.harness.latency.folder import LatencyRun
from lram.reports.sections.latency.model import Clock, Result
from lram.reports.tables import Row, csv_of


def csv_files(runs: Sequence[LatencyRun], result: Result) -> dict[str, bytes]:
    """Return the content of every table by file name."""
    return {
        "latency_points.csv": csv_of(_point_rows(result)),
        "latency_crossovers.csv": csv_of(_crossing_rows(result)),
        "latency_rates.csv": csv_of(_rate_rows(result)),
        "latency_processes.csv": csv_of(_process_rows(runs)),
    }


def _point_rows(result: Result) -> Iterator[Row]:
    for spot in result.spots:
        one = result.subjects[spot.subject]
        row: Row = {
            "agent": one.label,
            "step": one.step,
            "form": one.facts.get("form"),
            "folder": one.folder,
            "batch": spot.batch,
            "context": spot.context,
            "outcome": spot.outcome,
            "input_audit": spot.audit,
            "repeated_over_distinct": None if spot.repeated is None else spot.repeated.value,
            "distinct_inputs": one.distinct,
            "held": spot.held,
            "state_bytes": spot.state_bytes,
            "peak_bytes": spot.peak_bytes,
        }
        for name in ("agent", "model", "loop"):
            clock: Clock | None = getattr(spot, name)
            row |= {
                f"{name}_ms": None if clock is None else clock.median.value,
                f"{name}_ms_low": None if clock is None else clock.median.low,
                f"{name}_ms_high": None if clock is None else clock.median.high,
                f"{name}_p90_ms": None if clock is None else clock.p90,
                f"{name}_p99_ms": None if clock is None else clock.p99,
                f"{name}_decisions": None if clock is None else clock.decisions,
                f"{name}_processes": None if clock is None else clock.processes,
            }
        yield row


def _crossing_rows(result: Result) -> Iterator[Row]:
    for one in result.crossings:
        first, second = result.subjects[one.first], result.subjects[one.second]
        yield {
            "first": first.name,
            "second": second.name,
            "batch": one.batch,
            "where": "cannot tell" if one.at is None else one.at.where,
            "context": None if one.at is None else one.at.context,
            "low": None if one.low is None else str(one.low),
            "high": None if one.high is None else str(one.high),
            "first_faster_at": " ".join(map(str, one.first_faster)),
            "second_faster_at": " ".join(map(str, one.second_faster)),
            "cannot_tell_at": " ".join(map(str, one.unclear)),
        }


def _rate_rows(result: Result) -> Iterator[Row]:
    for fit in result.fits:
        yield {
            "agent": result.subjects[fit.subject].name,
            "batch": fit.batch,
            "hz": fit.hz,
            "fits_at": " ".join(map(str, fit.fits)),
            "late_at": " ".join(map(str, fit.misses)),
            "unknown_at": " ".join(map(str, fit.unknown)),
        }


def _process_rows(runs: Sequence[LatencyRun]) -> Iterator[Row]:
    for folder, run in enumerate(runs):
        for point in run.points():
            clocks = {"agent": point.agent_ns, "model": point.model_ns, "loop": point.loop_ns}
            row: Row = {
                "folder": folder,
                "agent": point.job.agent,
                "step": point.job.step,
                "batch": point.job.batch,
                "process": point.job.repeat,
                "context": point.context,
                "outcome": point.outcome,
                "read": point.read,
                "warm": point.warm,
                "other_cores": None if point.load is None else point.load.other_cores,
            }
            for name, taken in clocks.items():
                ordered = sorted(taken)
                row[f"{name}_decisions"] = len(ordered)
                row[f"{name}_least_ms"] = ordered[0] / 1e6 if ordered else None
                row[f"{name}_median_ms"] = statistics.median(ordered) / 1e6 if ordered else None
                row[f"{name}_most_ms"] = ordered[-1] / 1e6 if ordered else None
            yield row
