"""``lram bench train``: the time of one training step of each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lram.agents.compute import Compute
from lram.harness.cli.options import (
    BenchRecordOption,
    BenchSeedOption,
    JsonOption,
    parse_int_list,
    parse_sequence_forms,
)
from lram.harness.cli.printing.output import median_text, print_json, print_table
from lram.harness.cli.printing.paths import writing
from lram.harness.errors import LramError
from lram.harness.waiting import say, still

if TYPE_CHECKING:
    from lram.harness.bench.train import TrainRecord, TrainRow


def train(
    presets: Annotated[
        list[str] | None,
        Parameter(
            help="Model presets (default: xLSTM [1:0] and [7:1], Mamba and the Transformer, at 1M and 16M); "
            "see 'lram agents'."
        ),
    ] = None,
    /,
    *,
    contexts: Annotated[str, Parameter(help="Timesteps of a sequence.")] = "50",
    sequences: Annotated[str, Parameter(help="Sequences of a step.")] = "32",
    forms: Annotated[
        str,
        Parameter(
            help="torch: plain PyTorch; fused: kernels of processors; packages: mamba-ssm and mlstm_kernels; "
            "triton: kernels for GPUs; auto: as models are trained."
        ),
    ] = "torch,fused",
    threads: Annotated[
        str, Parameter(help="Threads of PyTorch, as a list; each number is measured separately.")
    ] = "1",
    device: Annotated[str, Parameter(help="Where models are trained: cpu, cuda, cuda:1.")] = "cpu",
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Parameter(help="float32 or bfloat16, the latter by autocast; weights are float32."),
    ] = "float32",
    seed: BenchSeedOption = 0,
    repeats: Annotated[int, Parameter(help="Visits to each candidate.")] = 9,
    output: BenchRecordOption = None,
    json: JsonOption = False,
) -> int:
    """Time one training step of each model: forward, backward and AdamW, the forms in turns.

    A step reads whole sequences with three tokens a timestep and predicts all action dimensions. Its time is
    the median over rounds, with its 95% interval (of fewer than six rounds, their range).

    Example: lram bench train mamba-1M 'xlstm[7:1]-1M' --threads 1,2 -o train.json
    """
    from lram.harness.bench.record import check_output
    from lram.harness.bench.train import PRESETS, TrainBench, bench_training, write_train_record
    from lram.harness.timing.rounds import RoundEffort

    if output is not None:
        check_output(output)
    if repeats < 1:
        raise LramError(f"--repeats must be 1 or more, not {repeats}")
    asked = TrainBench(
        presets=tuple(presets or PRESETS),
        contexts=parse_int_list(contexts, "--contexts"),
        sequences=parse_int_list(sequences, "--sequences"),
        forms=parse_sequence_forms(forms, "--forms"),
        threads=parse_int_list(threads, "--threads"),
        seed=seed,
        compute=Compute(device=device, precision=precision),
        effort=RoundEffort(rounds=repeats, limit_s=60.0),
    )
    with still("making and timing the models"):
        record = bench_training(asked, say=say)
    if json:
        import msgspec

        print_json(msgspec.to_builtins(record))
    else:
        print_train_record(record)
    if output is not None:  # what was measured is shown, too, where it cannot be written
        with writing(output):
            write_train_record(output, record)
    return 0


def print_train_record(record: TrainRecord) -> None:
    """Print a benchmark of training for people."""
    provenance, load = record.provenance, record.load
    versions = ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
    print(f"{provenance.gpu if record.device != 'cpu' else provenance.cpu}; {record.precision}\n{versions}\n")
    header = (
        *("model", "form", "parameters", "sequences", "context", "threads", "median ms", "spread %"),
        "tokens/s",
    )
    print_table(header, [_train_cells(row) for row in record.rows])
    others = "" if load.other_cores is None else f"; other processes kept {load.other_cores:.1f} cores busy"
    print(f"\nload average {load.before:.1f} before, {load.after:.1f} after{others}")
    for note in record.notes:
        print(note)


def _train_cells(row: TrainRow) -> tuple[object, ...]:
    return (
        row.model,
        row.form,
        row.parameters,
        row.sequences,
        row.context,
        row.threads,
        median_text(row.timing),
        round(100 * row.timing.spread),
        round(row.tokens_per_s),
    )
