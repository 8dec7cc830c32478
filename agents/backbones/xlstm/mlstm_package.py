"""The matrix memory of an mLSTM over whole sequences by the kernels of ``mlstm_kernels``, with gradients.

That package is under the NXAI Community License, not an open-source one. So it comes with nothing here, and
is used only where a user has installed it and asks for it: by the sequence form ``packages``. On a GPU its
Triton kernels of long chunks are taken, on a processor its plain PyTorch ones, of the same formulas.

Their backward pass takes the normaliser for a constant, as if a norm without epsilon followed, which a
factor of h does not change. Ours has an epsilon of 1e-5, and heads' variances were 1e-5 in a trained model:
there the gradients of gates were wrong by up to a hundredth. So values get columns of ones, of which the
kernels make the sums that the normaliser is of, and the gradient comes by way of those. What remains is the
derivative of the 1e-6 beside the normaliser, which they take for none.

Shapes: B rows, NH heads, S tokens, DH width of a head.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lram.agents.installed import version

ON_GPU, ON_PROCESSOR = "chunkwise--triton_xl_chunk", "chunkwise--native_custbw"
"""Names of kernels, as ``get_mlstm_kernel`` takes them."""

CHUNK = 128
"""Tokens of a chunk, the package's own default; its kernels take a power of two, and multiples of this."""

_ONES = 16
"""Columns of ones: one would do, but for how the memory is aligned."""

EPS = 1e-6
"""Added to the normaliser, as in ``read_chunk`` of :mod:`lram.agents.backbones.xlstm.mlstm`."""


def read(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, kernel: Callable[..., Any]) -> Tensor:
    """Read sequences from an empty memory.

    Args:
        q, k, v: (B, NH, S, DH), of one type; k is not scaled.
        i, f: Input and forget gates before their exponential and sigmoid, float32 (B, NH, S).
        kernel: See :func:`installed_kernel`.

    Returns:
        h (B, NH, S, DH), of the type of q.
    """
    tokens, width, dtype = q.shape[2], q.shape[3], q.dtype
    if q.device.type != "cuda":  # the plain kernels mix their types
        q, k, v = q.float(), k.float(), v.float()
    chunk = min(CHUNK, max(16, 1 << (tokens - 1).bit_length()))
    missing = -tokens % chunk  # tokens after the last change nothing before them
    v = torch.cat([v, v.new_ones(*v.shape[:3], _ONES)], dim=-1)
    q, k, v = (F.pad(part, (0, 0, 0, missing)) for part in (q, k, v))
    with torch.autocast(q.device.type, enabled=False):  # which would round the gates
        y: Tensor = kernel(
            q=q,
            k=k,
            v=v,
            i=F.pad(i, (0, missing)),
            f=F.pad(f, (0, missing)),
            chunk_size=chunk,
            eps=EPS,
            autocast_kernel_dtype=q.dtype,
        )
    h, share = y[:, :, :tokens, :width], y[:, :, :tokens, width].abs()
    # h = numerator / (max(|n|, e^-m) + EPS), share = |n| / the same; h falls as |n| grows where it is larger.
    floor = torch.exp(-_stabilizer(i, f))
    larger = share >= (floor / (floor + EPS) * (1 - 4 * torch.finfo(q.dtype).eps))
    growth = (share - share.detach()) * larger
    return (h - h.detach() * growth.unsqueeze(-1)).to(dtype)


@torch.no_grad()
def _stabilizer(i: Tensor, f: Tensor) -> Tensor:
    """Return m, the largest log weight at each token, of the kernels: (B, NH, S)."""
    log_f = F.logsigmoid(f.double()).cumsum(dim=-1)
    # Their empty memory has the log weight 0.
    m = log_f + (i.double() - log_f).cummax(dim=-1).values.clamp(min=0)
    return m.float()


@cache
def installed_kernel(device_type: str) -> Callable[..., Any]:
    """Return the package's kernel for a device; :func:`problem` says whether there is one."""
    package: Any = importlib.import_module("mlstm_kernels.torch")
    kernel: Callable[..., Any] = package.get_mlstm_kernel(_name(device_type))
    return kernel


def problem(device_type: str) -> str | None:
    """Return what keeps the package's kernels from reading on a device, or None."""
    for module in ("mlstm_kernels", "einops"):
        if find_spec(module) is None:
            return (
                f"{module} is not installed (pip install --no-deps mlstm_kernels einops, if you accept the "
                "NXAI Community License of the former)"
            )
    try:
        if device_type == "cuda":
            import triton
            from triton.language.semantic import TritonSemantic

            if "make_block_ptr" not in vars(TritonSemantic):
                return (
                    f"Triton {triton.__version__} has no block pointers any more, of which the kernels of "
                    "mlstm_kernels are made; an earlier Triton (3.6) has them"
                )
        installed_kernel(device_type)
    except Exception as error:  # such as a Triton that is missing, or too new for it
        return (
            f"the kernel {_name(device_type)} of mlstm_kernels is not here ({type(error).__name__}: {error})"
        )
    return None


def described(device_type: str) -> str:
    """Return for people what the package reads with."""
    return f"mlstm_kernels {version('mlstm_kernels')} ({_name(device_type)})"


def _name(device_type: str) -> str:
    return ON_GPU if device_type == "cuda" else ON_PROCESSOR
