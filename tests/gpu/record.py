"""The one JSON of ``run.sh``: what was measured on a GPU, with what, and what was left out.

A file has the fields of :class:`GpuRecord`. Times are milliseconds unless a name says otherwise, memory is
bytes, and a row that could not be measured says why in ``outcome``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

SCHEMA = 1

Status = Literal["ok", "failed", "out of time", "skipped"]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The device and what drives it.

    Attributes:
        device: As it was asked for: ``cuda``, ``cuda:1``, ``cpu``.
        name: Its model; of a processor, the processor's.
        count: GPUs that PyTorch sees.
        memory_bytes: Of the device.
        capability: Compute capability, such as ``9.0``; empty for a processor.
        driver, cuda, cudnn: Versions; empty where there is none.
        versions: Of python and of every package that matters, by name.
        tf32: Whether products of float32 may be rounded to TF32: ``matmul``, ``cudnn``, and ``precision``
            (PyTorch's ``float32_matmul_precision``), as processes find it that set nothing.
        commit: Of the checkout; ``+changes`` where it is not clean.
        cpu, cores, platform: The machine around it.
    """

    device: str
    name: str
    count: int = 0
    memory_bytes: int = 0
    capability: str = ""
    driver: str = ""
    cuda: str = ""
    cudnn: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    tf32: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    cpu: str = ""
    cores: int = 0
    platform: str = ""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of a step.

    Attributes:
        name, title: Of the step.
        status: ``ok``; ``failed``: a command of it ended with an error; ``out of time``: one was ended when
            its budget was used up (what it had measured counts); ``skipped``: it was not begun.
        reason: Why it is not ``ok``.
        seconds, budget_s: That it took, and that it was given.
        commands: What was run, each as one line.
    """

    name: str
    title: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    budget_s: float = 0.0
    commands: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckRow:
    """The gate for one agent in one form: ``lram check``."""

    agent: str
    form: str
    precision: str
    passed: int
    failed: int
    skipped: int
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """An agent at a context: ``lram latency``, over its processes.

    Attributes:
        agent, batch, context: What decided, for how many lanes, after how many timesteps.
        task: Whose observations were shown.
        form, precision: As it was computed; ``detail`` has versions.
        windows: ``whole``: a Transformer keeps all of the context; ``own``: what its configuration keeps.
        outcome: ``ok``, or why there is nothing.
        agent_ms, model_ms: Median of a decision, all lanes together: observation in to action out on the
            host, and the network alone.
        p90_ms: Nine of ten decisions (agent) were as fast.
        decisions, processes: What it rests on.
        state_bytes, weight_bytes, peak_bytes: Kept between decisions by all lanes; of the weights; the
            highest of the device.
        joules: Of the whole GPU for one decision of all lanes; None where it was not read.
    """

    agent: str
    batch: int
    context: int
    form: str
    precision: str
    windows: str
    outcome: str
    task: str = ""
    detail: str = ""
    agent_ms: float | None = None
    model_ms: float | None = None
    p90_ms: float | None = None
    decisions: int = 0
    processes: int = 0
    state_bytes: int = 0
    weight_bytes: int = 0
    peak_bytes: int = 0
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class StepRow:
    """The step of a backbone: ``lram bench model``, or beside a package
    (``tests/benchmarks/compare_public.py``).

    Attributes:
        source: Which step of the script measured it.
        model, form, rows, context, cache, precision: Of the row, as :class:`lram.harness.bench.record.Row`
            has it.
        ms: Median of a decision of all rows.
        limit_ms: What moving its bytes alone would take, at the speed that was measured beside it; None:
            unknown.
        baseline, times: The package's form that it was compared with, and how many times as long that took.
    """

    source: str
    model: str
    form: str
    rows: int
    context: int | None
    cache: str | None
    precision: str
    ms: float
    limit_ms: float | None
    baseline: str = ""
    times: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A training step: ``lram bench train``, or beside a package (``tests/benchmarks/train_public.py``)."""

    source: str
    model: str
    form: str
    precision: str
    sequences: int
    context: int
    tokens_per_s: float
    baseline: str = ""
    times: float | None = None


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """An evaluation with the network on the device: ``lram eval``.

    Attributes:
        agent, tasks, lanes, workers: What played what, and how it was spread.
        episodes, decisions, seconds: Scored, of those, and from the first to the last record.
        decisions_per_s: Of all lanes.
        overlap: What was done while passes were computed, as the run tells it.
    """

    agent: str
    tasks: str
    lanes: str
    workers: str
    episodes: int
    decisions: int
    seconds: float
    decisions_per_s: float
    overlap: str = ""


@dataclass(frozen=True, slots=True)
class GpuRecord:
    """All of it.

    Attributes:
        schema: Version of this layout.
        dry: Every step was only walked, on the processor and with tiny sizes: no number means anything.
        started: ISO 8601, UTC.
        seconds: That all steps took.
        device: What it was measured on.
        precision: Of the models, where a row tells no other.
        steps: In order.
        tests: Device tests by result: ``passed``, ``failed``, ``skipped``.
        checks, latency, bench, training, evaluation: What was measured.
        notes: What was left out by the commands themselves.
    """

    schema: int
    dry: bool
    started: str
    seconds: float
    device: DeviceFacts
    precision: str
    steps: list[StepOutcome]
    tests: dict[str, int] = field(default_factory=dict)
    checks: list[CheckRow] = field(default_factory=list)
    latency: list[LatencyRow] = field(default_factory=list)
    bench: list[StepRow] = field(default_factory=list)
    training: list[TrainingRow] = field(default_factory=list)
    evaluation: list[EvaluationRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write(file: Path, record: GpuRecord) -> None:
    """Write ``record`` as JSON."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read(file: Path) -> GpuRecord:
    """Read what :func:`write` wrote; ValueError for another layout."""
    record = msgspec.json.decode(file.read_bytes(), type=GpuRecord)
    if record.schema != SCHEMA:
        raise ValueError(f"{file} has layout {record.schema}; this version reads {SCHEMA}")
    return record
