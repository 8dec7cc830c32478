"""How whole sequences are read, in training: the forms, of which ``forward`` of every block asks here.

    auto      on a processor fused where it can be; on a GPU mamba-ssm's kernels for Mamba, where that is
              installed; else torch
    torch     plain PyTorch operations: every device, every type
    fused     compiled kernels for processors (:mod:`lram.agents.backbones.kernels`): numba, float32 weights;
              under autocast they compute in float32
    packages  kernels of public packages, as installed: ``mamba_ssm`` and ``mlstm_kernels``
    triton    Triton kernels for GPUs (:mod:`lram.agents.backbones.gpu`)

All compute the same up to rounding, with gradients. ``packages`` and ``triton`` read the memories that they
have kernels for; the other blocks and parts of a model are plain. What no user asked for by name is read by
nothing that has its own licence, or that has not run on a device: so ``auto`` is neither of the two.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.compute import SEQUENCE_FORMS, SequenceForm
from lram.agents.installed import version

_FUSED = ("auto", "fused")

# Of the process, not of a thread: backward passes run in threads of PyTorch's own.
_form: SequenceForm = "auto"


class SequenceReader:
    """A module that reads whole sequences also in the forms ``packages`` or ``triton``."""

    def read_in(self, form: SequenceForm) -> bool:
        """Return whether the form has something for it; without, it is plain there."""
        return True

    def why_not_read(self, form: SequenceForm, device: torch.device) -> str | None:
        """Return what keeps its sequences from being read in ``form`` on ``device``, or None."""
        raise NotImplementedError

    def read_by(self, form: SequenceForm, device: torch.device) -> str:
        """Return for people what reads them in a form that can be used there."""
        raise NotImplementedError

    def takes_packages(self, device: torch.device) -> bool:
        """Return whether ``auto`` is ``packages`` for it on ``device``."""
        return False


def compiled_for(x: Tensor, weight: Tensor | None = None) -> bool:
    """Return whether kernels are to read ``x``, with weights like ``weight`` where there are any."""
    return (
        _form in _FUSED
        and x.device.type == "cpu"
        and (weight is None or (weight.device.type == "cpu" and weight.dtype == torch.float32))
        and (x.dtype == torch.float32 or torch.is_autocast_enabled("cpu"))
        and not torch.compiler.is_compiling()
        and _numba_works()
    )


def plain_asked() -> bool:
    """Return whether what no kernel of the form reads is to be computed as PyTorch does."""
    return _form not in _FUSED


def sequence_form() -> SequenceForm:
    """Return the form in which sequences are read here."""
    return _form


@contextmanager
def read_sequences(form: SequenceForm) -> Iterator[None]:
    """Read sequences in ``form`` here; :func:`check_sequences` says whether a model can."""
    global _form
    before, _form = _form, form
    try:
        yield
    finally:
        _form = before


def plain_sequences() -> AbstractContextManager[None]:
    """Read sequences in plain PyTorch here, to compare: no kernels, and products as PyTorch makes them."""
    return read_sequences("torch")


def why_not_read(model: nn.Module, form: SequenceForm, device: torch.device) -> str | None:
    """Return what keeps ``model`` from reading its sequences in ``form`` on ``device``, or None."""
    if form in ("auto", "torch"):
        return None
    if form == "fused":
        return (
            numba_problem() if device.type == "cpu" else f"it is of processors, and the model is on {device}"
        )
    reasons = [reader.why_not_read(form, device) for reader in _readers(model, form)]
    if not reasons:
        return "its backbone has no memory that is read so"
    return next(filter(None, reasons), None)


def check_sequences(model: nn.Module, form: SequenceForm, device: torch.device) -> str:
    """Return for people what reads the sequences of ``model``; AgentError where the form cannot be used."""
    if form not in SEQUENCE_FORMS:
        raise AgentError(f"there is no sequence form {form!r}; choose one of {', '.join(SEQUENCE_FORMS)}")
    reason = why_not_read(model, form, device)
    if reason is not None:
        raise AgentError(f"the sequence form {form} cannot be used: {reason}; use the sequence form auto")
    plain = f"plain PyTorch {torch.__version__}"
    if form == "torch":
        return plain
    if device.type == "cpu" and form in _FUSED and _numba_works():
        return f"fused kernels, numba {version('numba')}, PyTorch {torch.__version__}"
    if form == "auto":
        readers = _readers(model, "packages")
        found = [reader.read_by("packages", device) for reader in readers if reader.takes_packages(device)]
    else:
        found = [reader.read_by(form, device) for reader in _readers(model, form)]
    return ", ".join(dict.fromkeys([*found, plain]))


def _readers(model: nn.Module, form: SequenceForm) -> list[SequenceReader]:
    modules = (module for module in model.modules() if isinstance(module, SequenceReader))
    return [module for module in modules if module.read_in(form)]


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
