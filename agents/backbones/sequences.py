"""How whole sequences are read on a processor: by compiled kernels, or in plain PyTorch.

``forward`` of a backbone asks here, for every block. Both forms compute the same up to rounding, with
gradients. The kernels (:mod:`lram.agents.backbones.kernels`) need numba and float32 weights; under autocast
they compute in float32.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_plain = False


def compiled_for(x: Tensor, weight: Tensor | None = None) -> bool:
    """Return whether kernels are to read ``x``, with weights like ``weight`` where there are any."""
    return (
        not _plain
        and x.device.type == "cpu"
        and (weight is None or (weight.device.type == "cpu" and weight.dtype == torch.float32))
        and (x.dtype == torch.float32 or torch.is_autocast_enabled("cpu"))
        and not torch.compiler.is_compiling()
        and _numba_works()
    )


def plain_asked() -> bool:
    """Return whether this is inside of :func:`plain_sequences`."""
    return _plain


@contextmanager
def plain_sequences() -> Iterator[None]:
    """Read sequences in plain PyTorch here, to compare: no kernels, and products as PyTorch makes them."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


@cache
def _numba_works() -> bool:
    return numba_problem() is None


def numba_problem() -> str | None:
    """Return what is wrong with numba here, or None."""
    if find_spec("numba") is None:
        return "numba is not installed (pip install 'lram-bench[fast]')"
    try:
        importlib.import_module("numba")
    except Exception as error:  # such as a numpy that is too new for it
        return f"numba cannot be imported ({type(error).__name__}: {error})"
    return None


def over_rows(kernel: Callable[..., None], by_row: tuple[Any, ...], shared: tuple[Any, ...] = ()) -> None:
    """Call ``kernel(*by_row, *shared)``, its rows divided among as many threads as PyTorch has.

    Args:
        kernel: Lets go of Python's lock, and treats each row by itself.
        by_row: Arrays with the row first.
        shared: Other arguments, the same for all.
    """
    rows, threads = len(by_row[0]), min(torch.get_num_threads(), len(by_row[0]))
    if threads <= 1:
        kernel(*by_row, *shared)
        return

    def some(first: int, end: int) -> None:
        kernel(*(array[first:end] for array in by_row), *shared)

    in_parts(some, rows, threads)


def in_parts(call: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call ``call(first, end)`` for all of ``count``, in as many parts as ``threads``, all at once.

    Args:
        call: Lets go of Python's lock for most of its time; its parts do not touch each other's numbers.
        count: At least as many as ``threads``.
        threads: At least 2; one of them is this one.
    """
    cuts = [count * part // threads for part in range(threads + 1)]
    others = [_pool(threads).submit(call, first, end) for first, end in pairwise(cuts[1:])]
    call(0, cuts[1])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lram-rows")


def arrays(*tensors: Tensor) -> tuple[Any, ...]:
    """Return the tensors' memory as numpy arrays."""
    return tuple(tensor.detach().numpy() for tensor in tensors)


def mask_of(x: Tensor, valid: Tensor | None) -> Any:
    """Return which tokens of x (B, k, ...) are there, (B, k) bool, for a kernel."""
    return torch.ones(x.shape[:2], dtype=torch.bool).numpy() if valid is None else valid.contiguous().numpy()
