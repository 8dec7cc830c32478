"""``lram report``: runs and trainings as a page, tables, figures and a summary."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import NormaliserOption, ResamplingSeedOption, SeedsOfOption
from lram.harness.cli.printing.output import print_answer
from lram.harness.cli.printing.paths import placed_argument
from lram.harness.errors import LramError
from lram.harness.storage.films import FILMS_FILE
from lram.harness.storage.listing import show_not_read
from lram.harness.waiting import still
from lram.harness.words import visible


def report(
    runs: Annotated[
        list[str] | None,
        Parameter(
            help="Folders of evaluations, latencies, extrapolations, studies, watches and hidden states; of "
            "an evaluation also RUN:AGENT for one agent, and NEW=RUN:AGENT for one under another label."
        ),
    ] = None,
    /,
    *,
    training: Annotated[
        list[str] | None,
        Parameter(
            help="Folder of a training run, plain or as label=folder; repeat it for several.", negative=()
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Folder for the report; of one run, RUN/report where it is not given.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        Parameter(
            help="Two agents to compare, as A,B (repeat it for several pairs), or all for every pair. "
            "Without "
            "this and --baseline, all pairs of up to 12 agents are compared, and none of more.",
            negative=(),
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        Parameter(
            name=["--baseline", "--against"],
            help="Compare every agent with this one; repeat it for several.",
            negative=(),
        ),
    ] = None,
    seeds_of: SeedsOfOption = None,
    film: Annotated[
        list[Path] | None,
        Parameter(
            help="Folder of films that 'lram film' made of these runs, to show; repeat it for several.",
            negative=(),
        ),
    ] = None,
    normaliser: NormaliserOption = "paper",
    json: Annotated[bool, Parameter(name="--json", help="Print the summary as JSON.", negative=())] = False,
    seed: ResamplingSeedOption = 0,
    show: Annotated[
        bool, Parameter(name="--open", help="Open the report in a browser, from a terminal.", negative=())
    ] = False,
) -> int:
    """Compare the agents of one or several runs: page, tables, figures and a summary.

    Takes the folders of 'lram eval', 'lram latency', 'lram extrapolate', 'lram ablate', 'lram watch'
    and 'lram embed' together.
    With --training, also how models were trained: losses, lengths, data, and what forbids comparing them.

    Example: lram report runs/first old=runs/may:xlstm --training runs/mamba -o runs/first-report
    """
    for folder in film or ():
        if not (folder / FILMS_FILE).is_file():
            raise LramError(f"{folder} has no {FILMS_FILE}; 'lram film RUN -o FOLDER' makes folders of films")
    if not runs and not training and not film:
        raise LramError("there is nothing to report on; name a run's folder, or --training and a training's")
    # Folders as all commands take them; a part of a run is a text.
    named = [placed_argument(Path(text)) if Path(text).is_dir() else text for text in runs or ()]
    if output is None and not json:
        output = _beside(named)
    from lram.reports import load_trainings, summary_json, write_report
    from lram.reports.comparison.pairs import read_pairs
    from lram.reports.evidence.perturbed import collect_apart
    from lram.reports.section import SectionSettings
    from lram.reports.sections import films
    from lram.reports.sections.films.section import check_films
    from lram.reports.sections.registry import load_folders, make_sections
    from lram.reports.seed_groups import read_seed_groups
    from lram.reports.writing.export import whole_summary

    doing = "reading the folders"
    with still(lambda: doing):
        trainings = load_trainings(training or ())
        opened, others = load_folders([*named, *(film or ())])
        if opened and others.get(films.SPEC.key):
            check_films(others[films.SPEC.key], opened)
        show_not_read(run.path for run in opened)
        labels = [agent.label for run in opened for agent in run.plan.agents]
        pairs = read_pairs(compare or (), baseline or (), labels)
        groups = read_seed_groups(seeds_of or (), labels)
        if json:
            doing = "summing up"
            evidence = collect_apart(opened, normaliser) if opened else ()
            sections = make_sections(evidence, others, SectionSettings(seed, pairs, normaliser, groups))
            summary = whole_summary(evidence, seed, trainings, sections, pairs, normaliser)
            print_answer(visible(summary_json(summary, sections).decode()))
        if output is not None:
            doing = "making tables, comparisons and figures"
            page = write_report(
                opened,
                output,
                seed=seed,
                trainings=trainings,
                others=others,
                pairs=pairs,
                normaliser=normaliser,
                seed_groups=groups,
            )
    if output is not None:
        print(f"report: {page}", file=sys.stderr if json else sys.stdout)
    if show:
        _open(None if output is None else page)
    return 0


def _open(page: Path | None) -> None:
    """Open ``page`` in a browser, or say on standard error why it is not opened."""
    if page is None:
        why = "--json without -o makes no page; give a folder for it with -o"
    elif not sys.stdout.isatty():  # of a script or a job, whose browser nobody would see
        why = f"standard output is no terminal; open {page} in a browser"
    elif not webbrowser.open(page.resolve().as_uri()):
        why = f"no browser was found; open {page} in one"
    else:
        return
    print(f"lram: --open did nothing: {why}", file=sys.stderr)


def _beside(runs: Sequence[str | Path]) -> Path:
    """Return where the report of one folder goes."""
    from lram.reports.evidence.named_runs import named_folder

    folders = {named_folder(text).folder for text in runs}
    if len(folders) != 1:
        raise LramError(
            "give a folder for the report with -o, or --json for the summary on standard output; only the "
            "report of a single run has a place of its own, RUN/report"
        )
    [folder] = folders
    return folder / "report"
