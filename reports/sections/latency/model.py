"""What sweeps of latencies say: frozen dataclasses that msgspec writes into ``summary.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lram.harness.timing.crossings import Bound

Audit = Literal["passed", "failed", "not made"]


@dataclass(frozen=True, slots=True)
class LatencyMedian:
    """A median over processes with its interval; without one where processes are too few for its level."""

    value: float
    low: float | None
    high: float | None
    coverage: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Milliseconds of a decision.

    Attributes:
        median: Over the processes' medians.
        p90, p99: Of the decisions of all processes, of which each weighs the same, however many it made;
            None where they are too few.
        decisions, processes: What it rests on.
        spread: Largest over smallest process median.
    """

    median: LatencyMedian
    p90: float | None
    p99: float | None
    decisions: int
    processes: int
    spread: float


@dataclass(frozen=True, slots=True)
class MeasuredAgent:
    """An agent in one form of the step, of one sweep.

    Attributes:
        name: As tables print it.
        label, spec, description: Of the agent.
        place: Of the agent in the order of colours; its forms share it.
        style: Of the line among those of its agent, in the order of line styles.
        step: Form that was asked for.
        folder: Which of the sweeps.
        kind: Of the backbone, such as ``xlstm``; ``other`` for an agent that is not looked into.
        parameters: Of a model.
        trained: Whether its weights were trained.
        digest: Of the weights.
        facts: How it was computed, by name.
        weight_bytes: Of a model.
        distinct: No decision was shown an observation that its process had shown before.
        device: Where it was measured, as torch names it.
    """

    name: str
    label: str
    spec: str
    description: str
    place: int
    style: int
    step: str
    folder: int
    kind: str
    parameters: int | None
    trained: bool | None
    digest: str
    facts: dict[str, str]
    weight_bytes: int
    distinct: bool = True
    device: str = "cpu"

    @property
    def on_gpu(self) -> bool:
        """Whether peak memory is the GPU's, and not the process's."""
        return self.device.startswith("cuda")

    @property
    def keeps_tokens(self) -> bool:
        """Whether it keeps the tokens that it has read, and not a recurrent state."""
        return bool(self.facts.get("cache"))


@dataclass(frozen=True, slots=True)
class ContextLatency:
    """A subject with one batch at one context.

    Attributes:
        subject: Its place among the subjects.
        outcome: ``ok``, or why there is nothing.
        agent, model, loop: The clocks; None where nothing was measured.
        held: Whether the context is the same at every decision.
        state_bytes, peak_bytes: Of all lanes, and of the process (median over processes).
        energy_mj: Millijoules of the GPU a decision of all lanes, idle power included (median over
            processes); None where it was not read.
        repeated: Time of decisions on repeated inputs over those on distinct ones, where measured.
        audit: ``failed`` where decisions on inputs that the agent has seen take less time than others: such a
            row enters no crossover, no control rate and no figure. ``not made`` where that was not measured.
        agree: Whether the first actions were equal in all processes; None where there is one only.
        warm: Processes in which warm-up became stable.
        other_cores: Cores that other processes kept busy meanwhile (median over processes).
        failed: Processes that failed here or ran out of memory.
        rows: Rows of a pass: one for each of the ``batch`` lanes, the others empty; None where that is not
            known.
    """

    subject: int
    batch: int
    context: int
    outcome: str
    agent: Clock | None = None
    model: Clock | None = None
    loop: Clock | None = None
    held: bool = False
    state_bytes: int = 0
    peak_bytes: int = 0
    energy_mj: float | None = None
    repeated: LatencyMedian | None = None
    audit: Audit = "not made"
    agree: bool | None = None
    warm: int = 0
    other_cores: float | None = None
    failed: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Crossing:
    """From which context on ``first`` decides faster than ``second`` (and up to the longest).

    Attributes:
        first, second: Places among the subjects; ``first`` gains as contexts grow.
        batch: Lanes.
        at: Median of the crossings of each round of processes; times between two contexts are taken to lie on
            a line. None where processes are too few for an interval.
        low, high: Interval of that median.
        first_faster, second_faster, unclear: Contexts, by the interval of the ratio of their times.
        contexts: At which both were measured.
        ratios: Time of the first over that of the second at each of them, as a median over rounds of
            processes.
        kinds_differ: One of them keeps the tokens that it has read, as a Transformer does, and the other does
            not.
        left_out: Contexts of these that the crossover is without: too few rounds of processes measured both
            agents there. Empty where there is no crossover.
    """

    first: int
    second: int
    batch: int
    at: Bound | None
    low: Bound | None
    high: Bound | None
    first_faster: tuple[int, ...]
    second_faster: tuple[int, ...]
    unclear: tuple[int, ...]
    kinds_differ: bool
    contexts: tuple[int, ...] = ()
    ratios: tuple[LatencyMedian, ...] = ()
    left_out: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Where it is, in words."""
        return "cannot tell" if self.at is None else str(self.at)

    @property
    def interval_text(self) -> str:
        """Its interval, in words."""
        return "no interval" if self.low is None or self.high is None else f"[{self.low}, {self.high}]"


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether 99 of 100 decisions of a subject are ready within the period of a control rate.

    Attributes:
        fits, misses, unknown: Contexts at which they are, are not, and at which that is not known
            (:mod:`lram.reports.sections.latency.readiness`).
    """

    subject: int
    batch: int
    hz: int
    fits: tuple[int, ...]
    misses: tuple[int, ...]
    unknown: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Everything that sweeps say."""

    subjects: tuple[MeasuredAgent, ...]
    spots: tuple[ContextLatency, ...]
    crossings: tuple[Crossing, ...]
    fits: tuple[Fit, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    notes: tuple[str, ...] = ()
