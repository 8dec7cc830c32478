"""Kernels for GPUs, in Triton: what a step does in many small operations between its products, in one.

They take the place of plain PyTorch only where they are asked for (:func:`kernels_here`), by the step form
``triton``. Triton comes with PyTorch for GPUs; its interpreter runs the same code on a processor
(``TRITON_INTERPRET=1``), which is how they are tested where there is no GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

import torch

MOST_TOKENS = 16
"""Tokens of a row that a kernel reads at once; passes of more are left to plain PyTorch."""

_asked: ContextVar[bool] = ContextVar("gpu_kernels", default=False)


def gpu_kernels_for(tokens: int) -> bool:
    """Return whether kernels are to read the next ``tokens``: within :func:`kernels_here`, without grad."""
    if torch.compiler.is_compiling() or tokens > MOST_TOKENS:
        return False
    return _asked.get() and not torch.is_grad_enabled()


@contextmanager
def kernels_here() -> Iterator[None]:
    """Read the next tokens by the kernels here."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def triton_problem() -> str | None:
    """Return what is wrong with Triton here, or None."""
    if find_spec("triton") is None:
        return "triton is not installed (it comes with PyTorch for GPUs)"
    try:
        importlib.import_module("triton")
    except Exception as error:  # such as a driver that does not fit
        return f"triton cannot be imported ({type(error).__name__}: {error})"
    return None
