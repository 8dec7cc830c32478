"""``summary.md``: the report's tables as GitHub renders them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lram.harness.words import visible
from lram.reports import views, words
from lram.reports.bounds import shown
from lram.reports.model import Summary
from lram.reports.sections.registry import Chapter
from lram.reports.sections.scores import groups
from lram.reports.sections.training import views as training_views
from lram.reports.sections.training.folder import Training
from lram.reports.text import count, listing, names_up_to

_OMITTED = 1_000  # tasks outside the aggregates that are named
_NAMED = 12  # tasks or agents of a caveat that are named; summary.json names all


def markdown(summary: Summary, trainings: Sequence[Training] = (), chapters: Sequence[Chapter] = ()) -> bytes:
    """Return the summary as Markdown, in the order of the page."""
    parts = [f"# {_plain(words.title(summary, chapters))}"]
    if lead := words.lead(summary):
        parts.append(_block(lead))
    if summary.caveats:
        parts += ["## Read first", "\n".join(_caveat(c.text, c.items) for c in summary.caveats)]
    if summary.agents:
        parts += _evaluation(summary)
    if summary.training:
        parts += ["## Training", *(_table(table) for table in training_views.tables(summary, trainings))]
    for chapter in chapters:
        parts += [f"## {_plain(chapter.title)}", *map(_block, chapter.lead), *map(_table, chapter.tables)]
    parts += ["## How the numbers were made"]
    parts += ["\n".join(f"- **{term}.** {_plain(text)}" for term, text in words.methods(summary, chapters))]
    if summary.agents:
        protocols = [f"- {_code(name)} {_plain(text)}".rstrip() for name, text in words.protocols(summary)]
        parts += ["### Protocols", "\n".join(protocols), "## Agents", _table(views.agents(summary))]
    return ("\n\n".join(parts) + "\n").encode()


def _evaluation(summary: Summary) -> list[str]:
    parts = ["## Scores", _table(views.headline(summary))]
    success = views.success(summary)
    if success:
        parts += ["### Success", _table(success)]
    errors = views.errors(summary)
    if errors:
        parts += ["### Errors", _table(errors)]
    left_out = views.omissions(summary)
    if left_out:
        parts += ["### Not in the aggregates", "\n".join(_omission(o, summary) for o in left_out)]
    parts += ["## Domains", _table(views.domains(summary))]
    if by_group := groups.tables(summary):
        parts += ["## Groups of tasks", *(_table(table) for table in by_group)]
    parts += ["## Tasks", _table(views.matrix(summary))]
    comparisons = views.comparisons(summary)
    if comparisons:
        parts += ["## Comparisons", _table(comparisons)]
    return parts


def _caveat(text: str, items: Sequence[str]) -> str:
    return f"- {_block(text)}" + (f" ({_plain(listing(items, _NAMED))})" if items else "")


def _omission(omission: views.Omission, summary: Summary) -> str:
    everybody = len(omission.agents) == len(summary.agents)
    who = "every agent" if everybody else _plain(names_up_to(omission.agents))
    tasks = _plain(listing(omission.tasks, _OMITTED))
    return f"- {_block(omission.reason)}, {who}, {count(len(omission.tasks), 'task')}: {tasks}"


def _table(whole: views.Table) -> str:
    table = shown(whole)
    lines = [
        "| " + " | ".join(_plain(column.heading) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|",
    ]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return f"{_block(table.caption)}\n\n" + "\n".join(lines)


def _cell(cell: views.Cell) -> str:
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
