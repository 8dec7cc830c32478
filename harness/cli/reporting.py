"""The command that turns runs into a report."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lram.harness.errors import LramError
from lram.harness.store import load_runs


def report(
    runs: Annotated[list[Path], Parameter(help="Folders of runs.")],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"], help="Folder for the report.")] = None,
    json: Annotated[bool, Parameter(name="--json", help="Print the summary as JSON.", negative=())] = False,
    seed: Annotated[int, Parameter(help="Seed of the resampling behind the intervals.")] = 0,
    show: Annotated[
        bool, Parameter(name="--open", help="Open the report in a browser.", negative=())
    ] = False,
) -> int:
    """Compare the agents of one or several runs: page, tables, figures and a summary.

    Example: lram report runs/first -o runs/first-report
    """
    if output is None and not json:
        raise LramError("give a folder for the report with -o, or --json for the summary on standard output")
    opened = load_runs(runs)
    if json:
        from lram.reports import summarise, summary_json

        sys.stdout.write(summary_json(summarise(opened, seed=seed)).decode())
    if output is not None:
        from lram.reports import write_report

        page = write_report(opened, output, seed=seed)
        print(f"report: {page}", file=sys.stderr if json else sys.stdout)
        if show and sys.stdout.isatty():
            webbrowser.open(page.resolve().as_uri())
    return 0


COMMANDS: tuple[tuple[Callable[..., Any], str], ...] = ((report, "report"),)
