"""Energy that a GPU takes, by its own counter: NVML's millijoules since the driver was loaded.

The counter is of the whole device, idle power included, and is brought up to date some ten times a second:
what is measured should last a second or more. NVML comes with the driver (``libnvidia-ml.so.1``), without a
package.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LIBRARY = "libnvidia-ml.so.1"
_WORKS = 0  # NVML_SUCCESS


@dataclass(frozen=True, slots=True)
class Energy:
    """What a device has taken.

    Attributes:
        joules: Of the whole device; 0 where it was not read.
        seconds: For which it was read.
        why_not: Why it was not read; empty where it was, and on processors.
    """

    joules: float = 0.0
    seconds: float = 0.0
    why_not: str = ""


class EnergyMeter:
    """Energy of a GPU since :meth:`reset`; of a processor nothing is read.

    Attributes:
        why_not: Why nothing is read of a GPU; empty where it is, and on processors.
    """

    def __init__(self, device: torch.device, library: Any = None) -> None:
        """Find the counter of ``device``; ``library`` is NVML (None: the driver's)."""
        self.why_not = ""
        self._handle: ctypes.c_void_p | None = None
        self._began, self._before = 0.0, 0.0
        if device.type != "cuda":
            return
        try:
            self._nvml = library or ctypes.CDLL(_LIBRARY)
            self._handle = self._found(device)
            self._read()
        except (OSError, AttributeError, RuntimeError) as error:
            self._handle, self.why_not = None, f"energy is not read: {' '.join(str(error).split())}"

    def reset(self) -> None:
        """Begin anew."""
        if self._handle is not None:
            self._began, self._before = time.perf_counter(), self._read()

    def energy(self) -> Energy:
        """Return what was taken since :meth:`reset`."""
        if self._handle is None:
            return Energy(why_not=self.why_not)
        joules = self._read() - self._before
        return Energy(joules, time.perf_counter() - self._began)

    def _found(self, device: torch.device) -> ctypes.c_void_p:
        """Return NVML's handle: by what the device is, since NVML numbers those that are hidden, too."""
        import torch

        self._call("nvmlInit_v2")
        handle = ctypes.c_void_p()
        identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        self._call("nvmlDeviceGetHandleByUUID", identity.encode(), ctypes.byref(handle))
        return handle

    def _read(self) -> float:
        """Return joules since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(millijoules))
        return millijoules.value / 1000

    def _call(self, name: str, *arguments: Any) -> None:
        if (code := getattr(self._nvml, name)(*arguments)) != _WORKS:
            raise RuntimeError(f"NVML's {name} ended with {code}")
