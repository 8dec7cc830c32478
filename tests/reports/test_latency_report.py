"""The section on latencies: numbers that follow from the records, and verdicts that they carry."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable, Sequence
from csv import DictReader
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.files import edit, signed

from lram.agents.api import AgentInfo
from lram.envs.registry import select
from lram.harness.cli.printing.latencies import print_result
from lram.harness.errors import LramError
from lram.harness.latency.folder import LatencyRun, LatencyWriter
from lram.harness.latency.records import SCHEMA, Effort, Job, LatencyPlan, LatencyPoint, Variant
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import AgentEntry, PlannedTask
from lram.harness.timing.crossings import Bound, crossing, rounds_crossing
from lram.harness.timing.inputs import Inputs
from lram.reports.drawing import render
from lram.reports.sections.latency.analysis import summarise
from lram.reports.sections.latency.section import section
from lram.reports.table import PrintedTable

CONTEXTS = (50, 200, 800, 1600)
INPUTS = Inputs(np.zeros((2, 1), np.float32), np.zeros(2), np.zeros(2, np.int64))

Time = Callable[[int, int], float]
"""Milliseconds of a decision by context and process."""


def write(
    folder: Path,
    agents: dict[str, tuple[str, Time]],
    *,
    repeats: int = 5,
    decisions: int = 80,
    **changes: object,
) -> Path:
    """Write a sweep; agents are (backbone, time) by label."""
    (task,) = select("toy/reach")
    info = AgentInfo("model", "made up", trained=False, parameters=16_000_000, digest="ab" * 32)
    plan = LatencyPlan(
        schema=SCHEMA,
        seed=0,
        agents=tuple(AgentEntry(label, label, info) for label in agents),
        variants=tuple(Variant(label, "auto") for label in agents),
        task=PlannedTask(task, "toy:lram@1"),
        contexts=CONTEXTS,
        batches=(1, 16),
        device="cpu",
        precision="float32",
        repeats=repeats,
        threads=1,
        loop=True,
        windows="whole",
        effort=Effort(),
        inputs=INPUTS.digest,
        recorded=2,
        distinct=True,
    )
    plan = dataclasses.replace(plan, **changes)  # type: ignore[arg-type]
    with LatencyWriter.create(folder, plan, INPUTS) as writer:
        writer.write_provenance(collect({}, {}, "lram latency"))
        for job in plan.jobs():
            kind, time = agents[job.agent]
            for context in plan.contexts:
                ms = time(context, job.repeat) * (1 if job.batch == 1 else 4)
                writer.append(point(job, context, kind, ms, decisions))
    return folder


def point(job: Job, context: int, kind: str, ms: float, decisions: int) -> LatencyPoint:
    if math.isinf(ms):
        return LatencyPoint(SCHEMA, job, context, "out of memory")
    # One decision in five takes twice as long, the very last five times.
    slower = [5 if i == decisions - 1 else 2 if i % 5 == 4 else 1 for i in range(decisions)]
    taken = [round(1e6 * ms * times) for times in slower]
    return LatencyPoint(
        schema=SCHEMA,
        job=job,
        context=context,
        outcome="ok",
        read=context,
        held=kind == "transformer",
        agent_ns=tuple(taken),
        model_ns=tuple(one // 2 for one in taken),
        loop_ns=tuple(2 * one for one in taken[:5]),
        repeated_ns=tuple(taken[:5]),
        distinct_ns=tuple(taken[:5]),
        warm=True,
        warm_up=3,
        state_bytes=job.batch * (2**20 if kind != "transformer" else 2**12 * context),
        weight_bytes=64_000_000,
        resident_bytes=3 * 2**28,
        peak_bytes=2**30,
        actions="0badcafe",
        facts={
            "backbone": kind,
            "cache": "full" if kind == "transformer" else "",
            "past": "keys and values of the whole context, float32",
            "tokens": "3",
            "passes": "1",
            "precision": "float32",
            "attention": "own kernel",
            "step": "fused kernels",
            "form": "fused",
            "rows a pass": str(1 if job.batch == 1 else -(-job.batch // 8) * 8),
        },
    )


def steady(ms: float, spread: float = 0.01) -> Time:
    return lambda context, process: ms * (1 + spread * (process - 2))


def growing(start: float, per: float, spread: float = 0.01) -> Time:
    return lambda context, process: (start + per * context) * (1 + spread * (process - 2))


XLSTM = ("xlstm", steady(3.0))
TRANSFORMER = ("transformer", growing(2.0, 0.002))  # as fast as XLSTM at context 500


def cell(table: PrintedTable, row: int, heading: str) -> str:
    place = [column.heading for column in table.columns].index(heading)
    return table.rows[row][place].text


def table_of(tables: Sequence[PrintedTable], name: str) -> PrintedTable:
    return next(table for table in tables if table.id == f"latency-{name}")


def test_medians_are_over_processes_and_percentiles_over_decisions(tmp_path: Path) -> None:
    result = summarise([LatencyRun(write(tmp_path / "a", {"x": XLSTM}))])
    spot = next(s for s in result.spots if (s.batch, s.context) == (1, 200))
    assert spot.agent is not None
    assert spot.agent.median.value == pytest.approx(3.0)
    assert (spot.agent.median.low, spot.agent.median.high) == pytest.approx((2.94, 3.06))
    assert spot.agent.median.coverage == pytest.approx(0.9375)
    assert (spot.agent.decisions, spot.agent.processes) == (400, 5)
    assert spot.agent.p90 == pytest.approx(6.0, rel=0.05)
    assert spot.agent.p99 == pytest.approx(15.0, rel=0.03)
    assert spot.model is not None
    assert spot.model.median.value == pytest.approx(1.5)


def test_the_energy_of_a_decision_is_shown_where_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joules of all decisions of a process over their number; a table of processors has no such column."""
    plain = table_of(section([write(tmp_path / "a", {"x": XLSTM})]).printed, "curves")
    assert not [column.heading for column in plain.columns if "Energy" in column.heading]
    made = point

    def read(job: Job, context: int, *rest: object) -> LatencyPoint:
        joules = 0.0 if context == CONTEXTS[0] else 80 * (0.5, 0.25, 2.5)[job.repeat]
        return dataclasses.replace(made(job, context, *rest), energy_j=joules, energy_s=1.0)  # type: ignore[arg-type]

    monkeypatch.setitem(globals(), "point", read)
    folder = write(tmp_path / "b", {"x": XLSTM}, repeats=3)
    spots = {(one.batch, one.context): one for one in summarise([LatencyRun(folder)]).spots}
    assert spots[1, CONTEXTS[1]].energy_mj == pytest.approx(500)
    assert spots[1, CONTEXTS[0]].energy_mj is None
    shown = table_of(section([folder]).printed, "curves")
    assert {cell(shown, row, "Energy, mJ") for row in range(len(CONTEXTS))} == {"–", "500.0"}


def test_a_percentile_needs_enough_decisions(tmp_path: Path) -> None:
    result = summarise([LatencyRun(write(tmp_path / "a", {"x": XLSTM}, decisions=19))])
    assert all(spot.agent is not None and spot.agent.p99 is None for spot in result.spots)
    assert all(spot.agent is not None and spot.agent.p90 is not None for spot in result.spots)
    few = summarise([LatencyRun(write(tmp_path / "b", {"x": XLSTM}, decisions=3))])
    assert all(spot.agent is not None and spot.agent.p90 is None for spot in few.spots)


def test_a_slow_process_weighs_as_much_in_percentiles_as_one_of_many_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process measures is limited in time: 200 decisions of 1 ms, or 40 of 100 ms."""
    made_point = point

    def limited(job: Job, context: int, kind: str, ms: float, decisions: int) -> LatencyPoint:
        found = made_point(job, context, kind, ms, decisions)
        slow = job.repeat == 0
        number = (3 if job.batch == 16 else 40) if slow else 200
        return dataclasses.replace(found, agent_ns=(100_000_000 if slow else 1_000_000,) * number)

    monkeypatch.setitem(globals(), "point", limited)
    folder = write(tmp_path / "a", {"x": XLSTM}, contexts=(50,))
    one, many = (spot.agent for spot in summarise([LatencyRun(folder)]).spots)
    assert one is not None
    assert many is not None
    assert one.decisions == 840
    assert (one.p90, one.p99) == (100.0, 100.0)
    assert many.decisions == 803
    assert (many.p90, many.p99) == (100.0, None), "three decisions of a fifth of the weight are no p99"


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ((1, 1, 1), (2, 2, 2), Bound("below", 10.0)),
        ((3, 3, 3), (2, 2, 2), Bound("beyond", 40.0)),
        ((3, 3, 3), (2, 4, 6), Bound("at", 15.0)),
        ((3, 3, 3), (4, 2, 4), Bound("at", 30.0)),  # the last crossing: from there on it stays faster
        ((3, 3, 3), (4, 4, 3), Bound("beyond", 40.0)),
    ],
)
def test_a_crossover_is_where_the_first_becomes_faster_for_good(
    first: tuple[float, ...], second: tuple[float, ...], found: Bound
) -> None:
    assert crossing((10, 20, 40), first, second) == found


def test_crossovers_and_the_regions_where_the_transformer_is_faster(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"x": XLSTM, "t": TRANSFORMER})
    found = next(one for one in summarise([LatencyRun(folder)]).crossings if one.batch == 1)
    assert (found.first, found.second, found.kinds_differ) == (0, 1, True)
    assert found.at.where == "at"
    assert found.at.context == pytest.approx(500)
    assert found.low is not None
    assert found.low.context == pytest.approx(500), "both met the same machine in each round"
    assert found.second_faster == (50, 200)
    assert found.first_faster == (800, 1600)


def test_the_interval_of_a_crossover_may_be_open(tmp_path: Path) -> None:
    # In one of five rounds the Transformer is faster everywhere.
    def time(context: int, process: int) -> float:
        return (2.0 + 0.002 * context) * (0.5 if process == 4 else 1.0)

    folder = write(tmp_path / "a", {"x": ("xlstm", steady(3.0, 0.0)), "t": ("transformer", time)})
    found = next(one for one in summarise([LatencyRun(folder)]).crossings if one.batch == 1)
    assert found.at.context == pytest.approx(500)
    assert str(found.high) == "beyond 1600"
    assert found.interval_text == "[500, beyond 1600]"


def test_a_crossover_is_the_median_of_its_rounds_and_lies_within_their_interval(tmp_path: Path) -> None:
    """Medians of the processes at each context may cross where no round does."""
    taken = {50: (5, 7, 9, 1, 3), 800: (3, 7, 3, 7, 9), 1600: (9, 1, 9, 11, 3)}

    def time(context: int, process: int) -> float:
        return float(taken[context][process])

    folder = write(
        tmp_path / "a",
        {"x": ("xlstm", steady(6.0, 0.0)), "t": ("transformer", time)},
        contexts=(50, 800, 1600),
        batches=(1,),
    )
    (found,) = summarise([LatencyRun(folder)]).crossings
    assert [str(one) for one in (found.low, found.at, found.high)] == ["675", "1200", "beyond 1600"]


@pytest.mark.parametrize(
    ("found", "middle"),
    [
        ((10.0, 30.0, 20.0), "20"),
        ((10.0, 30.0), "20"),
        ((10.0, "beyond"), "beyond 40"),
        (("below", 10.0), "10"),
        (("below", "below", 10.0, 20.0), "10"),
    ],
)
def test_the_median_of_crossings_outside_the_contexts(found: tuple[float | str, ...], middle: str) -> None:
    ends = {"below": Bound("below", 5.0), "beyond": Bound("beyond", 40.0)}
    bounds = [ends[one] if isinstance(one, str) else Bound("at", one) for one in found]
    assert str(rounds_crossing(bounds).middle) == middle


def test_a_context_that_one_process_measured_takes_no_crossover_away(tmp_path: Path) -> None:
    """A Transformer that ran out of memory at the longest context in all processes but one."""

    def time(context: int, process: int) -> float:
        return math.inf if context == 1600 and process else growing(2.0, 0.002)(context, process)

    folder = write(tmp_path / "a", {"x": XLSTM, "t": ("transformer", time)}, batches=(1,))
    (found,) = summarise([LatencyRun(folder)]).crossings
    assert found.at is not None
    assert found.at.context == pytest.approx(500)
    assert found.left_out == (1600,)
    assert found.unclear == (1600,)
    made = section([folder])
    table = table_of(made.printed, "crossovers")
    place = [column.heading for column in table.columns].index("First faster from")
    assert (table.rows[0][place].text, table.rows[0][place].small) == ("500", "without 1600")
    (row,) = _rows(made.csv["latency_crossovers.csv"])
    assert (row["where"], row["without"]) == ("at", "1600")


def test_contexts_that_different_processes_lack_leave_what_most_have(tmp_path: Path) -> None:
    """Of six processes each of two contexts lacks another one, so that only four have measured both."""

    def time(context: int, process: int) -> float:
        lost = (context, process) in ((800, 0), (1600, 1)) or (context == 1600 and process == 2)
        return math.inf if lost else growing(2.0, 0.002)(context, process)

    folder = write(tmp_path / "a", {"x": XLSTM, "t": ("transformer", time)}, batches=(1,), repeats=6)
    (found,) = summarise([LatencyRun(folder)]).crossings
    assert found.left_out == (1600,)
    assert str(found.at) == "500"


def test_few_processes_give_no_verdict(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"x": XLSTM, "t": TRANSFORMER}, repeats=4)
    for one in summarise([LatencyRun(folder)]).crossings:
        assert one.unclear == CONTEXTS


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_below_five_processes_no_crossover_and_no_interval_is_told(tmp_path: Path, repeats: int) -> None:
    folder = write(tmp_path / "a", {"x": XLSTM, "t": TRANSFORMER}, repeats=repeats)
    made = section([folder])
    for one in summarise([LatencyRun(folder)]).crossings:
        assert (one.at, one.low, one.high) == (None, None, None)
    table = table_of(made.printed, "crossovers")
    assert {cell(table, row, "First faster from") for row in range(len(table.rows))} == {"cannot tell"}
    assert {cell(table, row, "Interval") for row in range(len(table.rows))} == {"no interval"}
    lines = made.csv["latency_crossovers.csv"].decode().splitlines()
    assert all(",cannot tell," in line for line in lines[1:])
    assert all(spot.agent.median.low is None for spot in summarise([LatencyRun(folder)]).spots if spot.agent)


def test_control_rates_are_held_by_the_bound_of_the_late_share(tmp_path: Path) -> None:
    # One decision of each process takes five times as long, one in five twice.
    folder = write(tmp_path / "a", {"x": XLSTM, "t": ("transformer", growing(2.0, 0.01))}, decisions=200)
    fits = {(f.subject, f.batch, f.hz): f for f in summarise([LatencyRun(folder)]).fits}
    assert fits[0, 1, 50].fits == CONTEXTS  # none of 1,000 takes longer than 16 ms
    assert fits[0, 1, 100].unknown == CONTEXTS  # 5 of 1,000 do: the bound of their share is 1.05%
    assert fits[1, 1, 20].fits == (50, 200, 800)  # at 800 two decisions of 1,000 are late: 0.63% at most
    few = write(tmp_path / "b", {"x": XLSTM}, decisions=50)
    fits = {(f.subject, f.batch, f.hz): f for f in summarise([LatencyRun(few)]).fits}
    assert fits[0, 1, 50].unknown == CONTEXTS, "250 decisions in time do not show it"
    assert fits[0, 16, 100].misses == CONTEXTS  # a median of 12 ms is late, however few were measured
    rates = table_of(section([few]).printed, "rates")
    assert cell(rates, 0, "50 Hz (20 ms)") == "cannot tell"
    place = [column.heading for column in rates.columns].index("50 Hz (20 ms)")
    assert rates.rows[0][place].small.startswith("at "), "what the cell says is not said again below it"


@pytest.mark.slow
def test_a_row_that_is_faster_on_seen_inputs_is_marked_and_enters_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"x": XLSTM, "t": TRANSFORMER})
    (segment,) = (folder / "records").glob("*.jsonl")
    lines = []
    for line in segment.read_bytes().splitlines():
        one = msgspec.json.decode(line, type=LatencyPoint)
        if (one.job.agent, one.job.batch, one.context) == ("x", 1, 800):
            one = dataclasses.replace(one, repeated_ns=tuple(t // 2 for t in one.distinct_ns))
        lines.append(signed(msgspec.json.encode(one)))
    segment.write_bytes(b"\n".join(lines) + b"\n")
    result = summarise([LatencyRun(folder)])
    marked = [(s.subject, s.batch, s.context) for s in result.spots if s.audit == "failed"]
    assert marked == [(0, 1, 800)]
    found = next(one for one in result.crossings if one.batch == 1)
    assert 800 not in (*found.first_faster, *found.second_faster, *found.unclear)
    assert all(
        800 not in (*f.fits, *f.misses, *f.unknown) for f in result.fits if (f.subject, f.batch) == (0, 1)
    )
    made = section([folder])
    flags = [row[0].flag for row in table_of(made.printed, "curves").rows if row[0].flag]
    assert flags == ["faster on inputs that it has seen"]
    assert cell(table_of(made.printed, "audits"), 0, "Contexts with that audit") == "4 of 4"
    assert [one.kind for one in made.caveats] == ["latency-inputs"]
    assert made.csv["latency_points.csv"].decode().count(",failed,0.5,") == 1
    assert [spot["audit"] for spot in made.summary["spots"]].count("failed") == 1


def test_a_sweep_of_an_earlier_version_says_what_it_lacks(tmp_path: Path) -> None:
    made = section([write(tmp_path / "a", {"x": XLSTM}, distinct=False)])
    assert [one.kind for one in made.caveats] == ["latency-shared-inputs"]


def test_out_of_memory_is_told_and_everything_else_stands(tmp_path: Path) -> None:
    hungry = ("transformer", lambda context, process: math.inf if context > 200 else 2.0)
    folder = write(tmp_path / "a", {"x": XLSTM, "t": hungry})
    made = section([folder])
    curves = table_of(made.printed, "curves")
    flagged = [row for row in curves.rows if row[0].flag == "out of memory"]
    assert len(flagged) == 4
    assert len(curves.rows) == 16
    assert "out of memory" in made.csv["latency_points.csv"].decode()
    rates = table_of(made.printed, "rates")
    assert cell(rates, 2, "20 Hz (50 ms)") == "50, 200", "all that was measured is not all"
    json.dumps(made.summary, allow_nan=False)


def _rows(csv: bytes) -> list[dict[str, str]]:
    return list(DictReader(io.StringIO(csv.decode())))


def test_throughput_is_lanes_over_the_time_of_a_decision(tmp_path: Path) -> None:
    """A made-up decision of several lanes takes four times as long as one of one lane."""
    hungry = ("transformer", lambda context, process: math.inf if context > 200 else 2.0)
    folder = write(tmp_path / "a", {"x": XLSTM, "t": hungry}, contexts=(50, 800), batches=(1, 2, 16))
    made = section([folder])
    rows = _rows(made.csv["latency_throughput.csv"])
    assert [(row["agent"], row["context"], row["batch"]) for row in rows[:4]] == [
        *(("x", "50", batch) for batch in ("1", "2", "16")),
        ("x", "800", "1"),
    ]
    many = rows[2]
    assert float(many["decisions_per_second"]) == pytest.approx(16 / 12e-3)
    assert float(many["decisions_per_second_low"]) == pytest.approx(16 / (1.02 * 12e-3), rel=1e-3)
    assert float(many["decisions_per_second_high"]) == pytest.approx(16 / (0.98 * 12e-3), rel=1e-3)
    assert float(many["gain"]) == pytest.approx(4)
    assert int(many["state_bytes"]) == 16 * 2**20
    lacking = [row for row in rows if row["outcome"] == "out of memory"]
    assert [(row["agent"], row["batch"], row["decisions_per_second"]) for row in lacking] == [
        ("t", batch, "") for batch in ("1", "2", "16")
    ]
    table = table_of(made.printed, "throughput")
    assert [row[0].flag for row in table.rows].count("out of memory") == 3
    assert [drawing.name for drawing in made.drawings][-1] == "latency-throughput"


def test_a_throughput_on_inputs_that_were_seen_is_marked_and_gains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lane of the Transformer is twice as fast on what it has seen; the other agent keeps its gains."""
    made_point = point

    def repeated(job, context, kind, ms, decisions):
        found = made_point(job, context, kind, ms, decisions)
        seen = kind == "transformer" and job.batch == 1
        return (
            dataclasses.replace(found, repeated_ns=tuple(t // 2 for t in found.distinct_ns))
            if seen
            else found
        )

    monkeypatch.setitem(globals(), "point", repeated)
    folder = write(tmp_path / "a", {"x": XLSTM, "t": TRANSFORMER}, contexts=(50,), batches=(1, 4, 16))
    made = section([folder])
    rows = _rows(made.csv["latency_throughput.csv"])
    assert list(rows[0])[-2:] == ["input_audit", "rows"]
    assert [
        (row["agent"], row["batch"], row["input_audit"] == "failed", row["gain"] == "") for row in rows
    ] == [
        *(("x", batch, False, False) for batch in ("1", "4", "16")),
        *(("t", batch, batch == "1", True) for batch in ("1", "4", "16")),
    ]
    flags = [row[0].flag for row in table_of(made.printed, "throughput").rows]
    assert flags == ["", "", "", "faster on inputs that it has seen", "", ""]


def test_passes_with_more_rows_than_lanes_are_named_wherever_numbers_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "a", {"x": XLSTM}, contexts=(50,), batches=(1, 2, 4, 16))
    made = section([folder])
    for name in ("points", "throughput"):
        rows = _rows(made.csv[f"latency_{name}.csv"])
        assert [(row["batch"], row["rows"]) for row in rows] == [
            ("1", "1"),
            ("2", "8"),
            ("4", "8"),
            ("16", "16"),
        ]
        assert list(rows[0])[-1] == "rows"
    words = "2 and 4 lanes share a pass of 8 rows"
    for name in ("curves", "throughput"):
        table = table_of(made.printed, name)
        place = [column.heading for column in table.columns].index("Lanes")
        assert [row[place].small for row in table.rows] == ["", "8 rows a pass", "8 rows a pass", ""]
        assert words in table.caption
    drawings = {drawing.name: drawing for drawing in made.drawings}
    for name in ("latency-curves", "latency-memory", "latency-throughput"):
        assert words in drawings[name].caption
    titles = [axes.get_title(loc="left") for axes in drawings["latency-curves"].figure.axes]
    assert titles == ["1 lane", "2 lanes\n(8 rows)", "4 lanes\n(8 rows)", "16 lanes"]
    print_result(summarise([LatencyRun(folder)]))
    assert words in capsys.readouterr().out
    full = section([write(tmp_path / "b", {"x": XLSTM}, contexts=(50,))])
    assert "share a pass" not in str([*full.printed, *(one.caption for one in full.drawings)])


def test_peak_memory_is_that_of_the_device(tmp_path: Path) -> None:
    made = section([write(tmp_path / "a", {"x": XLSTM}, contexts=(50,), batches=(1, 8, 16), device="cuda")])
    captions = [table_of(made.printed, name).caption for name in ("curves", "throughput")]
    drawings = {drawing.name: drawing for drawing in made.drawings}
    names = ("latency-memory", "latency-throughput")
    captions += [drawings[name].caption for name in names]
    assert all("memory allocated on the GPU" in caption for caption in captions)
    assert not any("process, with libraries" in caption for caption in captions)
    labels = [axes.get_ylabel() for name in names for axes in drawings[name].figure.axes]
    assert labels.count("peak on the GPU, MiB") == 2
    assert "peak of the process, MiB" not in labels
    here = write(tmp_path / "b", {"x": XLSTM}, contexts=(50,))
    (both,) = {
        line
        for drawing in section([tmp_path / "a", here]).drawings
        for axes in drawing.figure.axes
        if "peak" in (line := axes.get_ylabel())
    }
    assert both == "peak memory, MiB"


def test_the_figure_of_throughput_draws_what_its_legend_shows(tmp_path: Path) -> None:
    """Two sweeps of one agent share its colour and marker, and differ in their dashes."""
    folders = [write(tmp_path / name, {"x": XLSTM}, contexts=(50,), batches=(1, 8, 16)) for name in "ab"]
    drawing = section(folders).drawings[-1]
    assert drawing.name == "latency-throughput"
    for axes in drawing.figure.axes:
        drawn = [one.get_linestyle() for one in axes.lines if len(one.get_xdata()) == 3]
        assert drawn == ["-", "--"]
    (legend,) = drawing.figure.legends
    assert [one.get_linestyle() for one in legend.get_lines()] == ["-", "--"]


def test_a_cross_stands_also_where_nothing_was_tried_for_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_point = point

    def lacking(job: Job, context: int, *rest: object) -> LatencyPoint:
        if job.batch < 16:
            return made_point(job, context, *rest)  # type: ignore[arg-type]
        outcome = "out of memory" if context == 50 else "not tried: out of memory at context 50"
        return LatencyPoint(SCHEMA, job, context, outcome)

    monkeypatch.setitem(globals(), "point", lacking)
    folder = write(tmp_path / "a", {"x": XLSTM}, contexts=(50, 800), batches=(1, 8, 16))
    axes = section([folder]).drawings[-1].figure.axes
    assert [sum(line.get_marker() == "x" for line in one.lines) for one in axes] == [1] * 6


def test_two_batches_are_no_curve_against_lanes(tmp_path: Path) -> None:
    made = section([write(tmp_path / "a", {"x": XLSTM}, contexts=(50,))])
    assert len(_rows(made.csv["latency_throughput.csv"])) == 2
    assert "latency-throughput" not in {
        *(table.id for table in made.printed),
        *(drawing.name for drawing in made.drawings),
    }


def test_ratios_of_times_are_of_rounds_at_each_context(tmp_path: Path) -> None:
    made = section([write(tmp_path / "a", {"t": TRANSFORMER, "x": XLSTM}, batches=(1,))])
    rows = _rows(made.csv["latency_ratios.csv"])
    assert {(row["first"], row["second"]) for row in rows} == {("x", "t")}
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(3 / (2 + 0.002 * int(row["context"])), rel=1e-3)
        assert float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
    assert cell(table_of(made.printed, "ratios"), 0, "1600") == "0.5769"


@pytest.mark.slow
def test_the_section_holds_to_its_contract(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"x": XLSTM, "t": TRANSFORMER})
    made = section([folder])
    assert made.key == "latency"
    assert all(table.id.startswith("latency-") for table in made.printed)
    assert all(drawing.name.startswith("latency-") for drawing in made.drawings)
    assert all(name.startswith("latency_") for name in made.csv)
    assert [d.name for d in made.drawings] == ["latency-curves", "latency-memory", "latency-tails"]
    assert cell(table_of(made.printed, "crossovers"), 0, "First faster from") == "500"
    assert cell(table_of(made.printed, "crossovers"), 0, "Second faster at") == "50, 200"
    assert cell(table_of(made.printed, "fairness"), 0, "Parameters") == "16.0M"
    assert cell(table_of(made.printed, "rates"), 0, "50 Hz (20 ms)") == "all"
    assert not made.caveats
    again = section([folder])
    assert msgspec.json.encode(made.summary) == msgspec.json.encode(again.summary)
    assert made.csv == again.csv
    for one, other in zip(made.drawings, again.drawings, strict=True):
        assert render(one, "svg") == render(other, "svg")


def test_what_speaks_against_the_times_is_said_first(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"x": ("xlstm", steady(3.0, 0.2)), "t": TRANSFORMER})
    (segment,) = (folder / "records").glob("*.jsonl")
    lines = segment.read_text().splitlines()
    changed = msgspec.json.decode(lines[0], type=LatencyPoint)
    odd = signed(msgspec.json.encode(dataclasses.replace(changed, actions="00000000"))).decode()
    segment.write_text("\n".join([odd, *lines[1:-1]]) + "\n")
    caveats = {one.kind: one for one in section([folder]).caveats}
    kinds = {"latency-unfinished", "latency-processes", "latency-spread", "latency-actions"}
    assert set(caveats) == kinds
    assert "1 point is missing" in caveats["latency-unfinished"].text
    assert caveats["latency-spread"].items == ("x",)
    assert caveats["latency-actions"].items == (changed.job.agent,)


def test_sweeps_side_by_side_are_told_apart_and_never_crossed(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"x": XLSTM, "t": TRANSFORMER})
    other = write(tmp_path / "other", {"x": XLSTM}, precision="bfloat16")
    third = write(tmp_path / "third", {"t": TRANSFORMER})
    result = summarise([LatencyRun(folder) for folder in (one, other, third)])
    assert [s.name for s in result.subjects] == [
        "x, float32",
        "t, float32 (one)",
        "x, bfloat16",
        "t, float32 (third)",
    ]
    assert [s.place for s in result.subjects] == [0, 1, 0, 1], "one label, one colour"
    assert {(c.first, c.second) for c in result.crossings} == {(0, 1)}


def test_sweeps_with_other_settings_are_named_so_and_warned_of(tmp_path: Path) -> None:
    """Curves of one panel, of which one is of four threads and of the model's own windows."""
    one = write(tmp_path / "one", {"x": XLSTM}, contexts=(50,), batches=(1,))
    other = write(
        tmp_path / "other", {"t": TRANSFORMER}, contexts=(50,), batches=(1,), threads=4, windows="own"
    )
    runs = [LatencyRun(folder) for folder in (one, other)]
    assert [s.name for s in summarise(runs).subjects] == [
        "x, 1 thread, windows of each context",
        "t, 4 threads, windows of the model",
    ]
    (caveat,) = (one for one in section([one, other]).caveats if one.kind == "latency-settings")
    assert caveat.items == (
        "one: 1 thread, windows of each context",
        "other: 4 threads, windows of the model",
    )
    alike = write(tmp_path / "alike", {"t": TRANSFORMER}, contexts=(50,), batches=(1,))
    assert not section([one, alike]).caveats
    assert [s.name for s in summarise([runs[0], LatencyRun(alike)]).subjects] == ["x", "t"]


def test_sweeps_of_two_machines_and_one_that_two_have_measured_are_warned_of(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"x": XLSTM}, contexts=(50,), batches=(1,))
    other = write(tmp_path / "other", {"t": TRANSFORMER}, contexts=(50,), batches=(1,))
    file = other / "provenance" / "0001.json"
    own = file.read_bytes()
    edit(file, lambda plain: plain.update(cpu="another processor", cores=3))
    made = section([one, other])
    assert [caveat.kind for caveat in made.caveats] == ["latency-settings"]
    assert made.caveats[0].items[1] == "other: another processor, 3 cores"
    names = [subject["name"] for subject in made.summary["subjects"]]
    assert names == ["x (one)", "t (other)"]
    (other / "provenance" / "0002.json").write_bytes(own)
    edit(file, lambda plain: plain["packages"].update(torch="0.1"))
    kinds = {caveat.kind: caveat for caveat in section([other]).caveats}
    assert set(kinds) == {"latency-machines", "latency-versions"}
    assert kinds["latency-machines"].items[0] == "another processor, 3 cores"
    assert "torch 0.1 and " in kinds["latency-versions"].items[0]


def test_folders_of_one_name_and_their_lines_are_told_apart(tmp_path: Path) -> None:
    folders = [write(tmp_path / place / "latency", {"x": XLSTM}) for place in ("a", "b")]
    one, other = summarise([LatencyRun(folder) for folder in folders]).subjects
    assert (one.name, other.name) == (f"x ({folders[0]})", f"x ({folders[1]})")
    assert one.place == other.place
    assert one.style != other.style


@pytest.mark.slow
def test_few_processes_and_those_that_failed_are_said(tmp_path: Path) -> None:
    few = section([write(tmp_path / "few", {"x": XLSTM}, repeats=2)])
    assert "50 times in 100" in {one.kind: one.text for one in few.caveats}["latency-processes"]

    folder = write(tmp_path / "a", {"x": XLSTM})
    (segment,) = (folder / "records").glob("*.jsonl")
    first, *others = segment.read_bytes().splitlines()
    job, context = msgspec.json.decode(first, type=LatencyPoint).job, CONTEXTS[0]
    failed = signed(msgspec.json.encode(LatencyPoint(SCHEMA, job, context, "failed: ValueError: no")))
    segment.write_bytes(b"\n".join([failed, *others]) + b"\n")
    caveats = {one.kind: one.items for one in section([folder]).caveats}
    assert caveats["latency-failed"] == ("x",)


def test_a_folder_without_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="holds no latencies"):
        section([tmp_path])
