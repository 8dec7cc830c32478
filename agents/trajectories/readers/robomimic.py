"""Demonstrations in robomimic's layout, which MimicGen's data sets have: one HDF5 file a task.

::

    stack_d0.hdf5
        data/                     attribute env_args: JSON with env_name and env_kwargs.robots
            demo_0/
                actions (T, 7)  rewards (T,)  dones (T,)  states (the simulator's; not read)
                obs/robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos, object, ...    (T, n) each
                next_obs/...      likewise; its last row becomes the last observation
            demo_1/ ...

The observation is the four low-dimensional keys above, one after the other, as the reference
implementation has it. Demonstrations end in success, and the reward is rewritten to 0 ... 0, 1, as there
(a file named ``..._failed`` is all 0; ``keep_rewards`` leaves rewards alone).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lram.agents.trajectories.hdf5 import DAMAGE, attribute, group_in, member, names_in, read
from lram.agents.trajectories.readers.facts import check_ends, check_length, robosuite_notes
from lram.agents.trajectories.readers.source import (
    Array,
    Found,
    Item,
    Note,
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

LOW_DIMENSIONAL = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
RELABELLED = "demonstrations had their rewards rewritten to 0 ... 0, 1, as the reference implementation does"
UNREWARDED = "of these hold no reward above 0 themselves and were taken as successes"


def episodes(path: Path, options: Options) -> Iterator[Item]:
    """Yield the demonstrations of the file ``path``, or of all HDF5 files under the folder ``path``."""
    for file in hdf5_files(path):
        try:
            with open_hdf5(file) as group:
                yield from _file(path, file, group, options)
        except SourceError as problem:
            yield Problem(str(problem))
        except DAMAGE as error:
            yield Problem(str(unread(str(file), error)))


def _file(base: Path, file: Path, group: Any, options: Options) -> Iterator[Item]:
    data = member(group, "data")
    held = names_in(data) if hasattr(data, "keys") else ()
    demos = sorted((name for name in held if name.startswith("demo")), key=by_number)
    if not demos:
        raise SourceError(f"{file} has no demonstrations (groups data/demo_0, ...); leave it out")
    environment = _environment(file, attribute(data, "env_args"))
    names = _names(file, environment)
    _check_version(file, environment)
    failed = file.stem.endswith("_failed")
    said = robosuite_notes(environment.get("env_kwargs"))
    for name in demos:
        where = f"{file}, {name},"
        load = _loader(data, name, where, failed, options.keep_rewards, said)
        yield Found(names, where, key_of(base, file, name), load)


def _environment(file: Path, env_args: object) -> dict[str, Any]:
    """Return what the file says of its environment; empty where it says nothing."""
    if env_args is None:
        return {}
    try:
        environment = json.loads(env_args) if isinstance(env_args, str | bytes) else {}
        if not isinstance(environment, dict) or not isinstance(environment.get("env_kwargs", {}), dict):
            raise ValueError("no object")
        robots = environment.get("env_kwargs", {}).get("robots", "")
        environment["robot"] = robots if isinstance(robots, str) else "".join(robots)
    except (ValueError, TypeError, RecursionError) as error:
        raise SourceError(
            f"{file} has an attribute env_args that is no JSON of an environment ({short(error)}); fix it "
            "or leave the file out"
        ) from error
    return environment


def _check_version(file: Path, environment: Mapping[str, Any]) -> None:
    """Raise SourceError for data of robosuite 1.5 and later, whose observations have another order."""
    said = re.match(r"(\d+)\.(\d+)", str(environment.get("env_version", "")))
    if said and (int(said[1]), int(said[2])) >= (1, 5):
        raise SourceError(
            f"{file} was recorded with robosuite {environment['env_version']}, whose 'object' observation "
            "has another order than that of robosuite 1.4.1, which the tasks have; record it with 1.4.1, or "
            "extract its observations with that version"
        )


def _names(file: Path, environment: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the file calls its task: by robot and environment, by its own name, by its folder's."""
    stem = file.stem.removesuffix("_failed")
    if stem == "demo":  # MimicGen's generator: demo_src_coffee_task_D0_robot_..._gripper_.../demo.hdf5
        stem = file.resolve().parent.name.removeprefix("demo_src_").replace("_task", "")
    robot, name = str(environment.get("robot", "")), str(environment.get("env_name", ""))
    return (f"{robot}_{name}", stem) if robot and name else (*((name,) if name else ()), stem)


def _loader(
    data: Any, name: str, where: str, failed: bool, keep_rewards: bool, said: tuple[Note, ...]
) -> Callable[[], RawEpisode]:
    def load() -> RawEpisode:
        demo = group_in(data, name)
        actions = read(array_of(demo, "actions", where))
        check_length(attribute(demo, "num_samples"), len(actions), where, "attribute num_samples")
        states = _states(demo, "obs", where)
        if "next_obs" in demo and len(states) and len(states) == len(actions):
            last = _states(demo, "next_obs", where, last=True)
            states = np.concatenate([states, last])
        rewards = read(array_of(demo, "rewards", where))
        notes: tuple[Note, ...] = ()
        if not keep_rewards:
            rewarded = failed or (rewards > 0).any()
            notes = (Note(RELABELLED),) if rewarded else (Note(RELABELLED), Note(UNREWARDED))
            rewards = np.zeros(len(rewards), np.float32)
            rewards[-1:] = 0.0 if failed else 1.0
        solved = np.asarray(rewards).reshape(-1) > 0
        ended = True
        if "dones" in demo:
            dones = flags(read(array_of(demo, "dones", where)), where, "dones")
            check_ends(dones, len(actions), where, "dones")
            ended = bool(dones[-1:].any())
        success = bool(solved[-1:].any())
        return RawEpisode(
            observations=states,
            actions=actions,
            rewards=rewards,
            terminated=success,
            truncated=ended and not success,
            success=solved,
            notes=(*notes, *said),
        )

    return load


def _states(demo: Any, group: str, where: str, last: bool = False) -> Array:
    """Return the low-dimensional keys side by side, (T, n) or only the last row."""
    held = member(demo, group)
    if held is None:
        raise SourceError(
            f"{where} has no group {group!r}; extract observations with robomimic's dataset_states_to_obs.py"
        )
    rows = slice(-1, None) if last else slice(None)
    columns = [read(array_of(held, key, f"{where} in {group},"), rows) for key in LOW_DIMENSIONAL]
    if len({len(column) for column in columns}) > 1:
        said = ", ".join(f"{key} {len(c)}" for key, c in zip(LOW_DIMENSIONAL, columns, strict=True))
        raise SourceError(f"{where} has observations of different lengths ({said}); leave it out")
    return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)
