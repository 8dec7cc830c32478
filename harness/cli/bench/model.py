"""``lram bench model``: the time of one decision of each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.agents.compute import Compute
from lram.harness.cli.options import (
    BenchRecordOption,
    BenchSeedOption,
    JsonOption,
    PrecisionOption,
    TimedDeviceOption,
    parse_int_list,
    parse_step_forms,
)
from lram.harness.cli.printing.output import median_text, print_json, print_table, three_digits
from lram.harness.cli.printing.paths import writing
from lram.harness.errors import LramError
from lram.harness.waiting import say, still

if TYPE_CHECKING:
    from lram.harness.bench.record import BenchRecord, Crossover, Row


def model(
    presets: Annotated[
        list[str] | None,
        Parameter(
            help="Model presets (default: xLSTM [1:0] and [7:1], Mamba and the Transformer, at 16M); see "
            "'lram agents'."
        ),
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
        Parameter(
            help="Step forms: torch, fused, captured, triton, compile, graphs (default: torch, and fused if "
            "it can be)."
        ),
    ] = None,
    threads: Annotated[int, Parameter(help="Threads of PyTorch.")] = 1,
    device: TimedDeviceOption = "cpu",
    precision: PrecisionOption = "float32",
    seed: BenchSeedOption = 0,
    repeats: Annotated[int | None, Parameter(help="Visits to each candidate (default: 15).")] = None,
    quick: Annotated[
        bool, Parameter(help="A try in seconds: by default 1 row, context 50, 3 visits.", negative=())
    ] = False,
    output: BenchRecordOption = None,
    json: JsonOption = False,
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
        rows=parse_int_list(rows, "--rows"),
        contexts=parse_int_list(contexts, "--contexts"),
        forms=() if forms is None else parse_step_forms(forms, "--forms"),
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


def print_record(record: BenchRecord) -> None:
    """Print a benchmark for people."""
    from lram.harness.timing.crossings import FEWEST_ROUNDS

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
            "takes longer than a recurrent model, up to the longest (median over rounds):\n"
        )
        print_table(
            ("rows", "form", "recurrent", "full cache", "context", "interval"),
            list(map(_crossing, record.crossovers)),
        )
        if any(crossover.where == "cannot tell" for crossover in record.crossovers):
            print(
                f"\ncannot tell: there are fewer than {FEWEST_ROUNDS} rounds, or at no context one of the "
                "two takes longer beyond doubt; give more --repeats"
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
        three_digits(row.timing.p90),
        round(100 * row.timing.spread),
        round(row.decisions_per_s),
        None if row.limit_ms is None else three_digits(row.limit_ms),
        None if row.limit_ms is None else three_digits(median / row.limit_ms),
        three_digits(row.state_bytes / row.rows / 1e6),
    )


def _crossing(crossover: Crossover) -> tuple[object, ...]:
    at = "cannot tell"
    if crossover.context is not None:
        at = f"{'' if crossover.where == 'at' else crossover.where + ' '}{crossover.context:.0f}"
    return (
        crossover.rows,
        crossover.form,
        crossover.model,
        crossover.against,
        at,
        None if crossover.low is None or crossover.high is None else f"[{crossover.low}, {crossover.high}]",
    )
