"""RLDS: data sets of episodes as TensorFlow Datasets prepares them, read without TensorFlow.

::

    NAME/VERSION/
        features.json, dataset_info.json
        NAME-train.tfrecord-00000-of-00004 ...      a record an episode: its steps, and facts of it

A step has ``observation``, ``action``, ``reward``, ``discount``, ``is_first``, ``is_last`` and
``is_terminal``; its reward is that of its own action. By RLDS the step that ``is_last`` has an observation
alone, and zeros elsewhere. Demonstrations of robots are published with an action and a reward in it, and so
are D4RL's episodes that are cut off (``tensorflow_datasets/d4rl/dataset_utils.py``). So one that holds
anything but zeros counts as a decision.

The files are read directly: records (:mod:`.records`) of a small message (:mod:`.examples`), by the
description in ``features.json`` (:mod:`.features`). TensorFlow would need an interpreter of its own, and a
gigabyte there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lram.agents.trajectories.hdf5 import DAMAGE
from lram.agents.trajectories.readers.rlds.episode import EpisodeReader
from lram.agents.trajectories.readers.rlds.examples import ExampleError, parse_example
from lram.agents.trajectories.readers.rlds.features import (
    INFO_FILE,
    RldsFolder,
    Shard,
    describe,
    folders,
    is_prepared,
)
from lram.agents.trajectories.readers.rlds.records import read_records
from lram.agents.trajectories.readers.source import (
    Found,
    Item,
    Note,
    Options,
    Problem,
    SourceError,
    key_of,
    unread,
)

__all__ = ["INFO_FILE", "INVALID", "episodes", "folders", "is_prepared"]

INVALID = "episodes that the data set marks as invalid were left out"


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield the episodes of a prepared data set, of all in a folder, or of one of its files."""
    for folder in folders(path):
        try:
            about = describe(folder)
            reader = EpisodeReader(about, options)
        except SourceError as problem:
            yield Problem(str(problem))
            continue
        shards = [one for one in about.shards if path in (one.path, *one.path.parents)]
        if not shards:
            yield Problem(f"{path} is none of the files that {folder / INFO_FILE} tells of; leave it out")
        for shard in shards:
            try:
                yield from _shard(path, about, shard, reader)
            except SourceError as problem:
                yield Problem(str(problem))
            except DAMAGE as error:
                yield Problem(str(unread(str(shard.path), error)))


def _shard(base: Path, about: RldsFolder, shard: Shard, reader: EpisodeReader) -> Iterator[Item]:
    if not shard.path.is_file():
        raise SourceError(f"{shard.path} is missing, and dataset_info.json tells of it; fetch it again")
    number = -1
    for number, record in enumerate(read_records(shard.path)):
        where = f"{shard.path}, record {number},"
        if isinstance(record, SourceError):
            yield Problem(str(record))
            continue
        try:
            example = parse_example(record)
            if reader.invalid(example, where):
                yield Note(INVALID)
                continue
        except ExampleError as error:
            yield Problem(f"{where} {error}; fetch the file again")
            continue
        key = key_of(base, shard.path, str(number))
        yield Found(about.names, where, key, reader.loader(example, where))
    if shard.records is not None and number + 1 != shard.records:
        raise SourceError(
            f"{shard.path} has {number + 1} records, and dataset_info.json says {shard.records}; fetch it "
            "again"
        )
