"""The script for a GPU, without one: it continues after a step that fails; its page is its JSON's."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from gpu import page
from gpu.collecting import check_rows, collected
from gpu.record import (
    SCHEMA,
    CheckRow,
    DeviceFacts,
    EvaluationRow,
    GpuRecord,
    LatencyRow,
    StepOutcome,
    StepRow,
    TrainingRow,
    read,
    write,
)
from gpu.run import run_steps, shown
from gpu.steps import ROOT, Command, Step, make_steps, real, tiny
from gpu.table import print_table_of, ratios

from lram.harness.cli import app


def python(code: str, keeps: str = "") -> Command:
    return Command((sys.executable, "-I", "-S", "-c", code), keeps)


STEPS = [
    Step("fine", "a step that works", 60.0, (python("print('[]')", "check-torch-float32.json"),)),
    Step(
        "broken",
        "a step that fails",
        60.0,
        (
            python("import sys; print('it is lost', file=sys.stderr); sys.exit(3)"),
            python("open('after', 'w')"),
        ),
    ),
    Step("endless", "a step without an end", 1.0, (python("import time; time.sleep(60)"), python("pass"))),
    Step("absent", "a step that lacks something", 60.0, (python("open('never', 'w')"),), "no such package"),
    Step("last", "a step after all that", 60.0, (python("open('last', 'w')"),)),
]


def test_a_step_that_fails_is_told_and_the_others_are_run(tmp_path: Path) -> None:
    told: list[str] = []
    outcomes = {one.name: one for one in run_steps(STEPS, tmp_path, 600.0, told.append)}
    assert [one.status for one in outcomes.values()] == ["ok", "failed", "out of time", "skipped", "ok"]
    assert outcomes["broken"].reason == "command 1 of 2: exit code 3: it is lost"
    assert re.fullmatch(
        r"command 1 of 2: ended after 1 s; command 2 of 2: not begun, 1 s were used up",
        outcomes["endless"].reason,
    )
    assert outcomes["absent"].reason == "no such package"
    assert [(tmp_path / name).exists() for name in ("after", "never", "last")] == [True, False, True]
    assert outcomes["fine"].commands == [
        f"{Path(sys.executable).name} -I -S -c print('[]') > OUT/check-torch-float32.json"
    ]
    assert "it is lost" in (tmp_path / "logs" / "broken.log").read_text(encoding="utf-8")
    assert "    failed (command 1 of 2: exit code 3: it is lost), 0 s" in told
    assert (tmp_path / "check-torch-float32.json").read_text(encoding="utf-8") == "[]\n"


def test_when_the_time_for_all_is_used_up_the_rest_is_skipped(tmp_path: Path) -> None:
    outcomes = run_steps(STEPS[-1:], tmp_path, 0.5, lambda text: None)
    assert (outcomes[0].status, outcomes[0].reason) == (
        "skipped",
        "the time for all steps is used up (0 s were left)",
    )


@pytest.mark.parametrize("dry", [True, False])
def test_every_command_of_the_harness_is_one(tmp_path: Path, dry: bool) -> None:
    steps = make_steps(tiny() if dry else real("cuda:0"), tmp_path, dry=dry)
    assert sum(step.budget_s for step in steps) <= 480
    assert len({step.name for step in steps}) == len(steps) == (12 if dry else 13)
    devices = set()
    for command in (command for step in steps for command in step.commands):
        module = command.words[1:3] == ("-m", "lram.harness.cli")
        if module:
            # Whoever renames an option finds out here, and not on a machine that is lent for minutes.
            _, bound, _ = app.parse_args(list(command.words[3:]), print_error=False, exit_on_error=False)
            given = bound.arguments
            machine = given.get("options") or given.get("machine")
            devices.add(given["device"] if machine is None else machine.device)
        else:
            files = [word for word in command.words if word.endswith(".py")]
            assert all(Path(file).is_file() for file in files)
            assert files or command.words[1:3] == ("-m", "pytest")
        line = shown(command, tmp_path)
        assert not [place for place in (str(tmp_path), str(ROOT), sys.prefix) if place in line], line
    assert devices == {"cpu" if dry else "cuda:0"}


def sample() -> GpuRecord:
    """Return a record as a GPU would give it, with what can be missing missing."""
    device = DeviceFacts("cuda", "Test GPU", 1, 80 << 30, "9.0", "570.1", "12.8", "9", {"torch": "2"})

    def row(agent: str, batch: int, context: int, ms: float | None, **more: object) -> LatencyRow:
        outcome = "ok" if ms else "out of memory"
        plain = LatencyRow(agent, batch, context, "graphs", "bfloat16", "whole", outcome, "atari/freeway")
        return replace(plain, agent_ms=ms, **more)  # type: ignore[arg-type]

    xlstm, full = "xlstm[7:1]-206M", "transformer[full]-206M"
    latency = [
        row(xlstm, 1, 1600, 2.0, joules=0.5, p90_ms=2.1, model_ms=1.5),
        row(full, 1, 1600, 5.0),
        row(xlstm, 1, 25600, 2.0),
        row(full, 1, 25600, 30.0),
        row(xlstm, 16, 1600, 4.0),
        row(full, 16, 1600, 36.0),
        row(xlstm, 16, 25600, 4.0),
        row(full, 16, 25600, None),
        row(xlstm, 16, 1600, 9.0, form="torch"),
    ]
    bench = [
        StepRow("bench-206M", xlstm, "torch", 1, None, None, "bfloat16", 3.0, 0.5),
        StepRow("bench-206M", xlstm, "graphs", 1, None, None, "bfloat16", 0.9, 0.5),
        StepRow(
            "package-xlstm", "xlstm[7:1]-16M", "graphs", 1, None, None, "float32", 1.0, 0.5, "xlstm", 7.5
        ),
    ]
    return GpuRecord(
        schema=SCHEMA,
        dry=False,
        started="2026-01-02T03:04:05+00:00",
        seconds=470.0,
        device=device,
        precision="bfloat16",
        steps=[
            StepOutcome("gate", "gate", "ok", "", 50.0, 60.0),
            StepOutcome("throughput", "throughput", "failed", "exit code 1: out of luck", 3.0, 20.0),
        ],
        tests={"passed": 9, "failed": 0},
        checks=[CheckRow("mamba-16M", "torch", "float32", 8, 1, 0, ["step | forward on x: 2"])],
        latency=latency,
        bench=bench,
        training=[TrainingRow("train", "mamba-16M", "torch", "bfloat16", 32, 50, 123456.0)],
        evaluation=[EvaluationRow("m", "procgen/maze", "32", "8", 4, 999, 1.0, 999.0, "9 passes launched")],
        notes=["a note"],
    )


def test_the_page_says_what_was_measured_what_was_not_and_what_becomes_of_the_claim() -> None:
    record = sample()
    text = page.page(record)
    for part in (
        "Test GPU (80 GiB, compute capability 9.0) with driver 570.1",
        "| 1 | 1,600 | 2 | 5 | **2.50** |",
        "| 1 | 25,600 | 2 | 30 | **15.00** |",
        "| 16 | 1,600 | 4 | 36 | **9.00** |",
        "| 16 | 25,600 | 4 |  | transformer[full]: out of memory |",
        "is confirmed for 206M with this protocol: the ratio is 9.00 at most (16 lanes).",
        "| xlstm[7:1]-206M | graphs | 1 |  | 0.900 | 0.500 | 1.80 |",
        "Within 2 times at one row, as is the aim: 1 of 1.",
        "| xlstm[7:1]-16M | graphs | 1 | 1.000 | xlstm | 7.50 |",
        "| xlstm[7:1]-206M | graphs | 1 | 1,600 | 2 | 2.1 | 1.5 | 0.0 | 0 | 500.0 |",
        "Not measured (throughput: failed, exit code 1: out of luck).",
        "| mamba-16M | torch | bfloat16 | 32 x 50 | 123,456 |  |",
        "9 passed.",
        "step \\| forward on x: 2",
        "* a note",
    ):
        assert part in text, part
    slower = replace(record, latency=[one for one in record.latency if one.batch == 1])
    assert "is refuted for 206M with this protocol: the ratio is 2.50 at most (1 lane)." in page.page(slower)
    assert "neither confirmed nor refuted" in page.page(replace(record, latency=[]))
    assert "no number here means anything" in page.page(replace(record, dry=True))
    assert [one.times for one in ratios(record, "206M")] == [2.5, 15.0, 9.0, None]


def test_the_page_that_is_kept_is_made_of_the_json_that_is_kept(tmp_path: Path) -> None:
    kept = read(page.KEPT) if page.KEPT.is_file() else None
    assert page.PAGE.read_text(encoding="utf-8") == page.page(kept), "run: python tests/gpu/page.py"
    if kept is None:
        assert "Not measured yet" in page.PAGE.read_text(encoding="utf-8")
    file = tmp_path / "gpu.json"
    write(file, sample())
    assert read(file) == sample()
    file.write_text(file.read_text(encoding="utf-8").replace('"schema": 1', '"schema": 9'), encoding="utf-8")
    with pytest.raises(ValueError, match="has layout 9"):
        read(file)


def test_the_table_at_the_end_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    print_table_of(sample(), "206M")
    text = capsys.readouterr().out
    assert "9.00 times as long" in text
    assert "1.80 times its bytes' time" in text
    assert len(text.splitlines()) < 30


def test_what_a_step_did_not_write_gives_no_rows(tmp_path: Path) -> None:
    empty = replace(sample(), tests={}, checks=[], latency=[], bench=[], training=[], evaluation=[])
    (tmp_path / "check-torch-float32.json").write_text("[{", encoding="utf-8")
    assert collected(empty, tmp_path) == empty
    checks = [
        {"status": "passed", "name": "a", "subject": "x", "measured": "0"},
        {"status": "failed", "name": "b", "subject": "y", "measured": "2"},
    ]
    file = tmp_path / "check-graphs-bfloat16.json"
    file.write_text(json.dumps([{"agent": "m", "passed": False, "checks": checks}]), encoding="utf-8")
    assert check_rows(file) == [CheckRow("m", "graphs", "bfloat16", 1, 1, 0, ["b on y: 2"])]
