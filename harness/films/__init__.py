"""Films of recorded episodes: replayed, rendered, kept only where the replay is the record.

A film is no second telling of an episode: its frames come from a replay (:mod:`lram.harness.replay`) whose
trajectory checksum, return and length equal the record's. Where they do not, there is no film, and it is
said why.

* :mod:`.choosing`: which episodes: best, worst, median, by number, or where two agents first differ.
* :mod:`.spool`, :mod:`.watching`: what a replay showed, kept until its record is known to agree.
* :mod:`.drawing`, :mod:`.scenes`, :mod:`.encoding`: frames with their captions, and PyAV.
* :mod:`.making`, :mod:`.settings`, :mod:`.place`: films of episodes, side by side and in a grid.

The list of a folder's films, which reports read, is :mod:`lram.harness.storage.films`.
"""

from __future__ import annotations

from lram.harness.films.choosing import ChosenEpisode, choose
from lram.harness.films.making import FilmMaker
from lram.harness.films.settings import FilmSettings
from lram.harness.storage.films import FILMS_FILE, FilmedEpisode, FilmEntry, read_films

__all__ = [
    "FILMS_FILE",
    "ChosenEpisode",
    "FilmEntry",
    "FilmMaker",
    "FilmSettings",
    "FilmedEpisode",
    "choose",
    "read_films",
]
