"""``lram literature``: published numbers of the tasks, with sources."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.harness.cli.options import JsonOption
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.errors import LramError
from lram.harness.words import count

if TYPE_CHECKING:
    from lram.reports.literature import PublishedCell


def literature(
    *,
    task: Annotated[
        list[str] | None,
        Parameter(help="Tasks or patterns, such as 'procgen/*' or dmcontrol/cheetah-run.", negative=()),
    ] = None,
    system: Annotated[
        list[str] | None,
        Parameter(help="Systems or patterns, such as TD-MPC2 or 'PPO*'; case does not matter.", negative=()),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List published numbers of the tasks, with their sources.

    'agrees with' is the protocol under which 'lram report' shows a number beside its own; where there is
    none, the lines below the table say why. --json has everything, with file and commit.

    Example: lram literature --task 'procgen/*'
    """
    from lram.reports.literature import published

    cells = _chosen(_chosen(list(published()), task, "task"), system, "system")
    if json:
        print_json([{**asdict(cell), "comparable": cell.comparable} for cell in cells])
        return
    print_table(
        ("system", "task", "metric", "value", "low", "high", "agrees with"),
        [
            (cell.system, cell.task, cell.metric, cell.value, cell.low, cell.high, cell.agrees_with or "none")
            for cell in cells
        ],
    )
    print()
    for line in _notes(cells):
        print(line)
    agreeing = sum(cell.comparable for cell in cells)
    print(f"\n{count(len(cells), 'number')}, {agreeing} of them agree with a protocol")


def _chosen(cells: list[PublishedCell], asked: list[str] | None, field: str) -> list[PublishedCell]:
    """Return the cells whose ``field`` fits a pattern; LramError where a pattern fits none."""
    if not asked:
        return cells
    patterns = [part.strip().casefold() for text in asked for part in text.split(",") if part.strip()]
    known = {getattr(cell, field): getattr(cell, field).casefold() for cell in cells}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known.values()):
            some = ", ".join(sorted(known)[:8])
            raise LramError(f"no published number has the {field} {pattern!r}; there are {some}, ...")
    fits = {name for name, lower in known.items() if any(fnmatchcase(lower, one) for one in patterns)}
    return [cell for cell in cells if getattr(cell, field) in fits]


def _notes(cells: list[PublishedCell]) -> list[str]:
    """Return some lines for each way in which a system was measured: how, where, and what agrees."""
    groups: dict[tuple[str, ...], int] = {}
    for cell in cells:
        verdict = f"agrees with {cell.agrees_with}" if cell.comparable else "agrees with none"
        facts = (
            cell.system,
            cell.domain,
            cell.protocol,
            cell.interval,
            f"{verdict}: {cell.reason}",
            cell.source,
        )
        groups[facts] = groups.get(facts, 0) + 1
    lines = []
    for (system, domain, protocol, interval, verdict, source), number in groups.items():
        lines += [f"{system} on {domain}, {count(number, 'number')}", f"  played as: {protocol}"]
        lines += [f"  low and high: {interval}"] if interval else []
        lines += [f"  {verdict}", f"  source: {source}"]
    return lines
