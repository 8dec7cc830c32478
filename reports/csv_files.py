"""The tables for programs: CSV files with one row a fact and full precision. Empty cells are values that do
not exist.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from lram.harness.words import visible
from lram.reports.table import Table, Value


def csv_files(tables: Iterable[Table[Any]]) -> dict[str, bytes]:
    """Return the CSV files of ``tables`` by name, of those that programs see."""
    return {f"{table.file}.csv": csv_of(table) for table in tables if table.file}


def csv_of(table: Table[Any]) -> bytes:
    """Return ``table`` as a CSV file, its keys as the head; empty without rows."""
    columns = [column for column in table.columns if column.key]
    lines = ([value for column in columns for value in column.values(row)] for row in table.rows)
    return written([key for column in columns for key in column.keys], lines)


def written(keys: Sequence[str], lines: Iterable[Iterable[Value]]) -> bytes:
    """Return ``lines`` below ``keys``; empty without lines."""
    raw = io.BytesIO()
    # Straight into bytes: the table of episodes may have millions of rows.
    with io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        writer, empty = csv.writer(file, lineterminator="\n"), True
        for line in lines:
            if empty:
                writer.writerow(map(_cell, keys))
                empty = False
            writer.writerow(map(_cell, line))
        file.flush()
        return raw.getvalue()


def _cell(value: Value) -> Value:
    """Return what stands in a cell for ``value``.

    Spreadsheets take a text that begins with one of these signs for a formula, be it behind white space or in
    full width; an apostrophe says that it is text. Numbers stay what they are.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or not value:
        return value
    first, others = visible(value), _NONE
    if ";" in first or "|" in first or "\n" in first or "\t" in first:
        first, *others = _ENDS.split(first)
    if value[0] in "\t\r\n" or value.lstrip()[:1] in _FORMULA:
        first = first if _is_number(value) else f"'{first}"
    return first + "".join(map(_as_text, others)) if others else first


def _as_text(part: str) -> str:
    """Return a part of a cell, an apostrophe before what would be a formula at a cell's beginning."""
    text = part.lstrip(_QUOTES)
    if text[:1] not in _FORMULA or _is_number(text):
        return part
    return f"{part[: len(part) - len(text)]}'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip(";|\t\n"))
    except ValueError:
        return False
    return True


_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20\u2212\ufe63\ufe62\ufe66\ufe6b")
# Where commas are decimal points, spreadsheets end a cell at a semicolon, and others at a tab, a bar or
# the end of a line, be it within quotes or not.
_ENDS = re.compile(r"(?<=[;|\t\n])")
_NONE: list[str] = []
_QUOTES = "'\" \u00a0\u3000"
