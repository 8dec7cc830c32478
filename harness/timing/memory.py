"""Memory of a process or of its GPU: what is free, what it holds, its highest since, how much it may take."""

from __future__ import annotations

import ctypes
import gc
import math
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_SHARE = 0.85  # of the free memory: the last of it would take the system's own pages along
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs: the highest resident size is made the present one


class MemoryMeter:
    """Memory of a device, as this process uses it."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device if device.type == "cuda" else None

    def reset(self) -> int:
        """Give back what is not in use, forget the highest, and return the bytes now in use."""
        gc.collect()
        if self._gpu is not None:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._gpu)
            return int(torch.cuda.memory_allocated(self._gpu))
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        return _status("VmRSS")

    def peak(self) -> int:
        """Return the highest number of bytes since :meth:`reset`."""
        if self._gpu is not None:
            import torch

            return int(torch.cuda.max_memory_allocated(self._gpu))
        return _status("VmHWM")


def free_bytes(device: str) -> float:
    """Return the free memory of ``device``; infinity where the system does not tell."""
    if device != "cpu":
        import torch

        if torch.device(device).type == "cuda":
            return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = _MACHINE.read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def limit_memory(gib: float) -> None:
    """Let this process allocate so many GiB, or most of what is free (0), and no more.

    Beyond that an allocation fails in this process; without a limit, the system would choose a process
    to end, and not always this one.
    """
    most = gib * 2**30 if gib else _SHARE * free_bytes("cpu")
    if most < float(2**62):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (int(most), resource.RLIM_INFINITY))


def _status(name: str) -> int:
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
