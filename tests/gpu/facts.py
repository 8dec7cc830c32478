"""The device, its driver and what is installed: ``python -m gpu.facts cuda`` prints them as JSON."""

from __future__ import annotations

import platform
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import torch

from gpu.record import DeviceFacts
from lram.agents.api import AgentError
from lram.agents.devices import find_device, gpu_model, gpus
from lram.harness.storage.provenance import collect

PACKAGES = (
    *("torch", "triton", "numba", "numpy", "xlstm", "mlstm-kernels", "mamba-ssm", "causal-conv1d"),
    *("flash-linear-attention", "procgen", "lram-bench"),
)
_DRIVER = Path("/proc/driver/nvidia/version")


def facts(name: str) -> DeviceFacts:
    """Return what there is to tell of the device ``name``; AgentError where it is not there."""
    device, made = find_device(name), collect({}, {})
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    common: dict[str, Any] = {
        "device": name,
        "count": len(gpus()),
        "versions": versions,
        "tf32": {
            "matmul": str(torch.backends.cuda.matmul.allow_tf32).lower(),
            "cudnn": str(torch.backends.cudnn.allow_tf32).lower(),
            "precision": torch.get_float32_matmul_precision(),
        },
        "commit": made.git,
        "cpu": made.cpu,
        "cores": made.cores,
        "platform": made.platform,
    }
    if device.type != "cuda":
        return DeviceFacts(name=made.cpu, memory_bytes=int(made.memory_gib * 2**30), **common)
    properties = torch.cuda.get_device_properties(device)
    return DeviceFacts(
        name=gpu_model(name),
        memory_bytes=properties.total_memory,
        capability=f"{properties.major}.{properties.minor}",
        driver=_driver(),
        cuda=torch.version.cuda or "",
        cudnn=str(torch.backends.cudnn.version() or ""),
        **common,
    )


def _driver() -> str:
    try:
        found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[0] if found else ""


if __name__ == "__main__":
    try:
        found = facts(sys.argv[1])
    except AgentError as error:
        sys.exit(str(error))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
