"""The table of published numbers, ``data/literature.csv``: read once, every cell with its source.

A script copies the cells from the files that they were published in (``tests/benchmarks/literature.py``).
``data/README.md`` names the sources with their licences, and says what was left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Literal, cast, get_args

from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.envs.scores import NORMALISERS
from lram.harness.errors import LramError

FILE = "literature.csv"

Metric = Literal["return", "score", "success_rate"]
"""Mean unclipped return, mean normalised score, or share of episodes that were solved."""


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """One published number of one system on one task.

    Attributes:
        system: What was measured, such as ``TD-MPC2``.
        task: ``domain/name``, as the task is called here; it need not be among the registered ones.
        metric: What ``value`` is a mean of.
        value: As published, or the mean over published runs.
        low, high: Ends of the published interval; None where none is published.
        interval: What the interval is, such as ``range of 3 training runs``; empty where there is none.
        normaliser: Of a score: whose references it has. Empty for what is not normalised.
        protocol: How the source played, in words.
        agrees_with: Id of the protocol of this package that gives the same law of returns; empty where
            there is none.
        reason: Why it agrees, or why it agrees with none.
        source: Repository or paper.
        file: File or page in the source.
        commit: Of the repository, as it was read.
    """

    system: str
    task: str
    metric: Metric
    value: float
    low: float | None
    high: float | None
    interval: str
    normaliser: str
    protocol: str
    agrees_with: str
    reason: str
    source: str
    file: str
    commit: str

    @property
    def comparable(self) -> bool:
        """Whether some protocol of this package gives numbers that compare with it."""
        return bool(self.agrees_with)

    @property
    def domain(self) -> str:
        """The domain of the task."""
        return self.task.partition("/")[0]


_FIELDS = tuple(field.name for field in fields(PublishedCell))
COLUMNS = (*_FIELDS[: _FIELDS.index("agrees_with")], "comparable", *_FIELDS[_FIELDS.index("agrees_with") :])
"""Of the file, in its order: the fields, and ``comparable`` (yes or no) for its readers."""


@cache
def published() -> tuple[PublishedCell, ...]:
    """Return every published number that comes with the package, in the order of the file."""
    return parse(files("lram.reports").joinpath("data", FILE).read_text(encoding="utf-8"))


def parse(text: str) -> tuple[PublishedCell, ...]:
    """Return the cells in the text of such a file.

    Raises:
        LramError: A row contradicts itself, or another one; the sentence names its line.
    """
    rows = csv.DictReader(text.splitlines())
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise LramError(f"{FILE} does not have the columns {', '.join(COLUMNS)}")
    found: dict[tuple[str, ...], PublishedCell] = {}
    for row in rows:
        where = f"{FILE}, line {rows.line_num}"
        try:
            cell = _read(row)
        except ValueError as error:
            raise LramError(f"{where}: {error}") from error
        # Beside a report's own there is place for one number of a system.
        key = (cell.agrees_with,) if cell.agrees_with else (cell.metric, cell.protocol)
        key = (cell.system, cell.task, *key)
        if key in found:
            raise LramError(f"{where}: {cell.system} has two numbers for {cell.task} under one protocol")
        found[key] = cell
    return tuple(found.values())


def _read(row: Mapping[str, str]) -> PublishedCell:
    if None in row or None in row.values():
        raise ValueError("the row has not as many cells as the head")
    for name in ("system", "task", "protocol", "reason", "source", "file"):
        if not row[name]:
            raise ValueError(f"{name} is empty")
    if row["metric"] not in get_args(Metric):
        raise ValueError(f"the metric {row['metric']!r} is none of {', '.join(get_args(Metric))}")
    low, high = (_number(row[name]) if row[name] else None for name in ("low", "high"))
    value = _number(row["value"])
    if (low is None) != (high is None) or (low is None) == bool(row["interval"]):
        raise ValueError("an interval has two ends and a kind, or none of the three")
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"the value {value:g} is outside [{low:g}, {high:g}]")
    if (row["metric"] == "score") != (row["normaliser"] in NORMALISERS):
        raise ValueError(f"a score, and nothing else, has a normaliser: {' or '.join(NORMALISERS)}")
    _check_agreement(row)
    texts = {name: row[name] for name in _FIELDS if name not in ("metric", "value", "low", "high")}
    return PublishedCell(metric=cast(Metric, row["metric"]), value=value, low=low, high=high, **texts)


def _check_agreement(row: Mapping[str, str]) -> None:
    agrees = row["agrees_with"]
    if row["comparable"] != ("yes" if agrees else "no"):
        raise ValueError("comparable is 'yes' where a protocol agrees, and 'no' elsewhere")
    if not agrees:
        return
    try:
        protocol = ProtocolId.parse(agrees)
    except SelectionError as error:
        raise ValueError(str(error)) from error
    if protocol.domain != row["task"].partition("/")[0]:
        raise ValueError(f"{agrees} is a protocol of another domain than {row['task']}")
    if row["metric"] == "success_rate":
        raise ValueError("no report shows published success rates; such a cell agrees with no protocol")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no finite number")
    return value
