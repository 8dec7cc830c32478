"""Minari data sets, and the parts of our own stores, which are in the same layout.

::

    DATASET/data/
        metadata.json       env_spec, observation_space, action_space (JSON texts), algorithm_name, ...
        main_data.hdf5
            episode_0/      attributes: id, seed, total_steps
                observations    (T + 1, n), or a group of such arrays
                actions         (T, size) or (T,)
                rewards, terminations, truncations    (T,)
                infos/success   (T + 1,), the first from the reset; optional
            episode_1/ ...

A group of observations (goals) becomes one vector: its arrays side by side, in the order of their sorted
names, groups within it likewise. Older data sets have the metadata as attributes of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lram.agents.api import AgentError, TaskSpec
from lram.agents.durable import read_regular
from lram.agents.trajectories.checked_parts import fault_of_part
from lram.agents.trajectories.hdf5 import (
    DAMAGE,
    attribute,
    columns_in,
    group_in,
    member,
    names_in,
    read,
    shown,
    text_of,
)
from lram.agents.trajectories.index import read_index
from lram.agents.trajectories.layout import FORMAT, PartLine, is_store
from lram.agents.trajectories.part import read_episode, read_task
from lram.agents.trajectories.readers.facts import (
    check_ends,
    check_length,
    check_observations,
    count_note,
    environment_notes,
    longest_of,
)
from lram.agents.trajectories.readers.minari_ids import environment_id
from lram.agents.trajectories.readers.source import (
    ActionSpace,
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
    hdf5_files,
    key_of,
    open_hdf5,
    short,
    unread,
)
from lram.agents.trajectories.trajectory import LARGEST_SIZE

METADATA_FILE = "metadata.json"
_ATTRIBUTES = 1000
_EPISODE = re.compile(r"episode_[0-9]{1,9}")


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield the episodes of a file, a data set, a folder with data sets, or one of our own stores."""
    stores: dict[Path, dict[Path, PartLine]] = {}
    for file in _committed(path) if is_store(path) else hdf5_files(path):
        try:
            if wrong := _differs_from_index(file, stores):
                yield Problem(wrong)
                continue
            with open_hdf5(file) as group:
                ours = attribute(group, "format") == FORMAT
                yield from (_part if ours else _dataset)(path, file, group)
        except SourceError as problem:
            yield Problem(str(problem))
        except DAMAGE as error:
            yield Problem(str(unread(str(file), error)))


def _differs_from_index(file: Path, stores: dict[Path, dict[Path, PartLine]]) -> str:
    """Return what is wrong with a part of one of our stores, by its index; empty for any other file.

    Args:
        file: Any HDF5 file.
        stores: Parts by file of the stores that were met, which are filled in.
    """
    store = next((folder for folder in file.parents if is_store(folder)), None)
    if store is None:
        return ""
    if store not in stores:
        stores[store] = {store / line.part: line for line in read_index(store).lines}
    line = stores[store].get(file)
    if line is None:
        return f"{file} is in no index of {store}: its writing was not finished; it is left out"
    return fault_of_part(store, line)


def _committed(path: Path) -> list[Path]:
    return [path / line.part for line in read_index(path).lines]


def _numbered(file: Path, group: Any) -> list[str]:
    names = sorted(filter(_EPISODE.fullmatch, names_in(group)), key=by_number)
    if not names:
        raise SourceError(f"{file} has no episodes (groups episode_0, ...); leave it out")
    return names


def _part(base: Path, file: Path, group: Any) -> Iterator[Item]:
    try:
        task = read_task(group)
    except DAMAGE as error:
        raise SourceError(f"{file} does not tell its task ({short(error)}); leave it out") from error
    for name in _numbered(file, group):
        number = int(name.removeprefix("episode_"))
        load = _our_loader(group, number, task)
        yield Found((task.id,), f"{file}, {name},", key_of(base, file, name), load, task.id)


def _our_loader(group: Any, number: int, task: TaskSpec) -> Callable[[], RawEpisode]:
    def load() -> RawEpisode:
        try:
            t = read_episode(group, number, task)
        except AgentError as error:
            raise SourceError(str(error)) from error
        return RawEpisode(
            observations=t.observations,
            actions=t.actions,
            rewards=t.rewards,
            terminated=t.terminated,
            truncated=t.truncated,
            success=t.success,
            policy=t.policy,
            seed=t.seed,
            task=task,
            signals=t.signals,
            context_starts=t.context_starts,
            protocol=t.protocol,
            record=t.record,
            origin=t.origin,
        )

    return load


def _dataset(base: Path, file: Path, group: Any) -> Iterator[Item]:
    beside = file.with_name(METADATA_FILE)
    metadata = json_texts(_metadata(beside) if beside.exists() else _attributes(group))
    space = _space(file, metadata.get("action_space"))
    spec, dataset = metadata.get("env_spec"), str(metadata.get("dataset_id", ""))
    environment = str(spec.get("id", "")) if isinstance(spec, dict) else ""
    own = environment_id(metadata)
    names = tuple(name for name in (environment, dataset, dataset.rpartition("/")[0], own) if name)
    policy = str(metadata.get("algorithm_name") or "")
    # A data set that does not say what it is goes by its folder's name: .../NAME/data/main_data.hdf5.
    names = names or (file.resolve().parent.parent.name,)
    numbered = _numbered(file, group)
    yield from count_note(metadata.get("total_episodes"), len(numbered))
    for name in numbered:
        where = f"{file}, {name},"
        yield Found(
            names, where, key_of(base, file, name), _loader(group, name, where, policy, space, metadata)
        )


def _attributes(group: Any) -> dict[str, Any]:
    """Return the attributes of a file that are texts; of older data sets they are the metadata."""
    found = {}
    for name in list(group.attrs)[:_ATTRIBUTES]:
        try:
            found[name] = text_of(group, name)
        except DAMAGE:
            continue  # what is no text says nothing of the data set
    return found


def _metadata(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{file} is no JSON ({short(error)}); fetch it again or leave its folder out"
        ) from error
    if not isinstance(found, dict):
        raise SourceError(f"{file} is no JSON object; fetch it again or leave its folder out")
    return found


def json_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with those that are JSON objects in texts decoded."""
    decoded = {}
    for name, value in values.items():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(text, str) and text.startswith("{"):
            try:
                decoded[name] = json.loads(text)
            except (ValueError, RecursionError):
                decoded[name] = text
        else:
            decoded[name] = text
    return decoded


def _space(file: Path, space: object) -> ActionSpace | None:
    """Return the action space that the metadata tell; None where they tell none."""
    if not isinstance(space, dict) or space.get("type") is None:
        return None
    if space["type"] == "Box":
        return _box(file, space)
    if space["type"] != "Discrete" or space.get("start", 0) != 0:
        raise SourceError(
            f"{file} has actions of the space {json.dumps(space)}; only a Box and a Discrete from 0 can be "
            "read"
        )
    count = space.get("n")
    if not isinstance(count, int) or not 0 < count <= LARGEST_SIZE:
        raise SourceError(
            f"{file} has a Discrete space without its number of actions; fix it or leave it out"
        )
    return ActionSpace("discrete", count)


def _box(file: Path, space: Mapping[str, Any]) -> ActionSpace | None:
    """Return a Box; without bounds where these are missing or not finite, None where its shape is missing."""
    try:
        bounds = [
            np.asarray(space[name], np.float64).reshape(-1) for name in ("low", "high") if name in space
        ]
        sizes = {len(one) for one in bounds} | ({int(np.prod(space["shape"]))} if "shape" in space else set())
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"{file} has a Box of actions that cannot be read ({short(error)}); fix it"
        ) from error
    if not sizes:
        return None
    size = max(sizes)
    if sizes - {1, size} or not 0 < size <= LARGEST_SIZE:
        raise SourceError(
            f"{file} has a Box of actions whose bounds do not fit its shape; fix it or leave it out"
        )
    if len(bounds) < 2 or not all(np.isfinite(one).all() for one in bounds):
        return ActionSpace("continuous", size)
    low, high = (np.broadcast_to(one, size) for one in bounds)
    if not (low < high).all():
        raise SourceError(f"{file} has a Box of actions without a range (low is not below high); fix it")
    return ActionSpace("continuous", size, tuple(low.tolist()), tuple(high.tolist()))


def _loader(
    group: Any, name: str, where: str, policy: str, space: ActionSpace | None, metadata: Mapping[str, Any]
) -> Callable[[], RawEpisode]:
    notes, longest = environment_notes(metadata), longest_of(metadata)
    environment, own_notes = environment_id(metadata), environment_notes(metadata, options_held=True)

    def load() -> RawEpisode:
        episode = group_in(group, name)
        observations = _observations(episode, where)
        if not hasattr(member(episode, "observations"), "keys"):
            check_observations(metadata.get("observation_space"), observations, where)
        ends = [
            flags(read(array_of(episode, key, where)), where, key) for key in ("terminations", "truncations")
        ]
        if len(ends[0]) != len(ends[1]):
            raise SourceError(
                f"{where} has {len(ends[0])} terminations and {len(ends[1])} truncations; leave it out"
            )
        early = np.flatnonzero((ends[0] | ends[1])[:-1])
        if len(early):
            raise SourceError(f"{where} ends at step {early[0]} and continues; leave it out")
        seed = attribute(episode, "seed")
        actions = read(array_of(episode, "actions", where))
        check_length(attribute(episode, "total_steps"), len(actions), where, "attribute total_steps")
        check_ends(ends[0], len(actions), where, "terminations")
        return RawEpisode(
            observations=observations,
            actions=actions,
            rewards=read(array_of(episode, "rewards", where)),
            terminated=bool(ends[0][-1:].any()),
            truncated=bool(ends[1][-1:].any()),
            success=None
            if member(episode, "infos/success") is None
            else read(array_of(episode, "infos/success", where)),
            space=space,
            policy=policy,
            seed=int(seed) if isinstance(seed, int | np.integer) else None,
            notes=notes,
            longest=longest,
            environment=environment,
            own_notes=own_notes,
        )

    return load


def _observations(episode: Any, where: str) -> Array:
    held = member(episode, "observations")
    if held is None:
        raise SourceError(f"{where} has no observations; leave it out")
    if not hasattr(held, "keys"):
        return read(array_of(episode, "observations", where))
    columns = [_vectors(name, array, where) for name, array in columns_in(held)]
    if not columns or len({len(column) for column in columns}) > 1:
        raise SourceError(f"{where} has observations of different lengths, or none; leave it out")
    return np.concatenate(columns, axis=1)


def _vectors(name: str, array: Any, where: str) -> Array:
    if array.ndim not in (1, 2):
        raise SourceError(
            f"{where} has an observation {shown(name)!r} of type {array.dtype} and shape {array.shape}; "
            "only vectors can be put side by side"
        )
    values = read(array)
    return values.reshape(len(values), -1)
