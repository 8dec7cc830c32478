"""Named models: ``xlstm-16M``, ``xlstm[7:1]-16M``, ``mamba-1M``, ``transformer[full]-206M`` and so on.

A preset is a kind of backbone, what its brackets choose, and a size. What brackets mean, and the sizes,
stand in the kind's specification (:mod:`lram.agents.backbones`); a name means one architecture at every size.
A plain ``xlstm-`` is ``[1:0]``, mLSTM blocks only, as the reference's own presets are.

Brackets can also set options of the kind, and the size's ``layers`` and ``width``, each as ``name=value``:
``transformer[full,positions=none]-16M``, ``xlstm[7:1,layers=4]-16M``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any, get_type_hints

import msgspec

from lram.agents.api import AgentError
from lram.agents.backbones.registry import BUILT_IN, built_in, find_spec, points
from lram.agents.backbones.spec import BackboneSpec, Size
from lram.agents.model.config import ModelConfig
from lram.agents.shown import shown

SIZES = ("layers", "width")
"""What brackets can set beside the options of a kind."""

_OPTION = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\s*=\s*(?P<value>[^=]*)")
_NAME = re.compile(r"(?P<kind>[a-z][a-z0-9_]{0,31})(\[(?P<brackets>[^\[\]]{0,200})\])?-(?P<size>\w{1,32})")


def preset_names() -> tuple[str, ...]:
    """Return the package's presets that are listed; any other ratio of an xLSTM is understood too."""
    return tuple(chain.from_iterable(map(_names_of, BUILT_IN)))


def _names_of(spec: BackboneSpec) -> list[str]:
    names = []
    for size in spec.sizes:
        names += [f"{spec.kind}-{size.name}"]
        names += [f"{spec.kind}[{brackets}]-{size.name}" for brackets in spec.listed]
    return names


def is_preset(name: str) -> bool:
    """Return whether ``name`` is spelt as a preset of a kind and a size that are there.

    Of a backbone from an entry point its kind is enough: nothing of it is imported here.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    spec = built_in(match["kind"])
    if spec is None:
        return match["kind"] in {point.name for point in points()}
    return _size(spec, match["size"]) is not None and _fits(spec, _parts(match["brackets"])[0])


def is_preset_like(name: str) -> bool:
    """Return whether ``name`` is spelt as a preset of a known kind, of whatever size."""
    match = _NAME.fullmatch(name)
    return match is not None and match["kind"] in {
        *(spec.kind for spec in BUILT_IN),
        *(point.name for point in points()),
    }


def preset_kind(name: str) -> str:
    """Return the kind of backbone that a preset's name tells; empty where it is spelt as none."""
    match = _NAME.fullmatch(name)
    return match["kind"] if match is not None else ""


def parse_preset(name: str) -> ModelConfig:
    """Return the configuration that ``name`` stands for; AgentError tells kinds and sizes."""
    match = _NAME.fullmatch(name)
    spec = find_spec(match["kind"]) if match is not None and is_preset(name) else None
    size = None if match is None or spec is None else _size(spec, match["size"])
    if match is None or spec is None or size is None:
        raise AgentError(_advice(name))
    brackets, given = _parts(match["brackets"])
    if not _fits(spec, brackets):
        raise AgentError(_advice(name))
    numbers = {one: _value(one, given[one], int, name) for one in SIZES if one in given}
    size = dataclasses.replace(size, **numbers)
    options = spec.of_size(size, brackets or "")
    hints = get_type_hints(spec.options)
    changes = {}
    for one in given.keys() - numbers.keys():
        if one not in hints:
            known = ", ".join((*spec.option_names(), *SIZES))
            raise AgentError(f"{shown(name)}: a {spec.label} has no option {shown(one)}; known: {known}")
        changes[one] = _value(one, given[one], hints[one], name)
    return ModelConfig(size.width, size.layers, dataclasses.replace(options, **changes), name=name)


def _parts(brackets: str | None) -> tuple[str | None, Mapping[str, str]]:
    """Return what a kind makes of brackets (None: there is nothing for it), and the options in them."""
    items = brackets.split(",") if brackets is not None else []
    options, rest = {}, []
    for item in items:
        if (match := _OPTION.fullmatch(item.strip())) is not None:
            options[match["name"]] = match["value"].strip()
        else:
            rest.append(item)
    if options:
        rest = [item.strip() for item in rest]
    return (",".join(rest) if rest else None), options


def _value(option: str, text: str, kind: Any, name: str) -> Any:
    for value in (text, None) if text == "none" else (text,):
        try:
            return msgspec.convert(value, kind, strict=False)
        except (msgspec.ValidationError, OverflowError) as error:
            problem = error
    raise AgentError(f"{shown(name)}: {option}={shown(text)} does not fit ({shown(str(problem), 200)})")


def _size(spec: BackboneSpec, name: str) -> Size | None:
    return next((size for size in spec.sizes if size.name == name), None)


def _fits(spec: BackboneSpec, brackets: str | None) -> bool:
    return brackets is None or (bool(spec.brackets) and re.fullmatch(spec.brackets, brackets) is not None)


def _advice(name: str) -> str:
    known = [*BUILT_IN]
    if (match := _NAME.fullmatch(name)) and match["kind"] in {point.name for point in points()}:
        known = [find_spec(match["kind"])]
    listed = [f"{spec.kind}[{brackets}]" for spec in known for brackets in spec.listed]
    sizes = dict.fromkeys(size.name for spec in known for size in spec.sizes)
    return (
        f"there is no model preset {shown(name)!r}; it is a kind ({', '.join(spec.kind for spec in known)}"
        f"{'; with brackets as in ' if listed else ''}{', '.join(listed)}) "
        f"and a size ({', '.join(sizes) or 'it has none'}), such as xlstm[7:1]-16M"
    )
