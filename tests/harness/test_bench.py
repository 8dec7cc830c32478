"""The benchmark's arithmetic, its order of visits, its record and its command.

No test here asks how fast something is: a busy machine must not fail them.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.ready import ready_python

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.compute import Precision
from lram.agents.model.presets import parse_preset
from lram.harness.bench import run
from lram.harness.bench.bandwidth import Bandwidth, limit_ms
from lram.harness.bench.record import Row, crossing_of, crossovers, read_record, write_record
from lram.harness.bench.run import ModelBench, bench_models
from lram.harness.errors import LramError
from lram.harness.timing.backbones import DecisionInputs, TimedBackbone
from lram.harness.timing.clock import Stopwatch
from lram.harness.timing.intervals import median_interval
from lram.harness.timing.rounds import (
    PreparedDecision,
    RoundEffort,
    TimedCandidate,
    TimedRounds,
    summarise,
    time_in_rounds,
)


class Clock:
    """A clock that only advances when something is said to take time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.visited: list[str] = []

    @property
    def watch(self) -> Stopwatch:
        return Stopwatch(clock=lambda: round(1e9 * self.now))

    def candidate(self, name: str, seconds: Callable[[int], float]) -> TimedCandidate:
        calls = 0

        def decide() -> None:
            nonlocal calls
            self.now += seconds(calls)
            self.visited.append(name)
            calls += 1

        return TimedCandidate(name, lambda: PreparedDecision(decide))


def test_a_sleep_is_measured_as_long_as_it_says_itself() -> None:
    slept: list[float] = []

    def decide() -> None:
        start = time.perf_counter()
        time.sleep(0.002)
        slept.append(time.perf_counter() - start)

    sleep = TimedCandidate("sleep", lambda: PreparedDecision(decide))
    timing = summarise(time_in_rounds([sleep], RoundEffort(rounds=7))["sleep"])
    # The call around it and the clock take microseconds; a fifth of a millisecond is for busy machines.
    middle = sorted(slept)[len(slept) // 2]
    assert min(slept) <= timing.minimum
    assert timing.median.median == pytest.approx(1000 * middle, abs=0.2 + 200 * (max(slept) - min(slept)))


def test_every_round_visits_every_candidate_in_an_order_of_its_own() -> None:
    clock = Clock()
    names = ["a", "b", "c", "d"]
    effort = RoundEffort(rounds=20, visit_s=0.0, seed=3)
    time_in_rounds([clock.candidate(name, lambda _: 1.0) for name in names], effort, clock.watch)
    visited = clock.visited[3 * len(names) :]  # after the warm-up
    rounds = [visited[first : first + 8 : 2] for first in range(0, len(visited), 8)]
    assert len(rounds) == 20
    assert all(sorted(order) == names for order in rounds)
    assert len({tuple(order) for order in rounds}) > 5
    # One decision of each visit goes by untimed.
    assert all(visited[at] == visited[at + 1] for at in range(0, len(visited), 2))


def test_the_order_of_visits_comes_from_the_seed() -> None:
    def visits(seed: int) -> list[str]:
        clock = Clock()
        candidates = [clock.candidate(name, lambda _: 1.0) for name in "abcde"]
        time_in_rounds(candidates, RoundEffort(rounds=5, seed=seed), clock.watch)
        return clock.visited

    assert visits(1) == visits(1) != visits(2)


def test_decisions_of_a_visit_fill_the_time_asked_for_and_no_more_than_the_most() -> None:
    clock = Clock()
    candidates = [
        clock.candidate("slow", lambda _: 1.0),
        clock.candidate("middling", lambda _: 0.01),
        clock.candidate("fast", lambda _: 1e-6),
    ]
    samples = time_in_rounds(candidates, RoundEffort(rounds=2, visit_s=0.0501, visit_most=8), clock.watch)
    assert {name: [len(visit) for visit in one.rounds] for name, one in samples.items()} == {
        "slow": [1, 1],
        "middling": [5, 5],
        "fast": [8, 8],
    }


def test_warm_up_goes_on_until_the_times_are_stable() -> None:
    clock = Clock()
    samples = time_in_rounds(
        [
            clock.candidate("a", lambda call: 5.0 if call == 0 else 0.1 / (1 + call)),
            clock.candidate("never", lambda call: 0.1 * (1 + call % 2)),
        ],
        RoundEffort(rounds=1, visit_s=0.0),
        clock.watch,
    )
    # Neighbours 0.1 / (1 + call) are within a tenth from the 20th call on.
    assert clock.visited.count("a") == 22 + 2
    assert samples["a"].warm
    assert not samples["never"].warm
    assert summarise(samples["never"]).noisy


def test_a_time_limit_ends_the_rounds_only_when_there_are_enough_for_an_interval() -> None:
    clock = Clock()
    effort = RoundEffort(rounds=100, limit_s=-1.0)
    samples = time_in_rounds([clock.candidate("a", lambda _: 1.0)], effort, clock.watch)
    assert len(samples["a"].rounds) == 7


def test_two_candidates_of_one_name_are_refused() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="same name"):
        time_in_rounds([clock.candidate("a", lambda _: 1.0)] * 2, RoundEffort(rounds=1), clock.watch)


@pytest.mark.parametrize(
    ("count", "low", "high", "coverage"),
    [(1, 1, 1, 0.0), (5, 1, 5, 0.9375), (6, 1, 6, 0.96875), (15, 4, 12, 0.96484375), (100, 40, 61, 0.9648)],
)
def test_intervals_of_a_median_have_the_ranks_of_the_binomial_table(
    count: int, low: int, high: int, coverage: float
) -> None:
    interval = median_interval([float(value) for value in range(count, 0, -1)])
    assert (interval.low, interval.high) == (low, high)
    assert interval.coverage == pytest.approx(coverage, abs=5e-5)
    assert interval.median == (count + 1) / 2


def test_timing_is_in_milliseconds_over_all_rounds() -> None:
    rounds = tuple(tuple(10**6 * (10 * number + place) for place in range(10)) for number in range(5))
    timing = summarise(TimedRounds(PreparedDecision(lambda: None), rounds, True))
    assert timing.minimum == 0
    assert timing.median.median == pytest.approx(24.5)
    assert timing.p90 == pytest.approx(44)  # 45 of 50 decisions took 0 to 44 ms
    assert timing.decisions == 50
    assert timing.spread == pytest.approx(20 / 24.5)


def test_the_memory_limit_adds_reading_and_updating_at_the_speed_of_that_size() -> None:
    speeds = [Bandwidth(1_000_000, 100.0, 200.0), Bandwidth(3_000_000, 50.0, 100.0)]
    one = PreparedDecision(lambda: None, read_bytes=600_000, update_bytes=400_000)
    assert limit_ms(one, speeds) == pytest.approx(1e3 * (600e3 / 100e9 + 2 * 400e3 / 200e9))
    # Half way between the sizes: half way between their times (10 and 60 us for reading).
    two = PreparedDecision(lambda: None, read_bytes=2_000_000)
    assert limit_ms(two, speeds) == pytest.approx(0.035)
    large = PreparedDecision(lambda: None, read_bytes=30_000_000)
    assert limit_ms(large, speeds) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("steady", "found"),
    [(7.0, "500"), (4.0, "200"), (0.5, "below 50"), (11.0, "beyond 800")],
)
def test_a_crossing_is_interpolated_between_measured_contexts(steady: float, found: str) -> None:
    growing = {200: [4.0] * 5, 50: [1.0] * 5, 800: [10.0] * 5}
    crossed = crossing_of([steady] * 5, growing)
    assert crossed is not None
    assert str(crossed.middle) == found


def test_a_crossing_is_the_last_one_and_that_of_each_round() -> None:
    """One slow visit at a short context is not where a full cache takes longer for good."""
    rounds = 7
    growing = {50: [6.0] * rounds, 200: [4.0] * rounds, 800: [10.0] * rounds}
    crossed = crossing_of([5.0] * rounds, growing)
    assert crossed is not None
    assert (crossed.middle.where, crossed.middle.context) == ("at", pytest.approx(300))
    # A machine that is half as fast in one round is so for both.
    pace = [1, 1, 2, 1, 1, 3, 1]
    growing = {
        context: [ms * by for ms, by in zip(times, pace, strict=True)] for context, times in growing.items()
    }
    assert crossing_of([5.0 * by for by in pace], growing) == crossed


def test_a_crossing_of_noise_or_of_few_rounds_cannot_be_told() -> None:
    noise = random.Random(0)
    steady = [5 + noise.random() for _ in range(15)]
    alike = {context: [5 + noise.random() for _ in range(15)] for context in (50, 200, 800)}
    assert crossing_of(steady, alike) is None
    grown = {50: [1.0] * 4, 200: [9.0] * 4}
    assert crossing_of([5.0] * 4, grown) is None
    assert crossing_of([5.0] * 5, {50: [1.0] * 5, 200: [9.0] * 5}) is not None


@pytest.fixture(scope="module")
def work() -> DecisionInputs:
    return DecisionInputs(rows=3, tokens=3, width=96)


def test_rows_and_decisions_have_inputs_of_their_own(work: DecisionInputs) -> None:
    inputs = torch.cat(work.inputs()).flatten(1)
    assert len(inputs.unique(dim=0)) == len(inputs)
    assert torch.equal(torch.cat(work.inputs()), torch.cat(replace(work).inputs()))


def _hidden(
    subject: TimedBackbone, form: str, context: int, decisions: int, pass_tokens: int | None = None
) -> list[torch.Tensor]:
    with torch.inference_mode():
        decide = subject.prepare(form, context, pass_tokens).decide
        return [decide() for _ in range(decisions)]  # type: ignore[misc]


def _reference(backbone: Backbone, work: DecisionInputs, context: int, decisions: list[int]) -> torch.Tensor:
    """Read everything at once, in the parallel form; return what the last decision shows."""
    inputs = work.inputs()
    with torch.inference_mode():
        tokens = [*work.past(0, context), *(inputs[number] for number in decisions)]
        return backbone(torch.cat(tokens, dim=1))[:, -work.tokens :]


@pytest.mark.parametrize("pass_tokens", [None, 1])
@pytest.mark.parametrize("preset", ["xlstm[7:1]-1M", "mamba-1M"])
def test_a_recurrent_model_has_read_its_past_and_goes_on(
    preset: str, pass_tokens: int | None, work: DecisionInputs
) -> None:
    subject = TimedBackbone(preset, parse_preset(preset), work, [7])
    hidden = _hidden(subject, "torch", 50, 3, pass_tokens)
    expected = _reference(subject.backbone, work, 50, [0, 1, 2])
    last = expected if pass_tokens is None else expected[:, -1:]
    torch.testing.assert_close(hidden[2], last, rtol=0, atol=2e-5)


def _section(subject: TimedBackbone) -> TransformerConfig:
    section: TransformerConfig = subject.config.backbone
    return section


# 150 tokens of a ring and 149 of a window are 50 timesteps; 60 and 120 are beyond.
@pytest.mark.parametrize("form", ["torch", "fused"])
@pytest.mark.parametrize("cache", ["full", "ring"])
def test_a_transformer_is_timed_at_the_context_that_it_has_read(
    cache: str, form: str, work: DecisionInputs
) -> None:
    if form == "fused":
        pytest.importorskip("numba")
    subject = TimedBackbone(cache, parse_preset(f"transformer[{cache}]-1M"), work, [120, 10, 60])
    for context in (10, 60, 120):
        hidden = _hidden(subject, form, context, 3)
        for number in (0, 2):  # the decisions before are forgotten
            expected = _reference(subject.backbone, work, context, [number])
            torch.testing.assert_close(hidden[number], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("context", [10, 60, 120])
def test_a_recomputing_transformer_reads_the_same_window_at_every_decision(
    context: int, work: DecisionInputs
) -> None:
    subject = TimedBackbone("transformer", parse_preset("transformer[recompute]-1M"), work, [10, 60, 120])
    hidden = _hidden(subject, "torch", context, 3)
    past = torch.cat(list(work.past(0, context)), dim=1)
    for number in (0, 2):
        window = torch.cat([past, work.inputs()[number]], dim=1)[:, -149:]
        with torch.inference_mode():
            expected = subject.backbone(window)[:, -work.tokens :]
        torch.testing.assert_close(hidden[number], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("context", [10, 60, 120])
def test_a_window_is_what_reading_all_of_the_context_leaves(context: int, work: DecisionInputs) -> None:
    subject = TimedBackbone("transformer", parse_preset("transformer[recompute]-1M"), work, [context])
    backbone, state = subject.read(context)
    expected = backbone.initial_state(work.rows)
    with torch.inference_mode():
        for token in torch.cat(list(work.past(0, context)), dim=1).split(100, dim=1):
            _, expected = backbone.step(token, expected)
    assert state["count"].tolist() == [min(149, 3 * context)] * work.rows
    assert torch.equal(state["tokens"], expected["tokens"])


def test_the_fused_step_reads_rounded_weights_in_their_own_bytes(work: DecisionInputs) -> None:
    def read(precision: Precision, form: str) -> int:
        timed = TimedBackbone("m", parse_preset("mamba-1M"), replace(work, precision=precision), [50])
        with torch.inference_mode():
            return timed.prepare(form, 1).read_bytes

    plain = read("float32", "fused")
    assert read("int8", "torch") == plain
    assert 0.25 < read("int8", "fused") / plain < 0.35
    assert 0.5 < read("bfloat16-weights", "fused") / plain < 0.6


def test_only_a_full_cache_is_made_longer_than_its_preset_says(work: DecisionInputs) -> None:
    for cache in ("ring", "recompute"):
        subject = TimedBackbone(cache, parse_preset(f"transformer[{cache}]-1M"), work, [10, 600])
        assert subject.backbone.window == _section(subject).window
        assert subject.backbone.cache == cache
        assert subject.state_bytes(10) == subject.state_bytes(600)
    full = TimedBackbone("full", parse_preset("transformer[full]-1M"), work, [10, 600])
    assert full.backbone.window == 601 * 3 > (_section(full).window or 0)


def test_the_state_that_is_expected_is_the_state_that_is_kept(work: DecisionInputs) -> None:
    transformers = (f"transformer[{cache}]-1M" for cache in ("full", "ring", "recompute"))
    for preset in ("xlstm[7:1]-1M", "mamba-1M", *transformers):
        subject = TimedBackbone(preset, parse_preset(preset), work, [60])
        context = subject.contexts[0]
        assert subject.state_bytes(context) == subject.prepare("torch", context).state_bytes


# Before the pass its first token sees the 149 of a band of 150; 146 of a window of 149 stay in it.
@pytest.mark.parametrize(
    ("cache", "tokens"), [("full", {20: 60, 60: 180}), ("ring", {20: 60, 60: 149}), ("recompute", {60: 146})]
)
def test_a_transformer_reads_weights_and_what_is_kept_of_the_tokens_that_are_seen(
    cache: str, tokens: dict[int, int], work: DecisionInputs
) -> None:
    subject = TimedBackbone(cache, parse_preset(f"transformer[{cache}]-1M"), work, list(tokens))
    weights = sum(p.numel() for name, p in subject.backbone.named_parameters() if name != "wpe.weight")
    # Of width 96: keys and values of 4 layers, or the token itself.
    kept = 96 if cache == "recompute" else 2 * 4 * 96
    for context, seen in tokens.items():
        prepared = subject.prepare("torch", context)
        assert prepared.read_bytes == 4 * (weights + work.rows * seen * kept)
        assert prepared.update_bytes == 4 * work.rows * 3 * kept


TRANSFORMERS = ("transformer[full]-1M", "transformer[ring]-1M", "transformer[recompute]-1M")


# The memory's speed at half a gigabyte takes longer than all else.
SMALL_STREAMS = """
from functools import partial
from lram.harness.bench import run
from lram.harness.cli import main
run.stream_candidates = partial(run.stream_candidates, sizes_mib=(1, 2))
run.bandwidths = partial(run.bandwidths, sizes_mib=(1, 2))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    file = tmp_path_factory.mktemp("bench") / "record.json"
    presets = ["xlstm[7:1]-1M", "mamba-1M", *TRANSFORMERS]
    command = [*ready_python(), "-c", f"{SMALL_STREAMS}\nmain()", "bench", "model", *presets]
    options = ["--quick", "--repeats", "1", "--rows", "1,2", "--contexts", "3,6", "--forms", "torch"]
    done = subprocess.run(
        [*command, *options, "-o", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return file, done.stdout


@pytest.mark.slow
def test_the_command_measures_every_model_form_and_context_once(answer: tuple[Path, str]) -> None:
    record = read_record(answer[0])
    counts = Counter((row.model, row.form, row.rows, row.context) for row in record.rows)
    assert set(counts.values()) == {1}
    recurrent = itertools.product(("xlstm[7:1]-1M", "mamba-1M"), ("torch",), (1, 2), (None,))
    transformer = itertools.product(TRANSFORMERS, ("torch",), (1, 2), (3, 6))
    assert set(counts) == {*recurrent, *transformer}
    for row in record.rows:
        assert row.cache == (parse_preset(row.model).past.cache or None)
    assert {(c.model, c.against, c.rows) for c in record.crossovers} == {
        (model, "transformer[full]-1M", rows) for model in ("xlstm[7:1]-1M", "mamba-1M") for rows in (1, 2)
    }
    assert {(c.where, c.context) for c in record.crossovers} == {("cannot tell", None)}, (
        "one round says nothing"
    )
    assert record.settings.tokens == 3
    assert record.provenance.packages["torch"]
    assert set(record.bandwidths) == {"1", "2"}
    (note,) = (note for note in record.notes if "transformer" in note)
    assert "transformer[full]-1M" in note
    assert "1600 tokens (533 timesteps)" in note


@pytest.mark.slow
def test_the_table_has_a_line_for_every_row_of_the_record(answer: tuple[Path, str]) -> None:
    file, table = answer
    lines = table.splitlines()
    for row in read_record(file).rows:
        cells = [row.model, row.form, str(row.rows)]
        assert any(all(cell in line for cell in cells) for line in lines)
    assert "load average" in table
    assert "a full cache of lram-bench keeps the embedded tokens" in table
    assert "Transformer with a full cache" in table
    assert "cannot tell: there are fewer than 5 rounds" in table


def test_a_record_survives_writing_and_reading(answer: tuple[Path, str], tmp_path: Path) -> None:
    record = read_record(answer[0])
    write_record(tmp_path / "again.json", record)
    assert read_record(tmp_path / "again.json") == record
    assert (tmp_path / "again.json").read_bytes() == answer[0].read_bytes()


def test_a_record_of_another_layout_or_of_something_else_is_refused(
    answer: tuple[Path, str], tmp_path: Path
) -> None:
    later = json.loads(answer[0].read_text()) | {"schema": 99}
    (tmp_path / "later.json").write_text(json.dumps(later))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(LramError, match="layout 99"):
        read_record(tmp_path / "later.json")
    with pytest.raises(LramError, match="cannot be read as a benchmark"):
        read_record(tmp_path / "other.json")
    with pytest.raises(LramError, match="no folder"):
        write_record(tmp_path / "none" / "record.json", read_record(answer[0]))


def test_crossovers_compare_like_with_like(answer: tuple[Path, str]) -> None:
    def row(template: Row, median: float, **changes: object) -> Row:
        return replace(template, timing=replace(template.timing, rounds=[median] * rounds), **changes)  # type: ignore[arg-type]

    any_row, rounds = read_record(answer[0]).rows[0], 5
    rows = [
        row(any_row, 5.0, model="xlstm", form="fused", rows=1, context=None),
        row(any_row, 2.0, model="transformer", form="fused", rows=1, context=100, cache="full"),
        row(any_row, 6.0, model="transformer", form="fused", rows=1, context=200, cache="full"),
        row(any_row, 9.0, model="transformer", form="torch", rows=1, context=100, cache="full"),
        row(any_row, 9.0, model="transformer", form="fused", rows=16, context=100, cache="full"),
        row(any_row, 9.0, model="ring", form="fused", rows=1, context=100, cache="ring"),
        row(any_row, 9.0, model="window", form="fused", rows=1, context=100, cache="recompute"),
    ]
    (crossover,) = crossovers(rows)
    assert (crossover.where, crossover.context) == ("at", pytest.approx(175))
    assert str(crossover.low) == str(crossover.high) == "175"


def test_what_does_not_fit_into_memory_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lram.harness.bench.run.free_bytes", lambda device: 1.2e6)
    monkeypatch.setattr(run, "stream_candidates", partial(run.stream_candidates, sizes_mib=(1, 2)))
    monkeypatch.setattr(run, "bandwidths", partial(run.bandwidths, sizes_mib=(1, 2)))
    presets, effort = ("transformer[full]-1M",), RoundEffort(rounds=1, visit_s=0.0)
    bench = ModelBench(presets, (1,), (3, 100), ("torch",), effort=effort)
    record = bench_models(bench)
    assert [row.context for row in record.rows] == [3]
    assert any("context 100 was left out" in note for note in record.notes)
    monkeypatch.setattr("lram.harness.bench.run.free_bytes", lambda device: 0.0)
    with pytest.raises(LramError, match="was left out"):
        bench_models(bench)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rows", "1,x"], "--rows takes whole numbers"),
        (["--rows", "0"], "rows must be 1 or more"),
        (["--repeats", "0"], "--repeats must be 1 or more"),
        (["--forms", "telepathy"], "no step form 'telepathy'"),
        (["--forms", ","], "--forms takes step forms such as torch,fused"),
        (["--device", "nope"], "the device 'nope' cannot be used here; use cpu"),
        (["--device", "meta"], "the device 'meta' cannot be used here"),
        (["--device", "cuda:99"], "the device 'cuda:99' cannot be used here"),
        (["-o", "/nowhere/at/all.json"], "no folder"),
        (["-o", "/"], "it is a folder"),
        (["nonsense-1M"], "no model preset 'nonsense-1M'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    presets = [] if arguments[0] == "nonsense-1M" else ["mamba-1M"]
    command = [*ready_python(), "-m", "lram.harness.cli", "bench", "model", *presets, "--quick", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("lram:"))
    assert sentence in line
    assert "Traceback" not in done.stderr
    if arguments[0] in ("-o", "--device"):
        assert "candidates" not in done.stderr  # nothing was measured
