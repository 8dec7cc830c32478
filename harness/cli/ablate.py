"""``lram ablate``: studies of which choice of a recipe made the difference."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import DEFAULT_CLUSTER, ClusterOptions, option_words
from lram.harness.cli.printing.hints import next_report
from lram.harness.cli.printing.output import print_table
from lram.harness.errors import LramError
from lram.harness.executors.contract import Executor
from lram.harness.plan import labelled_specs
from lram.harness.progress import shown
from lram.harness.studies.folder import STAGES, StudyFolder
from lram.harness.studies.precision.running import ablate_precisions, labelled
from lram.harness.studies.precision.study import (
    PrecisionStudy,
    read_any_study,
    shipped_precision_studies,
)
from lram.harness.studies.running import ablate as run
from lram.harness.studies.study import Study, read_study, shipped_studies
from lram.harness.trust import Trust, foreign, trusted
from lram.harness.waiting import say, still
from lram.harness.words import command

if TYPE_CHECKING:
    from lram.reports.table import PrintedTable

_FINE = ("Base", "Level's", "p", "Episode noise alone", "Training seeds")


def ablate(
    study: Annotated[
        str | None, Parameter(help="A study in TOML, or the name of one that is included (--list).")
    ] = None,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="Folder of the study; an existing one is continued."),
    ] = None,
    jobs: Annotated[
        int | None,
        Parameter(
            name=["--jobs", "-j"],
            help="Cells made at the same time, one thread each (default: 1; with --backend ray as many as "
            "fit).",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        Parameter(help="Make these cells only: titles, level names, 'seed 0', or patterns.", negative=()),
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        Parameter(
            help="Folders of other studies: what one of them has made already (the same trajectories, "
            "trainings of the same recipe, data, evaluation and versions) is copied from it; repeat it for "
            "several.",
            negative=(),
        ),
    ] = None,
    list_: Annotated[
        bool,
        Parameter(name="--list", help="List the studies that are included.", negative=()),
    ] = False,
    checkpoint: Annotated[
        list[str] | None,
        Parameter(
            help="Of a study of precisions: these models instead of its own, named as agents are.",
            negative=(),
        ),
    ] = None,
    trust: Annotated[
        bool, Parameter(help="Import the modules that a study's file names as agents.", negative=())
    ] = False,
    cluster: ClusterOptions = DEFAULT_CLUSTER,
) -> int:
    """Train, evaluate and time every cell of a study, to find which choice made the difference.

    A study names a base recipe, axes of changes to it, seeds, data and tasks; docs/how-to/ablations.md says
    how to write one. Interrupt it whenever you like: the same command continues it. 'lram report FOLDER'
    shows the effects. With --backend ray every cell is a task on a node of a cluster, and one node times
    them all.

    A study of precisions, such as the included 'precision', trains nothing: it evaluates checkpoints with
    their weights in float32 and in fewer bytes, compares their actions, and measures time and memory.
    There, --jobs is the number of simulator processes.

    Example: lram ablate actions-in-context -o runs/actions --jobs 2
    """
    if list_:
        _list_shipped()
        return 0
    if study is None or output is None:
        raise LramError(
            "give a study and a folder with -o; 'lram ablate --list' lists those that are included"
        )
    options = option_words(jobs=jobs, only=only, reuse=reuse, checkpoint=checkpoint, trust=trust)
    again = command("ablate", study, "-o", output, *options, *cluster.words())
    try:
        asked = read_any_study(study)
        if isinstance(asked, PrecisionStudy):
            if reuse:
                raise LramError("--reuse has no meaning for a study of precisions, which trains nothing")
            return _precisions(study, asked, output, jobs, only, checkpoint, trusted(trust), cluster, again)
        if checkpoint:
            raise LramError(f"--checkpoint is for studies of precisions; {study} trains its models itself")
        _check_trusted(study, asked, trusted(trust))
        executor = _executor(cluster, asked)
        doing = "looking the study's names up"

        def tell(line: str) -> None:
            nonlocal doing
            doing = "the study continues"
            say(line)

        with still(lambda: doing):
            opened, failed = run(
                asked,
                output,
                jobs=jobs,
                only=only or (),
                reuse=reuse or (),
                say=tell,
                executor=executor,
                progress=shown,
            )
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command continues: {again}")
        return EXIT_INTERRUPTED
    _show(opened)
    _show_effects(output)
    for lost in failed:
        print(f"\n{lost.cell.entry.title} failed: {lost.reason}")
    if failed:
        print(f"\nto try again: {again}")
    else:
        print(f"\n{next_report(output)}")
    return EXIT_FAILED if failed else 0


def _precisions(
    name: str,
    asked: PrecisionStudy,
    output: Path,
    jobs: int | None,
    only: list[str] | None,
    checkpoints: list[str] | None,
    trust: Trust,
    cluster: ClusterOptions,
    again: str,
) -> int:
    """Make a study of precisions; return the exit code. ``again`` is the command that was given."""
    if only:
        raise LramError(
            "--only has no meaning for a study of precisions, whose cells are compared with one "
            "another; name --checkpoint instead"
        )
    if not checkpoints:
        _check_specs(name, labelled(asked).values(), trust)
    wanted = asked.of(checkpoints or ())
    opened, failed = ablate_precisions(
        wanted, output, workers=jobs or 1, executor=cluster.chosen(), say=say, progress=shown
    )
    print()
    print_table(
        ("cell", "state"),
        [
            (cell.title, f"to do: {left}" if (left := opened.to_do(cell)) else "done")
            for cell in opened.cells()
        ],
    )
    from lram.reports.sections.precision.section import scores_table

    _print_without(scores_table(output), _FINE)
    for lost in failed:
        print(f"\n{lost.title} failed: {lost.reason}")
    if failed:
        print(f"\nto try again: {again}")
    else:
        print(f"\n{next_report(output)}")
    return EXIT_FAILED if failed else 0


def _check_trusted(name: str, study: Study, trust: Trust) -> None:
    """Raise LramError where a study's file names code: naming the file is not naming the code."""
    agents = [labelled_specs(asked.agents).values() for asked in study.data.collect]
    _check_specs(name, [spec for its in agents for spec in its if isinstance(spec, str)], trust)


def _check_specs(name: str, specs: Iterable[str], trust: Trust) -> None:
    if named := foreign(specs, {}, trust):
        raise LramError(
            f"the study {name} would import {', '.join(named)}; look at it, then repeat with --trust"
        )


def _executor(cluster: ClusterOptions, study: Study) -> Executor:
    """Return where cells are made; LramError for options that do not go together."""
    executor = cluster.chosen()
    if cluster.job_episodes is not None and not study.data.collect:
        raise LramError("--job-episodes has no meaning here: the study collects no data")
    return executor


def _list_shipped() -> None:
    rows = []
    for name, file in shipped_precision_studies().items():
        found = read_any_study(file)
        assert isinstance(found, PrecisionStudy)
        rows.append((name, f"precision: {', '.join(found.precisions)}", 0, found.question))
    for name, file in shipped_studies().items():
        study = read_study(file)
        axes = [f"{axis.name}: {', '.join(level.name for level in axis.levels)}" for axis in study.axes]
        rows.append((name, "; ".join(axes), len(study.seeds), study.question))
    print_table(("study", "axes", "seeds", "question"), rows)


def _show(study: StudyFolder) -> None:
    """Print which cells there are, and how long they took."""
    rows: list[tuple[object, ...]] = []
    for cell in study.cells():
        done = cell.done()
        seconds = done.seconds if done else {}
        state = "done" if done else f"to do: {cell.stage()}"
        rows.append((cell.entry.title, state, *(seconds.get(stage) for stage in STAGES)))
    print()
    print_table(("cell", "state", *(f"{stage} s" for stage in STAGES)), rows)


def _show_effects(folder: Path) -> None:
    """Print what the report says of every level, without the finer print."""
    from lram.reports.sections.study.section import effects_table

    _print_without(effects_table(folder), _FINE)


def _print_without(table: PrintedTable, fine: Collection[str]) -> None:
    """Print a report's table without its finer print: the columns of these headings."""
    shown = [column.heading not in fine for column in table.columns]
    rows = [
        [" ".join(filter(None, (cell.text, cell.small))) for cell, one in zip(row, shown, strict=True) if one]
        for row in table.rows
    ]
    if rows:
        print()
        print_table(
            [column.heading for column, one in zip(table.columns, shown, strict=True) if one],
            rows,
        )
