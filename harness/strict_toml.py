"""TOML files that are read into dataclasses: what does not fit is refused in one sentence that says where."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from lram.agents.durable import read_regular
from lram.agents.shown import shown
from lram.harness.errors import LramError

LARGEST = 1 << 20
"""Bytes of the largest file that is read."""

T = TypeVar("T")


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """Return the plain values of a TOML file.

    Args:
        file: Its path.
        what: What it should be, such as ``a study``.

    Raises:
        LramError: It is not there, no regular file, longer than 1 MiB, or no TOML in UTF-8.
    """
    try:
        return tomllib.loads(read_regular(file, LARGEST).decode("utf-8"))
    except (
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        ValueError,
    ) as error:  # also a number of 5,000 digits
        raise LramError(f"{file} is not TOML: {shown(str(error), 200)}; fix that place") from None
    except RecursionError:
        raise LramError(f"{file} is nested too deeply; fix that place") from None
    except FileNotFoundError:
        raise LramError(f"there is no file {file}; give the TOML file of {what}") from None
    except OSError as error:
        raise LramError(f"{file} cannot be read ({error.strerror}); give a TOML file") from None


def converted(plain: Mapping[str, Any], kind: type[T], where: str) -> T:
    """Return plain values as the dataclass ``kind``, whose bounds msgspec checks.

    Args:
        plain: As TOML has them.
        kind: A dataclass, perhaps with others in its fields.
        where: What to call the values' source in messages.

    Raises:
        LramError: A field is not known, is missing, or does not fit.
    """
    _refuse_unknown(plain, kind, where)
    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        text, _, place = str(error).partition(" - at `$.")
        at = place.rstrip("`").replace("[...]", "") or "it"
        text = text[:1].lower() + text[1:].replace("`", "").replace(" | null", "")
        choices = _choices(kind, at) if text.startswith("invalid enum value") else ""
        step = f"choose from {choices}" if choices else "fix the value"
        raise LramError(f"{where}: {shown(at)} does not fit: {shown(text, 300)}; {step}") from None


def _choices(kind: Any, place: str) -> str:
    """Return the values that the field at ``place`` may have, with commas; empty where they are not few."""
    for name in re.sub(r"\[[^]]*\]", "", place).split("."):
        kind = _bare(kind)
        if not is_dataclass(kind):
            return ""
        kind = _bare(get_type_hints(kind).get(name))
    return ", ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else ""


def _bare(kind: Any) -> Any:
    """Return a type without ``| None``, and the elements' type of a tuple."""
    while get_origin(kind) in (tuple, Union, UnionType):
        kind = get_args(kind)[0]
    return kind


def _refuse_unknown(plain: Any, kind: Any, where: str, path: str = "") -> None:
    """Raise LramError for a field that no part of ``kind`` has: msgspec drops those in silence."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple and isinstance(plain, Sequence) and not isinstance(plain, str):
        for place, one in enumerate(plain):
            _refuse_unknown(one, get_args(kind)[0], where, f"{path}[{place}]")
    if not is_dataclass(kind) or not isinstance(plain, Mapping):
        return
    hints = get_type_hints(kind, include_extras=True)
    for name, value in plain.items():
        full = f"{path}.{name}".lstrip(".")
        if name not in hints:
            raise LramError(
                f"{where} has a field {shown(full)} that is not known; {_hint(name, hints, path)}"
            )
        _refuse_unknown(value, hints[name], where, full)


def _hint(name: str, hints: Mapping[str, Any], path: str) -> str:
    close = difflib.get_close_matches(name, hints, n=1, cutoff=0.6)
    if close:
        return f"did you mean {f'{path}.{close[0]}'.lstrip('.')}?"
    below = [
        f"{section}.{name}"
        for section, kind in hints.items()
        if not path and is_dataclass(kind) and name in get_type_hints(kind)
    ]
    return f"did you mean {below[0]}?" if below else f"known: {', '.join(hints)}"
