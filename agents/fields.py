"""Fields of the contracts' dataclasses, checked where one is made: ValueError with a sentence that names it.

What a field holds goes into plans and records and is read again from there, so what cannot be read again is
refused before anything is played.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def text(owner: str, name: str, value: object, *, empty: bool = False) -> str:
    """Return ``value``, which must be a string that UTF-8 can write, and not empty unless ``empty``."""
    if not isinstance(value, str):
        raise ValueError(f"{owner}.{name} is {_shown(value)}; give a string")
    if not empty and not value.strip():
        raise ValueError(f"{owner}.{name} is empty; give a few words")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{owner}.{name} holds characters that UTF-8 cannot write; leave them out") from None
    return str(value)


def choice(owner: str, name: str, value: object, choices: Sequence[str]) -> str:
    """Return ``value``, which must be one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{owner}.{name} is {_shown(value)}; give one of {', '.join(map(repr, choices))}")
    return value


def flag(owner: str, name: str, value: object) -> bool:
    """Return ``value``, which must be True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{owner}.{name} is {_shown(value)}; give True or False")
    return bool(value)


def whole(owner: str, name: str, value: object, least: int, below: int = 1 << 63) -> int:
    """Return ``value`` as an int, which must be a whole number from ``least`` on and below ``below``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < below:
        upper = f" and below {below}" if below != 1 << 63 else ""
        raise ValueError(f"{owner}.{name} is {_shown(value)}; give a whole number, {least} or more{upper}")
    return int(value)


def finite(owner: str, name: str, value: object) -> float:
    """Return ``value``, which must be a finite number."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{owner}.{name} is {_shown(value)}; give a finite number")
    return value if isinstance(value, int | float) else float(value)  # type: ignore[arg-type]


def texts(owner: str, name: str, value: object) -> tuple[str, ...]:
    """Return ``value``, which must be a sequence of strings, as a tuple."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"{owner}.{name} is {_shown(value)}; give a tuple of strings")
    return tuple(text(owner, name, one) for one in value)


def pairs(owner: str, name: str, value: object) -> tuple[tuple[str, str], ...]:
    """Return ``value``, which must be pairs of strings or a mapping of strings, as pairs."""
    items: Any = value.items() if isinstance(value, Mapping) else value
    advice = "give pairs of strings, such as (('optimizer', 'adam'),)"
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise ValueError(f"{owner}.{name} is {_shown(value)}; {advice}")
    found = []
    for item in items:
        if isinstance(item, str | bytes) or not isinstance(item, Sequence) or len(item) != 2:
            raise ValueError(f"{owner}.{name} holds {_shown(item)}; {advice}")
        found.append((text(owner, name, item[0]), text(owner, name, item[1], empty=True)))
    return tuple(found)


def _shown(value: object) -> str:
    try:
        words = repr(value)
    except Exception:  # its class may raise there
        words = f"a {type(value).__name__}"
    return words if len(words) <= 80 else f"{words[:77]}..."
