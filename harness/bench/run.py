"""The benchmark of the model step: every preset, form and context, for one number of rows after another."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lram.agents.api import AgentError
from lram.agents.backbones.stepping import why_not_fused
from lram.agents.compute import Compute
from lram.agents.model.presets import parse_preset
from lram.agents.seed import check_seed
from lram.harness.bench.measure import Candidate, Effort, compare, measure, summarise
from lram.harness.bench.memory import Bandwidth, bandwidths, limit_ms, stream_candidates
from lram.harness.bench.models import READ, Point, Subject, Work, weight_bytes
from lram.harness.bench.record import SCHEMA, BenchRecord, LoadWatch, Row, Settings, crossovers
from lram.harness.errors import LramError
from lram.harness.machine import threads
from lram.harness.storage.provenance import collect

PRESETS = ("xlstm[1:0]-16M", "xlstm[7:1]-16M", "mamba-16M", "transformer[full]-16M")
CONTEXTS = (50, 200, 800, 1600)

_ENVIRONMENT = ("OMP_", "KMP_", "GOMP_", "MKL_", "MALLOC_", "LD_PRELOAD", "NUMBA_", "TORCHINDUCTOR_")
_SHARE = 0.6  # of the free memory that states may take: plain PyTorch needs temporaries beside them


@dataclass(frozen=True, slots=True)
class ModelBench:
    """What to measure.

    Attributes:
        presets: Names of models.
        rows: Rows that decide at once; each number is a measurement of its own.
        contexts: Timesteps that a Transformer has read.
        forms: Step forms; empty: ``torch``, and ``fused`` where it can be.
        threads: Of PyTorch.
        seed: Of weights, inputs and the order of visits.
        compute: Device and precision; its ``step`` is not used.
        effort: How much; its seed is not used.
    """

    presets: tuple[str, ...] = PRESETS
    rows: tuple[int, ...] = (1, 16)
    contexts: tuple[int, ...] = CONTEXTS
    forms: tuple[str, ...] = ()
    threads: int = 1
    seed: int = 0
    compute: Compute = field(default_factory=Compute)
    effort: Effort = field(default_factory=Effort)


def bench_models(bench: ModelBench, say: Callable[[str], object] = lambda text: None) -> BenchRecord:
    """Measure; return the record.

    Args:
        bench: What.
        say: Told what is done, sentence by sentence.

    Raises:
        LramError: There is nothing to measure.
        AgentError: A preset, a form or a device that does not exist, or cannot be used here.
    """
    for name, values in (("rows", bench.rows), ("contexts", bench.contexts), ("threads", (bench.threads,))):
        if not values or min(values) < 1:
            raise LramError(f"{name} must be 1 or more, not {', '.join(map(str, values)) or 'nothing'}")
    check_seed(bench.seed)
    if not bench.presets:
        raise LramError("name at least one model preset; 'lram agents' lists them")
    check_device(bench.compute.device)
    effort = dataclasses.replace(bench.effort, seed=bench.seed)
    watch = LoadWatch()
    rows: list[Row] = []
    speeds: dict[str, list[Bandwidth]] = {}
    notes: list[str] = []
    with threads(bench.threads):
        for count in bench.rows:
            subjects = _subjects(bench, count)
            forms, why = _forms(bench.forms, subjects)
            chosen, left_out = _fitting(subjects, forms)
            notes += [note for note in (*_lengthened(subjects), *why, *left_out) if note not in notes]
            say(f"rows {count}: {len(chosen)} candidates")
            found, speeds[str(count)] = run_group(chosen, effort, bench.compute.device)
            rows += found
            del subjects, chosen
            gc.collect()
    if not rows:
        raise LramError("; ".join(notes))
    settings = Settings(
        tokens=parse_preset(bench.presets[0]).pass_tokens,
        read=READ,
        threads=bench.threads,
        precision=bench.compute.precision,
        device=bench.compute.device,
        seed=bench.seed,
        rounds=effort.rounds,
        environment=environment(),
    )
    return BenchRecord(
        schema=SCHEMA,
        benchmark="model",
        settings=settings,
        provenance=collect({}, {}),
        load=watch.load(),
        bandwidths=speeds,
        rows=rows,
        crossovers=crossovers(rows),
        notes=notes,
    )


def run_group(
    candidates: Mapping[Point, Candidate], effort: Effort, device: str
) -> tuple[list[Row], list[Bandwidth]]:
    """Time candidates against each other and the memory's speed beside them; return both."""
    if not candidates:
        return [], []
    with torch.inference_mode():
        samples = measure(
            [*candidates.values(), *stream_candidates(device)], effort, synchronise=synchroniser(device)
        )
    speeds = bandwidths(samples)
    rows = []
    for point, candidate in candidates.items():
        prepared = samples[candidate.name].prepared
        rows.append(
            Row(
                name=candidate.name,
                model=point.model,
                form=point.form,
                detail=prepared.detail,
                rows=point.rows,
                context=point.context,
                timing=summarise(samples[candidate.name]),
                ratio=compare(samples, candidate.name, candidate.baselines),
                limit_ms=limit_ms(prepared, speeds) if prepared.read_bytes else None,
                read_bytes=prepared.read_bytes,
                update_bytes=prepared.update_bytes,
                state_bytes=prepared.state_bytes,
                cache=point.cache,
            )
        )
    return rows, speeds


def check_device(device: str) -> None:
    """AgentError when decisions cannot be timed on ``device`` (:func:`synchroniser` knows two kinds)."""
    try:
        timed = torch.ones(1, device=device).device.type in ("cpu", "cuda")
    except (RuntimeError, AssertionError, ImportError):
        timed = False
    if not timed:
        raise AgentError(
            f"the device {device!r} cannot be used here; use cpu, or cuda where 'lram doctor' shows a GPU"
        )


def synchroniser(device: str) -> Callable[[], object]:
    """Return what waits until ``device`` has done what it was asked for."""
    if torch.device(device).type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def environment() -> dict[str, str]:
    """Return the variables that change how fast threads and memory are."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_ENVIRONMENT)}


def _subjects(bench: ModelBench, rows: int) -> list[Subject]:
    subjects = []
    for name in dict.fromkeys(bench.presets):
        config = parse_preset(name)
        work = Work(
            rows=rows,
            tokens=config.pass_tokens,
            width=config.width,
            seed=bench.seed,
            device=bench.compute.device,
            dtype=getattr(torch, bench.compute.precision),
        )
        subjects.append(Subject(name, config, work, bench.contexts))
    return subjects


def _lengthened(subjects: Sequence[Subject]) -> list[str]:
    """Return what to say of full caches, which are not of their presets' length."""
    return [
        f"{subject.name}: its full cache was made as long as each context needs; the model's own starts "
        f"again after {past.tokens} tokens ({past.tokens // subject.work.tokens} timesteps)"
        for subject in subjects
        if (past := subject.config.past).restarts and past.tokens
    ]


def _forms(asked: Sequence[str], subjects: Sequence[Subject]) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Return the forms of each subject, and why there are not more."""
    if asked:
        return {subject.name: asked for subject in subjects}, []
    forms: dict[str, Sequence[str]] = {}
    notes = []
    for subject in subjects:
        reason = why_not_fused(subject.backbone)
        forms[subject.name] = ("torch",) if reason else ("torch", "fused")
        notes += [f"{subject.name} has no fused step here: {reason}"] if reason else []
    return forms, notes


def _fitting(
    subjects: Sequence[Subject], forms: Mapping[str, Sequence[str]]
) -> tuple[dict[Point, Candidate], list[str]]:
    """Return the candidates whose states fit into memory together, and what was left out."""
    chosen: dict[Point, Candidate] = {}
    left_out = []
    free = _SHARE * free_bytes(subjects[0].work.device)
    for subject in subjects:
        for context in subject.contexts:
            candidates = subject.candidates(forms[subject.name], context)
            # Candidates of a recurrent model have a state each, copied from one more; the fused step has
            # weights of its own.
            needed = subject.state_bytes(context) * (1 if subject.cache else len(candidates) + 1)
            needed += weight_bytes(subject.backbone) * ("fused" in forms[subject.name])
            if needed > free:
                left_out.append(
                    f"{subject.name} with rows {subject.work.rows}, context {context} was left out: its "
                    f"states need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are to be had"
                )
                continue
            free -= needed
            chosen.update(candidates)
    return chosen, left_out


def free_bytes(device: str) -> float:
    """Return the free memory of ``device``; infinity where the system does not tell."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
