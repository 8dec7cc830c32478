"""Where films are put: a folder with a list of them, or one file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.films.encoding import FORMATS, check_encoder, encode
from lram.harness.films.settings import FilmSettings
from lram.harness.films.spool import Image
from lram.harness.storage.films import FilmedEpisode, FilmEntry, FilmKind, digest, write_films

_OTHER_FILMS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mpeg", ".mpg", ".ogv")
"""Who writes such a name means no folder."""

_LONGEST = 60


class FilmPlace:
    """A new folder, or a new file whose suffix is one of films.

    Attributes:
        single: It is a file.
    """

    def __init__(self, place: Path, settings: FilmSettings, run: str) -> None:
        """Put films of the run's folder ``run`` into ``place``."""
        self._place = placed(place)  # agents may change the working directory
        self._settings, self._run = settings, run
        self._films: list[FilmEntry] = []
        self.single = place.suffix in FORMATS

    def check(self) -> None:
        """Raise LramError where a film cannot be put."""
        place = self._place
        if self.single or place.suffix.lower() in _OTHER_FILMS:
            check_encoder(place.suffix)
            if place.exists():
                raise LramError(f"{place} is there already; give a new file with -o")
        elif place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise LramError(f"{place} is not empty; give a new folder with -o, or a file such as film.mp4")

    def write(
        self,
        frames: Iterator[Image],
        words: Sequence[object],
        kind: FilmKind,
        episodes: Sequence[FilmedEpisode],
        divergence: int | None = None,
    ) -> FilmEntry:
        """Write a film, whole or not at all, and list it.

        Args:
            frames: What it shows.
            words: What its name in a folder is made of.
            kind, episodes, divergence: As for :class:`lram.harness.storage.films.FilmEntry`.

        Raises:
            LramError: It cannot be written.
        """
        folder = self._place.parent if self.single else self._place
        folder.mkdir(parents=True, exist_ok=True)
        file = self._place if self.single else folder / self._free("-".join(map(_slug, words)))
        count, height, width = encode(frames, file, self._settings.fps)
        entry = FilmEntry(
            file=file.name,
            kind=kind,
            run=self._run,
            episodes=tuple(episodes),
            frames=count,
            fps=self._settings.fps,
            height=height,
            width=width,
            sha256=digest(file),
            divergence=divergence,
        )
        self.list_films([*self._films, entry])
        return entry

    def list_films(self, films: Sequence[FilmEntry]) -> None:
        """List the films of a folder in the order of ``films``; those of a file are not listed."""
        self._films = list(films)
        if films and not self.single:
            write_films(self._place, films)

    def _free(self, name: str) -> str:
        """Return a file name that no film has; labels that differ in odd characters only share a slug."""
        names = {film.file.casefold() for film in self._films}
        file, number = f"{name}{self._settings.suffix}", 1
        while file.casefold() in names:
            number += 1
            file = f"{name}-{number}{self._settings.suffix}"
        return file


def _slug(word: object) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", str(word)).strip("-._")[:_LONGEST] or "film"
