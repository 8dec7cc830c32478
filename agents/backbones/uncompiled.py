"""Methods that PyTorch's compiler leaves alone, marked without loading it, which takes two seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import torch

_Method = TypeVar("_Method", bound=Callable[..., Any])

_marked: list[Callable[..., Any]] = []


def uncompiled(method: _Method) -> _Method:
    """Mark a method of a class that is to run as it is also within a compiled step."""
    _marked.append(method)
    return method


def leave_marked_alone() -> None:
    """Tell the compiler, before it compiles, of the methods that are marked."""
    while _marked:
        method = _marked.pop()
        *owners, name = method.__qualname__.split(".")
        owner: Any = reduce(getattr, owners, sys.modules[method.__module__])
        setattr(owner, name, torch.compiler.disable(method))  # type: ignore[no-untyped-call]
