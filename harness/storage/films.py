"""``films.json``: the films of a folder, and the records that they agree with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from lram.agents.durable import open_regular, write_durably
from lram.harness.errors import LramError
from lram.harness.storage.json_files import check_layout, encode, read_json

FILMS_FILE = "films.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(mp4|webm)")
SCHEMA = 1
FilmKind: TypeAlias = Literal["episode", "divergence", "grid"]


@dataclass(frozen=True, slots=True)
class FilmedEpisode:
    """An episode of a film, as its record has it.

    Attributes:
        agent, task, episode: Which.
        why: Why it was chosen, such as ``best``.
        episode_return, length, success: Its results; ``success`` is at any step, None where the task has
            no such notion.
        trajectory: Trajectory checksum of the record, which the filmed replay has, too.
    """

    agent: str
    task: str
    episode: int
    why: str
    episode_return: float
    length: int
    success: bool | None
    trajectory: str


@dataclass(frozen=True, slots=True)
class FilmEntry:
    """A film.

    Attributes:
        file: Name in the folder.
        kind: ``episode``; ``divergence``: two agents side by side; ``grid``: several tasks.
        run: Name of the run's folder.
        episodes: Those that it shows, in order.
        frames, fps, height, width: Of the picture.
        sha256: Of the file.
        divergence: First step at which the two differ, of a ``divergence``.
    """

    file: str
    kind: FilmKind
    run: str
    episodes: tuple[FilmedEpisode, ...]
    frames: int
    fps: int
    height: int
    width: int
    sha256: str
    divergence: int | None = None


@dataclass(frozen=True, slots=True)
class FilmList:
    """The content of ``films.json``."""

    schema: int
    films: tuple[FilmEntry, ...]


def write_films(folder: Path, films: Sequence[FilmEntry]) -> None:
    """Write the list of a folder's films anew."""
    write_durably(folder / FILMS_FILE, encode(FilmList(SCHEMA, tuple(films))))


def read_films(folder: Path) -> tuple[FilmEntry, ...]:
    """Return the films of a folder; LramError where it has no list of them, or one of other places."""
    file = folder / FILMS_FILE
    if not file.is_file():
        raise LramError(f"{folder} has no {FILMS_FILE}; 'lram film RUN -o FOLDER' makes folders of films")
    found = read_json(file, FilmList)
    check_layout(file, found.schema, SCHEMA)
    for film in found.films:
        if not _NAME.fullmatch(film.file) or not film.episodes:
            raise LramError(
                f"{file} names {film.file!r}, which is no film in its folder; make the films anew"
            )
    return found.films


def digest(file: Path) -> str:
    """Return the SHA-256 of a film."""
    with open_regular(file) as handle:
        return hashlib.file_digest(cast(Any, handle), "sha256").hexdigest()
