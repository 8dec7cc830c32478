"""What ``tests/benchmarks`` compares with plain PyTorch: its arithmetic, and what is held against what."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.ready import ready_python

from lram.harness.bench.record import read_record
from lram.harness.timing.intervals import median_interval
from lram.harness.timing.rounds import PreparedDecision, TimedRounds, TimingSummary, summarise

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def ratios() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ratios", BENCHMARKS / "ratios.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ratios_are_formed_within_rounds_against_the_fastest_baseline(ratios: ModuleType) -> None:
    def timing(*rounds: int) -> TimingSummary:
        one = PreparedDecision(lambda: None)
        return summarise(TimedRounds(one, tuple((10**6 * ms,) for ms in rounds), True))

    # The machine is ten times slower in every second round; within a round the ratio is 2 or 3.
    measured = {
        "ours": timing(1, 10, 1, 10, 1, 10, 1),
        "slow": timing(9, 90, 9, 90, 9, 90, 9),
        "fast": timing(2, 30, 2, 30, 2, 20, 2),
    }
    ratio = ratios.compare(measured, "ours", ("slow", "fast"))
    assert ratio is not None
    assert (ratio.baseline, ratio.times.median) == ("fast", 2)
    assert (ratio.times.low, ratio.times.high) == (2, 3)
    assert ratio.fastest == 2
    assert ratios.compare(measured, "ours", ()) is None


# The memory's speed at half a gigabyte takes longer than all else.
COMPARE = """
import runpy, sys
from functools import partial
from lram.harness.bench import run
run.stream_candidates = partial(run.stream_candidates, sizes_mib=(1, 2))
run.bandwidths = partial(run.bandwidths, sizes_mib=(1, 2))
sys.path.insert(0, {folder!r})
runpy.run_path({folder!r} + "/compare_forms.py", run_name="__main__")
"""


def compare_forms(what: str, *options: str) -> tuple[dict[str, Any], str]:
    file = Path(options[-1])
    command = [*ready_python(), "-c", COMPARE.format(folder=str(BENCHMARKS)), what, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    return found, done.stdout


@pytest.mark.slow
def test_recurrent_models_are_held_against_token_by_token_and_transformers_against_one_pass(
    ratios: ModuleType, tmp_path: Path
) -> None:
    presets, file = "mamba-1M,transformer[full]-1M", tmp_path / "forms.json"
    options = ["--presets", presets, "--rows", "1", "--contexts", "3", "--forms", "torch", "--repeats", "2"]
    _, table = compare_forms("model", *options, "-o", str(file))
    record = read_record(file)
    plain, ours, transformer = record.rows
    assert [row.form for row in record.rows] == [ratios.TOKEN_BY_TOKEN, "torch", "torch"]
    assert (plain.ratio, transformer.ratio) == (None, None)
    assert ours.ratio is not None
    assert ours.ratio.baseline == plain.name
    times = [slow / fast for slow, fast in zip(plain.timing.rounds, ours.timing.rounds, strict=True)]
    assert ours.ratio.times == median_interval(times)
    assert "x faster" in table


@pytest.mark.slow
def test_a_training_step_is_held_against_plain_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    options = ["--presets", "transformer-1M", "--rows", "1", "--contexts", "2", "--repeats", "2"]
    record, _ = compare_forms("train", *options, "-o", str(tmp_path / "train.json"))
    plain, fused = record["rows"]
    assert (plain["form"], fused["form"]) == ("torch", "fused")
    assert plain["ratio"] is None
    assert fused["ratio"]["baseline"] == plain["name"]
