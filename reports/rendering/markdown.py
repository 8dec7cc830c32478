"""``summary.md``: the report's tables as GitHub renders them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lram.harness.words import visible
from lram.reports.answer import Answer
from lram.reports.bounds import shown
from lram.reports.evidence.trainings import Training
from lram.reports.model import Summary
from lram.reports.rendering import words
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
        parts += [f"**{_plain(first.verdict)}**", _table(first.table.printed)]
    if summary.caveats:
        parts += ["## Before you quote these numbers"]
        parts += ["\n".join(_caveat(c.text, c.items) for c in summary.caveats)]
    if lead := words.lead(summary):
        parts.append(_block(lead))
    if summary.agents:
        parts += _evaluation(summary, scores)
    if summary.training:
        trained = [table.printed for table in training_tables(summary, trainings) if table.id]
        parts += ["## Training", *map(_table, trained)]
    for section in sections:
        parts += [f"## {_plain(section.title)}", *map(_block, section.lead), *map(_table, section.printed)]
    parts += ["## How the numbers were made"]
    parts += ["\n".join(f"- **{term}.** {_plain(text)}" for term, text in words.methods(summary, sections))]
    if summary.agents:
        protocols = [f"- {_code(name)} {_plain(text)}".rstrip() for name, text in words.protocols(summary)]
        parts += ["### Protocols", "\n".join(protocols), "## Agents", _table(scores.agents)]
    return ("\n\n".join(parts) + "\n").encode()


def _evaluation(summary: Summary, scores: EvaluationTables) -> list[str]:
    parts = ["## Scores", _table(scores.headline), _table(scores.counts)]
    if scores.success:
        parts += ["### Success", _table(scores.success)]
    if scores.errors:
        parts += ["### Errors", _table(scores.errors)]
    if scores.omissions:
        omitted = [_omission(one, summary) for one in scores.omissions]
        parts += ["### Not in the aggregates", "\n".join(omitted)]
    parts += ["## Domains", _table(scores.domains)]
    if scores.groups:
        parts += ["## Groups of tasks", *map(_table, scores.groups)]
    parts += ["## Tasks", _table(scores.matrix)]
    if scores.comparisons:
        parts += ["## Comparisons", _table(scores.comparisons)]
    return parts


def _caveat(text: str, items: Sequence[str]) -> str:
    return f"- {_block(text)}" + (f" ({_plain(listing(items, _NAMED))})" if items else "")


def _omission(omission: Omission, summary: Summary) -> str:
    everybody = len(omission.agents) == len(summary.agents)
    who = "every agent" if everybody else _plain(names_up_to(omission.agents))
    tasks = _plain(listing(omission.tasks, _OMITTED))
    return f"- {_block(omission.reason)}, {who}, {count(len(omission.tasks), 'task')}: {tasks}"


def _table(whole: PrintedTable) -> str:
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


def _plain(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, on one line, and makes no link of it."""
    one_line = visible(" ".join(text.split()))
    one_line = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*\[\]|$])", r"\\\1", one_line)
    # GitHub makes links of bare addresses too; of an address of mail it does so behind an escape as well.
    escaped = re.sub(r"(?i):(?=//)|(?<=www)\.|(?<=mailto):|(?<=xmpp):", r"\\\g<0>", escaped)
    return re.sub(r"@(?=[\w.-]*\.\w)", "@<!-- -->", escaped)


def _block(text: str) -> str:
    """Return ``text`` as ``_plain`` does, where a line begins: it begins no heading, list, rule or fence."""
    return re.sub(r"^(\d{1,9}(?=[.)])|(?=[#+=~_-]))", r"\1\\", _plain(text))


def _code(name: str) -> str:
    """Return ``name`` as code, or as plain text where it holds what would end that."""
    shown = visible(" ".join(name.split()))
    return _plain(name) if "`" in shown or not shown else f"`{shown}`"


plain, block, code, table = _plain, _block, _code, _table
"""The same for other pages that are Markdown (:mod:`lram.reports.publishing.cards`)."""
