"""The section "episodes to watch": films that ``lram film`` made, copied into the report's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lram.harness.errors import LramError
from lram.harness.storage.films import FILMS_FILE, FilmedEpisode, FilmEntry, digest, read_films
from lram.harness.storage.run_folder import Run
from lram.reports import forms, text
from lram.reports.section import Section, SectionFilm, SectionSettings, SectionSpec
from lram.reports.table import Column, Table, words

KEY = "films"
TITLE = "Episodes to watch"


@dataclass(frozen=True, slots=True)
class _Row:
    """An episode of a film, in the table."""

    film: str
    entry: FilmEntry
    place: int

    @property
    def episode(self) -> FilmedEpisode:
        return self.entry.episodes[self.place]


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section | None:
    """Return the section of the films in ``folders``; None where there is none.

    Raises:
        LramError: A folder has no list of films, or a film is not the one that it lists.
    """
    listed = [(folder, film) for folder in folders for film in read_films(folder)]
    if not listed:
        return None
    names = _names([film for _, film in listed])
    films = [_film(folder, film, name) for (folder, film), name in zip(listed, names, strict=True)]
    rows = [
        _Row(name, film, place)
        for (_, film), name in zip(listed, names, strict=True)
        for place in range(len(film.episodes))
    ]
    return Section(
        key=KEY,
        title=TITLE,
        lead=_LEAD,
        tables=(
            Table(
                "films-episodes",
                "The episodes that the films show, as recorded.",
                _COLUMNS,
                rows,
                "films_episodes",
            ),
        ),
        films=films,
        summary=[
            {**msgspec.to_builtins(film), "file": name} for (_, film), name in zip(listed, names, strict=True)
        ],
        methods=_METHODS,
    )


def check_films(folders: Sequence[Path], runs: Sequence[Run]) -> None:
    """Raise LramError for a film of an episode that none of ``runs`` has recorded so."""
    recorded = {
        (record.agent, record.task, record.episode, record.trajectory)
        for run in runs
        for record in run.records()
    }
    for folder in folders:
        for film in read_films(folder):
            for one in film.episodes:
                if (one.agent, one.task, one.episode, one.trajectory) not in recorded:
                    raise LramError(
                        f"{folder / film.file} shows {one.agent} on {one.task}, episode {one.episode}, of "
                        f"the run {film.run}, which is not an episode of this report's runs; give that run, "
                        "too, or leave the film's folder out"
                    )


_LEAD = (
    "Each film was made by replaying a recorded episode; it is kept only where the replay's trajectory "
    "checksum, return and length are those of the record. A frame shows how far the agent is: step, reward, "
    "return, and where a model reads one, the return that it still asks for (to go).",
    "Films show single episodes, and what was chosen by its return is the best or the worst there was: how "
    "agents compare is in the tables of scores.",
)

_METHODS = (
    (
        "Films",
        "Best, worst and median are those of an agent's scored episodes on a task, by return (of an even "
        "number the lower median). The first divergence of two agents is the first step at which their "
        "trajectories, from the same start, differ in action, reward or observation.",
    ),
)

_COLUMNS: tuple[Column[_Row], ...] = (
    words("Agent", "agent", lambda row: row.episode.agent),
    words("Task", "task", lambda row: row.episode.task),
    words("Chosen as", "why", lambda row: row.episode.why),
    words("Success", "success", lambda row: row.episode.success, lambda solved: _solved(solved)),
    words("Trajectory", "trajectory", lambda row: row.episode.trajectory),
    words("Film", "film", lambda row: row.film),
    Column("Episode", "episode", lambda row: row.episode.episode, forms.whole),
    Column("Return", "episode_return", lambda row: row.episode.episode_return, forms.numbers(forms.two)),
    Column("Length", "length", lambda row: row.episode.length, forms.whole),
)


def _solved(success: bool | None) -> str:
    return text.NONE if success is None else "yes" if success else "no"


def _film(folder: Path, film: FilmEntry, name: str) -> SectionFilm:
    file = folder / film.file
    try:
        found = digest(file)
    except OSError as error:
        raise LramError(
            f"{folder / FILMS_FILE} lists {film.file}, which cannot be read ({error.strerror}); make it anew"
        ) from error
    if found != film.sha256:
        raise LramError(f"{file} is not the film that {FILMS_FILE} lists; make the films anew")
    return SectionFilm(name, file, _caption(film), film.width, film.height)


def _caption(film: FilmEntry) -> str:
    first = film.episodes[0]
    if film.kind == "divergence":
        agents = " and ".join(one.agent for one in film.episodes)
        return (
            f"{agents} on {first.task}, episode {first.episode}: from the same start, they first differ at "
            f"step {film.divergence}"
        )
    if film.kind == "grid":
        tasks = len({one.task for one in film.episodes})
        return f"{text.count(len(film.episodes), 'episode')} of {text.count(tasks, 'task')} beside each other"
    why = "" if first.why == "chosen" else f" ({first.why})"
    return f"{first.agent} on {first.task}, episode {first.episode}{why}: return {first.episode_return:.5g}"


def _names(films: Sequence[FilmEntry]) -> list[str]:
    """Return a name in the report for each film; those of several folders may have the same."""
    taken: set[str] = set()
    names = []
    for film in films:
        name, number = film.file, 1
        while name.casefold() in taken:
            number += 1
            name = f"{number}-{film.file}"
        taken.add(name.casefold())
        names.append(name)
    return names


SPEC = SectionSpec(KEY, FILMS_FILE, section)
"""Films of episodes."""
