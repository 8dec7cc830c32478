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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories.layout import FORMAT, is_store, read_index
from lram.agents.trajectories.part import read_episode
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
    hdf5_files,
    key_of,
    open_hdf5,
    short,
)

METADATA_FILE = "metadata.json"


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield the episodes of a file, a data set, a folder with data sets, or one of our own stores."""
    for file in _committed(path) if is_store(path) else hdf5_files(path):
        try:
            with open_hdf5(file) as group:
                ours = group.attrs.get("format") == FORMAT
                yield from (_part if ours else _dataset)(path, file, group)
        except (SourceError, OSError) as problem:
            yield Problem(str(problem))


def _committed(path: Path) -> list[Path]:
    return [path / line.part for line in read_index(path)[0]]


def _numbered(file: Path, group: Any) -> list[str]:
    names = sorted((name for name in group if name.startswith("episode_")), key=by_number)
    if not names:
        raise SourceError(f"{file} has no episodes (groups episode_0, ...); leave it out")
    return names


def _part(base: Path, file: Path, group: Any) -> Iterator[Item]:
    try:
        task = msgspec.json.decode(group.attrs["task"], type=TaskSpec)
    except (KeyError, msgspec.MsgspecError) as error:
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
    told = json_texts(_metadata(beside) if beside.exists() else dict(group.attrs))
    count = _discrete(file, told.get("action_space"))
    spec, dataset = told.get("env_spec"), str(told.get("dataset_id", ""))
    environment = str(spec.get("id", "")) if isinstance(spec, dict) else ""
    names = tuple(name for name in (environment, dataset, dataset.rpartition("/")[0]) if name)
    policy = str(told.get("algorithm_name") or "")
    # A data set that does not say what it is goes by its folder's name: .../NAME/data/main_data.hdf5.
    names = names or (file.resolve().parent.parent.name,)
    for name in _numbered(file, group):
        where = f"{file}, {name},"
        yield Found(names, where, key_of(base, file, name), _loader(group[name], where, policy, count))


def _metadata(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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
            except ValueError:
                decoded[name] = text
        else:
            decoded[name] = text
    return decoded


def _discrete(file: Path, space: object) -> int | None:
    """Return the number of discrete actions that an action space tells, None for a box."""
    if not isinstance(space, dict) or space.get("type") in (None, "Box"):
        return None
    if space["type"] != "Discrete" or space.get("start", 0) != 0:
        raise SourceError(
            f"{file} has actions of the space {json.dumps(space)}; only a Box and a Discrete from 0 can be "
            "read"
        )
    return int(space["n"])


def _loader(episode: Any, where: str, policy: str, count: int | None) -> Callable[[], RawEpisode]:
    def load() -> RawEpisode:
        observations = _observations(episode, where)
        ends = [flags(array_of(episode, key, where)[()]) for key in ("terminations", "truncations")]
        if len(ends[0]) != len(ends[1]):
            raise SourceError(
                f"{where} has {len(ends[0])} terminations and {len(ends[1])} truncations; leave it out"
            )
        early = np.flatnonzero((ends[0] | ends[1])[:-1])
        if len(early):
            raise SourceError(f"{where} ends at step {early[0]} and goes on; leave it out")
        infos = episode.get("infos") or {}
        seed = episode.attrs.get("seed")
        return RawEpisode(
            observations=observations,
            actions=array_of(episode, "actions", where)[()],
            rewards=array_of(episode, "rewards", where)[()],
            terminated=bool(ends[0][-1:].any()),
            truncated=bool(ends[1][-1:].any()),
            success=infos["success"][()] if "success" in infos else None,
            discrete_actions=count,
            policy=policy,
            seed=int(seed) if isinstance(seed, int | np.integer) else None,
        )

    return load


def _observations(episode: Any, where: str) -> Array:
    held = episode.get("observations")
    if held is None:
        raise SourceError(f"{where} has no observations; leave it out")
    if not hasattr(held, "keys"):
        return np.asarray(held[()])
    columns = list(_columns(held, where))
    if not columns or len({len(column) for column in columns}) > 1:
        raise SourceError(f"{where} has observations of different lengths, or none; leave it out")
    return np.concatenate(columns, axis=1)


def _columns(group: Any, where: str) -> Iterator[Array]:
    for key in sorted(group):
        value = group[key]
        if hasattr(value, "keys"):
            yield from _columns(value, where)
        elif value.dtype.kind not in "biuf" or value.ndim not in (1, 2):
            raise SourceError(
                f"{where} has an observation {key!r} of type {value.dtype} and shape {value.shape}; "
                "only vectors can be put side by side"
            )
        else:
            yield value[()].reshape(len(value), -1)
