"""Runs the steps one after the other, each for so long as it may take, and writes one JSON.

A step that fails, or is ended, does not keep the next ones from being run; what it had measured counts.
``run.sh`` starts this module; ``--dry`` walks every step on the processor with tiny sizes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gpu.collecting import collected
from gpu.record import SCHEMA, DeviceFacts, GpuRecord, Status, StepOutcome, write
from gpu.steps import ROOT, Command, Step, make_steps, real, tiny
from gpu.table import print_table_of

BUDGET_S = 480.0
DRY_BUDGET_S = 4 * BUDGET_S  # a processor that others use, too; a walk of its own takes two minutes
LEAST_S = 5.0  # with less, a step is not begun
_GRACE_S = 5.0  # between being asked to end and being ended
FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, or None where its time was over; and the last line that it
    wrote."""

    code: int | None
    last: str


def run_command(command: Command, output: Path, log: Path, seconds: float) -> Ended:
    """Run a command for at most ``seconds``, in a group of processes of its own that ends with it."""
    with log.open("ab") as noted:
        noted.write(f"$ {shown(command, output)}\n".encode())
        noted.flush()
        begin = noted.tell()
        kept = (output / command.keeps).open("wb") if command.keeps else None
        try:
            process = subprocess.Popen(
                command.words,
                stdin=subprocess.DEVNULL,
                stdout=kept or noted,
                stderr=noted,
                cwd=output,
                start_new_session=True,
            )
            code: int | None
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            except BaseException:
                _end(process)
                raise
            _end(process)
        finally:
            if kept is not None:
                kept.close()
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    return Ended(code, next((line.strip() for line in reversed(lines) if line.strip()), ""))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a command's processes to end as Ctrl-C does, so that what was measured is kept; then end them."""
    for number, grace_s in ((signal.SIGINT, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
            if number == signal.SIGKILL:
                return


def run_step(step: Step, output: Path, left_s: float) -> StepOutcome:
    """Run a step, with what it may take of the time that is left for all."""
    lines = [shown(command, output) for command in step.commands]
    if step.why_skipped:
        return StepOutcome(step.name, step.title, "skipped", step.why_skipped, 0.0, step.budget_s, lines)
    if left_s < LEAST_S:
        reason = f"the time for all steps is used up ({max(0.0, left_s):.0f} s were left)"
        return StepOutcome(step.name, step.title, "skipped", reason, 0.0, step.budget_s, lines)
    began, budget = time.monotonic(), min(step.budget_s, left_s)
    status: Status = "ok"
    reasons = []
    for number, command in enumerate(step.commands, 1):
        left = budget - (time.monotonic() - began)
        where = f"command {number} of {len(step.commands)}: " if len(step.commands) > 1 else ""
        if left <= 0:
            status = "out of time" if status == "ok" else status
            reasons.append(f"{where}not begun, {budget:.0f} s were used up")
            continue
        try:
            ended = run_command(command, output, output / "logs" / f"{step.name}.log", left)
        except OSError as error:
            status = "failed"
            reasons.append(f"{where}{error}")
            continue
        if ended.code is None:
            status = "out of time" if status == "ok" else status
            reasons.append(f"{where}ended after {left:.0f} s")
        elif ended.code:
            status = "failed"
            reasons.append(f"{where}exit code {ended.code}: {ended.last}")
    seconds = time.monotonic() - began
    return StepOutcome(step.name, step.title, status, "; ".join(reasons), seconds, budget, lines)


def run_steps(
    steps: Sequence[Step], output: Path, budget_s: float, say: Callable[[str], object]
) -> list[StepOutcome]:
    """Run all steps; return what became of each."""
    (output / "logs").mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + budget_s
    outcomes = []
    for step in steps:
        say(f"{step.name}: {step.title}")
        outcomes.append(run_step(step, output, end - time.monotonic()))
        last = outcomes[-1]
        say(f"    {last.status}{f' ({last.reason})' if last.reason else ''}, {last.seconds:.0f} s")
    return outcomes


def shown(command: Command, output: Path) -> str:
    """Return a command as one line, with no place of this machine: from the checkout, into ``OUT``."""
    words = [Path(command.words[0]).name, *command.words[1:]]
    line = " ".join(words) + (f" > OUT/{command.keeps}" if command.keeps else "")
    return line.replace(str(output), "OUT").replace(f"{ROOT}/", "").replace(str(ROOT), ".")


def device_facts(device: str, output: Path) -> DeviceFacts | str:
    """Return what there is to tell of the device, asked in a process of its own; or why there is nothing."""
    command = Command((sys.executable, "-m", "gpu.facts", device), FACTS)
    ended = run_command(command, output, output / "logs" / "facts.log", 120.0)
    if ended.code:
        return ended.last
    return msgspec.json.decode((output / FACTS).read_bytes(), type=DeviceFacts)


def main() -> int:
    """Run what is asked for; return 1 where a step failed."""
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--dry", action="store_true", help="walk every step on the processor, with tiny sizes"
    )
    parser.add_argument("-o", "--output", type=Path, help="a new folder (default: lram-gpu-TIME)")
    options = parser.parse_args()
    now = datetime.now(UTC)
    output = (options.output or Path(f"lram-gpu-{now:%Y%m%d-%H%M%S}")).absolute()
    if output.exists():
        sys.exit(f"{output} is there; name a new folder with -o")
    (output / "logs").mkdir(parents=True)
    device = "cpu" if options.dry else os.environ.get("LRAM_GPU_DEVICE", "cuda")
    os.environ["LRAM_GPU_DEVICE"] = device
    began = time.monotonic()
    facts = device_facts(device, output)
    if isinstance(facts, str):
        shutil.rmtree(output)  # so that the same command works where there is a device
        sys.exit(facts)
    sizes = tiny() if options.dry else real(device)
    only = [name for name in os.environ.get("LRAM_GPU_ONLY", "").split(",") if name]
    steps = [step for step in make_steps(sizes, output, dry=options.dry) if not only or step.name in only]
    usual = DRY_BUDGET_S if options.dry else BUDGET_S
    budget_s = float(os.environ.get("LRAM_GPU_BUDGET", usual))
    steps = [replace(step, budget_s=step.budget_s * budget_s / BUDGET_S) for step in steps]
    outcomes = run_steps(steps, output, budget_s, lambda text: print(text, flush=True))
    record = GpuRecord(
        schema=SCHEMA,
        dry=options.dry,
        started=now.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        device=facts,
        precision=sizes.precision,
        steps=outcomes,
    )
    record = collected(record, output)
    write(output / "gpu.json", record)
    print_table_of(record, sizes.large)
    print(f"\n{output / 'gpu.json'}")
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
