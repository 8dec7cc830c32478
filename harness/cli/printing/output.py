"""How commands print: aligned text for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from lram.harness.words import one_line, visible

if TYPE_CHECKING:
    from lram.harness.timing.rounds import TimingSummary


_answers: list[TextIO] = []


@contextmanager
def only_the_answer() -> Iterator[None]:
    """Let standard output have what :func:`print_answer` prints alone; all else goes to standard error.

    For output that programs read: code of users, and packages, print when they are imported or called.
    """
    before = sys.stdout
    _answers.append(before)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = before
        _answers.pop()


def print_answer(text: str) -> None:
    """Print text for programs to standard output, whatever else is kept from it."""
    print(text, end="", file=_answers[-1] if _answers else sys.stdout, flush=bool(_answers))


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON."""
    print_answer(f"{visible(json.dumps(value, indent=2, ensure_ascii=False))}\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a header, columns aligned; numbers to the right."""
    cells = [[_text(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(header))
    ]
    widths = [max(len(line[column]) for line in [list(header), *cells]) for column in range(len(header))]
    for line in [list(header), *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(parts).rstrip())


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else one_line(str(value))


def three_digits(value: float | None) -> float | None:
    """Return ``value`` with three significant digits; None stays None."""
    return None if value is None else float(f"{value:.3g}")


def median_text(timing: TimingSummary) -> str:
    """Return a median with its interval, three digits each."""
    middle = timing.median
    return f"{three_digits(middle.median)} [{three_digits(middle.low)}, {three_digits(middle.high)}]"
