"""``lram film``: recorded episodes as films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import DEFAULT_MACHINE, MachineOptions, RunArgument, TrustOption
from lram.harness.progress import quiet, shown
from lram.harness.storage.run_folder import Run
from lram.harness.trust import trusted
from lram.harness.words import count

if TYPE_CHECKING:
    from lram.harness.films.making import FilmOutcome


def film(
    run: RunArgument,
    /,
    *,
    output: Annotated[
        Path,
        Parameter(
            name=["--output", "-o"], help="New folder of films, or one new file: NAME.mp4 or NAME.webm."
        ),
    ],
    agent: Annotated[
        list[str] | None,
        Parameter(help="Only this agent; repeat it for several (default: all).", negative=()),
    ] = None,
    task: Annotated[
        list[str] | None,
        Parameter(help="Only this task; repeat it for several (default: all).", negative=()),
    ] = None,
    episodes: Annotated[
        list[str] | None,
        Parameter(
            name=["--episodes", "-n"],
            help="Of each agent on each task: best, worst, median, episode numbers, or several with commas. "
            "Or first-divergence (first-divergence:3 for episode 3): two agents side by side, around the "
            "first step at which they differ.  [default: median]",
            negative=(),
        ),
    ] = None,
    grid: Annotated[
        bool, Parameter(help="One film with all the chosen episodes beside each other.", negative=())
    ] = False,
    fps: Annotated[int, Parameter(help="Frames in a second.")] = 30,
    every: Annotated[
        int,
        Parameter(
            help="Show every Nth step, and the end. Only what is shown is rendered, which is slow without a "
            "GPU."
        ),
    ] = 1,
    size: Annotated[
        int | None,
        Parameter(
            help="Height of a scene in pixels (default: the simulator's, small ones enlarged; 240 where "
            "several stand beside each other)."
        ),
    ] = None,
    form: Annotated[
        Literal["mp4", "webm"],
        Parameter(name="--format", help="Of films in a folder: mp4 (H.264) or webm (VP9)."),
    ] = "mp4",
    trust: TrustOption = False,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> int:
    """Film recorded episodes: each is replayed, rendered, and kept only if the replay is the record.

    Nothing is written to the run's folder. Needs PyAV: pip install 'lram-bench[film]'.

    Example: lram film runs/first --agent scripted --task toy/reach --episodes best,worst -o films
    """
    from lram.harness.films.choosing import choose, pairs_to_compare, read_divergence, read_words
    from lram.harness.films.making import FilmMaker
    from lram.harness.films.settings import FilmSettings
    from lram.harness.replay.sampling import scored

    words = read_words(episodes or ["median"])
    opened = Run(run)
    records = scored(opened, agent, task)
    maker = FilmMaker(
        opened,
        output,
        FilmSettings(fps, every, size, f".{form}"),
        machine=machine.machine(opened),
        trust=trusted(trust),
        progress=quiet if machine.quiet else shown,
    )
    try:
        if (divergence := read_divergence(words[0])) is not None:
            labels = agent or [entry.label for entry in opened.plan.agents]
            outcomes = maker.divergences(pairs_to_compare(records, labels, divergence[0]))
        elif grid:
            outcomes = maker.grid(choose(records, words))
        else:
            outcomes = maker.episodes(choose(records, words))
    except KeyboardInterrupt:
        print(
            "interrupted; films that are in the folder already are whole, and the run's folder is as it was"
        )
        return EXIT_INTERRUPTED
    return conclude(outcomes, output)


def conclude(outcomes: Sequence[FilmOutcome], output: Path) -> int:
    """Print which films were made, and return the exit code."""
    made = [one.entry for one in outcomes if one.entry is not None]
    for one in outcomes:
        if one.entry is None:
            print(f"no film of {one.title}: {one.refused}")
        else:
            note = f"; {one.note}" if one.note else ""
            print(f"{one.entry.file}: {one.title}, {one.entry.frames} frames{note}")
    if made:
        print(f"{count(len(made), 'film')}, replayed and equal to the records: {output}")
    return 0 if len(made) == len(outcomes) else EXIT_FAILED
