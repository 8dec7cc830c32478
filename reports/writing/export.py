"""A report's folder: built beside its place and moved there whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from lram.agents.durable import laid_by_desktop, open_regular, read_regular
from lram.agents.seed import check_seed
from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.storage.json_files import encode
from lram.harness.storage.run_folder import Run
from lram.reports.answer import answer, leaderboard
from lram.reports.comparison.pairs import ALL_OR_NONE, Pairs
from lram.reports.csv_files import csv_files
from lram.reports.drawing import KINDS, render
from lram.reports.evidence.collect import Runs, opened
from lram.reports.evidence.evidence import Evidence
from lram.reports.evidence.perturbed import collect_apart
from lram.reports.evidence.trainings import Training, Trainings, load_trainings
from lram.reports.model import Summary
from lram.reports.rendering.latex import MARK, latex_files
from lram.reports.rendering.markdown import markdown
from lram.reports.rendering.page import page
from lram.reports.section import Section, SectionSettings
from lram.reports.sections.registry import SECTIONS, make_sections
from lram.reports.sections.scores import programs
from lram.reports.sections.scores.figures import NAMES, draw
from lram.reports.sections.scores.parts import evaluation_tables
from lram.reports.sections.training import figures as training_figures
from lram.reports.sections.training import tables as training_tables
from lram.reports.seed_groups import SeedGroup
from lram.reports.summary.summarise import summarise
from lram.reports.writing.place import recover, replace_report


class _Named(msgspec.Struct):
    files: tuple[str, ...] = ()


_FOLDERS = frozenset({"figures", "films", "tables"})
_FILES = frozenset(
    {
        "index.html",
        "summary.json",
        "summary.md",
        *(f"tables/{name}.csv" for name in (leaderboard.NAME, *programs.NAMES, *training_tables.NAMES)),
        *(
            f"figures/{name}.{kind}"
            for name in (leaderboard.NAME, *NAMES, *training_figures.NAMES)
            for kind in KINDS
        ),
    }
)
"""Every file that a report can have, but for LaTeX tables, which begin with a mark, and for those of
sections, which its summary names (``files``).

Anything else in its folder is somebody's.
"""

_KEYS = "|".join(spec.key for spec in SECTIONS)
_OF_SECTION = re.compile(
    rf"tables/({_KEYS})_[A-Za-z0-9_-]+\.csv|figures/({_KEYS})-[A-Za-z0-9_-]+\.({'|'.join(KINDS)})"
    r"|films/[A-Za-z0-9][A-Za-z0-9._-]*\.(mp4|webm)"
)


def summary_json(summary: Summary, sections: Sequence[Section] = ()) -> bytes:
    """Return ``summary.json``: the summary's fields, indented.

    ``training``, ``chapters`` (the sections' numbers by key) and ``files`` (of sections) are there only
    where there are any.
    """
    if not isinstance(summary, Summary):
        raise LramError(
            f"summary_json takes what lram.reports.summarise gives, not a {type(summary).__name__}"
        )
    plain = msgspec.to_builtins(summary)
    plain["agents"] = [_agent(agent) for agent in plain["agents"]]
    if not summary.training:
        del plain["training"]
    if sections:
        plain["chapters"] = {section.key: msgspec.to_builtins(section.summary) for section in sections}
        plain["files"] = _files_of(sections)
    return encode(plain)


def _agent(plain: dict[str, Any]) -> dict[str, Any]:
    """Return an agent as readers of earlier versions know it: two aggregates stand beside the others, too.

    What all aggregates leave out stands once, with the headline.
    """
    aggregates = plain["aggregates"]
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if name == "aggregates":
            found |= {old: aggregates[key] for old, key in _EARLIER.items()}
        else:
            found[name] = value
    found["aggregates"] = {
        key: {
            "estimate": one["estimate"],
            "rests_on": {name: value for name, value in one["rests_on"].items() if name != "left_out"},
        }
        for key, one in aggregates.items()
    }
    return found


_EARLIER = {"mean_of_domains": "mean_of_domain_means", "iqm_of_task_means": "iqm_of_task_means"}


def _files_of(sections: Sequence[Section]) -> list[str]:
    """Return the names of the files that sections bring."""
    tables = [f"tables/{name}" for section in sections for name in section.csv]
    drawings = [drawing.name for section in sections for drawing in section.drawings]
    films = [f"films/{film.name}" for section in sections for film in section.films]
    return sorted([*tables, *(f"figures/{name}.{kind}" for name in drawings for kind in KINDS), *films])


def whole_summary(
    runs: Sequence[Run] | Evidence,
    seed: int,
    trainings: Sequence[Training],
    sections: Sequence[Section],
    pairs: Pairs = ALL_OR_NONE,
    normaliser: Normaliser = "paper",
) -> Summary:
    """Return the summary with the caveats of sections among its own."""
    summary = summarise(
        runs, seed=seed, trainings=trainings, empty=bool(sections), pairs=pairs, normaliser=normaliser
    )
    more = [caveat for section in sections for caveat in section.caveats]
    return replace(summary, caveats=(*summary.caveats, *more))


def write_report(
    runs: Runs,
    folder: str | Path,
    *,
    seed: int = 0,
    trainings: Trainings = (),
    others: Mapping[str, Sequence[Path]] = MappingProxyType({}),
    pairs: Pairs = ALL_OR_NONE,
    normaliser: Normaliser = "paper",
    seed_groups: Sequence[SeedGroup] = (),
) -> Path:
    """Write the report of ``runs``, ``trainings`` and ``others`` into ``folder``; return its ``index.html``.

    An earlier report there is replaced as a whole once the new one is complete. Equal records give
    equal bytes, but for ``tables/timing.csv`` and the page's section on the machine; equal files of
    trainings give equal bytes.

    Args:
        runs: A run or several, opened or by their folders, or none where trainings are given; they may be
            unfinished, or have no record yet.
        folder: Absent, empty, or an earlier report with nothing else in it.
        seed: Of what is resampled: comparisons, and intervals of studies.
        trainings: A training run or several, finished or not, loaded
            (:func:`lram.reports.evidence.trainings.load_trainings`) or by their folders.
        others: Folders of latencies, extrapolations and studies, by section
            (:func:`lram.reports.sections.registry.load_folders`).
        pairs: Agents to compare.
        normaliser: Whose references scores have.
        seed_groups: Agents that are trainings of one model (:mod:`lram.reports.seed_groups`).

    Raises:
        LramError: The runs contradict each other; ``folder`` holds something that no report writes,
            or cannot be written.
        AgentError: The seed is none.
    """
    check_seed(seed)
    runs, trainings = opened(runs), load_trainings(trainings)
    place = Path(folder).resolve()
    try:
        recover(place)
    except OSError as error:
        raise LramError(f"cannot read {place.parent}: {error.strerror}; give another folder") from error
    _check_place(place)
    settings = SectionSettings(seed, pairs, normaliser, tuple(seed_groups))
    contents = _contents(runs, trainings, others, settings)
    try:
        replace_report(place, contents, lambda former: _check_place(former, place))
    except OSError as error:
        raise LramError(
            f"cannot write the report to {place}: {error.strerror}; give a folder that can be written"
        ) from error
    return place / "index.html"


def _contents(
    runs: Sequence[Run],
    trainings: Sequence[Training],
    others: Mapping[str, Sequence[Path]],
    how: SectionSettings,
) -> dict[str, bytes]:
    evidence = collect_apart(runs, how.normaliser) if runs else None
    sections = make_sections(evidence or (), others, how)
    summary = whole_summary(evidence or (), how.seed, trainings, sections, how.pairs, how.normaliser)
    drawings, training_drawings = draw(summary), training_figures.draw(summary, trainings)
    first = answer(summary, " ".join(section.headline for section in sections if section.headline))
    opening = [first.table] if first else []
    trained = training_tables.tables(summary, trainings)
    exported = [*opening, *(programs.tables(summary, evidence) if evidence else ()), *trained]
    tables = csv_files(exported)
    for section in sections:
        tables |= section.csv
    printed = [
        *(table.printed for table in opening),
        *(evaluation_tables(summary).all if summary.agents else ()),
        *(table.printed for table in trained if table.id),
        *(table for section in sections for table in section.printed),
    ]
    figures = [
        *([first.drawing] if first and first.drawing else ()),
        *drawings,
        *training_drawings,
        *(drawing for section in sections for drawing in section.drawings),
    ]
    contents = {
        "summary.json": summary_json(summary, sections),
        "summary.md": markdown(summary, trainings, sections, first),
        "index.html": page(summary, drawings, runs, trainings, training_drawings, sections, first),
        **{f"tables/{name}": table for name, table in (tables | latex_files(printed)).items()},
    }
    for drawing in figures:
        for kind in KINDS:
            contents[f"figures/{drawing.name}.{kind}"] = render(drawing, kind)
    for film in (film for section in sections for film in section.films):
        try:
            contents[f"films/{film.name}"] = read_regular(film.source)
        except OSError as error:
            raise LramError(f"{film.source} cannot be read: {error.strerror}; make the film anew") from error
    return contents


def _check_place(place: Path, name: Path | None = None) -> None:
    """Refuse to replace what is not a report: the swap would take everything in it away.

    ``name`` is what the folder is called in the error, where it has been moved from there.
    """
    name = name or place
    try:
        if not place.exists():
            return
        if not place.is_dir():
            raise LramError(f"{name} is a file; give a folder for the report")
        files, strange = _inside(place)
    except OSError as error:
        raise LramError(f"cannot read {name}: {error.strerror}; give another folder") from error
    if not files and not strange:
        return
    if strange or not {"index.html", "summary.json"} <= files:
        what = f"it holds {strange[0]}" if strange else "it has no summary.json and index.html"
        raise LramError(f"{name} is not empty and not a report ({what}); give a new or an empty folder")


def _inside(place: Path) -> tuple[set[str], list[str]]:
    """Return the report's files in ``place``, and what else is there, by path relative to it."""
    files, strange = set(), []
    known = _FILES | _named_in(place / "summary.json")
    for entry in sorted(place.iterdir()):
        # A link may lead to files of its owner's: it is strange whatever its name is.
        if entry.name in _FOLDERS and entry.is_dir() and not entry.is_symlink():
            found = sorted(entry.iterdir())
        else:
            found = [entry]
        for path in found:
            name = path.relative_to(place).as_posix()
            if (name in known or _is_latex(name, path)) and path.is_file() and not path.is_symlink():
                files.add(name)
            elif not laid_by_desktop(path.name):
                strange.append(name)
    return files, strange


def _is_latex(name: str, path: Path) -> bool:
    """Return whether a file is a LaTeX table that a report wrote: it begins with the mark of one."""
    if not re.fullmatch(r"tables/[A-Za-z0-9_-]+\.tex", name) or path.is_symlink():
        return False
    try:
        with open_regular(path) as handle:
            return handle.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def _named_in(summary: Path) -> frozenset[str]:
    """Return the files of sections that an earlier report's summary names; none where there is no such.

    Only names that a section's file can have: a summary does not make a user's own file part of a report.
    """
    try:
        found = msgspec.json.decode(read_regular(summary), type=_Named).files
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()
    return frozenset(name for name in found if _OF_SECTION.fullmatch(name))
