r"""``tables/*.tex``: the tables that people read, each a ``tabular`` for ``\input`` in a document that
loads booktabs.

A file holds rows only, no float and no caption: where it stands and what it is called is the paper's. The
caption of the page is a comment at its beginning. Everything is ASCII, so that any engine and any font can
set it: letters with accents are built up, a few signs have commands, and any other character is named by
its number (U+4E2D).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from lram.harness.words import visible
from lram.reports.bounds import shown
from lram.reports.table import PrintedTable, TableCell

MARK = "% A table of an lram-bench report: a new report replaces this file.\n"
"""First line of every file: what has it in a report's folder is the report's."""

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"\textbar{}",
    '"': "''",  # \textquotedbl is not in every font encoding
    "`": "{`}",
    "\0": "{}",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "…": r"\dots{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "τ": r"$\tau$",
    "µ": r"$\mu$",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "\u00a0": "~",
    "ß": r"\ss{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escaped(text: str) -> str:
    """Return ``text`` so that LaTeX sets it as it is, on one line."""
    plain = visible(" ".join(text.split()))
    # Two of these signs would be set as one.
    return "".join(map(_sign, re.sub(r"([-,'])(?=\1)", "\\1\0", plain)))


def _sign(sign: str) -> str:
    if sign in _ESCAPED:
        return _ESCAPED[sign]
    if sign.isascii():
        return sign if sign.isprintable() else ""
    base, *marks = list(unicodedata.normalize("NFD", sign))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii() and base.isalpha():
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return f"U+{ord(sign):04X}"


def latex(whole: PrintedTable) -> bytes:
    """Return the file of one table; of a very large one its first rows, as on the page."""
    table = shown(whole)
    layout = "".join("r" if column.numeric else "l" for column in table.columns)
    rows = [_row(map(_cell, row)) for row in table.rows]
    lines = [
        rf"% {escaped(table.caption)}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        _row(escaped(column.heading) for column in table.columns),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return (MARK + "\n".join(lines) + "\n").encode("ascii")


def _row(cells: Iterable[str]) -> str:
    line = " & ".join(cells) + r" \\"
    # After the end of a row, or a rule, these would be taken for its option.
    return "{}" + line if line.startswith(("[", "*")) else line


def _cell(cell: TableCell) -> str:
    small = [part for part in (cell.small, f"({cell.flag})" if cell.flag else "") if part]
    extra = "".join(rf" {{\small {escaped(part)}}}" for part in small)
    return f"{escaped(cell.text)}{extra}"


def latex_files(tables: Iterable[PrintedTable]) -> dict[str, bytes]:
    """Return the file of every table by name; a name is its id, as far as a file may be called so."""
    found: dict[str, bytes] = {}
    for table in tables:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", table.id)[:100].strip("-") or "table"
        name, number = plain, 1
        while f"{name}.tex" in found:
            number += 1
            name = f"{plain}-{number}"
        found[f"{name}.tex"] = latex(table)
    return found
