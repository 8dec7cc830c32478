"""``lram resume``: continue a run that was interrupted."""

from __future__ import annotations

import shlex
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import (
    DEFAULT_CLUSTER,
    DEFAULT_MACHINE,
    AllowErrorsOption,
    ClusterOptions,
    CountsOption,
    MachineOptions,
    RunArgument,
    TrustOption,
)
from lram.harness.cli.printing.closing import conclude_run, interrupted
from lram.harness.errors import LramError
from lram.harness.evaluation import resume as resume_run
from lram.harness.progress import quiet, shown
from lram.harness.storage.run_folder import Run
from lram.harness.trust import trusted

_ELSEWHERE = {
    "latency.json": "lram latency --resume {}",
    "extrapolation.json": "lram extrapolate --resume {}",
    "study.json": "lram ablate STUDY -o {}",
    "precision-study.json": "lram ablate STUDY -o {}",
    "watch.json": "lram watch TRAINING --tasks TASKS -o {}",
}


def resume(
    run: RunArgument,
    /,
    *,
    retry_errors: Annotated[bool, Parameter(help="Play errored episodes again, too.", negative=())] = False,
    trust: TrustOption = False,
    counts: CountsOption = False,
    allow_errors: AllowErrorsOption = False,
    machine: MachineOptions = DEFAULT_MACHINE,
    cluster: ClusterOptions = DEFAULT_CLUSTER,
) -> int:
    """Continue a run that was interrupted.

    Models compute as when the run was started, unless options say otherwise.
    """
    for marker, command in _ELSEWHERE.items():
        if (run / marker).is_file():
            raise LramError(
                f"{run} is not an evaluation; continue with: {command.format(shlex.quote(str(run)))}"
            )
    try:
        opened = Run(run)
        finished = resume_run(
            opened,
            retry_errors=retry_errors,
            machine=machine.machine(opened),
            executor=cluster.chosen(machine),
            progress=quiet if machine.quiet else shown,
            trust=trusted(trust),
        )
    except KeyboardInterrupt:
        return interrupted(run)
    return conclude_run(finished, counts=counts, allow_errors=allow_errors)
