"""LeRobot data sets of version 3: rows in parquet files, frames in videos (:mod:`.layout` tells the places).

What becomes what:

================================  ==========================================================
``observation.state``, a camera   the observation (:mod:`.choice`)
``action``                        the action; its range is mapped only where it is asked for
``next.reward``                   the reward; without it 0, and 1 at the end of a success
``next.done``, ``next.truncated``  how the episode ended
``next.success``                  the success
``tasks``                         what the task is called
================================  ==========================================================

A row has what was seen and the action that was taken then; none has what was seen after the last action.
Nothing of LeRobot is imported, and nothing of a data set is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.lerobot.choice import choose
from lram.agents.trajectories.readers.lerobot.description import Description, EpisodePlace, describe, places
from lram.agents.trajectories.readers.lerobot.layout import INFO_FILE
from lram.agents.trajectories.readers.lerobot.ours import EpisodeFacts, OurFacts, read_ours
from lram.agents.trajectories.readers.lerobot.reading import DataFiles, FrameReader
from lram.agents.trajectories.readers.source import (
    Found,
    Item,
    Note,
    Options,
    Problem,
    RawEpisode,
    SourceError,
    is_hidden,
    key_of,
)

CHANGED = "data sets have a meta/lram.json of other episodes, which was not used"
SEVERAL = "episodes have several texts for their task, of which the first in alphabetical order counts"
MISSING = "episodes that meta/info.json counts are not in meta/episodes"


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield the episodes of the data set in the folder ``path``, or of all data sets under it."""
    for root in data_sets(path):
        try:
            yield from _data_set(path, root, options)
        except SourceError as problem:
            yield Problem(str(problem))


def data_sets(path: Path) -> list[Path]:
    """Return the folders of the data sets at or under ``path``, sorted; without hidden ones."""
    if (path / INFO_FILE).is_file():
        return [path]
    found = (file.parents[1] for file in path.rglob(INFO_FILE))
    return sorted(root for root in found if not any(map(is_hidden, root.relative_to(path).parts)))


def _data_set(base: Path, root: Path, options: Options) -> Iterator[Item]:
    about = describe(root)
    choice = choose(about.features, options.observation, str(root), options.action)
    held = list(places(about))
    if len(held) < about.episodes:
        yield Note(MISSING, about.episodes - len(held))
    ours = read_ours(root)
    if ours is not None and not ours.describes(held):
        yield Note(CHANGED)
        ours = None
    with DataFiles(about, choice, held) as files:
        reader = FrameReader(about, choice, options, files)
        for place in held:
            yield from _found(base, root, place, about, ours, reader)


def _found(
    base: Path,
    root: Path,
    place: EpisodePlace,
    about: Description,
    ours: OurFacts | None,
    reader: FrameReader,
) -> Iterator[Item]:
    where = f"{about.data_file(place)}, episode {place.number},"
    name = root.resolve().name
    facts = ours.episodes[place.number] if ours else None
    names = (facts.task,) if facts else (*(printable(text)[:80] for text in place.tasks[:1]), name)
    if facts is None and len(place.tasks) > 1:
        yield Note(SEVERAL)
    yield Found(
        names=names,
        where=where,
        key=key_of(base, root, f"episode_{place.number}"),
        load=_loader(reader, place, where, facts, ours),
        task_id=facts.task if facts else None,
    )


def _loader(
    reader: FrameReader, place: EpisodePlace, where: str, facts: EpisodeFacts | None, ours: OurFacts | None
) -> Callable[[], RawEpisode]:
    return lambda: reader.read(
        place, where.rstrip(","), facts, ours.tasks[facts.task] if facts and ours else None
    )
