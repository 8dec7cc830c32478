"""The benchmark of training steps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lram.agents.compute import Compute
from lram.harness.bench.train import TrainBench, bench_training, write_train_record
from lram.harness.cli.bench.train import print_train_record
from lram.harness.errors import LramError
from lram.harness.timing.rounds import RoundEffort

TINY = TrainBench(
    presets=("transformer-1M",), contexts=(2,), sequences=(1,), effort=RoundEffort(rounds=2, visit_most=1)
)


def test_every_form_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    record = bench_training(TINY)
    assert [row.form for row in record.rows] == ["torch", "fused"]
    plain, fused = record.rows
    assert plain.tokens == fused.tokens == 2 * 3
    assert fused.tokens_per_s == pytest.approx(1000 * fused.tokens / fused.timing.median.median)
    write_train_record(tmp_path / "train.json", record)
    written = json.loads((tmp_path / "train.json").read_text())
    assert [row["model"] for row in written["rows"]] == ["transformer-1M"] * 2
    print_train_record(record)
    assert "tokens/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"forms": ("compile",)}, "forms auto, torch, fused, packages, triton, not compile"),
        ({"sequences": (0,)}, "sequences must be 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_told(changes: dict[str, tuple[object]], sentence: str) -> None:
    with pytest.raises(LramError, match=sentence):
        bench_training(TrainBench(**changes))  # type: ignore[arg-type]


def test_a_form_that_a_model_cannot_be_read_in_is_left_out_and_told() -> None:
    record = bench_training(dataclasses.replace(TINY, forms=("torch", "packages")))
    assert [row.form for row in record.rows] == ["torch"]
    assert record.notes == [
        "transformer-1M: not in the form packages (its backbone has no memory that is read so)"
    ]
    with pytest.raises(LramError, match="nothing can be timed: transformer-1M: not in the form triton"):
        bench_training(dataclasses.replace(TINY, forms=("triton",)))


def test_rounded_weights_are_not_trained() -> None:
    with pytest.raises(
        LramError, match="models are not trained with weights in int8; take float32 or bfloat16"
    ):
        bench_training(TrainBench(presets=("mamba-1M",), compute=Compute(precision="int8")))
