"""``summary.md``: the report's tables as GitHub renders them."""

from __future__ import annotations

from collections.abc import Sequence

from lram.reports.answer import Answer
from lram.reports.bounds import shown
from lram.reports.evidence.trainings import Training
from lram.reports.model import Summary
from lram.reports.rendering import words
from lram.reports.rendering.escaping import block as _block
from lram.reports.rendering.escaping import code as _code
from lram.reports.rendering.escaping import plain as _plain
from lram.reports.section import Section
from lram.reports.sections.scores.parts import EvaluationTables, evaluation_tables
from lram.reports.sections.scores.tables import Omission
from lram.reports.sections.training.tables import tables as training_tables
from lram.reports.table import PrintedTable, TableCell
from lram.reports.text import count, listing, names_up_to

_OMITTED = 1_000  # tasks outside the aggregates that are named
_NAMED = 12  # tasks or agents of a caveat that are named; summary.json names all


def markdown(
    summary: Summary,
    trainings: Sequence[Training] = (),
    sections: Sequence[Section] = (),
    first: Answer | None = None,
) -> bytes:
    """Return the summary as Markdown, in the order of the page."""
    parts = [f"# {_plain(words.title(summary, sections))}"]
    scores = evaluation_tables(summary)
    if first:
        parts.append(f"**{_plain(first.headline or first.verdict)}**")
        if first.headline:
            parts.append(f"Of single agents: {_block(first.verdict)}")
        parts.append(markdown_table(first.table.printed))
    if summary.caveats:
        parts += ["## Before you quote these numbers"]
        parts += ["\n".join(_caveat(c.text, c.items) for c in summary.caveats)]
    if lead := words.lead(summary, sections):
        parts.append(_block(lead))
    if summary.agents:
        parts += _evaluation(summary, scores)
    if summary.training:
        trained = [table.printed for table in training_tables(summary, trainings) if table.id]
        parts += ["## Training", *map(markdown_table, trained)]
    for section in sections:
        parts += [
            f"## {_plain(section.title)}",
            *map(_block, section.lead),
            *map(markdown_table, section.printed),
        ]
    parts += ["## How the numbers were made"]
    parts += ["\n".join(f"- **{term}.** {_plain(text)}" for term, text in words.methods(summary, sections))]
    if summary.agents:
        protocols = [f"- {_code(name)} {_plain(text)}".rstrip() for name, text in words.protocols(summary)]
        parts += ["### Protocols", "\n".join(protocols), "## Agents", markdown_table(scores.agents)]
    return ("\n\n".join(parts) + "\n").encode()


def _evaluation(summary: Summary, scores: EvaluationTables) -> list[str]:
    parts = ["## Scores", markdown_table(scores.headline), markdown_table(scores.counts)]
    if scores.success:
        parts += ["### Success", markdown_table(scores.success)]
    if scores.errors:
        parts += ["### Errors", markdown_table(scores.errors)]
    if scores.omissions:
        omitted = [_omission(one, summary) for one in scores.omissions]
        parts += ["### Not in the aggregates", "\n".join(omitted)]
    parts += ["## Domains", markdown_table(scores.domains)]
    if scores.groups:
        parts += ["## Groups of tasks", *map(markdown_table, scores.groups)]
    parts += ["## Tasks", markdown_table(scores.matrix)]
    if scores.comparisons:
        parts += ["## Comparisons", markdown_table(scores.comparisons)]
    return parts


def _caveat(text: str, items: Sequence[str]) -> str:
    return f"- {_block(text)}" + (f" ({_plain(listing(items, _NAMED))})" if items else "")


def _omission(omission: Omission, summary: Summary) -> str:
    everybody = len(omission.agents) == len(summary.agents)
    who = "every agent" if everybody else _plain(names_up_to(omission.agents))
    tasks = _plain(listing(omission.tasks, _OMITTED))
    return f"- {_block(omission.reason)}, {who}, {count(len(omission.tasks), 'task')}: {tasks}"


def markdown_table(whole: PrintedTable) -> str:
    """Return a table as GitHub renders it, below its caption."""
    table = shown(whole)
    lines = [
        "| " + " | ".join(_plain(column.heading) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|",
    ]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return f"{_block(table.caption)}\n\n" + "\n".join(lines)


def _cell(cell: TableCell) -> str:
    flag = f"({cell.flag})" if cell.flag else ""
    return " ".join(_plain(part) for part in (cell.text, cell.small, flag) if part)
