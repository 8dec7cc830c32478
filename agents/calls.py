"""Calls as a user writes them: ``module:factory(3, size='big')``, with plain values and nothing that is run.

What stands between the parentheses are Python's literals: numbers, strings, True, False, None, and lists,
tuples, sets and dictionaries of them.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lram.agents.api import AgentError
from lram.agents.shown import shown

_ADVICE = "write module:factory(value, name=value) with plain values, such as mine:make(3, size='big')"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a factory is called with, besides what lram-bench offers by itself."""

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


def split_call(spec: str) -> tuple[str, str]:
    """Return what is called and the text of its arguments with the parentheses; empty without any."""
    name, mark, _ = spec.partition("(")
    return (name.rstrip(), spec[len(name) :]) if mark and spec.rstrip().endswith(")") else (spec, "")


def parse_arguments(spec: str) -> Arguments:
    """Return the arguments in ``spec``; none where it has no parentheses.

    Raises:
        AgentError: What stands there is no list of plain values.
    """
    _, text = split_call(spec)
    if not text:
        return Arguments()
    try:
        call = ast.parse(f"f{text.strip()}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("this is more than one call")
        positional = tuple(ast.literal_eval(node) for node in call.args)
        named = {}
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in named:
                raise ValueError("** gives no names, and a name goes with one value")
            named[keyword.arg] = ast.literal_eval(keyword.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise AgentError(f"{shown(spec, 200)}: the arguments are no plain values; {_ADVICE}") from error
    return Arguments(positional, named)


def is_literal(text: str) -> bool:
    """Return whether ``text`` is a Python literal, such as ``3`` or ``'three'``."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return True


def call_with(factory: Callable[..., Any], spec: str, offered: Mapping[str, Any]) -> Any:
    """Return what ``factory`` gives for the arguments in ``spec`` and those of ``offered`` that it takes.

    An argument in ``spec`` goes before an offered one of that name.

    Raises:
        AgentError: The arguments do not fit the factory's parameters.
    """
    arguments = parse_arguments(spec)
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some built-in callables have no signature
        return factory(*arguments.positional, **arguments.named)
    try:
        given = signature.bind_partial(*arguments.positional, **arguments.named).arguments
        named = {name: value for name, value in offered.items() if name in signature.parameters}
        named = {**{name: value for name, value in named.items() if name not in given}, **arguments.named}
        signature.bind(*arguments.positional, **named)
    except TypeError as error:
        takes = ", ".join(str(one) for one in signature.parameters.values()) or "nothing"
        raise AgentError(
            f"{shown(spec, 200)}: {error}; it takes {shown(takes, 300)}, and {_ADVICE}"
        ) from error
    return factory(*arguments.positional, **named)
