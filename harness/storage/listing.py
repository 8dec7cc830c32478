"""What lies in a run's folder and is not read, so that a report says of which records it knows nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lram.agents.shown import few
from lram.envs.text import printable

_READ = {"records": re.compile(r"[^.].*\.jsonl"), "provenance": re.compile(r"[^.].*\.json")}
_NAMED = 3


def not_read(run: Path) -> list[str]:
    """Return the files and folders among the records and origins of ``run`` that no report reads, by name."""
    found = []
    for part, pattern in _READ.items():
        folder = run / part
        if folder.is_dir():
            names = sorted(entry.name for entry in folder.iterdir() if not pattern.fullmatch(entry.name))
            found += [f"{part}/{name}" for name in names]
    return found


def show_not_read(runs: Iterable[Path]) -> None:
    """Say on standard error of each run what of it is not read."""
    for run in runs:
        if words := not_read_words(run):
            with suppress(OSError):
                print(f"lram: {words}", file=sys.stderr, flush=True)


def not_read_words(run: Path) -> str:
    """Return what a reader of reports has to know of :func:`not_read`, in one sentence; empty for nothing."""
    found = not_read(run)
    if not found:
        return ""
    shown = few((printable(name, 100) for name in found), _NAMED)
    return f"{run} holds what is not read ({shown}); of records only files .jsonl count"
