"""The tables of scores against the dial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lram.reports import forms
from lram.reports.sections.dials.failing import HALF, FailingPoint
from lram.reports.sections.dials.model import DialCurve, DialFamily, DialPoint, DialsResult
from lram.reports.table import Column, Table, TableCell, hidden, words

BEYOND = "beyond"


def tables(result: DialsResult) -> list[Table[Any]]:
    """Return every table, in the order of the page."""
    return [_reach(result), _families(result), _points(result)]


def failing_words(point: FailingPoint, smallest: int, largest: int) -> TableCell:
    """Return where an agent fails, as people read it, with the interval below."""
    if point.at is None:
        place = f"{BEYOND} {largest}"
    elif point.at == smallest:
        place = f"already at {smallest}"
    else:
        place = str(point.at)
    low = f"{BEYOND} {largest}" if point.low is None else str(point.low)
    high = f"{BEYOND} {largest}" if point.high is None else str(point.high)
    if point.low is None and point.high is None:
        span = f"[{BEYOND} {largest}]"
    elif low == high:
        span = f"[{low}]"
    else:
        span = f"[{low}, {high}]"
    flag = f"{HALF:g} or more again at {point.again}" if point.again is not None else ""
    return TableCell(place, span, flag, float(largest + 1 if point.at is None else point.at))


def dials_words(dials: tuple[int, ...] | None) -> str:
    """Return the values that were trained on."""
    if dials is None:
        return "not recorded"
    return ", ".join(map(str, dials)) or "none"


def _reach(result: DialsResult) -> Table[DialCurve]:
    def family(curve: DialCurve) -> DialFamily:
        return result.families[curve.family]

    columns: list[Column[DialCurve]] = [
        hidden("agent", lambda curve: curve.agent),
        hidden("domain", lambda curve: family(curve).domain),
        words("Family", "family", lambda curve: family(curve).family),
        words("Agent", "", lambda curve: curve.name),
        hidden("unit", lambda curve: family(curve).unit),
        hidden("protocol", lambda curve: family(curve).protocol),
        words("Trained on", "", lambda curve: dials_words(curve.trained)),
        hidden("trained", lambda curve: None if curve.trained is None else " ".join(map(str, curve.trained))),
        words("Measured", "measured", lambda curve: " ".join(str(point.dial) for point in curve.points)),
        Column("Holds up to", "held", lambda curve: curve.failing.held, forms.numbers(str)),
        Column("Fails at", "", lambda curve: curve, _failing),
        hidden("fails_at", lambda curve: curve.failing.at),
        hidden("fails_at_low", lambda curve: curve.failing.low),
        hidden("fails_at_high", lambda curve: curve.failing.high),
        hidden("beyond", lambda curve: curve.largest if curve.failing.at is None else None),
        hidden("half_again_at", lambda curve: curve.failing.again),
        Column("Score at the smallest", "", lambda curve: curve.points[0].score, forms.estimates(forms.two)),
        Column("Score at the largest", "", lambda curve: curve.points[-1].score, forms.estimates(forms.two)),
    ]
    caption = (
        "What these models can remember and track. Fails at: the smallest value measured at which the mean "
        f"normalised score is below {HALF:g}, half of the way from chance to the best; below it, between "
        f"which "
        f"measured values that point is with {result.level:.0%} certainty over episodes (the methods tell "
        f"how). "
        "Holds up to: the value measured before it. Trained on: as the checkpoint's card tells."
    )
    return Table("dials-reach", caption, columns, result.curves, "dials_reach")


def _failing(curve: DialCurve) -> TableCell:
    return failing_words(curve.failing, curve.points[0].dial, curve.largest)


def _families(result: DialsResult) -> Table[DialFamily]:
    columns: list[Column[DialFamily]] = [
        words("Family", "", lambda one: one.family),
        words("Domain", "", lambda one: one.domain),
        words("Protocol", "", lambda one: one.protocol),
        words("The dial counts", "", lambda one: one.unit),
        words("Values", "", lambda one: ", ".join(map(str, one.dials))),
        words("What theory says", "", lambda one: one.theory),
    ]
    return Table(
        "dials-families", "The families of tasks, as their domain tells them.", columns, result.families
    )


@dataclass(frozen=True, slots=True)
class _Row:
    family: DialFamily
    curve: DialCurve
    point: DialPoint


def _points(result: DialsResult) -> Table[_Row]:
    """Return one row an agent and task, for programs."""
    columns: list[Column[_Row]] = [
        hidden("agent", lambda row: row.curve.agent),
        hidden("domain", lambda row: row.family.domain),
        hidden("family", lambda row: row.family.family),
        hidden("protocol", lambda row: row.family.protocol),
        hidden("task", lambda row: row.point.task),
        hidden("dial", lambda row: row.point.dial),
        hidden("trained", lambda row: row.point.trained),
        hidden("episodes", lambda row: row.point.episodes),
        hidden("of_episodes", lambda row: row.point.of_episodes),
        hidden("score", lambda row: row.point.score, forms.INTERVAL),
    ]
    rows = [
        _Row(result.families[curve.family], curve, point) for curve in result.curves for point in curve.points
    ]
    return Table("", "", columns, rows, "dials_points")
