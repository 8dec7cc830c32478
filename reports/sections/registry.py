"""The sections of reports, beside those on scores and trainings: one folder each, and one line here.

A folder of records tells its kind by the file it has (:attr:`lram.reports.section.SectionSpec.marker`). All
folders of a kind make one section; the report prints its tables and figures, writes its CSV files, and
keeps its numbers in the summary under the section's key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lram.harness.errors import LramError
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.reports.evidence.evidence import Evidence
from lram.reports.evidence.named_runs import NamedFolder, named_folder, open_named
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections import (
    dials,
    embedding,
    extrapolation,
    films,
    inner_episodes,
    latency,
    learning,
    literature,
    perturbed,
    precision,
    study,
    training_seeds,
)

SECTIONS: tuple[SectionSpec, ...] = (
    literature.SPEC,
    training_seeds.SPEC,
    dials.SPEC,
    perturbed.SPEC,
    inner_episodes.SPEC,
    latency.SPEC,
    extrapolation.SPEC,
    embedding.SPEC,
    study.SPEC,
    precision.SPEC,
    learning.SPEC,
    films.SPEC,
)
"""In the order of the page."""


def load_folders(texts: Sequence[str | Path]) -> tuple[list[Run], dict[str, list[Path]]]:
    """Return the evaluations among ``texts``, and the other folders by the key of their section.

    Args:
        texts: Folders; of evaluations also some of their agents or under other labels
            (:mod:`lram.reports.evidence.named_runs`).

    Raises:
        LramError: A folder is none of them; the sentence says what it is, where that is known.
    """
    runs: list[NamedFolder] = []
    others: dict[str, list[Path]] = {}
    for named in map(named_folder, texts):
        path = named.folder
        spec = next((spec for spec in SECTIONS if spec.marker and (path / spec.marker).is_file()), None)
        if spec is not None and named.label:
            raise LramError(
                f"{path} is no evaluation: its agents have the labels of its own plan; name {path}"
            )
        if spec is not None:
            others.setdefault(spec.key, []).append(path)
        elif (path / "recipe.toml").is_file() and not (path / PLAN_FILE).is_file():
            raise LramError(f"{path} is a training run, not an evaluation; give it with --training {path}")
        else:
            runs.append(named)
    return open_named(runs), others


def make_sections(
    runs: Sequence[Run] | Evidence,
    others: Mapping[str, Sequence[Path]],
    settings: SectionSettings | None = None,
) -> list[Section]:
    """Return the sections of a report, in the order of the page.

    Args:
        runs: Evaluations, or what was collected from them; they make the sections without a marker.
        others: Folders by key, as :func:`load_folders` gave them.
        settings: How the sections are made; the usual way where nothing is said.
    """
    how = settings or SectionSettings()
    made = []
    for spec in SECTIONS:
        records = others.get(spec.key, ()) if spec.marker else runs
        if records:
            made.append(spec.build(records, how))
    return [section for section in made if section is not None]
