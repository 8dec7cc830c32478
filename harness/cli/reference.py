"""``lram reference``: measure what scores of 0 and 1 are, on tasks that have no references."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import (
    DEFAULT_MACHINE,
    MachineOptions,
    PlaySeedOption,
    ProtocolOption,
    pairs,
    terms,
)
from lram.harness.cli.printing.closing import interrupted
from lram.harness.cli.printing.output import print_table
from lram.harness.progress import quiet, shown

if TYPE_CHECKING:
    from lram.harness.references.measuring import Measurement


def reference(
    tasks: Annotated[list[str], Parameter(help="Tasks without references; see 'lram tasks --help'.")],
    /,
    *,
    reference: Annotated[
        str | None,
        Parameter(
            help="The agent whose mean return is a score of 1, such as sb3:FILE.zip, ws://host:port or "
            "module:factory. Without it, random play alone is measured."
        ),
    ] = None,
    episodes: Annotated[
        int, Parameter(name=["--episodes", "-n"], help="Episodes of each agent on each task, 2 or more.")
    ] = 100,
    seed: PlaySeedOption = 0,
    protocol: ProtocolOption = None,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Keep the run in this folder. Where it holds the same measurement, interrupted or not, that "
            "is continued.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, Parameter(help="Replace references that the file has of these tasks.", negative=())
    ] = False,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> int:
    """Measure references of tasks that have none, and write them into the file of scores.

    A score is 0 for the mean return of random play and 1 for that of the reference agent. The file is
    $LRAM_SCORES, else scores.toml in $LRAM_HOME; other entries and comments in it stay. Runs that are planned
    from then on have scores on these tasks.

    A reference that is not above random play by more than chance is refused, and its task is left out; then
    the command ends with 1.

    Example: lram reference gym:Pendulum-v1 --reference sb3:sac.zip -n 100 -o runs/pendulum-reference
    """
    from lram.envs.score_file import place
    from lram.harness.references import playing, writing
    from lram.harness.references.measuring import measured

    path = place()
    asked = playing.asked(terms(tasks, None), reference, episodes, seed, pairs(protocol, "--protocol"))
    writing.check_vacant(path, asked.tasks, overwrite=overwrite)
    writing.begin(path)
    with ExitStack() as stack:
        if output is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lram-reference-"))
        run_folder = output or Path(folder) / "run"
        try:
            run = playing.play(asked, run_folder, machine.machine(), quiet if machine.quiet else shown)
        except KeyboardInterrupt:
            if output is None:
                print("\ninterrupted, and nothing is kept; with -o RUN the same command would continue it")
                return EXIT_INTERRUPTED
            return interrupted(output)
        found = measured(run, asked.label)
    good = {one.task: one.entry for one in found if not one.problem}
    if good:
        writing.write_entries(path, good, overwrite=overwrite)
    _show(found, asked.label)
    for one in found:
        if one.problem:
            print(f"\nnot written: {one.problem}")
    if good:
        print(f"\nwritten: {path}")
    return EXIT_FAILED if len(good) < len(found) else 0


def _show(found: list[Measurement], label: str | None) -> None:
    print_table(
        ("task", "random", label or "reference", "episodes", "target return", "reward scale"),
        [
            (
                one.task.id,
                str(one.random),
                str(one.reference or ""),
                one.random.episodes,
                one.entry.target_return,
                one.entry.reward_scale,
            )
            for one in found
        ],
    )
    print("mean return ± its standard error")
