"""What stands in an evaluation file.

::

    agents = ["random", "mine=checkpoints/last"]   # or a section [agents] with label = "agent"
    tasks = ["toy/reach", "metaworld@heldout"]
    exclude = ["metaworld/door-*"]
    episodes = 10
    seed = 0

    [protocols]
    atari = "sticky"

    [machine]
    lanes = 16
    rows = 8
    python = {procgen = "envs/procgen"}

Paths are relative to the folder of the file. This module imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from lram.agents.compute import Precision, StepForm
from lram.agents.seed import LARGEST_SEED
from lram.harness.errors import LramError

_Count = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(gt=0)]
_Text = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class MachineSection:
    """How the work is spread over the machine; what is not there is as usual for a new run.

    Attributes:
        lanes: Episodes played at the same time.
        workers: Simulator processes.
        threads: Threads for the models.
        device: Where models act: cpu, cuda, cuda:1, or a list such as cuda:0,cuda:1 that agents take in turn.
        precision: Of models: float32; bfloat16; or bfloat16-weights, int8, which are of weights alone.
        step: How a model's step is computed.
        rows: Lanes that share a pass of a model: 1, or a multiple of 8.
        python: By domain: a Python executable, the folder of a virtual environment, or main for lram's own.
        attempts: How often an episode is tried when its simulator fails.
        quarantine_after: Give up a task when its first so many episodes all failed.
        begin_deadline: Seconds to create a simulator and reset it.
        step_deadline: Seconds for one step of a simulator.
        shuffle: Play the episodes in random order.
    """

    lanes: _Count | None = None
    workers: _Count | None = None
    threads: _Count | None = None
    device: _Text | None = None
    precision: Precision | None = None
    step: StepForm | None = None
    rows: _Count | None = None
    python: Mapping[str, _Text] = field(default_factory=dict)
    attempts: _Count | None = None
    quarantine_after: _Count | None = None
    begin_deadline: _Seconds | None = None
    step_deadline: _Seconds | None = None
    shuffle: bool | None = None


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """An evaluation as its file tells it, its folders absolute.

    Attributes:
        agents: As on the command line, or label -> agent.
        tasks: A selection of tasks; see 'lram tasks --help'.
        exclude: Tasks to leave out of the selection.
        episodes: Episodes per agent and task.
        seed: Of initial states and of everything random.
        realtime: Steps a second of a world that does not wait for the agent; 0: it waits.
        trackers: Where progress and scores go, too, such as wandb.
        protocols: Protocol by domain, where it is not the domain's default.
        machine: How the work is spread over the machine.
    """

    agents: tuple[_Text, ...] | Mapping[str, _Text] = ()
    tasks: tuple[_Text, ...] = ()
    exclude: tuple[_Text, ...] = ()
    episodes: _Count = 10
    seed: Annotated[int, Meta(ge=0, le=LARGEST_SEED)] = 0
    realtime: Annotated[float, Meta(ge=0)] = 0.0
    trackers: tuple[_Text, ...] = ()
    protocols: Mapping[str, _Text] = field(default_factory=dict)
    machine: MachineSection = field(default_factory=MachineSection)

    def check(self, where: str) -> None:
        """Raise LramError for what no single field can tell; ``where`` is what to call the source."""
        if not self.agents:
            raise LramError(f'{where} has no agents; write agents = ["random"], for example')
        if not self.tasks:
            raise LramError(f'{where} has no tasks; write tasks = ["toy/reach"], or give --tasks')
        if not math.isfinite(self.realtime):
            raise LramError(f"{where}: realtime is {self.realtime}, which is no number of steps a second")
