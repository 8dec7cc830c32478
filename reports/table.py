"""A table, declared once for every form of a report: page, Markdown, CSV and LaTeX.

A :class:`Column` says what stands in it: for people under a heading, for programs under a key, or for both.
The renderers loop over the columns: :func:`printed` makes the cells that page, Markdown and LaTeX print,
:mod:`lram.reports.csv_files` writes what programs read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from lram.envs.scores import Normaliser
from lram.reports import text

Value = str | int | float | bool | None
Record = dict[str, Value]
"""A row for programs, by key."""

Row = TypeVar("Row")
Part = tuple[str, Callable[[Any], Value]]
"""What a value with several numbers gives programs: the end of the key, and the number."""


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell, as people read it.

    Attributes:
        text: The value.
        small: What stands below it in small print, such as its interval.
        flag: What warns about it.
        value: What the column is sorted by; None sorts last, and text is sorted as text.
        link: Where the value leads on the page; empty for nowhere.
    """

    text: str
    small: str = ""
    flag: str = ""
    value: float | None = None
    link: str = ""


EMPTY = TableCell(text.NONE)

Form = Callable[[Any], TableCell | str]
"""How people read a value; of a number that becomes text, the number itself is what the column is sorted
by.
"""


def plain(value: Any) -> str:
    """Return ``value`` as it is; a dash where there is none."""
    return text.NONE if value is None or value == "" else str(value)


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table.

    Attributes:
        heading: For people; empty where they do not see it.
        key: For programs; empty where they do not.
        value: Of a row.
        form: Makes of the value what people read.
        flag: Of a row: what warns about the value; people only.
        numeric: People see numbers (set flush right), not words.
        parts: Columns that programs get instead of one, each with the key's ending.
    """

    heading: str
    key: str
    value: Callable[[Row], Any]
    form: Form = plain
    flag: Callable[[Row], str] | None = None
    numeric: bool = True
    parts: Sequence[Part] = ()

    def cell(self, row: Row) -> TableCell:
        """Return what people read in ``row``."""
        value = self.value(row)
        made = self.form(value)
        if isinstance(made, str):
            number = value if self.numeric and isinstance(value, int | float) else None
            made = TableCell(made, value=number)
        return replace(made, flag=flag) if self.flag is not None and (flag := self.flag(row)) else made

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that programs get; none where they do not see it."""
        if not self.key:
            return ()
        return tuple(self.key + end for end, _ in self.parts) if self.parts else (self.key,)

    def values(self, row: Row) -> tuple[Value, ...]:
        """Return what programs read in ``row``, in the order of ``keys``."""
        found = self.value(row)
        return tuple(of(found) for _, of in self.parts) if self.parts else (found,)


def words(heading: str, key: str, value: Callable[[Row], Any], form: Form = plain) -> Column[Row]:
    """Return a column of words, set flush left."""
    return Column(heading, key, value, form, numeric=False)


def hidden(key: str, value: Callable[[Row], Any], parts: Sequence[Part] = ()) -> Column[Row]:
    """Return a column for programs only."""
    return Column("", key, value, parts=parts)


def normaliser_column(normaliser: Normaliser) -> Column[Any]:
    """Return the column that ends what tables with scores say, for programs: whose references they have.

    Columns of later versions stand behind it.
    """
    return hidden("normaliser", lambda row: normaliser)


@dataclass(frozen=True, slots=True)
class PrintedColumn:
    """A heading, and whether its cells are numbers."""

    heading: str
    numeric: bool


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """A table as people read it; the first column heads the rows."""

    id: str
    caption: str
    columns: tuple[PrintedColumn, ...]
    rows: tuple[tuple[TableCell, ...], ...]


@dataclass(frozen=True)
class Table(Generic[Row]):
    """A table.

    Attributes:
        id: Of the page's element and of the LaTeX file; empty where people do not see the table.
        caption: For people; what the signs of doubt in it mean is added where there are any.
        columns: In the order of programs, and of people but for ``first``.
        rows: Once for every reader, so a list where there is more than one.
        file: Name of the CSV file without its ending; empty where programs do not see the table.
        first: Headings that people see first.
    """

    id: str
    caption: str
    columns: Sequence[Column[Row]]
    rows: Iterable[Row] = field(repr=False)
    file: str = ""
    first: tuple[str, ...] = ()

    @cached_property
    def printed(self) -> PrintedTable:
        """The table as people read it."""
        seen = [column for column in self.columns if column.heading]
        place = {heading: number for number, heading in enumerate(self.first)}
        seen.sort(key=lambda column: place.get(column.heading, len(place)))
        rows = tuple(tuple(column.cell(row) for column in seen) for row in self.rows)
        legend = text.legend(cell.small for row in rows for cell in row)
        heads = tuple(PrintedColumn(column.heading, column.numeric) for column in seen)
        return PrintedTable(self.id, self.caption + legend, heads, rows)

    def records(self) -> Iterator[Record]:
        """Yield what programs read, a row at a time, by key."""
        keyed = [column for column in self.columns if column.key]
        keys = [key for column in keyed for key in column.keys]
        for row in self.rows:
            yield dict(zip(keys, (value for column in keyed for value in column.values(row)), strict=True))


def distinct_keys(kind: str, names: Sequence[str]) -> list[str]:
    """Return a key for the tables of each of ``names``: ``KIND-NAME`` in plain letters, no two alike."""
    keys: list[str] = []
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "study"
        key, number = f"{kind}-{plain}", 2
        while key in keys:
            key, number = f"{kind}-{plain}-{number}", number + 1
        keys.append(key)
    return keys
