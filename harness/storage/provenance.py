"""Where and with what a run is made."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from lram.agents.backbones.registry import BUILT_IN
from lram.agents.installed import version
from lram.harness.storage.commits import commit_of
from lram.harness.storage.records import Provenance

_PACKAGES = (
    *("lram-bench", "torch", "numpy", "numba", "safetensors", "h5py", "msgspec"),
    *(package.distribution for spec in BUILT_IN for package in spec.packages),
)


def collect(
    settings: Mapping[str, object],
    worker_facts: Mapping[str, Mapping[str, Any]],
    command: str = "",
    compute: Mapping[str, dict[str, str]] | None = None,
    sources: Mapping[str, dict[str, str]] | None = None,
) -> Provenance:
    """Return the provenance of what this process is about to do or has done.

    Args:
        settings: What to note of the settings.
        worker_facts: What the workers said of themselves, by domain.
        command: The command line (empty: this process's own).
        compute: By label, how models compute.
        sources: By label, what agents are made of.
    """
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        # A path that is no valid UTF-8 must not keep the run from being described.
        command=(command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        .encode("utf-8", "replace")
        .decode(),
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpu=_gpu(),
        git=commit_of(Path(__file__).parent, tracked=Path(__file__).name),
        working_git=_working_commit(),
        packages=_versions(),
        workers=worker_versions(worker_facts),
        settings={name: str(value) for name, value in settings.items()},
        compute=dict(compute or {}),
        sources=dict(sources or {}),
    )


def _working_commit() -> str:
    try:
        return commit_of(Path.cwd())
    except FileNotFoundError:  # the working directory was removed
        return ""


def worker_versions(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return, by domain, the versions in its worker's interpreter, from what the workers said."""
    return {
        domain: {"python": str(one["python"]), **one["packages"]} for domain, one in sorted(facts.items())
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
