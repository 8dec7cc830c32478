"""``index.html``, its CSV files, and the report of each folder beside them; written whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from lram.agents.places import placed
from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.storage.records import AgentEntry, Provenance
from lram.harness.words import count
from lram.reports.answer import RankedAgent, ranked
from lram.reports.answer.leaderboard import figure
from lram.reports.answer.verdict import verdict
from lram.reports.csv_files import csv_of
from lram.reports.drawing import Drawing, inline_svg
from lram.reports.evidence.collect import collect
from lram.reports.leaderboard_site.folders import BoardFolder, read_folders
from lram.reports.leaderboard_site.groups import BoardGroup, group
from lram.reports.leaderboard_site.models import ModelsShown, place_models, show_models
from lram.reports.leaderboard_site.tables import anchor, board_table
from lram.reports.model import Caveat, Summary
from lram.reports.rendering import words
from lram.reports.rendering.templates import environment
from lram.reports.seed_groups import SeedGroup
from lram.reports.summary.summarise import summarise
from lram.reports.table import PrintedTable
from lram.reports.text import listing
from lram.reports.writing.export import write_report
from lram.reports.writing.place import check_replaceable, files_below, recover, replacing

SITE = "site.json"
_LONG = 10  # rows above which a table scrolls below its headings


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """``site.json``: the other files of a site, by which a later one knows what it may replace."""

    layout: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionShown:
    """A session of a run that an agent played in, and the report of its folder (empty: none was made)."""

    folder: str
    run: str
    report: str
    sessions: tuple[Provenance, ...]


@dataclass(frozen=True, slots=True)
class AgentShown:
    """The details of one entry."""

    anchor: str
    place: RankedAgent
    entry: AgentEntry
    made: tuple[SessionShown, ...]


@dataclass(frozen=True, slots=True)
class BoardShown:
    """One table of the page with what stands around it."""

    number: int
    group: BoardGroup
    summary: Summary
    verdict: str
    table: PrintedTable
    csv: bytes
    figure: tuple[Drawing, Markup] | None
    agents: tuple[AgentShown, ...]
    methods: list[tuple[str, str]]
    models: ModelsShown | None
    caveats: tuple[Caveat, ...]


def write_site(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    title: str = "Leaderboard",
    reports: bool = True,
    normaliser: Normaliser = "paper",
    seeds_of: Sequence[str] = (),
) -> Path:
    """Write the leaderboard of ``folders`` into ``output``; return its ``index.html``.

    An earlier site there is replaced as a whole once the new one is complete.

    Args:
        folders: Publications, and folders of runs.
        output: Absent, empty, or an earlier site with nothing else in it.
        title: Heading of the page.
        reports: Make the report of each folder from its records. Pages that come with a publication are
            not put on the site: they are its maker's, and could hold anything.
        normaliser: Whose references scores have.
        seeds_of: Entries that are trainings of one model (:func:`lram.reports.seed_groups.read_seed_groups`).

    Raises:
        LramError: A folder is none, is damaged or was changed; ``seeds_of`` names no entry, or entries of
            several tables; ``output`` holds something else, or cannot be written.
    """
    read = read_folders(folders)
    place = placed(output).resolve()
    for run in (run for folder in read for run in folder.runs):
        here = run.path.resolve()
        if place == here or place in here.parents:
            raise LramError(f"{place} holds {run.path}; write the site into another folder")
    groups = group(read)
    boards = [
        _board(number, found, normaliser, reports, models)
        for number, (found, models) in enumerate(
            zip(groups, place_models(seeds_of, groups), strict=True), start=1
        )
    ]
    try:
        recover(place)
        _check_place(place)
        with replacing(place, lambda former: _check_place(former, place)) as new:
            (new / "index.html").write_bytes(_page(title, read, boards))
            for board in boards:
                tables = {
                    f"leaderboard-{board.number}.csv": board.csv,
                    **(board.models.csv if board.models else {}),
                }
                for name, table in tables.items():
                    (new / name).write_bytes(table)
            for folder in read if reports else ():
                write_report(folder.runs, new / "folders" / folder.name / "report", normaliser=normaliser)
            files = tuple(file.relative_to(new).as_posix() for file in files_below(new))
            write_json(new / SITE, SiteFiles(1, files))
    except OSError as error:
        raise LramError(
            f"cannot write the site to {place}: {error.strerror}; give a folder that can be written"
        ) from error
    return place / "index.html"


def _check_place(place: Path, name: Path | None = None) -> None:
    def known() -> tuple[str, ...]:
        return read_json(place / SITE, SiteFiles).files

    check_replaceable(place, name or place, SITE, "site of a leaderboard", known)


def _board(
    number: int, found: BoardGroup, normaliser: Normaliser, reports: bool, models: Sequence[SeedGroup]
) -> BoardShown:
    evidence = collect(found.runs, normaliser)
    summary = summarise(evidence)
    shown = show_models(number, evidence, models, normaliser)
    ranking = ranked(summary)
    table = board_table(number, found, summary, ranking)
    drawing = figure(summary, ranking)
    return BoardShown(
        number,
        found,
        summary,
        verdict(summary, ranking),
        table.printed,
        csv_of(table),
        _drawn(replace(drawing, name=f"leaderboard-{number}")) if drawing else None,
        tuple(
            AgentShown(anchor(number, place), one, found.entries[one.agent.label], _made(found, one, reports))
            for place, one in enumerate(ranking, start=1)
        ),
        [*words.methods(summary), *(shown.methods if shown else ())],
        shown,
        (*summary.caveats, *(shown.caveats if shown else ())),
    )


def _drawn(drawing: Drawing) -> tuple[Drawing, Markup]:
    # The drawing is ours; what labels it holds, matplotlib has escaped.
    return drawing, Markup(inline_svg(drawing))


def _made(found: BoardGroup, one: RankedAgent, reports: bool) -> tuple[SessionShown, ...]:
    label = one.agent.label
    runs = iter(found.runs)
    shown = []
    for folder in found.folders:
        for original in folder.runs:
            run = next(runs)
            if any(agent.label == label for agent in run.plan.agents):
                report = f"folders/{quote(folder.name)}/report/index.html" if reports else ""
                shown.append(
                    SessionShown(folder.name, original.path.name, report, tuple(original.provenance()))
                )
    return tuple(shown)


def _page(title: str, folders: Sequence[BoardFolder], boards: Sequence[BoardShown]) -> bytes:
    made = environment()
    made.globals["long_rows"] = _LONG
    facts: dict[str, Any] = {
        "title": title,
        "lead": _lead(folders, boards),
        "boards": boards,
    }
    return made.get_template("leaderboard.html.j2").render(**facts).encode()


def _lead(folders: Sequence[BoardFolder], boards: Sequence[BoardShown]) -> str:
    agents = count(sum(len(board.agents) for board in boards), "entry", "entries")
    published = sum(folder.published for folder in folders)
    kinds = (
        ("publication", published),
        ("plain run", len(folders) - published),
    )
    where = " and ".join(count(many, what) for what, many in kinds if many)
    text = f"{agents} from {where}. The checksums of records hold; they do not tell who made them."
    bare = [folder.name for folder in folders if any(run.without_checksums() for run in folder.runs)]
    if bare:
        text += f" Records of earlier versions carry none, so a change would not show: {listing(bare)}."
    if len(boards) > 1:
        text += (
            f" The {len(boards)} tables do not compare with each other, since scores compare only over the "
            "same tasks, protocols and score references, in worlds of one rate; each says what sets it apart."
        )
    return text
