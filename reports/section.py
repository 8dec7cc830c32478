"""What a section of a report is: a part that stands on records of its own, such as latencies or a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.envs.scores import Normaliser
from lram.harness.storage.run_folder import Run
from lram.reports.comparison.pairs import ALL_OR_NONE, Pairs
from lram.reports.csv_files import csv_files
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Caveat
from lram.reports.seed_groups import SeedGroup
from lram.reports.table import PrintedTable, Table

if TYPE_CHECKING:
    from lram.reports.drawing import Drawing  # loads matplotlib, which is not needed for tables


@dataclass(frozen=True, slots=True)
class SectionFilm:
    """A film of a section.

    Attributes:
        name: Of the file that the report has in ``films``.
        source: The file that it is a copy of.
        caption: What it shows.
        width, height: Pixels.
    """

    name: str
    source: Path
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        key: Of its spec; begins the names of its drawings (``latency-curves``), the ids of its tables
            and the names of its CSV files (``latency_points.csv``).
        title: Heading.
        lead: Paragraphs: what was measured, what it shows, and what it does not.
        tables: For people and programs.
        drawings: In the order of the page.
        films: Likewise; the report has copies of them.
        summary: Plain values for ``summary.json``, under ``chapters`` and the key.
        caveats: What to read first.
        methods: (term, sentence) for the section on how the numbers were made.
        headline: A sentence that the whole report begins with, before what single agents score; empty for
            most.
    """

    key: str
    title: str
    lead: Sequence[str]
    tables: Sequence[Table[Any]] = ()
    drawings: Sequence[Drawing] = ()
    films: Sequence[SectionFilm] = ()
    summary: Any = None
    caveats: Sequence[Caveat] = ()
    methods: Sequence[tuple[str, str]] = ()
    headline: str = ""

    @cached_property
    def csv(self) -> dict[str, bytes]:
        """What programs read, by file name."""
        return csv_files(self.tables)

    @property
    def printed(self) -> list[PrintedTable]:
        """The tables that people read."""
        return [table.printed for table in self.tables if table.id]


@dataclass(frozen=True, slots=True)
class SectionSettings:
    """How sections are made.

    Attributes:
        seed: Of the resampling.
        pairs: Agents to compare.
        normaliser: Whose references scores have; evidence has its own already.
        seed_groups: Agents that are trainings of one model.
    """

    seed: int = 0
    pairs: Pairs = ALL_OR_NONE
    normaliser: Normaliser = "paper"
    seed_groups: Sequence[SeedGroup] = ()


Records = Sequence[Run] | Evidence | Sequence[Path]
"""What a section is made of: evaluations, or what was collected from them, or folders of its kind."""


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """A kind of section.

    Attributes:
        key: Under which ``summary.json`` has its numbers; its files' names begin with it.
        marker: The file that a folder of its records has; empty for a section that is made of evaluations.
        build: Makes it of records; None where they have nothing for it.
    """

    key: str
    marker: str
    build: Callable[[Any, SectionSettings], Section | None]
