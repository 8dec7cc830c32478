"""From what a user asks for to a plan: agents built once and refused early, inputs recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from lram.agents.api import Agent
from lram.agents.compute import FORMS, Precision, StepForm
from lram.agents.seed import check_seed
from lram.harness.errors import LramError, as_lram_error
from lram.harness.gate.equivalence import pass_gate
from lram.harness.latency.checks import MOST_POINTS
from lram.harness.latency.feed import feed_of
from lram.harness.latency.inputs import MARGIN, MOST
from lram.harness.latency.recording import record
from lram.harness.latency.records import SCHEMA, Effort, LatencyPlan, Variant, Windows
from lram.harness.machine import threads
from lram.harness.plan import AgentsArgument, RunRequest, agent_entry, build_agent, check_code, labelled_specs
from lram.harness.plan import make_plan as plan_run
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.number_checks import LARGEST, LARGEST_INT
from lram.harness.storage.records import AgentEntry
from lram.harness.timing.clock import check_device
from lram.harness.timing.inputs import Inputs

CONTEXTS = (50, 200, 800, 1600)
TASK = "atari/freeway"
QUICK = Effort(seconds=0.2, most=50, warm_up_s=0.1)


@dataclass(frozen=True, slots=True)
class LatencyRequest:
    """What a user asks for; :class:`lram.harness.latency.records.LatencyPlan` tells the fields.

    Attributes:
        agents: Specifications, each plain or as ``label=specification``.
        steps: Forms of the step; agents that have none are measured in the first.
        task: One task.
    """

    agents: AgentsArgument
    contexts: Sequence[int] = CONTEXTS
    batches: Sequence[int] = (1, 16)
    steps: Sequence[StepForm] = ("auto",)
    task: str = TASK
    device: str = "cpu"
    precision: Precision = "float32"
    repeats: int = 5
    threads: int = 1
    seed: int = 0
    loop: bool = True
    windows: Windows = "whole"
    effort: Effort = field(default_factory=Effort)
    memory_gib: float = 0.0
    interpreters: Mapping[str, str] | None = None

    def check(self) -> None:
        """Raise LramError, for the seed AgentError, for a number or name that makes no sense."""
        check_seed(self.seed)
        for name, values in (
            ("contexts", self.contexts),
            ("batch", self.batches),
            ("repeats", (self.repeats,)),
            ("threads", (self.threads,)),
        ):
            if not values or min(values) < 1:
                raise LramError(f"{name} must be 1 or more, not {', '.join(map(str, values)) or 'nothing'}")
            if max(values) > LARGEST_INT:
                raise LramError(f"{name} must be at most {LARGEST_INT}, not {max(values)}")
        for what, number in (
            ("the memory of a process, in GiB,", self.memory_gib),
            *((f"{one.name} of the effort", getattr(self.effort, one.name)) for one in fields(Effort)),
        ):
            if not 0 <= number <= LARGEST:  # more could be written, and never be read again
                raise LramError(f"{what} must be 0 or more and at most {LARGEST:g}, not {number:g}")
        self.check_points(1)
        if not self.steps:
            raise LramError(f"name a form of the step: {', '.join(FORMS)}")

    def check_points(self, variants: int) -> None:
        """Raise LramError where so many agents and forms make more points than a sweep can hold."""
        contexts, batches = len(set(self.contexts)), len(set(self.batches))
        points = self.repeats * variants * batches * contexts
        if points > MOST_POINTS:
            raise LramError(
                f"{self.repeats} repeats of {variants} agents and forms with {batches} batches at {contexts} "
                f"contexts are {points:,} points, and a sweep has at most {MOST_POINTS:,}; ask for fewer"
            )


def make_plan(request: LatencyRequest, say: Callable[[str], object]) -> tuple[LatencyPlan, Inputs]:
    """Return the plan and the inputs, recorded now; LramError for what cannot be measured."""
    request.check()
    request.check_points(len(labelled_specs(request.agents)))
    _check_device(request.device)
    run, _ = plan_run(RunRequest(agents="random", tasks=request.task, interpreters=request.interpreters))
    if len(run.tasks) != 1:
        raise LramError(f"latencies are measured on one task, and {request.task} is {len(run.tasks)}")
    planned = run.tasks[0]
    contexts = tuple(sorted(set(request.contexts)))
    frame = LatencyPlan(
        schema=SCHEMA,
        seed=request.seed,
        agents=(),
        variants=(),
        task=planned,
        contexts=contexts,
        batches=tuple(dict.fromkeys(request.batches)),
        device=request.device,
        precision=request.precision,
        repeats=request.repeats,
        threads=request.threads,
        loop=request.loop,
        windows=request.windows,
        effort=request.effort,
        inputs="",
        recorded=min(MOST, max(contexts[-1] + MARGIN, *request.batches)),
        memory_gib=request.memory_gib,
        interpreters=dict(run.interpreters),
        distinct=True,
    )
    agents, variants = _agents(request, frame)
    request.check_points(len(variants))
    say(f"recording {frame.recorded} timesteps of {planned.task.id}")
    with tempfile.TemporaryDirectory(prefix="lram-latency-") as logs:
        inputs = record(planned, frame.recorded, request.seed, Path(logs), frame.interpreters)
    for batch in frame.batches:
        feed_of(frame, batch, inputs)  # refused now rather than by every process
    return replace(frame, agents=agents, variants=variants, inputs=inputs.digest), inputs


def check_same(plan: LatencyPlan) -> None:
    """Raise LramError when an agent of ``plan`` is another one now."""
    for entry in plan.agents:
        check_code(entry)
        step = next(one.step for one in plan.variants if one.agent == entry.label)
        now = build_agent(entry.spec, plan.seed, plan.compute(step, 1)).info
        if now.digest != entry.info.digest:
            raise LramError(
                f"agent {entry.label} is not the one the sweep was started with (digest {now.digest[:12]}, "
                f"it was {entry.info.digest[:12]}); put its files back or start a new sweep"
            )


def _agents(
    request: LatencyRequest, frame: LatencyPlan
) -> tuple[tuple[AgentEntry, ...], tuple[Variant, ...]]:
    """Build every agent once in every form; LramError where one cannot be measured or fails the checks."""
    from lram.agents.acting.model_agent import ModelAgent

    entries, variants = [], []
    task = task_spec(frame.task)
    for label, spec in labelled_specs(request.agents).items():
        if not isinstance(spec, str):
            raise LramError(
                f"agent {label} is a Python object, and every measurement builds it anew in a process of its "
                "own; name it as module:factory"
            )
        forms: dict[StepForm, Agent] = {}
        for step in dict.fromkeys(request.steps):
            with as_lram_error():
                agent = build_agent(spec, request.seed, frame.compute(step, 1))
            if forms and type(agent) is not ModelAgent:
                break  # it has no forms of a step
            forms[step] = agent
        first = next(iter(forms.values()))
        if (reason := first.refuses(task)) is not None:
            raise LramError(f"agent {label} cannot play {task.id}: {reason}; leave it out, or choose --task")
        for step, agent in forms.items():
            variants.append(Variant(label, step, _checked(label, spec, step, agent, request, frame)))
        entries.append(agent_entry(label, spec, first.info))
    return tuple(entries), tuple(variants)


def _checked(
    label: str, spec: str, step: StepForm, single: Agent, request: LatencyRequest, frame: LatencyPlan
) -> str:
    """Pass the form that will act through the gate, with the rows of every batch; return what to note.

    Compiled forms are compiled for it, a minute each; the processes then find most of that in PyTorch's
    cache.

    Args:
        label, spec, step: Of the variant.
        single: It, with one row.
        request, frame: Of the sweep.
    """
    by_rows: dict[int, str] = {}
    for batch in frame.batches:
        compute = frame.compute(step, batch)
        if compute.rows in by_rows:
            continue
        agent = single if compute.rows == 1 else build_agent(spec, request.seed, compute)
        with threads(request.threads):
            by_rows[compute.rows] = pass_gate({label: agent}).get(label, "")
        if not by_rows[compute.rows]:
            return ""  # no model: its rows are its own
    if len(by_rows) == 1:
        return next(iter(by_rows.values()))
    return "; ".join(f"{rows} row{'s' if rows > 1 else ''}: {note}" for rows, note in by_rows.items())


@as_lram_error()
def _check_device(device: str) -> None:
    check_device(device)
