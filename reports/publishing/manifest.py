"""``manifest.json``: what a publication holds, with the SHA-256 of every file, and how one is read.

The digests find damage, and a file that somebody changed without its digest. They prove nothing of who made
the publication: whoever can write it can write its manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lram.agents.places import placed
from lram.agents.shown import shown
from lram.agents.sums import file_sum
from lram.harness.errors import LramError
from lram.harness.storage.json_files import check_layout, read_json
from lram.harness.storage.run_folder import Run
from lram.reports.publishing.copying import CleanedFile
from lram.reports.writing.place import files_below

MANIFEST = "manifest.json"
RUNS = "runs"
REPORT = "report"
LAYOUT = 1


@dataclass(frozen=True, slots=True)
class PublishedAgent:
    """An agent of a published run, and the digest of what it was made of."""

    label: str
    kind: str
    description: str
    trained: bool | None
    parameters: int | None
    digest: str
    code: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A run of a publication: its folder there, its seed, how much it plans, and its agents."""

    folder: str
    seed: int
    tasks: int
    episodes: int
    agents: tuple[PublishedAgent, ...]


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """The weights that a model card is about, which are not in the publication.

    Attributes:
        name: Of the model.
        labels: Agents of the runs that had these weights, without noise.
        digest: Of configuration and weights (:mod:`lram.agents.checkpoints.digests`).
        files: SHA-256 of the checkpoint's files by name.
    """

    name: str
    labels: tuple[str, ...]
    digest: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file's SHA-256 and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a publication holds.

    Attributes:
        layout: Version of this layout.
        lram_bench: Version that wrote it.
        card: ``dataset`` or ``model``.
        runs: The runs.
        checkpoint: Of a model card.
        cleaned: Files that are not as they were recorded, and what was taken out of them.
        not_copied: What of the runs' folders is not in here.
        files: Every other file by its path in the publication.
    """

    layout: int
    lram_bench: str
    card: str
    runs: tuple[PublishedRun, ...]
    checkpoint: PublishedCheckpoint | None
    cleaned: tuple[CleanedFile, ...]
    not_copied: tuple[str, ...]
    files: dict[str, PublishedFile]


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication whose every file is what its manifest says."""

    path: Path
    manifest: Manifest
    runs: tuple[Run, ...]


def digests(folder: Path) -> dict[str, PublishedFile]:
    """Return what a manifest says of the files in ``folder``, by path; OSError where one cannot be read."""
    return {
        file.relative_to(folder).as_posix(): PublishedFile(file_sum(file), file.stat().st_size)
        for file in files_below(folder)
    }


def read_publication(path: str | Path) -> Publication:
    """Return the publication in ``path``, after comparing every file with the manifest.

    Raises:
        LramError: It is none, or a file is missing, damaged, changed or not of it; it is named.
    """
    folder = placed(path)
    manifest = read_manifest(folder)
    for name, listed in manifest.files.items():
        file = folder / _safe(folder, name)
        try:
            if file.is_symlink() or not file.is_file():
                raise LramError(f"{file} is missing, and {folder / MANIFEST} names it; get the folder again")
            if file.stat().st_size != listed.bytes or file_sum(file) != listed.sha256:
                raise LramError(
                    f"{file} is not the file that {folder / MANIFEST} names (SHA-256 differs): it is damaged "
                    "or was changed; get the folder again"
                )
        except OSError as error:
            raise LramError(f"{file} cannot be read: {error.strerror}") from error
    for file in files_below(folder / RUNS):
        if file.relative_to(folder).as_posix() not in manifest.files:
            raise LramError(f"{file} is not in {folder / MANIFEST}: it was added later; remove it")
    if not manifest.runs:
        raise LramError(f"{folder / MANIFEST} names no run; get the folder again")
    runs = [Run(folder / _safe(folder, run.folder)) for run in manifest.runs]
    for run, listed_run in zip(runs, manifest.runs, strict=True):
        here = [(agent.label, agent.info.digest) for agent in run.plan.agents]
        if here != [(agent.label, agent.digest) for agent in listed_run.agents]:
            raise LramError(
                f"{folder / MANIFEST} names other agents or digests of {listed_run.folder} than its plan "
                "has; get the folder again"
            )
    return Publication(folder, manifest, tuple(runs))


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a publication; LramError where there is none, or it is damaged."""
    file = folder / MANIFEST
    if not file.is_file():
        raise LramError(f"{folder} is no publication: it has no {MANIFEST}; 'lram publish' makes one")
    manifest = read_json(file, Manifest)
    check_layout(file, manifest.layout, LAYOUT)
    return manifest


def _safe(folder: Path, name: str) -> str:
    """Return ``name`` where it leads to a place inside ``folder``."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise LramError(f"{folder / MANIFEST} names {shown(name)!r}, which is no file of its folder")
    inside = folder
    for part in path.parts[:-1]:
        inside = inside / part
        if inside.is_symlink():
            raise LramError(f"{inside} is a link that leads elsewhere; get the folder again")
    return name
