"""How the work of a run is spread over a machine, or over each node of a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from lram.agents.compute import ROWS, Compute, Precision, StepForm
from lram.envs.workers.process import Deadlines
from lram.harness.errors import LramError, as_lram_error
from lram.harness.rollout.loop import RolloutSettings
from lram.harness.storage import seeds
from lram.harness.storage.records import RunPlan


@dataclass(frozen=True, slots=True)
class Machine:
    """How the work is spread over this machine; what touches a model's digits is stated below.

    Attributes:
        lanes: Episodes in flight, over all workers.
        workers: Worker processes that play at the same time (None: one a core); on a cluster, jobs ask for
            cores instead.
        threads: Threads of the agents' tensor library. With one, a model's numbers repeat bit for
            bit; with more, how the work is split may change their last digits.
        device: Where models act, as torch names it; another device gives other last digits. Of a comma list
            (``cuda:0,cuda:1``) agents take one after the other.
        precision: As :class:`lram.agents.compute.Compute` has it; it is part of what an agent is.
        step: Form of the models' step (:mod:`lram.agents.backbones.stepping`); another form gives other last
            digits.
        rows: Lanes that share a pass of a model, 1 or a multiple of 8; likewise.
        interpreters: By domain, where it is neither the one that is installed for it nor this one: a
            Python executable, the folder of a virtual environment, or ``main`` for this one. A run that
            is continued keeps those that it was started with.
        attempts: How often an episode is tried before it is recorded as errored.
        quarantine_after: A task whose first so many episodes all errored is given up.
        deadlines: How long a worker may take for one answer.
        shuffle: Play the episodes in random order.
    """

    lanes: int = 16
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    precision: Precision = "float32"
    step: StepForm = "auto"
    rows: int = ROWS
    interpreters: Mapping[str, str] | None = None
    attempts: int = 2
    quarantine_after: int = 3
    deadlines: Deadlines = field(default_factory=Deadlines)
    shuffle: bool = False

    def check(self) -> None:
        """Raise LramError for a number that makes no sense."""
        for name in ("lanes", "workers", "threads", "attempts", "quarantine_after"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LramError(f"{name} is {value}; it must be 1 or more")
        for name, seconds in asdict(self.deadlines).items():
            if not seconds > 0:
                raise LramError(f"the deadline {name} is {seconds:g} s; it must be above 0")
        with as_lram_error():
            self.compute()

    def compute(self) -> Compute:
        """Return how models compute here."""
        return Compute(self.device, self.precision, self.step, self.rows)


def rollout_settings(plan: RunPlan, machine: Machine, episodes: int, workers: int) -> RolloutSettings:
    """Return how ``episodes`` episodes of ``plan`` are played by up to ``workers`` processes."""
    # Neighbours would make each other late.
    lanes = 1 if plan.realtime_hz else min(machine.lanes, episodes)
    return RolloutSettings(
        seed=plan.seed,
        lanes=lanes,
        workers=min(lanes, workers),
        attempts=machine.attempts,
        quarantine_after=machine.quarantine_after,
        deadlines=machine.deadlines,
        shuffle_seed=plan.seed if machine.shuffle else None,
        seeds=seeds.own_seeds(plan),
        realtime_hz=plan.realtime_hz,
    )


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def calm_threads() -> None:
    """Keep idle OpenMP threads from spinning on the cores that the simulators need.

    Spinning threads made one decision 30 times slower with one busy neighbour on a 2-core machine.
    The setting is read once, when the tensor library is loaded.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use ``count`` threads for a while, if it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
