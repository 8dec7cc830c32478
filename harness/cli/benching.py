"""Commands that measure how fast models decide and are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from lram.agents.compute import FORMS, PRECISIONS, Compute, Precision
from lram.harness.cli.listings import Json
from lram.harness.cli.output import print_json, print_table, writing
from lram.harness.errors import LramError
from lram.harness.waiting import say, still

if TYPE_CHECKING:
    from lram.harness.bench.record import BenchRecord, Crossover, Row
    from lram.harness.bench.train import TrainRecord, TrainRow
    from lram.harness.timing.rounds import TimingSummary

bench = App(
    name="bench",
    help="Measure how fast models decide and are trained, on this machine.",
    help_flags=["--help", "-h"],
)


@bench.command(name="model")
def model(
    presets: Annotated[
        list[str] | None,
        Parameter(help="Model presets (default: the four of 16M); see 'lram agents'."),
    ] = None,
    /,
    *,
    rows: Annotated[
        str | None,
        Parameter(help="Rows that decide at once, as a list (default: 1,16; each is measured separately)."),
    ] = None,
    contexts: Annotated[
        str | None, Parameter(help="Timesteps that a Transformer has read (default: 50,200,800,1600).")
    ] = None,
    forms: Annotated[
        str | None,
        Parameter(help="Step forms: torch, fused, compile, graphs (default: torch, and fused if it can be)."),
    ] = None,
    threads: Annotated[int, Parameter(help="Threads of PyTorch.")] = 1,
    device: Annotated[str, Parameter(help="Where models decide, such as cpu or cuda.")] = "cpu",
    precision: Annotated[
        Precision, Parameter(help=f"Type of the weights: {' or '.join(PRECISIONS)}; states are float32.")
    ] = "float32",
    seed: Annotated[
        int, Parameter(name=["--seed", "-s"], help="Seed of weights, inputs and the order of visits.")
    ] = 0,
    repeats: Annotated[int | None, Parameter(help="Visits to each candidate (default: 15).")] = None,
    quick: Annotated[
        bool, Parameter(help="A try in seconds: by default 1 row, context 50, 3 visits.", negative=())
    ] = False,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Write the record to this JSON file.")
    ] = None,
    json: Json = False,
) -> int:
    """Time one decision of each model's backbone, all in turns in this process.

    A decision reads three tokens in each row, in one pass. Its time is the median over rounds, with its 95%
    interval (of fewer than six rounds, their range). 'limit' is the time that memory alone would need for the
    decision's bytes, measured in the same rounds.

    A Transformer is timed with the cache that its preset names: [full] made as long as each context
    needs, [ring] and [recompute] with the window that they have.

    Example: lram bench model 'xlstm[7:1]-16M' 'transformer[full]-16M' --rows 1,16 -o bench.json
    """
    from lram.harness.bench.record import check_output, write_record
    from lram.harness.bench.run import PRESETS, ModelBench, bench_models
    from lram.harness.timing.rounds import RoundEffort

    if output is not None:
        check_output(output)
    if repeats is not None and repeats < 1:
        raise LramError(f"--repeats must be 1 or more, not {repeats}")
    usual = ("1", "50", 3) if quick else ("1,16", "50,200,800,1600", 15)
    rows, contexts, repeats = rows or usual[0], contexts or usual[1], repeats or usual[2]
    effort = RoundEffort(rounds=repeats, visit_s=0.01) if quick else RoundEffort(rounds=repeats, limit_s=60.0)
    asked = ModelBench(
        presets=tuple(presets or PRESETS),
        rows=numbers(rows, "--rows"),
        contexts=numbers(contexts, "--contexts"),
        forms=() if forms is None else names(forms, "--forms"),
        threads=threads,
        seed=seed,
        compute=Compute(device=device, precision=precision),
        effort=effort,
    )
    with still("making and timing the models"):
        record = bench_models(asked, say=say)
    if json:
        import msgspec

        print_json(msgspec.to_builtins(record))
    else:
        print_record(record)
    if output is not None:  # what was measured is shown, too, where it cannot be written
        with writing(output):
            write_record(output, record)
    return 0


@bench.command(name="train")
def train(
    presets: Annotated[
        list[str] | None,
        Parameter(help="Model presets (default: the four backbones at 1M and 16M); see 'lram agents'."),
    ] = None,
    /,
    *,
    contexts: Annotated[str, Parameter(help="Timesteps of a sequence.")] = "50",
    sequences: Annotated[str, Parameter(help="Sequences of a step.")] = "32",
    forms: Annotated[
        str, Parameter(help="torch: plain PyTorch; fused: kernels, as models are trained.")
    ] = "torch,fused",
    threads: Annotated[
        str, Parameter(help="Threads of PyTorch, as a list; each number is measured separately.")
    ] = "1",
    device: Annotated[str, Parameter(help="Where models are trained, such as cpu or cuda.")] = "cpu",
    precision: Annotated[
        Precision, Parameter(help=f"{' or '.join(PRECISIONS)}, the latter by autocast; weights are float32.")
    ] = "float32",
    seed: Annotated[
        int, Parameter(name=["--seed", "-s"], help="Seed of weights, inputs and the order of visits.")
    ] = 0,
    repeats: Annotated[int, Parameter(help="Visits to each candidate.")] = 9,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Write the record to this JSON file.")
    ] = None,
    json: Json = False,
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
        contexts=numbers(contexts, "--contexts"),
        sequences=numbers(sequences, "--sequences"),
        forms=names(forms, "--forms"),
        threads=numbers(threads, "--threads"),
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


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Return the whole numbers of a comma list; LramError for anything else."""
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise LramError(f"{option} takes whole numbers such as 1,16, not {text!r}") from None


def names(text: str, option: str) -> tuple[str, ...]:
    """Return the step forms of a comma list; LramError where one is empty."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(parts):
        raise LramError(
            f"{option} takes step forms such as torch,fused (there are {', '.join(FORMS)}), not {text!r}"
        )
    return parts


def print_record(record: BenchRecord) -> None:
    """Print a benchmark for people."""
    settings, provenance, load = record.settings, record.provenance, record.load
    versions = ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
    print(
        f"{provenance.gpu if settings.device != 'cpu' else provenance.cpu}; {settings.threads} thread(s), "
        f"{settings.precision}, {settings.tokens} tokens a decision\n{versions}\n"
    )
    print_table(_HEADER, list(map(_cells, record.rows)))
    print()
    if any(row.cache == "full" for row in record.rows):
        print(
            "state: beside keys and values, a full cache of lram-bench keeps the embedded tokens from which "
            "it would start again\n"
        )
    if record.crossovers:
        print(
            "The context (timesteps read) from which on a Transformer with a full cache of keys and values "
            "takes longer than a recurrent model:\n"
        )
        print_table(
            ("rows", "form", "recurrent", "full cache", "context"), list(map(_crossing, record.crossovers))
        )
        print()
    for rows, points in record.bandwidths.items():
        speeds = ", ".join(
            f"{point.bytes / 2**20:g} MiB {point.read_gb_s:.0f} / {point.update_gb_s:.0f}" for point in points
        )
        print(f"memory beside rows {rows}, GB/s read / read and written: {speeds}")
    others = "" if load.other_cores is None else f"; other processes kept {load.other_cores:.1f} cores busy"
    print(f"load average {load.before:.1f} before, {load.after:.1f} after{others}")
    noisy = sum(row.timing.noisy for row in record.rows)
    if noisy:
        print(f"{noisy} of {len(record.rows)} rows are noisy: their rounds spread by more than a tenth")
    for note in record.notes:
        print(note)


_HEADER = (
    "model",
    "form",
    "rows",
    "context",
    "median ms",
    "p90 ms",
    "spread %",
    "decisions/s",
    "limit ms",
    "x limit",
    "state MB/row",
)


def _cells(row: Row) -> tuple[object, ...]:
    median = row.timing.median.median
    return (
        row.model,
        row.form,
        row.rows,
        row.context,
        median_text(row.timing),
        _rounded(row.timing.p90),
        round(100 * row.timing.spread),
        round(row.decisions_per_s),
        None if row.limit_ms is None else _rounded(row.limit_ms),
        None if row.limit_ms is None else _rounded(median / row.limit_ms),
        _rounded(row.state_bytes / row.rows / 1e6),
    )


def _crossing(crossover: Crossover) -> tuple[object, ...]:
    where = {"at": "", "below": "below ", "beyond": "beyond "}[crossover.where]
    return (
        crossover.rows,
        crossover.form,
        crossover.model,
        crossover.against,
        f"{where}{crossover.context:.0f}",
    )


def median_text(timing: TimingSummary) -> str:
    """Return a median with its interval, three digits each."""
    middle = timing.median
    return f"{_rounded(middle.median)} [{_rounded(middle.low)}, {_rounded(middle.high)}]"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


COMMANDS: tuple[tuple[App | Callable[..., Any], str], ...] = ((bench, "bench"),)
