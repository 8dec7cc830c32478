"""What a sweep sets out to measure, and what one process measured at one context.

``LatencyPlan`` is ``latency.json``; one ``LatencyPoint`` is one line of ``records/*.jsonl``. Times are whole
nanoseconds, every single decision of them, so that each percentile can be computed again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

from lram.agents.compute import Compute, Precision, StepForm
from lram.harness.storage.records import AgentEntry, PlannedTask, Provenance
from lram.harness.timing.load import Load

SCHEMA = 1

Windows = Literal["whole", "own"]
"""Whether full caches and windows that are read anew are made as long as each context, or are the model's."""

OK = "ok"
OUT_OF_MEMORY = "out of memory"
NOT_TRIED = "not tried: "
SILENT = "failed: nothing was heard of the process"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a point is measured.

    Attributes:
        seconds: Of decisions at the agent's clock; the model's gets half, the loop a third.
        most: Decisions of a clock, at most.
        least: And at least, unless one takes more than ``slow_s``.
        warm_up_s: Warm-up ends after so many seconds, stable or not.
        slow_s: Of decisions that take longer, the first of each process is what is measured.
        give_up_s: One that takes even longer is measured in the first process only, and is the last.
    """

    seconds: float = 0.6
    most: int = 200
    least: int = 3
    warm_up_s: float = 0.3
    slow_s: float = 1.0
    give_up_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One process: an agent in one form of the step and with one batch, the contexts upward.

    Attributes:
        agent: Label.
        step: Form of the step that is asked for.
        batch: Lanes that decide together, in passes of as many rows as :meth:`LatencyPlan.compute` says.
        repeat: Which of the processes with the same settings, from 0.
    """

    agent: str
    step: StepForm
    batch: int
    repeat: int

    @property
    def setting(self) -> tuple[str, str, int]:
        """What its repeats have in common."""
        return self.agent, self.step, self.batch

    def __str__(self) -> str:
        return f"{self.agent}, step {self.step}, batch {self.batch}, process {self.repeat + 1}"


@dataclass(frozen=True, slots=True)
class Variant:
    """An agent in one form of the step.

    Attributes:
        agent: Label.
        step: Form that is asked for.
        check: What the check of step/forward equivalence found; empty for agents that are no action
            models.
    """

    agent: str
    step: StepForm
    check: str = ""


@dataclass(frozen=True, slots=True)
class LatencyPlan:
    """A sweep.

    Attributes:
        schema: Version of this layout.
        seed: Of untrained weights, of recorded inputs and of the order.
        agents: What is measured.
        variants: In which forms of the step.
        task: Whose observations are read.
        contexts: Timesteps read before the timed decisions, ascending.
        batches: Lanes that decide together; each is a measurement of its own.
        device, precision: Where and with which weights.
        repeats: Processes of each setting.
        threads: Of the agents' tensor library.
        loop: Whether decisions are also timed together with the simulator.
        windows: See ``Windows``.
        effort: How long each point is measured.
        inputs: SHA-256 of the recorded inputs.
        recorded: How many timesteps of them there are.
        memory_gib: Memory that a process may take; 0: what the machine has to spare at its start.
        interpreters: Python executable by domain, where another one plays it.
        distinct: No decision is shown an observation that the process has shown before, in whatever lane and
            at whatever context (:mod:`lram.harness.latency.feed`). False in sweeps of earlier versions, which
            are also resumed so.
    """

    schema: int
    seed: int
    agents: tuple[AgentEntry, ...]
    variants: tuple[Variant, ...]
    task: PlannedTask
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    device: str
    precision: Precision
    repeats: int
    threads: int
    loop: bool
    windows: Windows
    effort: Effort
    inputs: str
    recorded: int
    memory_gib: float = 0.0
    interpreters: dict[str, str] = field(default_factory=dict)
    distinct: bool = False

    def jobs(self) -> list[Job]:
        """Return all processes in the order in which they run: every setting once, mixed, then again."""
        shuffle = random.Random(self.seed).shuffle
        ordered: list[Job] = []
        for repeat in range(self.repeats):
            once = [
                Job(one.agent, one.step, batch, repeat) for one in self.variants for batch in self.batches
            ]
            shuffle(once)
            ordered += once
        return ordered

    def compute(self, step: StepForm, batch: int) -> Compute:
        """Return how an agent computes: a single lane alone, more in the next multiple of 8 rows.

        Models have no other passes, so that a lane's actions do not depend on its neighbours
        (:mod:`lram.agents.acting.model_agent`): 2 lanes act, and are measured, in 8 rows.
        """
        rows = 1 if batch == 1 else -(-batch // 8) * 8
        return Compute(self.device, self.precision, step, rows)

    def entry(self, label: str) -> AgentEntry:
        """Return the agent of this label; KeyError where there is none."""
        for agent in self.agents:
            if agent.label == label:
                return agent
        raise KeyError(label)


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """What one process measured at one context.

    Attributes:
        schema: Version of this layout.
        job: The process.
        context: Timesteps that were to be read before.
        outcome: ``ok``, ``out of memory``, or in a sentence why there is nothing.
        read: Timesteps that were read before the first timed decision.
        held: The context is the same at every timed decision: what the last one added is forgotten. A
            recurrent state instead continues, one timestep a decision.
        agent_ns: Agent step: observations on the host in, actions on the host out.
        model_ns: Model step: embedded tokens in, logits out, on the device; empty for foreign agents.
        loop_ns: Agent step and one step of the simulators in their worker processes.
        repeated_ns: Agent steps that are shown one and the same observation, in turns with others; in
            sweeps of earlier versions at the first context only.
        distinct_ns: Those others, on observations that were not shown before.
        reach_s: Seconds that reading the context took.
        warm: Whether warm-up became stable (three decisions within a tenth of each other).
        warm_up: Decisions of the warm-up.
        state_bytes: What all lanes keep between decisions; for a full cache, as long as it has to be.
        weight_bytes: Weights; 0 for foreign agents.
        resident_bytes: Memory of the process (of the device, where it is a GPU) before the decisions.
        peak_bytes: Its highest during warm-up and agent steps.
        energy_j: Joules of the GPU during the agent steps, the whole device's (see
            :mod:`lram.harness.timing.energy`); 0 where it was not read: on processors, and where ``facts``
            tell why.
        energy_s: Seconds for which that was read: the agent steps, and what is done between them.
        actions: CRC-32 of the first actions (of all lanes) after the context was reached, eight hex
            digits; equal in every process with the same settings.
        load: What else the machine did meanwhile.
        started: Seconds since the epoch.
        facts: How it was computed, by name.
    """

    schema: int
    job: Job
    context: int
    outcome: str
    read: int = 0
    held: bool = False
    agent_ns: tuple[int, ...] = ()
    model_ns: tuple[int, ...] = ()
    loop_ns: tuple[int, ...] = ()
    repeated_ns: tuple[int, ...] = ()
    distinct_ns: tuple[int, ...] = ()
    reach_s: float = 0.0
    warm: bool = False
    warm_up: int = 0
    state_bytes: int = 0
    weight_bytes: int = 0
    resident_bytes: int = 0
    peak_bytes: int = 0
    energy_j: float = 0.0
    energy_s: float = 0.0
    actions: str = ""
    load: Load | None = None
    started: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)


def machine_of(made: Provenance, device: str) -> str:
    """Return what kind of machine measured a part of a sweep, in words; its GPU where that was used."""
    return ", ".join(filter(None, (made.cpu, f"{made.cores} cores", made.gpu if device != "cpu" else "")))


def lacks_memory(outcome: str) -> bool:
    """Return whether there is nothing for lack of memory: here, or earlier, so that it was not tried here."""
    return outcome == OUT_OF_MEMORY or outcome.startswith(f"{NOT_TRIED}{OUT_OF_MEMORY}")


def end_of(point: LatencyPoint, effort: Effort) -> str:
    """Return why a setting is not tried at this context again, nor at longer ones; empty where it is."""
    if point.outcome == OUT_OF_MEMORY:
        return f"{OUT_OF_MEMORY} at context {point.context}"
    if point.outcome.startswith(SILENT):
        return f"nothing was heard of a process at context {point.context}"
    if point.agent_ns and min(point.agent_ns) > 1e9 * effort.give_up_s:
        return f"a decision took {min(point.agent_ns) / 1e9:.0f} s at context {point.context}"
    return ""
