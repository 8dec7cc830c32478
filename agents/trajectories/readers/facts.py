"""What a source's metadata say of its environment and episodes, beside names and actions: checked or said.

An environment's options are not those of a task's protocol only because a name fits. What can be held
against the arrays is checked; what can not is said, with the number of episodes that it is about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lram.agents.trajectories.hdf5 import printable
from lram.agents.trajectories.readers.source import Array, Note, SourceError

CONTROL_HZ = 20
"""Decisions a second of robosuite's tasks, which CompoSuite, MimicGen and robomimic have, too."""

CONTROLLER = "OSC_POSE"
"""What an action of theirs means: a change of the end effector's pose."""

_LONGEST_TEXT = 200
VIEW_ONLY = ("render_mode", "camera_name", "camera_id", "width", "height", "hud")
_ORDINARY = ("PassiveEnvChecker", "OrderEnforcing", "TimeLimit", "DataCollector", "StepDataCallback")


def environment_notes(metadata: Mapping[str, Any], *, options_held: bool = False) -> tuple[Note, ...]:
    """Return what Minari's metadata say of how the environment was made, as notes of one episode.

    Args:
        metadata: The metadata, JSON texts in it decoded.
        options_held: The task has the environment's options, so nothing is said of them.
    """
    spec = metadata.get("env_spec")
    spec = spec if isinstance(spec, dict) else {}
    facts = []
    options = {} if options_held else spec.get("kwargs")
    if isinstance(options, dict) and (said := {k: v for k, v in options.items() if k not in VIEW_ONLY}):
        facts.append(f"options {_words(said)}")
    if named := unusual_wrappers(spec):
        facts.append(f"wrappers {printable(', '.join(named))}")
    if needed := [str(one) for one in _sequence(metadata.get("requirements"))]:
        facts.append(f"versions {printable(', '.join(needed))}")
    if not facts:
        return ()
    text = "; ".join(facts)
    text = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
    return (
        Note(f"episodes are of an environment with {text} by their metadata, which no task here was held to"),
    )


def unusual_wrappers(spec: Mapping[str, Any]) -> list[str]:
    """Return the wrappers that an environment's specification names besides those that all have."""
    wrappers = [
        str(one.get("name", "")) if isinstance(one, dict) else str(one)
        for one in _sequence(spec.get("additional_wrappers"))
    ]
    return [name for name in wrappers if not any(one in name for one in _ORDINARY)]


def longest_of(metadata: Mapping[str, Any]) -> int | None:
    """Return the decisions after which an environment is cut off by Minari's metadata; None: not recorded."""
    spec = metadata.get("env_spec")
    most = spec.get("max_episode_steps") if isinstance(spec, dict) else None
    return most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else None


def check_observations(space: object, observations: Array, where: str) -> None:
    """Raise SourceError where arrays are not of the space that the metadata tell; other spaces pass.

    Args:
        space: A Box with a shape, as Minari writes it, or anything else.
        observations: (T, ...).
        where: Names the episode.
    """
    if not isinstance(space, dict) or space.get("type") != "Box":
        return
    shape = space.get("shape")
    sizes = _sequence(shape)
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        return
    if tuple(sizes) != observations.shape[1:] and not (
        len(sizes) == 1 and observations.ndim == 1 and sizes[0] == 1
    ):
        raise SourceError(
            f"{where} has observations of shape {observations.shape[1:]}, by its metadata {tuple(sizes)}; "
            "fetch it again or fix the metadata"
        )
    kind = str(space.get("dtype", ""))
    if kind == "uint8" and observations.dtype.kind == "f":
        raise SourceError(
            f"{where} has observations of type {observations.dtype}, by its metadata uint8; a scale is not "
            "recorded, so convert them first"
        )


def check_length(said: object, steps: int, where: str, what: str) -> None:
    """Raise SourceError where an episode has another number of actions than its metadata ``what`` say."""
    if not isinstance(said, int | np.integer) or isinstance(said, bool):
        return
    if steps and int(said) != steps:  # one without any is refused later
        raise SourceError(
            f"{where} has {steps} actions, and its {what} says {int(said)}; fetch it again or leave it out"
        )


def check_ends(flags: Array, steps: int, where: str, what: str) -> None:
    """Raise SourceError where an episode's flags of its end are not one a step."""
    if steps and len(flags) != steps:  # one without any is refused later
        raise SourceError(f"{where} has {steps} actions and {len(flags)} {what}; fix it or leave it out")


def count_note(said: object, there: int) -> tuple[Note, ...]:
    """Return a note where a file holds another number of episodes than its metadata say."""
    if isinstance(said, int | np.integer) and not isinstance(said, bool) and int(said) > there:
        return (Note("episodes that the metadata count are not in the file", int(said) - there),)
    return ()


def robosuite_notes(options: object) -> tuple[Note, ...]:
    """Return what of robosuite's options is not as the tasks have it, as notes of one demonstration.

    Args:
        options: ``env_kwargs`` of the file, or anything else.
    """
    if not isinstance(options, dict):
        return ()
    notes = []
    rate = options.get("control_freq")
    if isinstance(rate, int | float) and not isinstance(rate, bool) and not math.isclose(rate, CONTROL_HZ):
        notes.append(
            Note(
                f"demonstrations were recorded at {rate:g} decisions a second, and the tasks have "
                f"{CONTROL_HZ}"
            )
        )
    controller = options.get("controller_configs")
    kind = controller.get("type") if isinstance(controller, dict) else None
    if isinstance(kind, str) and kind != CONTROLLER:
        notes.append(
            Note(
                f"demonstrations were recorded with the controller {printable(kind)[:80]}, whose actions do "
                f"not mean what those of {CONTROLLER} do, which the tasks have"
            )
        )
    return tuple(notes)


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _words(options: Mapping[str, Any]) -> str:
    try:
        return printable(", ".join(f"{name}={json.dumps(value)}" for name, value in options.items()))
    except (TypeError, ValueError, RecursionError):
        return printable(", ".join(map(str, options)))
