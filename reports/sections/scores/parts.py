"""What of an evaluation people read, put together once for page, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lram.reports.model import Summary
from lram.reports.sections.scores import groups, tables
from lram.reports.sections.scores.comparisons import comparisons
from lram.reports.table import PrintedTable, Table


@dataclass(frozen=True, slots=True)
class EvaluationTables:
    """The tables of an evaluation; None where there is nothing for one."""

    headline: PrintedTable
    counts: PrintedTable
    success: PrintedTable | None
    errors: PrintedTable | None
    domains: PrintedTable
    groups: Sequence[PrintedTable]
    matrix: PrintedTable
    tasks: Sequence[PrintedTable]
    comparisons: PrintedTable | None
    agents: PrintedTable
    omissions: Sequence[tables.Omission]

    @property
    def all(self) -> list[PrintedTable]:
        """Every table, in the order of the page."""
        found = (
            self.headline,
            self.counts,
            self.success,
            self.errors,
            self.domains,
            *self.groups,
            self.matrix,
        )
        return [table for table in (*found, *self.tasks, self.comparisons, self.agents) if table is not None]


def evaluation_tables(summary: Summary) -> EvaluationTables:
    """Return the tables of an evaluation; those of no agents are empty."""

    def printed(table: Table[Any] | None) -> PrintedTable | None:
        return None if table is None else table.printed

    return EvaluationTables(
        headline=tables.headline(summary).printed,
        counts=tables.counts(summary).printed,
        success=printed(tables.success(summary)),
        errors=printed(tables.errors(summary)),
        domains=tables.domains(summary).printed,
        groups=[table.printed for table in groups.tables(summary)],
        matrix=tables.matrix(summary).printed,
        tasks=[table.printed for table in tables.tasks(summary)],
        comparisons=comparisons(summary).printed if summary.comparisons else None,
        agents=tables.agents(summary).printed,
        omissions=tables.omissions(summary),
    )
