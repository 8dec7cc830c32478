"""From what the steps wrote to rows of the record; what is not there, or not whole, gives none."""

from __future__ import annotations

import json
import statistics
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import msgspec

from gpu.record import CheckRow, EvaluationRow, GpuRecord, LatencyRow, StepRow, TrainingRow
from lram.harness.bench.record import BenchRecord
from lram.harness.bench.train import TrainRecord
from lram.harness.errors import LramError
from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import OK, LatencyPlan, LatencyPoint
from lram.harness.storage.run_folder import Run

BENCHES = ("bench-*.json", "throughput.json", "package-*.json")
TRAININGS = ("train.json", "train-*.json")


def collected(record: GpuRecord, output: Path) -> GpuRecord:
    """Return ``record`` with all that the steps have written into ``output``."""
    bench, training, notes = [], [], list(record.notes)
    for file in _files(output, BENCHES):
        benchmark = msgspec.json.decode(file.read_bytes(), type=BenchRecord)
        bench += step_rows(file.stem, benchmark)
        notes += benchmark.notes
    for file in _files(output, TRAININGS):
        trained = msgspec.json.decode(file.read_bytes(), type=TrainRecord)
        training += training_rows(file.stem, trained)
        notes += trained.notes
    return replace(
        record,
        tests=test_results(output / "tests.xml"),
        checks=[row for file in _files(output, ("check-*.json",)) for row in check_rows(file)],
        latency=[row for folder in sorted(output.glob("latency-*")) for row in latency_rows(folder)],
        bench=bench,
        training=training,
        evaluation=evaluation_rows(output / "evaluation"),
        notes=list(dict.fromkeys(notes)),
    )


def _files(output: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [file for pattern in patterns for file in sorted(output.glob(pattern)) if file.stat().st_size]


def test_results(file: Path) -> dict[str, int]:
    """Return how many device tests had which result."""
    if not file.is_file():
        return {}
    suites = ET.parse(file).getroot().iter("testsuite")
    total: dict[str, int] = defaultdict(int)
    for suite in suites:
        counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
        total["failed"] += counts["failures"] + counts["errors"]
        total["skipped"] += counts["skipped"]
        total["passed"] += counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    return dict(total)


def check_rows(file: Path) -> list[CheckRow]:
    """Return what ``lram check --json`` printed."""
    _, form, precision = file.stem.split("-", 2)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # it was ended while it printed, or said why it could not
        return []
    rows = []
    for one in found:
        by_status: dict[str, list[str]] = defaultdict(list)
        for check in one["checks"]:
            by_status[check["status"]].append(f"{check['name']} on {check['subject']}: {check['measured']}")
        rows.append(
            CheckRow(
                agent=one["agent"],
                form=form,
                precision=precision,
                passed=len(by_status["passed"]),
                failed=len(by_status["failed"]),
                skipped=len(by_status["skipped"]),
                failures=by_status["failed"],
            )
        )
    return rows


def latency_rows(folder: Path) -> list[LatencyRow]:
    """Return what a sweep holds so far."""
    try:
        run = LatencyRun(folder)
        points = run.points()
    except LramError:
        return []
    groups: dict[tuple[str, str, int, int], list[LatencyPoint]] = defaultdict(list)
    for point in points:
        groups[point.job.agent, point.job.step, point.job.batch, point.context].append(point)
    return [_latency_row(key, group, run.plan) for key, group in sorted(groups.items())]


def _latency_row(key: tuple[str, str, int, int], points: list[LatencyPoint], plan: LatencyPlan) -> LatencyRow:
    agent, step, batch, context = key
    task = plan.task.task.id
    done = [point for point in points if point.outcome == OK]
    if not done:
        return LatencyRow(agent, batch, context, step, plan.precision, plan.windows, points[0].outcome, task)
    taken = sorted(ns for point in done for ns in point.agent_ns)
    model = [ns for point in done for ns in point.model_ns]
    read = [point for point in done if point.energy_j]
    return LatencyRow(
        agent=agent,
        batch=batch,
        context=context,
        form=done[0].facts.get("form", step),
        precision=plan.precision,
        windows=plan.windows,
        outcome=OK,
        task=task,
        detail=done[0].facts.get("step", ""),
        agent_ms=statistics.median(taken) / 1e6,
        model_ms=statistics.median(model) / 1e6 if model else None,
        p90_ms=taken[-(-9 * len(taken) // 10) - 1] / 1e6,
        decisions=len(taken),
        processes=len(done),
        state_bytes=done[0].state_bytes,
        weight_bytes=done[0].weight_bytes,
        peak_bytes=max(point.peak_bytes for point in done),
        joules=sum(point.energy_j for point in read) / sum(len(point.agent_ns) for point in read)
        if read
        else None,
    )


def step_rows(source: str, record: BenchRecord) -> list[StepRow]:
    """Return the rows of a benchmark of steps."""
    return [
        StepRow(
            source=source,
            model=row.model,
            form=row.form,
            rows=row.rows,
            context=row.context,
            cache=row.cache,
            precision=record.settings.precision,
            ms=row.timing.median.median,
            limit_ms=row.limit_ms,
            baseline=row.ratio.baseline if row.ratio else "",
            times=row.ratio.times.median if row.ratio else None,
        )
        for row in record.rows
    ]


def training_rows(source: str, record: TrainRecord) -> list[TrainingRow]:
    """Return the rows of a benchmark of training steps."""
    return [
        TrainingRow(
            source=source,
            model=row.model,
            form=row.form,
            precision=record.precision,
            sequences=row.sequences,
            context=row.context,
            tokens_per_s=row.tokens_per_s,
            baseline=row.ratio.baseline if row.ratio else "",
            times=row.ratio.times.median if row.ratio else None,
        )
        for row in record.rows
    ]


def evaluation_rows(folder: Path) -> list[EvaluationRow]:
    """Return what a run holds so far, by agent."""
    try:
        run = Run(folder)
        records = [record for record in run.records() if record.status == "scored"]
        sessions = run.provenance()
    except LramError:
        return []
    settings = sessions[-1].settings if sessions else {}
    rows = []
    for entry in run.plan.agents:
        own = [record for record in records if record.agent == entry.label]
        if not own:
            continue
        began = min(record.measured.started for record in own)
        seconds = max(record.measured.started + record.measured.wall_s for record in own) - began
        decisions = sum(record.length or 0 for record in own)
        rows.append(
            EvaluationRow(
                agent=entry.label,
                tasks=", ".join(dict.fromkeys(record.task for record in own)),
                lanes=settings.get("lanes", ""),
                workers=settings.get("workers", ""),
                episodes=len(own),
                decisions=decisions,
                seconds=seconds,
                decisions_per_s=decisions / seconds if seconds else 0.0,
                overlap=settings.get("overlap", ""),
            )
        )
    return rows
