"""What a job asks of a node: processors, graphics processors and memory, by domain and agent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lram.agents.api import AgentInfo
from lram.envs.session import Domain
from lram.harness.errors import LramError

_HARNESS_MB = 150  # a job's process with a baseline
_MODEL_MB = 600  # more with torch loaded
_COPIES = 2.5  # of a model's weights: its own, packed ones for its step, and room to load them


@dataclass(frozen=True, slots=True)
class JobResources:
    """What one job takes while it runs.

    Attributes:
        cpus: Cores; its agent and its simulators take turns on them. 0.5 and more.
        gpus: Of graphics processors; fractions share one.
        memory: Bytes.
    """

    cpus: float
    gpus: float
    memory: int

    def fits(self, cpus: float, gpus: float, memory: float) -> bool:
        """Return whether so much is enough."""
        slack = 1e-6  # what is left of a graphics processor after several fractions is no round number
        return self.cpus <= cpus + slack and self.gpus <= gpus + slack and self.memory <= memory


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What the user asks for instead of what is usual; each by domain, and under ``""`` for all others.

    Attributes:
        cpus: Cores of a job, and its simulator processes.
        gpus: Of graphics processors, for models on ``cuda``.
        memory_gib: Memory.
        episodes: Episodes of a job (None: found by cost).
    """

    cpus: Mapping[str, float] = field(default_factory=dict)
    gpus: Mapping[str, float] = field(default_factory=dict)
    memory_gib: Mapping[str, float] = field(default_factory=dict)
    episodes: int | None = None

    def check(self) -> None:
        """Raise LramError for a number that makes no sense."""
        for what, given, least in (
            ("cores of a job", self.cpus, 0.5),
            ("GPUs of a job", self.gpus, 0.01),
            ("GiB of a job", self.memory_gib, 0.1),
        ):
            for domain, value in given.items():
                if not least <= value < math.inf:
                    where = f" for {domain}" if domain else ""
                    raise LramError(f"{what}{where}: {value:g}; it must be {least:g} or more")
        if self.episodes is not None and self.episodes < 1:
            raise LramError(f"episodes of a job: {self.episodes}; it must be 1 or more")

    def check_for_cells(self) -> None:
        """Raise LramError for what a cell of a study cannot have: it belongs to no single domain."""
        for option, given in (("cpus", self.cpus), ("gpus", self.gpus), ("memory", self.memory_gib)):
            if given.keys() - {""}:
                raise LramError(
                    f"--job-{option} takes a number here: a cell trains and plays all that its study names"
                )


def needs(domain: Domain, info: AgentInfo, device: str, lanes: int, request: ResourceRequest) -> JobResources:
    """Return what a job of an agent in a domain asks for.

    Args:
        domain: The adapter, which tells its simulators' memory.
        info: The agent's.
        device: Where models act.
        lanes: Episodes in flight.
        request: What the user wants instead.
    """
    cpus = _requested(request.cpus, domain.name, 1.0)
    workers = max(1, int(cpus))
    on_gpu = info.kind == "model" and device != "cpu"
    gpus = _requested(request.gpus, domain.name, 1.0) if on_gpu else 0.0
    megabytes = _HARNESS_MB + workers * domain.worker_mb + lanes * domain.session_mb
    if info.kind == "model":
        megabytes += _MODEL_MB + (0 if on_gpu else (info.parameters or 0) * 4 * _COPIES / 2**20)
    memory = _requested(request.memory_gib, domain.name, 0.0) * 2**30 or megabytes * 2**20
    return JobResources(cpus, gpus, int(memory))


def _requested(given: Mapping[str, float], domain: str, usual: float) -> float:
    return given.get(domain, given.get("", usual))
