"""Plain values as YAML, for the heads of cards: block style, every text in double quotes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from lram.harness.words import visible

Plain = Mapping[str, "Plain"] | Sequence["Plain"] | str | int | float | bool | None


def yaml_text(value: Plain) -> str:
    """Return ``value``, a mapping or a list, as YAML 1.1 and 1.2 read it; its keys are plain names.

    Raises:
        ValueError: A number is not finite.
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Plain) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            name = key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _scalar(key)
            if _is_block(one):
                yield f"{name}:"
                yield from (f"  {line}" for line in _lines(one))
            else:
                yield f"{name}: {_scalar(one)}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            inside = list(_lines(one)) if _is_block(one) else [_scalar(one)]
            yield f"- {inside[0]}"
            yield from (f"  {line}" for line in inside[1:])


def _is_block(value: Plain) -> bool:
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and len(value) > 0


def _scalar(value: Plain) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number that a card can hold")
        # YAML 1.1 takes 1e-05 for text; with a point it is a number for every reader.
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}" if e else mantissa
    if isinstance(value, str):
        return json.dumps(visible(value), ensure_ascii=False)
    return json.dumps(value)
