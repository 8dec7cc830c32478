"""Compare the forms of a step with plain PyTorch: ``compare_forms.py model|train --help``.

``model``: one decision, against plain PyTorch token by token (recurrent models), or with the same cache and
all tokens in one pass (Transformers). ``train``: one training step in kernels, against plain PyTorch. Both
are timed in turns in one process, as ``lram bench`` times them, which shows users what a form takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from ratios import print_ratios, token_by_token, with_ratios

from lram.agents.model.presets import parse_preset
from lram.harness.bench import run, train
from lram.harness.bench.record import SCHEMA, BenchRecord, Row, Settings, write_record
from lram.harness.bench.train import TrainBench, TrainRecord, bench_training, write_train_record
from lram.harness.cli.bench.model import print_record
from lram.harness.cli.bench.train import print_train_record
from lram.harness.cli.options import parse_int_list
from lram.harness.machine import threads
from lram.harness.storage.provenance import collect
from lram.harness.timing.backbones import READ, BenchCase, DecisionInputs, TimedBackbone
from lram.harness.timing.load import LoadWatch, environment
from lram.harness.timing.rounds import RoundEffort, TimedCandidate


def candidates_of(
    model: TimedBackbone, forms: Sequence[str]
) -> tuple[dict[BenchCase, TimedCandidate], dict[str, tuple[str, ...]]]:
    """Return baselines and forms at every context, and the baseline of each form by name."""
    chosen: dict[BenchCase, TimedCandidate] = {}
    baselines: dict[str, tuple[str, ...]] = {}
    for context in model.contexts:
        plain = model.candidates(["torch"], context) if model.cache else token_by_token(model, context)
        ours = model.candidates(forms, context)
        (baseline,) = (case.name for case in plain)
        baselines |= {case.name: (baseline,) for case in ours if case.name != baseline}
        chosen |= plain | ours
    return chosen, baselines


def compare_models(options: argparse.Namespace) -> BenchRecord:
    """Time decisions."""
    presets = options.presets.split(",") if options.presets else run.PRESETS
    effort = RoundEffort(rounds=options.repeats, limit_s=60.0, seed=options.seed)
    watch, rows, speeds = LoadWatch(), list[Row](), {}
    with threads(options.threads):
        for count in parse_int_list(options.rows, "--rows"):
            chosen: dict[BenchCase, TimedCandidate] = {}
            baselines: dict[str, tuple[str, ...]] = {}
            for preset in presets:
                config = parse_preset(preset)
                work = DecisionInputs(count, config.pass_tokens, config.width, options.seed)
                contexts = parse_int_list(options.contexts, "--contexts")
                found, against = candidates_of(
                    TimedBackbone(preset, config, work, contexts), options.forms.split(",")
                )
                chosen, baselines = chosen | found, baselines | against
            print(f"rows {count}: {len(chosen)} candidates", file=sys.stderr)
            measured, speeds[str(count)] = run.run_group(chosen, effort, "cpu")
            rows += with_ratios(measured, baselines)
    settings = Settings(
        tokens=parse_preset(presets[0]).pass_tokens,
        read=READ,
        threads=options.threads,
        precision="float32",
        device="cpu",
        seed=options.seed,
        rounds=options.repeats,
        environment=environment(),
    )
    return BenchRecord(SCHEMA, "forms", settings, collect({}, {}), watch.load(), speeds, rows)


def compare_training(options: argparse.Namespace) -> TrainRecord:
    """Time training steps."""
    bench = TrainBench(
        presets=tuple(options.presets.split(",")) if options.presets else train.PRESETS,
        contexts=parse_int_list(options.contexts, "--contexts"),
        sequences=parse_int_list(options.rows, "--rows"),
        forms=("torch", *(form for form in options.forms.split(",") if form != "torch")),
        threads=(options.threads,),
        seed=options.seed,
        effort=RoundEffort(rounds=options.repeats, limit_s=60.0),
    )
    record = bench_training(bench, say=lambda text: print(text, file=sys.stderr))
    rows = []
    for (_, _, _), of_one in itertools.groupby(
        record.rows, key=lambda row: (row.model, row.sequences, row.context)
    ):
        plain, *forms = of_one
        rows += with_ratios([plain, *forms], {row.name: (plain.name,) for row in forms})
    return dataclasses.replace(record, benchmark="train, forms", rows=rows)


def main() -> None:
    """Measure, print the tables, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["model", "train"])
    parser.add_argument("--presets", help="comma list of models (default: those of lram bench)")
    parser.add_argument("--rows", help="rows that decide at once, or sequences of a step (default: 1,16; 32)")
    parser.add_argument("--contexts", help="timesteps (default: 50,200,800,1600; 50)")
    parser.add_argument("--forms", default="torch,fused")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    usual = ("1,16", "50,200,800,1600") if options.what == "model" else ("32", "50")
    options.rows, options.contexts = options.rows or usual[0], options.contexts or usual[1]
    if options.what == "model":
        record = compare_models(options)
        print_record(record)
        print_ratios(record.rows)
        if options.output:
            write_record(options.output, record)
        return
    steps = compare_training(options)
    print_train_record(steps)
    print_ratios(steps.rows)
    if options.output:
        write_train_record(options.output, steps)


if __name__ == "__main__":
    main()
