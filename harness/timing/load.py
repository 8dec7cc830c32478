"""What else the machine did while something was timed, and what was set for threads and memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = ("OMP_", "KMP_", "GOMP_", "MKL_", "MALLOC_", "LD_PRELOAD", "NUMBA_", "TORCHINDUCTOR_")


@dataclass(frozen=True, slots=True)
class Load:
    """What else the machine did.

    Attributes:
        before, after: Load average over one minute; the own process counts too.
        other_cores: Cores that other processes kept busy on average; None where that cannot be read.
    """

    before: float
    after: float
    other_cores: float | None


class LoadWatch:
    """Watches what other processes do between its making and ``load``."""

    def __init__(self) -> None:
        self._before = os.getloadavg()[0]
        self._begun = time.monotonic()
        self._others = _busy_elsewhere()

    def load(self) -> Load:
        """Return what was seen so far."""
        now, passed = _busy_elsewhere(), time.monotonic() - self._begun
        cores = None if now is None or self._others is None else max(0.0, (now - self._others) / passed)
        return Load(self._before, os.getloadavg()[0], cores)


def environment() -> dict[str, str]:
    """Return the variables that change how fast threads and memory are."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_ENVIRONMENT)}


def _busy_elsewhere() -> float | None:
    """Return the processor seconds of all processes but this one since the machine started."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields)
    busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()
