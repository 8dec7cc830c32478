"""``lram demo``: a small evaluation of agents that are included, and its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import (
    DEFAULT_MACHINE,
    EpisodesOption,
    MachineOptions,
)
from lram.harness.cli.printing.closing import conclude_run, interrupted
from lram.harness.errors import LramError
from lram.harness.evaluation import evaluate
from lram.harness.evaluation import resume as resume_run
from lram.harness.progress import shown
from lram.harness.storage.run_folder import Run, RunWriter

DEMO_AGENTS = (
    "random",
    "scripted",
    "small-xlstm[1:0]",
    "small-xlstm[7:1]",
    "small-mamba",
    "small-transformer",
)


def demo(
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder for run and report.")] = Path(
        "lram-demo"
    ),
    *,
    episodes: EpisodesOption = 3,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> int:
    """Evaluate baselines and four small trained models on four domains, and report.

    The models, xLSTM [1:0] and [7:1], Mamba and a Transformer, were trained on five of the eight tasks;
    docs/reference/models.md says how. A demo that was interrupted is continued by the same command.
    """
    from lram.envs.registry import DEMO_SUITE
    from lram.harness.cli.report import report

    folder = output / "run"
    if not (folder / "run.json").is_file():
        RunWriter.check_vacant(folder)
        if output.exists() and any(entry != folder for entry in output.iterdir()):
            raise LramError(f"{output} holds something else than a demo; give another folder with -o")
    if (folder / "run.json").is_file() and (planned := Run(folder).plan.episodes) != episodes:
        raise LramError(f"{output} holds a demo with {planned} episodes a task; give another folder with -o")
    try:
        if (folder / "run.json").is_file():
            earlier = Run(folder)
            run = resume_run(earlier, machine=machine.machine(earlier), progress=shown)
        else:
            run = evaluate(
                DEMO_AGENTS,
                DEMO_SUITE,
                folder,
                episodes=episodes,
                machine=machine.machine(),
                progress=shown,
            )
    except KeyboardInterrupt:
        return interrupted(folder, "lram demo")
    code = conclude_run(run, hint=False)
    report([str(folder)], output=output / "report", show=sys.stdout.isatty())
    return code
