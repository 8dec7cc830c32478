"""What of a large report is drawn and printed: figures and the page stay readable, CSV files stay complete.

Whatever is left out is said where it would stand: in a figure's caption, or in a table's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lram.reports.drawing import Drawing
from lram.reports.model import AgentResult, Summary
from lram.reports.table import PrintedTable

DRAWN_AGENTS = 40
"""Agents that the figures show."""

DRAWN_DOMAINS = 40
"""Domains that the figures show."""

TABLE_CELLS = 40_000
"""Cells of a table of the page or of ``summary.md``; beyond, its first rows are shown."""

CELLS_TOGETHER = 100_000
"""Cells of the tables of all domains' tasks together."""

ITEMS = 1_000
"""Names that a caveat lists on the page; ``summary.json`` lists all."""


def drawn(summary: Summary) -> tuple[Summary, str]:
    """Return the part of ``summary`` that figures show, and a sentence on what they leave out."""
    agents, domains = summary.agents, summary.domains
    limits = []
    if len(agents) > DRAWN_AGENTS:
        best = sorted(range(len(agents)), key=lambda place: -_height(agents[place]))[:DRAWN_AGENTS]
        agents = tuple(agents[place] for place in sorted(best))
        limits.append(
            f"{DRAWN_AGENTS} of {len(summary.agents):,} agents are drawn, those with the highest mean of "
            "domain means"
        )
    if len(domains) > DRAWN_DOMAINS:
        domains = domains[:DRAWN_DOMAINS]
        limits.append(f"the first {DRAWN_DOMAINS} of {len(summary.domains):,} domains are drawn")
    if not limits:
        return summary, ""
    labels, inside = {agent.label for agent in agents}, set(domains)
    tasks = tuple(task for task in summary.tasks if task.domain in inside)
    ids = {task.id for task in tasks}
    results = tuple(r for r in summary.results if r.agent in labels and r.task in ids)
    part = replace(summary, agents=agents, tasks=tasks, results=results)
    return part, f" Not all is drawn: {'; '.join(limits)}. The tables hold all."


def _height(agent: AgentResult) -> float:
    estimate = agent.mean_of_domain_means.estimate
    return float("-inf") if estimate is None else estimate.value


def with_note(drawings: list[Drawing], note: str) -> list[Drawing]:
    """Return ``drawings`` with ``note`` at the end of each caption."""
    return [replace(drawing, caption=drawing.caption + note) for drawing in drawings] if note else drawings


def shown(table: PrintedTable, cells: int = TABLE_CELLS) -> PrintedTable:
    """Return ``table``, or as many of its first rows as ``cells`` allows, and its caption says so."""
    rows = max(1, cells // max(1, len(table.columns)))
    if len(table.rows) <= rows:
        return table
    note = f" Shown are the first {rows:,} of {len(table.rows):,} rows; the CSV files in tables/ hold all."
    return replace(table, caption=table.caption + note, rows=table.rows[:rows])


def shown_together(tables: Iterable[PrintedTable], cells: int = CELLS_TOGETHER) -> list[PrintedTable]:
    """Return ``tables``, each with the first rows that are left of ``cells``; at least one row each."""
    found = []
    for table in tables:
        found.append(shown(table, min(cells, TABLE_CELLS)))
        cells = max(0, cells - len(found[-1].rows) * len(table.columns))
    return found
