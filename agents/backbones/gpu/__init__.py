"""Kernels for GPUs, in Triton: what a step does in many small operations between its products, in one.

They take the place of plain PyTorch only where they are asked for: in a step (:func:`kernels_here`) by the
step form ``triton``, in training by the sequence form of that name (:mod:`lram.agents.backbones.sequences`).
Triton comes with PyTorch for GPUs; its interpreter runs the same code on a processor
(``TRITON_INTERPRET=1``), which is how they are tested where there is no GPU.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

import torch
from torch import nn

from lram.agents.installed import version

MOST_TOKENS = 16
"""Tokens of a row that a kernel reads at once; passes of more are left to plain PyTorch."""

WIDEST_HEAD = 256
"""Numbers of a key, and of a value, that the attention's kernel has at once."""

WIDEST_CONVOLUTION = 32
"""Tokens of a causal convolution, likewise."""

LARGEST_STATE = 4096
"""Numbers of a channel of a selective scan, likewise."""

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


class KernelReader:
    """A module whose step has a kernel here, which :func:`gpu_kernels_for` asks for."""

    def why_no_kernel(self) -> str | None:
        """Return what keeps the kernel from reading for it, or None."""
        return None


def why_no_kernels(backbone: nn.Module) -> str | None:
    """Return what keeps the kernels here from the step of ``backbone``, or None."""
    readers = [module for module in backbone.modules() if isinstance(module, KernelReader)]
    if not readers:
        return f"{type(backbone).__name__} has no Triton kernel"
    return next(filter(None, (reader.why_no_kernel() for reader in readers)), None)


def too_large(what: str, size: int, most: int) -> str | None:
    """Return that ``what`` of a module is more than its kernel's ``most``, or None."""
    return f"{what} {size:,}, and its Triton kernel takes at most {most:,}" if size > most else None


def interpreted() -> bool:
    """Return whether kernels run in Triton's interpreter, on any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def triton_problem() -> str | None:
    """Return what is wrong with Triton here, or None."""
    if find_spec("triton") is None:
        return "triton is not installed (it comes with PyTorch for GPUs)"
    try:
        importlib.import_module("triton")
    except Exception as error:  # such as a driver that does not fit
        return f"triton cannot be imported ({type(error).__name__}: {error})"
    return None


def why_no_triton(device: torch.device) -> str | None:
    """Return what keeps kernels from running for a model on ``device``, or None."""
    if device.type != "cuda" and not interpreted():
        return f"Triton kernels are of GPUs, and the model is on {device}"
    return triton_problem()


def triton_detail() -> str:
    """Return for people what runs the kernels."""
    return f"kernels in Triton {version('triton')}{' (its interpreter)' * interpreted()}"
