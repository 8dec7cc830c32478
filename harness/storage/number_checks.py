"""Numbers that a record can hold, whoever wrote it: finite, and of a size that sums and files can carry.

Types are checked where JSON is read; a file that was changed by hand or made to harm can still say 10**30
bytes or 1e308 points, at which sums overflow and nothing that is printed means anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

from lram.harness.errors import LramError

LARGEST_INT = 2**63 - 1
"""The largest whole number of a record, as its JSON and numpy can carry it; the least is its opposite."""

LARGEST = 1e100
"""The largest other number: squares and sums of such stay finite."""

ADVICE = "put the file back from a copy, or leave it out"


def check_numbers(value: object, where: str | Path, name: str = "") -> None:
    """Raise LramError, naming ``where`` and the field, for a number in ``value`` that no record can hold.

    Args:
        value: A number, text, or whatever dataclasses, mappings and sequences make of them.
        where: The file, for the sentence.
        name: Of the field that holds ``value``.
    """
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if not -LARGEST_INT <= value <= LARGEST_INT:
            raise wrong(where, f"{name} is a number of {len(hex(abs(value))) - 2} hexadecimal digits")
    elif isinstance(value, float):
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise wrong(where, f"{name} is {value:g}")
    elif is_dataclass(value):
        for field in fields(value):
            check_numbers(getattr(value, field.name), where, f"{name}.{field.name}" if name else field.name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            check_numbers(inner, where, f"{name}.{str(key)[:80]}" if name else str(key)[:80])
    elif isinstance(value, list | tuple):
        for inner in value:
            check_numbers(inner, where, name)


def wrong(where: str | Path, what: str) -> LramError:
    """Return the error that says ``what`` in ``where`` cannot be."""
    return LramError(f"{where} holds what cannot be: {what}; {ADVICE}")
