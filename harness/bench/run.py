"""The benchmark of the model step: every preset, form and context, for one number of rows after another."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lram.agents.backbones.stepping import why_not_fused
from lram.agents.compute import Compute
from lram.agents.model.presets import parse_preset
from lram.agents.seed import check_seed
from lram.harness.bench.bandwidth import Bandwidth, bandwidths, limit_ms, stream_candidates
from lram.harness.bench.record import SCHEMA, BenchRecord, Row, Settings, crossovers
from lram.harness.errors import LramError
from lram.harness.machine import threads
from lram.harness.storage.provenance import collect
from lram.harness.timing.backbones import READ, BenchCase, DecisionInputs, TimedBackbone, weight_bytes
from lram.harness.timing.clock import Stopwatch, check_device, stopwatch
from lram.harness.timing.load import LoadWatch, environment
from lram.harness.timing.memory import free_bytes
from lram.harness.timing.rounds import RoundEffort, TimedCandidate, summarise, time_in_rounds

PRESETS = ("xlstm[1:0]-16M", "xlstm[7:1]-16M", "mamba-16M", "transformer[full]-16M")
CONTEXTS = (50, 200, 800, 1600)

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
    effort: RoundEffort = field(default_factory=RoundEffort)


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
            models = _models(bench, count)
            forms, why = _forms(bench.forms, models)
            chosen, left_out = _fitting(models, forms)
            notes += [note for note in (*_lengthened(models), *why, *left_out) if note not in notes]
            say(f"rows {count}: {len(chosen)} candidates")
            found, speeds[str(count)] = run_group(chosen, effort, bench.compute.device)
            rows += found
            del models, chosen
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
    candidates: Mapping[BenchCase, TimedCandidate],
    effort: RoundEffort,
    device: str,
    watch: Stopwatch | None = None,
) -> tuple[list[Row], list[Bandwidth]]:
    """Time candidates against each other and the memory's speed beside them; return both.

    Args:
        candidates: By what their rows are about.
        effort: How much.
        device: Where they compute.
        watch: Another clock than that of the wall.
    """
    if not candidates:
        return [], []
    with torch.inference_mode():
        timed = time_in_rounds(
            [*candidates.values(), *stream_candidates(device)], effort, watch or stopwatch(device)
        )
    speeds = bandwidths(timed)
    rows = []
    for case, candidate in candidates.items():
        prepared = timed[candidate.name].prepared
        rows.append(
            Row(
                name=candidate.name,
                model=case.model,
                form=case.form,
                detail=prepared.detail,
                rows=case.rows,
                context=case.context,
                timing=summarise(timed[candidate.name]),
                ratio=None,
                limit_ms=limit_ms(prepared, speeds) if prepared.read_bytes else None,
                read_bytes=prepared.read_bytes,
                update_bytes=prepared.update_bytes,
                state_bytes=prepared.state_bytes,
                cache=case.cache,
            )
        )
    return rows, speeds


def _models(bench: ModelBench, rows: int) -> list[TimedBackbone]:
    models = []
    for name in dict.fromkeys(bench.presets):
        config = parse_preset(name)
        work = DecisionInputs(
            rows=rows,
            tokens=config.pass_tokens,
            width=config.width,
            seed=bench.seed,
            device=bench.compute.device,
            precision=bench.compute.precision,
        )
        models.append(TimedBackbone(name, config, work, bench.contexts))
    return models


def _lengthened(models: Sequence[TimedBackbone]) -> list[str]:
    """Return what to say of full caches, which are not of their presets' length."""
    return [
        f"{model.name}: its full cache was made as long as each context needs; the model's own starts "
        f"again after {past.tokens} tokens ({past.tokens // model.work.tokens} timesteps)"
        for model in models
        if (past := model.config.past).restarts and past.tokens
    ]


def _forms(
    asked: Sequence[str], models: Sequence[TimedBackbone]
) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Return the forms of each model, and why there are not more."""
    if asked:
        return {model.name: asked for model in models}, []
    forms: dict[str, Sequence[str]] = {}
    notes = []
    for model in models:
        reason = why_not_fused(model.backbone)
        forms[model.name] = ("torch",) if reason else ("torch", "fused")
        notes += [f"{model.name} has no fused step here: {reason}"] if reason else []
    return forms, notes


def _fitting(
    models: Sequence[TimedBackbone], forms: Mapping[str, Sequence[str]]
) -> tuple[dict[BenchCase, TimedCandidate], list[str]]:
    """Return the candidates whose states fit into memory together, and what was left out."""
    chosen: dict[BenchCase, TimedCandidate] = {}
    left_out = []
    free = _SHARE * free_bytes(models[0].work.device)
    for model in models:
        for context in model.contexts:
            candidates = model.candidates(forms[model.name], context)
            # Candidates of a recurrent model have a state each, copied from one more; the fused step has
            # weights of its own.
            needed = model.state_bytes(context) * (1 if model.cache else len(candidates) + 1)
            needed += weight_bytes(model.backbone) * ("fused" in forms[model.name])
            if needed > free:
                left_out.append(
                    f"{model.name} with rows {model.work.rows}, context {context} was left out: its "
                    f"states need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are to be had"
                )
                continue
            free -= needed
            chosen.update(candidates)
    return chosen, left_out
