"""How people read the values of tables: forms of numbers, estimates and aggregates; and their parts in CSV
files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lram.reports import text
from lram.reports.model import ALL_EQUAL, NO_IQM_INTERVAL, NOT_ESTIMABLE, Aggregate, Estimate, RestsOn
from lram.reports.table import EMPTY, Form, Part, TableCell


def numbers(form: Callable[[Any], str], *, empty: TableCell = EMPTY) -> Form:
    """Return the form of numbers that ``form`` writes; ``empty`` where there is none."""
    return lambda value: empty if value is None else TableCell(form(value), value=value)


def decimals(digits: int) -> Callable[[float], str]:
    """Return what writes a number with so many decimals."""
    return lambda value: text.number(value, digits)


def percentages(digits: int) -> Form:
    """Return the form of shares as per cent; sorted by the share."""
    return numbers(lambda share: text.percent(share, digits))


p_values: Form = numbers(text.p_value)
parameters: Form = numbers(text.parameters)
whole: Form = numbers(str)


def estimates(form: Callable[[float], str], *, empty: TableCell = EMPTY) -> Form:
    """Return the form of estimates: the value, and below it the interval or why there is none."""

    def made(estimate: Estimate | None) -> TableCell:
        if estimate is None:
            return empty
        if estimate.note.startswith(NOT_ESTIMABLE):
            return TableCell(form(estimate.value), estimate.note, value=estimate.value)
        return TableCell(form(estimate.value), text.span(estimate, form), value=estimate.value)

    return made


def not_comparable(rests_on: RestsOn) -> str:
    """Return why an aggregate does not compare with those of all tasks; empty where it does."""
    if rests_on.comparable:
        return ""
    unfinished = "unfinished, " if rests_on.unfinished else ""
    reach = f"rests on {rests_on.tasks} of {text.count(rests_on.of_tasks, 'task')}"
    return f"not comparable: {unfinished}{reach}"


def aggregates(form: Callable[[float], str]) -> Form:
    """Return the form of aggregates: estimates, with what warns about what they rest on."""
    own = estimates(form)

    def made(aggregate: Aggregate | None) -> TableCell | str:
        if aggregate is None:
            return EMPTY
        rests_on = aggregate.rests_on
        if aggregate.estimate is None:
            return replace(EMPTY, flag="unfinished, no task scored" if rests_on.unfinished else "")
        note = aggregate.estimate.note
        bare = note == NO_IQM_INTERVAL  # the caption says why
        said = bare or note == ALL_EQUAL or note.startswith(NOT_ESTIMABLE)  # in place of the interval
        flags = [note] if note and not said else []
        if reason := not_comparable(rests_on):
            flags.append(reason)
        cell = own(aggregate.estimate)
        assert isinstance(cell, TableCell)
        return replace(cell, small="" if bare else cell.small, flag="; ".join(flags))

    return made


two: Callable[[float], str] = decimals(2)
three: Callable[[float], str] = decimals(3)
scores: Form = aggregates(three)
rates: Form = aggregates(text.percent)

ENDS: tuple[Part, ...] = (
    ("", lambda estimate: estimate.value if estimate else None),
    ("_low", lambda estimate: estimate.interval.low if estimate and estimate.interval else None),
    ("_high", lambda estimate: estimate.interval.high if estimate and estimate.interval else None),
)
"""An estimate for programs: its value and the ends of its interval."""

INTERVAL: tuple[Part, ...] = (
    *ENDS,
    ("_interval", lambda estimate: estimate.interval.method if estimate and estimate.interval else None),
    (
        "_doubt",
        lambda estimate: "; ".join(estimate.interval.doubts) if estimate and estimate.interval else None,
    ),
)
"""The same, with the method of the interval and its doubts."""

METHOD: tuple[Part, ...] = INTERVAL[len(ENDS) :]
"""The method and the doubts alone: the last columns of files that had the ends only."""


def _of_estimate(of: Callable[[Estimate | None], Any]) -> Callable[[Aggregate], Any]:
    return lambda aggregate: of(aggregate.estimate)


AGGREGATE: tuple[Part, ...] = tuple((end, _of_estimate(of)) for end, of in INTERVAL)
"""An aggregate for programs: its value and the ends of its interval."""
