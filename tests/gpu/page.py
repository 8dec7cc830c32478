"""``docs/gpu.md`` from the JSON of ``run.sh``: ``python tests/gpu/page.py [JSON]``.

With a JSON, it is kept as ``docs/results/gpu.json`` and the page is made of it; without one, of what is
kept there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from gpu.record import GpuRecord, LatencyRow, StepRow, read, write  # noqa: E402
from gpu.steps import real  # noqa: E402
from gpu.table import AIM, FULL, XLSTM, ContextRatio, above_floor, nearest_to_floor, ratios  # noqa: E402

PAGE = ROOT / "docs" / "gpu.md"
KEPT = ROOT / "docs" / "results" / "gpu.json"

CLAIM = 8.3
"""How many times as fast as the Transformer xLSTM was said to be at 1,600 timesteps of Freeway."""

NEVER = """Not measured yet: no GPU was at hand. What runs on processors is in [results](results/results.md).
"""

HOW = """## Measure it

One command does all of it, from a checkout, in at most eight minutes on an H100, without a network:

```console
$ LRAM_GPU_PYTHON=/path/to/python tests/gpu/run.sh -o measured    # a Python with PyTorch and what lram needs
$ LRAM_GPU_WHEELS=/path/to/wheels tests/gpu/run.sh -o measured    # or one made of wheels in a folder
$ python tests/gpu/page.py measured/gpu.json                      # keeps the JSON and makes this page of it
```

`LRAM_GPU_DEVICE=cuda:1` chooses another GPU, `LRAM_GPU_BUDGET=900` gives all steps more time,
`LRAM_GPU_ONLY=gate,floor` runs some of them, and `--dry` walks every step on the processor with tiny sizes.
A step that fails or is not done in its time does not keep the others from being run; the table at the end
and the JSON say what was left out and why. Steps that compare with the packages `xlstm` and `mamba-ssm` are
run where those are installed.

## How it is measured

* *Decision*: three tokens a row, observation on the host in, action on the host out
  (`lram latency`, [how](how-to/latency.md)); *network* is the model alone, on the device. Contexts are
  really read.
* *Forms of the step*: plain (`torch`), as a CUDA graph (`captured`), as one with Triton kernels (`triton`:
  every kind but GRU, LSTM and `transformer[recompute]`); [what they
  do](explanation/step.md#forms-of-the-step).
* *Forms of training*: plain (`torch`), the packages `mamba-ssm` and `mlstm_kernels` (`packages`), and Triton
  kernels of this project for xLSTM's memories and Mamba's scan (`triton`), which tests have proven in
  Triton's interpreter only; [what they do](how-to/training.md#forms-of-a-sequence).
* *Caches*: a Transformer keeps all of the context (`[full]`), its own band (`[ring]`), or reads its window
  again at each decision (`[recompute]`).
* *Limit*: the time in which the memory moves the bytes of a decision, by the speed that was measured in the
  same rounds (`lram bench model`).
* *Energy*: NVML's counter of the whole GPU, idle power included, over all decisions of a point.
* *Packages*: the same weights and inputs, in turns in one process, outputs compared before
  (`tests/benchmarks/compare_public.py`, `train_public.py`).
"""


def page(record: GpuRecord | None) -> str:
    """Return the page; None: nothing was measured."""
    if record is None:
        return "\n".join(["# On a GPU", "", NEVER, *_open_questions(), "", HOW])
    size = real(record.device.device).large
    parts = [
        "# On a GPU",
        "",
        *_head(record),
        "",
        "## xLSTM beside the Transformer",
        "",
        *_beside(record, size),
        "",
        *_floor(record),
        *_packages(record),
        *_latency(record),
        *_throughput(record),
        *_training(record),
        *_evaluation(record),
        *_proven(record),
        *_steps(record),
        HOW,
    ]
    return "\n".join(parts)


def _open_questions() -> list[str]:
    return [
        "What the measurement will say:",
        "",
        "* how many times as long a Transformer with a full cache takes as xLSTM [7:1], 206M, at 1,600 and",
        f"  25,600 timesteps, for 1 and 16 lanes, and whether that is the {CLAIM} of Freeway at 1,600;",
        f"* how far a decision of one row is from the time of its bytes (aim: within {AIM:g} times);",
        "* how step and training compare with those of the packages `xlstm` and `mamba-ssm`;",
        "* memory and energy of a decision, throughput against rows, an evaluation with the network there.",
    ]


def _head(record: GpuRecord) -> list[str]:
    facts = record.device
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    tf32 = ", ".join(f"{name} {value}" for name, value in facts.tf32.items())
    lines = [
        f"Measured {record.started[:10]} on {facts.name} ({facts.memory_bytes / 2**30:.0f} GiB, compute "
        f"capability {facts.capability or 'none'}) with driver {facts.driver or 'none'}, CUDA "
        f"{facts.cuda or 'none'}, cuDNN {facts.cudnn or 'none'}; {facts.cpu}, {facts.cores} cores. Commit "
        f"{facts.commit or 'unknown'}; {versions}.",
        f"Models in {record.precision}, states and caches in float32. TF32: {tf32}. All steps took "
        f"{record.seconds:.0f} s. The numbers are in [gpu.json](results/gpu.json).",
    ]
    if record.dry:
        lines.insert(0, "**A dry run on a processor, with tiny sizes: no number here means anything.**")
    return lines


def _beside(record: GpuRecord, size: str) -> list[str]:
    rows = [
        (
            one.batch,
            f"{one.context:,}",
            _ms(one.xlstm),
            _ms(one.full),
            f"**{one.times:.2f}**" if one.times is not None else one.why_not,
        )
        for one in ratios(record, size)
    ]
    header = ("lanes", "timesteps", f"{XLSTM}-{size}, ms", f"{FULL}-{size}, ms", "times as long")
    return [*_table(header, rows), "", verdict(record, size)]


def verdict(record: GpuRecord, size: str) -> str:
    """Return whether the claim holds of what was measured here: by the larger of the two ratios at 1,600."""
    found = [one for one in ratios(record, size, contexts=(1600,)) if one.times is not None]
    claim = f"that xLSTM decides {CLAIM} times as fast as the Transformer at 1,600 timesteps of Freeway"
    if not found:
        return f"The claim {claim} is neither confirmed nor refuted: nothing was measured at 1,600 timesteps."
    best = max(found, key=_times)
    tasks = {row.task for one in found for row in (one.xlstm, one.full) if row is not None}
    told = f"the ratio is {_times(best):.2f} at most ({best.batch} lane{'s' * (best.batch > 1)})"
    where = "" if tasks == {"atari/freeway"} else f", measured on {', '.join(sorted(tasks))}"
    word = "confirmed" if _times(best) >= CLAIM else "refuted"
    return f"The claim {claim} is {word} for {size} with this protocol: {told}{where}."


def _times(one: ContextRatio) -> float:
    return one.times or 0.0


def _floor(record: GpuRecord) -> list[str]:
    rows = [
        (
            row.model,
            row.form,
            row.rows,
            "" if row.context is None else f"{row.context:,}",
            f"{row.ms:.3f}",
            f"{row.limit_ms:.3f}",
            f"{above_floor(row):.2f}",
        )
        for row in nearest_to_floor(record)
    ]
    single = [row for row in nearest_to_floor(record) if row.rows == 1]
    within = sum(above_floor(row) <= AIM for row in single)
    aim = [f"Within {AIM:g} times at one row, as is the aim: {within} of {len(single)}.", ""]
    header = ("model", "form", "rows", "timesteps", "ms", "limit, ms", "times the limit")
    text = ["The form of each that is nearest to the time of its bytes.", "", *_table(header, rows), ""]
    text += aim if single else []
    return _section("Distance to the memory's speed", rows, text, record, "floor")


def _packages(record: GpuRecord) -> list[str]:
    rows: list[Sequence[object]] = [
        (row.model, row.form, row.rows, f"{row.ms:.3f}", row.baseline, f"{row.times:.2f}")
        for row in record.bench
        if row.source.startswith("package-") and row.times is not None
    ]
    header = ("model", "our form", "rows", "ms", "package", "times as long")
    steps = ("package-xlstm", "package-mamba")
    return _section("Beside the packages' own step", rows, [*_table(header, rows), ""], record, *steps)


def _latency(record: GpuRecord) -> list[str]:
    rows = [_latency_cells(row) for row in record.latency]
    header = (
        *("agent", "form", "lanes", "timesteps", "decision, ms", "p90", "network, ms"),
        *("state, MB", "peak, MB", "mJ a decision and lane"),
    )
    steps = ("latency-main", "latency-triton", "latency-small", "latency-others", "latency-recompute")
    return _section(
        "Latency, memory and energy against context", rows, [*_table(header, rows), ""], record, *steps
    )


def _latency_cells(row: LatencyRow) -> tuple[object, ...]:
    head = (row.agent, row.form, row.batch, f"{row.context:,}")
    if row.agent_ms is None:
        return (*head, row.outcome, "", "", "", "", "")
    joules = "" if row.joules is None else f"{1000 * row.joules / row.batch:.1f}"
    memory = (f"{row.state_bytes / 1e6:.1f}", f"{row.peak_bytes / 1e6:.0f}", joules)
    return (*head, _number(row.agent_ms), _number(row.p90_ms), _number(row.model_ms), *memory)


def _throughput(record: GpuRecord) -> list[str]:
    found: list[StepRow] = [row for row in record.bench if row.source == "throughput"]
    rows = [
        (row.model, row.form, row.rows, f"{row.ms:.3f}", f"{1000 * row.rows / row.ms:,.0f}") for row in found
    ]
    header = ("model", "form", "rows", "ms", "decisions a second")
    return _section("Throughput against rows", rows, [*_table(header, rows), ""], record, "throughput")


def _training(record: GpuRecord) -> list[str]:
    rows = [
        (
            row.model,
            row.form,
            row.precision,
            f"{row.sequences} x {row.context}",
            f"{row.tokens_per_s:,.0f}",
            f"{row.times:.2f} times {row.baseline}" if row.times is not None else "",
        )
        for row in record.training
    ]
    header = ("model", "form", "precision", "sequences x timesteps", "tokens a second", "beside")
    steps = ("training", "package-xlstm", "package-mamba")
    return _section("Training", rows, [*_table(header, rows), ""], record, *steps)


def _evaluation(record: GpuRecord) -> list[str]:
    rows = [
        (
            row.agent,
            row.tasks,
            row.lanes,
            row.workers,
            row.episodes,
            f"{row.decisions:,}",
            f"{row.decisions_per_s:,.0f}",
            row.overlap,
        )
        for row in record.evaluation
    ]
    header = ("agent", "tasks", "lanes", "workers", "episodes", "decisions", "decisions a second", "overlap")
    title = "An evaluation with the network on the GPU"
    return _section(title, rows, [*_table(header, rows), ""], record, "evaluation")


def _proven(record: GpuRecord) -> list[str]:
    rows = [
        (row.agent, row.form, row.precision, row.passed, row.skipped, row.failed, "; ".join(row.failures))
        for row in record.checks
    ]
    header = ("agent", "form", "precision", "passed", "skipped", "failed", "what failed")
    tests = ", ".join(f"{count} {name}" for name, count in record.tests.items() if count) or "none were run"
    text = [f"Device tests: {tests}.", "", *_table(header, rows), ""]
    return _section("Gate and device tests", rows, text, record, "gate", "tests")


def _steps(record: GpuRecord) -> list[str]:
    rows = [
        (one.title, one.status, f"{one.seconds:.0f} of {one.budget_s:.0f}", one.reason)
        for one in record.steps
    ]
    notes = [f"* {note}" for note in record.notes]
    return ["## What was run", "", *_table(("step", "result", "seconds", "why"), rows), "", *notes, ""]


def _section(
    title: str, rows: Sequence[object], text: Sequence[str], record: GpuRecord, *steps: str
) -> list[str]:
    """Return a section, or why it has no rows."""
    if rows:
        return [f"## {title}", "", *text]
    own = [one for one in record.steps if one.name in steps and one.reason]
    why = [f"{one.name}: {one.status}, {one.reason}" for one in own]
    return [f"## {title}", "", f"Not measured ({'; '.join(why) or 'not run'}).", ""]


def _ms(row: LatencyRow | None) -> str:
    return "" if row is None or row.agent_ms is None else _number(row.agent_ms)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [header, *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    text = [f"| {' | '.join(line)} |" for line in cells]
    return [text[0], "|" + "---|" * len(cells[0]), *text[1:]]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("json", type=Path, nargs="?", help="what run.sh wrote")
    options = parser.parse_args()
    if options.json is not None:
        record = read(options.json)
        if record.dry:
            sys.exit(f"{options.json} is of a dry run, whose numbers mean nothing; measure on a GPU")
        write(KEPT, record)
    PAGE.write_text(page(read(KEPT) if KEPT.is_file() else None), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
