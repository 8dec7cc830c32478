"""Compare the models of lram-bench with public implementations of the same: ``compare_public.py --help``.

Both run in one process, in turns, and are given the same inputs. Where the weights fit they are the
same, and the outputs are compared before anything is timed. README.md has the commands, one
environment for each comparison, and what had to be done to let the packages run.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from ratios import print_ratios, with_ratios

from lram.agents.compute import Compute, Precision, narrow
from lram.agents.model.presets import parse_preset
from lram.agents.model.rounding import round_weights
from lram.harness.bench.bandwidth import Bandwidth
from lram.harness.bench.record import SCHEMA, BenchRecord, Row, Settings, write_record
from lram.harness.bench.run import run_group
from lram.harness.cli.bench.model import print_record
from lram.harness.cli.options import parse_int_list
from lram.harness.machine import threads
from lram.harness.storage.provenance import collect
from lram.harness.timing.backbones import READ, BenchCase, DecisionInputs, TimedBackbone
from lram.harness.timing.clock import Stopwatch, check_device
from lram.harness.timing.load import LoadWatch, environment
from lram.harness.timing.rounds import PreparedDecision, RoundEffort, TimedCandidate

AGREE = {"cpu": 1e-5, "cuda": 1e-3}
"""By how much outputs of the same weights may differ, in float32: on a GPU products are summed by other
kernels for other shapes, and by three tokens or one."""

PRESETS = {
    "xlstm": ("xlstm[1:0]-16M", "xlstm[7:1]-16M"),
    "mamba": ("mamba-16M",),
    "transformer": ("transformer[full]-16M",),
    "recurrent": (
        *("gated_deltanet-16M", "mamba2-16M", "rglru-16M", "griffin-16M"),
        *("mingru-16M", "minlstm-16M", "rwkv7-16M"),
    ),
}


@dataclass(frozen=True)
class Comparison:
    """What is timed together.

    Attributes:
        candidates: Ours and public ones.
        same: Those with the same weights, whose outputs must agree.
        baselines: What each is compared with, by name.
    """

    candidates: dict[BenchCase, TimedCandidate]
    same: tuple[BenchCase, ...]
    baselines: dict[str, tuple[str, ...]]

    @classmethod
    def of(
        cls,
        ours: dict[BenchCase, TimedCandidate],
        public: dict[BenchCase, TimedCandidate],
        other: dict[BenchCase, TimedCandidate],
    ) -> Comparison:
        """Compare ours with the fastest of all the rest.

        Args:
            ours: Our forms.
            public: Of the same weights.
            other: Of as many weights, but other ones.
        """
        names = tuple(candidate.name for candidate in (public | other).values())
        return cls({**public, **other, **ours}, (*public, *ours), {case.name: names for case in ours})


def make_model(
    preset: str,
    rows: int,
    seed: int,
    contexts: Sequence[int],
    device: str = "cpu",
    precision: Precision = "float32",
) -> TimedBackbone:
    """Return a model whose weights are all at work: what starts at zero is moved away from it."""
    config = parse_preset(preset)
    if config.past.cache not in ("", "full"):
        sys.exit(f"{preset} keeps no full cache, as the packages do; name one such as transformer[full]-16M")
    work = DecisionInputs(rows, config.pass_tokens, config.width, seed, device, precision)
    subject = TimedBackbone(preset, config, work, contexts)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in subject.backbone.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator).to(device)
    if (weights := narrow(precision)) is not None:
        round_weights(subject.backbone, weights)
    return subject


def narrowed(subject: TimedBackbone, context: int, baselines: tuple[str, ...]) -> Comparison:
    """Return the fused step of a model of rounded weights, to be compared with ``baselines``.

    It is held against the plain step on the same rounded weights, before anything is timed.
    """
    name = f"fused, {subject.work.precision}"
    case = BenchCase(subject.name, name, subject.work.rows, None, subject.cache)
    plain, fused = (last_hidden(subject.prepare(form, context)) for form in ("torch", "fused"))
    check(case.name, "the plain step", float((fused - plain).abs().max()), agreed(subject.work.device))
    candidate = TimedCandidate(case.name, partial(subject.prepare, "fused", context))
    return Comparison({case: candidate}, (), {case.name: baselines})


def last_hidden(decision: PreparedDecision) -> torch.Tensor:
    """Return the hidden state of the last token of three decisions."""
    return torch.stack([decision.decide()[:, -1] for _ in range(3)])  # type: ignore[index]


def check(name: str, reference: str, difference: float, most: float) -> str:
    """Return how far a candidate is from the reference; exit where that is more than ``most``."""
    if not difference <= most:
        sys.exit(f"{name} and {reference} differ by {difference:.1e}, more than {most:.0e}")
    return f"{name}: differs from {reference} by {difference:.0e}"


def agreed(device: str) -> float:
    """Return by how much outputs may differ on ``device``."""
    return AGREE[device.partition(":")[0]]


def prepare_all(comparison: Comparison, most: float) -> tuple[dict[BenchCase, TimedCandidate], list[str]]:
    """Build all candidates; return them, and how well those with the same weights agree.

    Compared is the hidden state of the last token of three decisions, after the context was read: they may
    differ by ``most``.
    """
    prepared = {case: candidate.prepare() for case, candidate in comparison.candidates.items()}
    hidden = {case: last_hidden(one) for case, one in prepared.items() if case in comparison.same}
    (reference, expected), *others = hidden.items()
    notes = [
        check(case.name, reference.form, float((got - expected).abs().max()), most) for case, got in others
    ]
    return {
        case: dataclasses.replace(candidate, prepare=partial(prepared.__getitem__, case))
        for case, candidate in comparison.candidates.items()
    }, notes


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", choices=sorted(PRESETS))
    parser.add_argument("--presets", help="comma list of our models (default: those of 16M)")
    parser.add_argument("--rows", default="1,16")
    parser.add_argument("--contexts", default="50,200,800,1600", help="of the Transformer")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--forms", help="default: torch,fused; on a GPU torch,captured")
    parser.add_argument("--precisions", default="float32", help="of our fused step, such as float32,int8")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: of this process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    forms = (options.forms or ("torch,fused" if options.device == "cpu" else "torch,captured")).split(",")
    check_device(options.device)
    public = importlib.import_module(f"public_{options.package}")
    presets = options.presets.split(",") if options.presets else PRESETS[options.package]
    contexts = parse_int_list(options.contexts, "--contexts") if options.package == "transformer" else (READ,)
    precisions = [Compute(precision=text).precision for text in options.precisions.split(",")]
    clock = Stopwatch(clock=time.process_time_ns) if options.clock == "cpu" else None
    effort = RoundEffort(rounds=options.repeats, limit_s=120.0, seed=options.seed)
    watch = LoadWatch()
    rows: list[Row] = []
    speeds: dict[str, list[Bandwidth]] = {}
    notes: list[str] = []
    with threads(options.threads):
        for count, context in itertools.product(parse_int_list(options.rows, "--rows"), contexts):
            candidates: dict[BenchCase, TimedCandidate] = {}
            baselines: dict[str, tuple[str, ...]] = {}
            for preset in presets:
                subject = make_model(preset, count, options.seed, [context], options.device)
                with torch.inference_mode():
                    comparison = public.compare(subject, forms, context)
                    found, agreement = prepare_all(comparison, agreed(options.device))
                candidates |= found
                baselines |= comparison.baselines
                notes += agreement
                packages = next(iter(comparison.baselines.values()))
                for precision in [one for one in precisions if one != "float32"]:
                    twin = make_model(preset, count, options.seed, [context], options.device, precision)
                    with torch.inference_mode():
                        comparison = narrowed(twin, context, packages)
                    candidates |= comparison.candidates
                    baselines |= comparison.baselines
            where = str(count) if len(contexts) == 1 else f"{count}, context {context}"
            print(f"rows {where}: {len(candidates)} candidates", file=sys.stderr)
            measured, speeds[where] = run_group(candidates, effort, options.device, clock)
            rows += with_ratios(measured, baselines)
    provenance = collect({}, {})
    settings = Settings(
        tokens=3,
        read=READ,
        threads=options.threads,
        precision=", ".join(precisions),
        device=options.device,
        seed=options.seed,
        rounds=options.repeats,
        environment=environment(),
    )
    record = BenchRecord(
        schema=SCHEMA,
        benchmark=f"public {options.package}",
        settings=settings,
        provenance=dataclasses.replace(provenance, packages=provenance.packages | public.versions()),
        load=watch.load(),
        bandwidths=speeds,
        rows=rows,
        notes=notes,
    )
    print_record(record)
    print_ratios(rows)
    if options.output:
        write_record(options.output, record)


if __name__ == "__main__":
    main()
