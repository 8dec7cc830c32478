"""Chapters: parts of a report that stand on records of their own, such as latencies or a study.

A folder of records tells its kind by the file it has (:data:`MARKERS`). All folders of a kind make one
chapter; the report prints its tables and figures, writes its CSV files, and keeps its numbers in the
summary under the chapter's key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.storage.run_folder import PLAN_FILE, Run, load_runs
from lram.reports.collect import Evidence
from lram.reports.drawing import Drawing
from lram.reports.model import Caveat
from lram.reports.pairs import ALL_OR_NONE, Pairs
from lram.reports.views import Table

KEYS = ("parts", "latency", "extrapolation", "study")
"""Of all chapters, in the order of the page; names of their tables and figures begin with them."""

_FOLDERS = {"parts": "inner_episodes"}  # its key in ``summary.json`` is older than its name

_SCORED = ("extrapolation", "study")
"""Chapters that read runs of their own, with scores."""

MARKERS = MappingProxyType(
    {"latency.json": "latency", "extrapolation.json": "extrapolation", "study.json": "study"}
)
"""Key of the chapter that a folder with this file belongs to."""


@dataclass(frozen=True)
class Chapter:
    """One chapter.

    Attributes:
        key: One of ``KEYS``; begins the names of its drawings (``latency-curves``), the ids of its tables
            and the names of its CSV files (``latency_points.csv``).
        title: Heading.
        lead: Paragraphs: what was measured, what it shows, and what it does not.
        tables: For people.
        drawings: In the order of the page.
        csv: Content by file name.
        summary: Plain values for ``summary.json``, under ``chapters`` and the key.
        caveats: What to read first.
        methods: (term, sentence) for the section on how the numbers were made.
    """

    key: str
    title: str
    lead: Sequence[str]
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    csv: Mapping[str, bytes] = field(default_factory=dict)
    summary: Any = None
    caveats: Sequence[Caveat] = ()
    methods: Sequence[tuple[str, str]] = ()


def load_folders(paths: Sequence[Path]) -> tuple[list[Run], dict[str, list[Path]]]:
    """Return the evaluations among ``paths``, and the other folders by the key of their chapter.

    Raises:
        LramError: A folder is none of them; the sentence says what it is, where that is known.
    """
    runs: list[Path] = []
    others: dict[str, list[Path]] = {}
    for path in paths:
        marker = next((marker for marker in MARKERS if (path / marker).is_file()), None)
        if marker is not None:
            others.setdefault(MARKERS[marker], []).append(path)
        elif (path / "recipe.toml").is_file() and not (path / PLAN_FILE).is_file():
            raise LramError(f"{path} is a training run, not an evaluation; give it with --training {path}")
        else:
            runs.append(path)
    return load_runs(runs), others


def make_chapters(
    runs: Sequence[Run] | Evidence,
    others: Mapping[str, Sequence[Path]],
    seed: int = 0,
    pairs: Pairs = ALL_OR_NONE,
    normaliser: Normaliser = "paper",
) -> list[Chapter]:
    """Return the chapters of a report, in the order of the page.

    Args:
        runs: Evaluations, or what was collected from them; where episodes have parts, those make a chapter.
        others: Folders by key, as :func:`load_folders` gave them.
        seed: Of the resampling.
        pairs: Agents whose inner episodes are compared.
        normaliser: Whose references scores have; evidence has its own already.
    """
    given: dict[str, Any] = {"parts": runs, **others}
    made = [
        import_module(f"lram.reports.sections.{_FOLDERS.get(key, key)}.section").chapter(
            given[key],
            seed=seed,
            **({"pairs": pairs} if key == "parts" and pairs.requested else {}),
            **({"normaliser": normaliser} if key in _SCORED and normaliser != "paper" else {}),
        )
        for key in KEYS
        if given.get(key)
    ]
    return [chapter for chapter in made if chapter is not None]
