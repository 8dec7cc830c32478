"""The benchmark of training steps: forward, backward and AdamW, in tokens a second.

A step reads whole sequences of a continuous task: states as wide as the model takes them, returns-to-go
and rewards in, classes of all action dimensions out. Each preset is timed in forms of
:mod:`lram.agents.backbones.sequences`, from the same weights, in turns: of a processor as it is trained there
(``fused``: kernels and oneDNN products) and in plain PyTorch (``torch``). A form that cannot be used for a
preset is left out, which a note says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from lram.agents.backbones.sequences import check_sequences, read_sequences, why_not_read
from lram.agents.compute import SEQUENCE_FORMS, Compute, SequenceForm
from lram.agents.durable import write_durably
from lram.agents.model.network import ActionModel, action_loss, build_model, without_memory
from lram.agents.model.presets import parse_preset
from lram.agents.model.tokens import ACTION_DIMS, CLASSES, DISCRETE_ACTIONS
from lram.agents.seed import check_seed
from lram.harness.bench.record import Ratio, check_output
from lram.harness.errors import LramError
from lram.harness.machine import threads
from lram.harness.storage.json_files import encode
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import Provenance
from lram.harness.timing.clock import check_device, stopwatch
from lram.harness.timing.load import Load, LoadWatch, environment
from lram.harness.timing.rounds import (
    PreparedDecision,
    RoundEffort,
    TimedCandidate,
    TimingSummary,
    summarise,
    time_in_rounds,
)

SCHEMA = 1
PRESETS = tuple(
    f"{kind}-{size}"
    for size in ("1M", "16M")
    for kind in ("xlstm[1:0]", "xlstm[7:1]", "mamba", "transformer")
)


@dataclass(frozen=True, slots=True)
class TrainBench:
    """What to measure.

    Attributes:
        presets: Names of models.
        contexts: Timesteps of a sequence.
        sequences: Sequences of a step.
        forms: Sequence forms.
        threads: Of PyTorch; each number is a measurement of its own.
        seed: Of weights, inputs and the order of visits.
        compute: Device, and the precision: weights are float32, bfloat16 is that of autocast.
        effort: How much.
    """

    presets: tuple[str, ...] = PRESETS
    contexts: tuple[int, ...] = (50,)
    sequences: tuple[int, ...] = (32,)
    forms: tuple[SequenceForm, ...] = ("torch", "fused")
    threads: tuple[int, ...] = (1,)
    seed: int = 0
    compute: Compute = field(default_factory=Compute)
    effort: RoundEffort = field(default_factory=RoundEffort)


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One training step of one model in one form.

    Attributes:
        name: What a ratio calls it; unique in the record.
        model: Preset, or package and class.
        form: How it is computed.
        parameters: Weights of what is trained.
        sequences: Of a step.
        context: Timesteps of a sequence.
        tokens: Of a step, all sequences together.
        threads: Of PyTorch.
        timing: Milliseconds of a step.
        ratio: Against a baseline, in records of ``tests/benchmarks`` and of earlier versions; else None.
    """

    name: str
    model: str
    form: str
    parameters: int
    sequences: int
    context: int
    tokens: int
    threads: int
    timing: TimingSummary
    ratio: Ratio | None

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second, by the median step."""
        return 1000 * self.tokens / self.timing.median.median


@dataclass(frozen=True, slots=True)
class TrainRecord:
    """A whole benchmark.

    Attributes:
        schema: Version of this layout.
        benchmark: What was timed: ``train``, or ``train, public`` and a package.
        precision: ``float32``, or ``bfloat16`` by autocast.
        device: Where.
        seed: Of weights, inputs and the order of visits.
        rounds: Visits to each candidate, at most.
        environment: Variables that change how fast threads and memory are.
        provenance: Where and with what.
        load: What else the machine did.
        rows: The results.
        notes: What was left out, and why.
    """

    schema: int
    benchmark: str
    precision: str
    device: str
    seed: int
    rounds: int
    environment: dict[str, str]
    provenance: Provenance
    load: Load
    rows: list[TrainRow]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TrainCase:
    """What a row of the table is about; see :class:`TrainRow`."""

    model: str
    form: str
    sequences: int
    context: int
    tokens: int
    parameters: int

    @property
    def name(self) -> str:
        """Unique among what is timed together."""
        return f"{self.model}, {self.form}, sequences {self.sequences}, context {self.context}"


def bench_training(bench: TrainBench, *, say: Callable[[str], None] = lambda text: None) -> TrainRecord:
    """Measure; return the record.

    Args:
        bench: What.
        say: Told what is done, sentence by sentence.

    Raises:
        LramError: There is nothing to measure.
        AgentError: A preset or a device that does not exist, or cannot be used here.
    """
    for name in ("contexts", "sequences", "threads"):
        values = getattr(bench, name)
        if not values or min(values) < 1:
            raise LramError(f"{name} must be 1 or more, not {', '.join(map(str, values)) or 'nothing'}")
    unknown = [form for form in bench.forms if form not in SEQUENCE_FORMS]
    if unknown or not bench.forms:
        raise LramError(
            f"a training step has the forms {', '.join(SEQUENCE_FORMS)}, not {', '.join(unknown) or 'none'}"
        )
    if bench.compute.narrow is not None:
        raise LramError(
            f"models are not trained with weights in {bench.compute.precision}; take float32 or bfloat16"
        )
    check_seed(bench.seed)
    check_device(bench.compute.device)
    watch = LoadWatch()
    rows: list[TrainRow] = []
    notes: list[str] = []
    forms = {preset: _usable(preset, bench, notes) for preset in dict.fromkeys(bench.presets)}
    if not any(forms.values()):
        raise LramError(f"nothing can be timed: {'; '.join(notes) or 'no model is named'}")
    effort = dataclasses.replace(bench.effort, seed=bench.seed)
    for count in bench.threads:
        with threads(count):
            # One model after the other: only its own forms are compared, and memory is for one.
            for preset in forms:
                say(f"{preset}, {count} thread(s)")
                for context in bench.contexts:
                    for sequences in bench.sequences:
                        chosen = _candidates(bench, preset, context, sequences, forms[preset])
                        rows += time_steps(chosen, effort, bench.compute.device, count)
    return make_record("train", bench, rows, watch.load(), notes)


def make_record(
    benchmark: str, bench: TrainBench, rows: Sequence[TrainRow], load: Load, notes: Sequence[str] = ()
) -> TrainRecord:
    """Return the record of what was measured."""
    return TrainRecord(
        schema=SCHEMA,
        benchmark=benchmark,
        precision=bench.compute.precision,
        device=bench.compute.device,
        seed=bench.seed,
        rounds=bench.effort.rounds,
        environment=environment(),
        provenance=collect({}, {}),
        load=load,
        rows=list(rows),
        notes=list(notes),
    )


def time_steps(
    candidates: dict[TrainCase, TimedCandidate], effort: RoundEffort, device: str, threads: int
) -> list[TrainRow]:
    """Time candidates against each other."""
    timed = time_in_rounds(list(candidates.values()), effort, stopwatch(device))
    return [
        TrainRow(
            name=case.name,
            model=case.model,
            form=case.form,
            parameters=case.parameters,
            sequences=case.sequences,
            context=case.context,
            tokens=case.tokens,
            threads=threads,
            timing=summarise(timed[case.name]),
            ratio=None,
        )
        for case in candidates
    ]


def _usable(preset: str, bench: TrainBench, notes: list[str]) -> list[SequenceForm]:
    """Return the forms that a preset can be trained in, and note why the others cannot be used."""
    with without_memory():
        model = ActionModel(parse_preset(preset))
    usable: list[SequenceForm] = []
    for form in dict.fromkeys(bench.forms):
        reason = why_not_read(model, form, torch.device(bench.compute.device))
        if reason is None:
            usable.append(form)
        else:
            notes.append(f"{preset}: not in the form {form} ({reason})")
    return usable


def _candidates(
    bench: TrainBench, preset: str, context: int, sequences: int, forms: Sequence[SequenceForm]
) -> dict[TrainCase, TimedCandidate]:
    config = parse_preset(preset)
    with without_memory():
        parameters = ActionModel(config).parameter_count
    tokens = sequences * context * config.pass_tokens
    cases = [TrainCase(preset, form, sequences, context, tokens, parameters) for form in forms]
    return {
        case: TimedCandidate(case.name, partial(_prepare, bench, case))
        for case in sorted(cases, key=lambda case: case.form, reverse=True)
    }


def _prepare(bench: TrainBench, case: TrainCase) -> PreparedDecision:
    config, device = parse_preset(case.model), bench.compute.device
    model = build_model(config, bench.seed).to(device).train()
    generator = torch.Generator().manual_seed(bench.seed)
    shape = (case.sequences, case.context)
    states = torch.randn(*shape, config.state_width, generator=generator).to(device)
    returns, rewards = torch.rand(2, *shape, generator=generator).to(device)
    classes = torch.randint(DISCRETE_ACTIONS, CLASSES, (*shape, ACTION_DIMS), generator=generator).to(device)
    mask = torch.ones_like(classes, dtype=torch.bool)
    actions = classes if config.actions_in_context else None

    def loss() -> torch.Tensor:
        return action_loss(model(states, returns, rewards, actions).logits, classes, mask)

    form = next(one for one in SEQUENCE_FORMS if one == case.form)
    step = training_step(model, loss, bench.compute, form)
    return PreparedDecision(step, detail=check_sequences(model, form, torch.device(device)))


def training_step(
    model: torch.nn.Module, loss: Callable[[], torch.Tensor], compute: Compute, form: SequenceForm
) -> Callable[[], object]:
    """Return one step: gradients of ``loss``, sequences read in ``form``, then PyTorch's fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with read_sequences(form):
            with _autocast(compute):
                found = loss()
            torch.autograd.backward(found)
        optimizer.step()

    return step


@contextmanager
def _autocast(compute: Compute) -> Iterator[None]:
    if compute.precision == "float32":
        yield
        return
    with torch.autocast(torch.device(compute.device).type, dtype=getattr(torch, compute.precision)):
        yield


def write_train_record(file: Path, record: TrainRecord) -> None:
    """Write ``record`` as JSON; LramError when that cannot be done."""
    check_output(file)
    write_durably(file, encode(record))
