"""The layout of the paper's reference implementation (github.com/ml-jku/LRAM): one file an episode.

::

    BASE/
        reach-v2/                    the task, under the reference's name
            0.hdf5  1.hdf5  ...      or .npz: states, actions, rewards, returns_to_go, dones
            episode_lengths.json     {"0": 200, "1": 200, ...}, by the file's name without its ending
            episode_returns.json     likewise; optional, compared with the rewards
            episode_trjids.json, stats.json   not needed

``dones`` is one value or one a step. States are as wide as the task's, or padded with zeros.
Returns-to-go are made anew from the rewards; the stored ones are compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from lram.agents.trajectories.hdf5 import DAMAGE, read, shown
from lram.agents.trajectories.readers.facts import check_ends
from lram.agents.trajectories.readers.npz import arrays_of_npz
from lram.agents.trajectories.readers.source import (
    Array,
    Found,
    Item,
    Options,
    Problem,
    RawEpisode,
    SourceError,
    array_of,
    by_number,
    flags,
    is_hidden,
    json_of,
    key_of,
    open_hdf5,
    short,
)

LENGTHS_FILE = "episode_lengths.json"
RETURNS_FILE = "episode_returns.json"
ENDINGS = (".hdf5", ".npz")
PICKLES = (".pkl", ".pickle")


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield what lies in ``path``: one task's folder, or a folder that holds such folders at any depth."""
    if path.is_file():
        yield Problem(f"{path} is one episode of a task; give the folder of the task, or of all tasks")
        return
    for place, folders, files in os.walk(path):
        folders[:] = sorted((name for name in folders if not is_hidden(name)), key=by_number)
        files = [name for name in files if not is_hidden(name)]
        if LENGTHS_FILE in files or any(name.endswith((*ENDINGS, *PICKLES)) for name in files):
            yield from _task(path, Path(place), files)


def _task(base: Path, folder: Path, files: list[str]) -> Iterator[Item]:
    pickles = sum(name.endswith(PICKLES) for name in files)
    if pickles:
        yield Problem(
            f"{folder} holds {pickles} pickled episodes, and a pickle can run code; convert them to .npz"
        )
    named: dict[str, list[str]] = {}
    for name in sorted(name for name in files if name.endswith(ENDINGS)):
        named.setdefault(Path(name).stem, []).append(name)
    if not named and pickles:
        return
    # The lists name episodes without endings, so they do not tell which of two files is meant.
    twice = {stem: names for stem, names in named.items() if len(names) > 1}
    there = {stem: names[0] for stem, names in named.items() if stem not in twice}
    try:
        lengths = _numbers(folder / LENGTHS_FILE)
        returns = _numbers(folder / RETURNS_FILE) if RETURNS_FILE in files else {}
    except SourceError as problem:
        yield Problem(str(problem))
        return
    for stem in sorted(twice, key=by_number):
        yield Problem(
            f"{folder} has {' and '.join(map(shown, twice[stem]))}, which {LENGTHS_FILE} calls by one name; "
            "leave one of them, or rename it"
        )
    for stem in sorted(lengths.keys() - named.keys(), key=by_number):
        yield Problem(
            f"{folder / shown(stem)} is named in {LENGTHS_FILE}, and there is no such .hdf5 or .npz; fetch "
            "it again or take it out of the list"
        )
    for stem in sorted(there, key=by_number):
        file = folder / there[stem]
        if stem not in lengths:
            yield Problem(f"{file} is not named in {folder / LENGTHS_FILE}; add it there or remove the file")
            continue
        load = _loader(file, lengths[stem], returns.get(stem))
        yield Found((folder.resolve().name,), str(file), key_of(base, file), load)


def _numbers(file: Path) -> Mapping[str, float]:
    found = json_of(file)
    if not isinstance(found, dict) or not all(isinstance(value, int | float) for value in found.values()):
        raise SourceError(f"{file} does not give one number an episode; fix it or leave its folder out")
    return found


def _loader(file: Path, length: float, noted: float | None) -> Callable[[], RawEpisode]:
    return lambda: _episode(file, length, noted)


def _episode(file: Path, length: float, noted: float | None) -> RawEpisode:
    arrays = _from_npz(file) if file.suffix == ".npz" else _from_hdf5(file)
    steps = len(np.atleast_1d(arrays["actions"]))
    if steps != length:
        raise SourceError(
            f"{file} has {steps} actions, and {LENGTHS_FILE} says {length:g}; fetch it again or fix the list"
        )
    done = flags(arrays["dones"], str(file), "dones")
    early = np.flatnonzero(done[:-1])
    if len(done) != 1:
        check_ends(done, steps, str(file), "dones")
    if len(early):
        raise SourceError(
            f"{file} is done at step {early[0]} of {steps}; a file must hold one episode, so cut it there"
        )
    togo = np.asarray(arrays.get(TOGO, ())).reshape(-1)
    returns = (*togo[:1].tolist(), *(() if noted is None else (noted,)))
    return RawEpisode(
        observations=arrays["states"],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminated=bool(done[-1:].any()),
        truncated=False,
        kind_of_end_known=False,
        returns=returns,
    )


KEYS = ("states", "actions", "rewards", "dones")
TOGO = "returns_to_go"


def _from_hdf5(file: Path) -> dict[str, Array]:
    with open_hdf5(file) as group:
        keys = (*KEYS, TOGO) if TOGO in group else KEYS
        return {key: read(array_of(group, key, str(file))) for key in keys}


def _from_npz(file: Path) -> dict[str, Array]:
    try:
        return arrays_of_npz(file, KEYS, TOGO)
    except DAMAGE as error:
        raise SourceError(
            f"{file} is no whole .npz file ({short(error)}); fetch it again or leave it out"
        ) from error
