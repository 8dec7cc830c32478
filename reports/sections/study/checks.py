"""What trainings say, as reports believe it; other kinds of folders are checked where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lram.harness.storage.number_checks import check_numbers, wrong


def last_loss(file: Path, lines: Sequence[dict[str, Any]]) -> float | None:
    """Return the loss of the last validation among ``lines`` of ``file``; NaN where it was not finite.

    None where there was no validation; LramError where a line is none.
    """
    found = [line for line in lines if _kind(file, line) == "validation"]
    if not found:
        return None
    loss = found[-1].get("loss", "missing")  # JSON has no NaN and no infinity: they were written as null
    if loss is None:
        return float("nan")
    if isinstance(loss, bool) or not isinstance(loss, int | float):
        raise wrong(file, f"the loss of the last validation is {str(loss)[:80]!r}")
    check_numbers(loss, file, "loss")
    return float(loss)


def _kind(file: Path, line: dict[str, Any]) -> str:
    kind = line.get("kind")
    if not isinstance(kind, str):
        raise wrong(file, "a line does not say of which kind it is")
    return kind
