"""``lram eval``: play agents on tasks and record every episode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import (
    AGENTS,
    DEFAULT_CLUSTER,
    DEFAULT_MACHINE,
    RUN_FOLDER,
    TASKS,
    AllowErrorsOption,
    ClusterOptions,
    CountsOption,
    EpisodesOption,
    ExcludeOption,
    MachineOptions,
    PlaySeedOption,
    ProtocolOption,
    pairs,
    terms,
)
from lram.harness.cli.printing.closing import conclude_run, interrupted
from lram.harness.errors import LramError
from lram.harness.evaluation import evaluate
from lram.harness.progress import quiet, shown


def eval_(
    agents: Annotated[list[str], AGENTS],
    /,
    *,
    tasks: Annotated[list[str], TASKS],
    output: Annotated[Path, RUN_FOLDER],
    exclude: ExcludeOption = None,
    episodes: EpisodesOption = 10,
    seed: PlaySeedOption = 0,
    protocol: ProtocolOption = None,
    realtime: Annotated[
        float | None,
        Parameter(
            help="Steps a second of a world that does not wait for the agent: while it decides, its last "
            "action "
            "is repeated. One episode at a time; scores then depend on the machine.",
            negative=(),
        ),
    ] = None,
    counts: CountsOption = False,
    allow_errors: AllowErrorsOption = False,
    machine: MachineOptions = DEFAULT_MACHINE,
    cluster: ClusterOptions = DEFAULT_CLUSTER,
) -> int:
    """Play every agent on every task and record each episode.

    Interrupt with Ctrl-C whenever you like: 'lram resume' continues with what is missing.

    Example: lram eval random scripted --tasks 'metaworld/reach-v3,atari/freeway' -n 3 -o runs/first
    """
    if realtime is not None and not realtime > 0:
        raise LramError(f"--realtime takes the world's steps a second, such as 20, not {realtime:g}")
    how = machine.machine()
    if realtime is not None and machine.rows is None:
        how = replace(how, rows=1)  # a pass for one lane
    try:
        run = evaluate(
            agents,
            terms(tasks, exclude),
            output,
            episodes=episodes,
            seed=seed,
            protocols=pairs(protocol, "--protocol"),
            realtime_hz=realtime or 0.0,
            machine=how,
            executor=cluster.chosen(machine),
            progress=quiet if machine.quiet else shown,
        )
    except KeyboardInterrupt:
        return interrupted(output)
    return conclude_run(run, counts=counts, allow_errors=allow_errors)
