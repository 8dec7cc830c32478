"""What a LeRobot policy's folder says: which features it reads, what it gives, and which files it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lram.agents.adapters.actions import Bounds, read_bounds
from lram.agents.adapters.policy import PolicyShape
from lram.agents.api import AgentError, TaskSpec
from lram.agents.shown import shown

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
IMAGE = (3, 64, 64)
"""Shape of the images that tasks show."""
_LARGEST = 16 << 20
_VECTORS, _IMAGES = ("STATE", "ENV"), "VISUAL"
_MOST_THREADS = 1024


@dataclass(frozen=True, slots=True)
class LeRobotOptions:
    """Arguments of a name; :mod:`lram.agents.adapters.lerobot` tells what they mean."""

    python: str = ""
    features: Mapping[str, Sequence[int]] = field(default_factory=dict)
    resize: bool = False
    low: float | Sequence[float] = -1
    high: float | Sequence[float] = 1
    processors: bool = True
    prompt: str = ""
    threads: int = 1
    load_s: float = 600
    answer_s: float = 60

    def __post_init__(self) -> None:
        for name in ("resize", "processors"):
            if not isinstance(getattr(self, name), bool):
                raise AgentError(f"{name} is {shown(repr(getattr(self, name)))}; give True or False")
        for name in ("python", "prompt"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).isprintable():
                raise AgentError(f"{name} is {shown(repr(getattr(self, name)))}; give a text")
        for name in ("load_s", "answer_s"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise AgentError(f"{name} is {shown(repr(value))}; give seconds, above 0")
        if type(self.threads) is not int or not 1 <= self.threads <= _MOST_THREADS:
            raise AgentError(f"threads is {shown(repr(self.threads))}; give a number, 1 to {_MOST_THREADS}")
        if not isinstance(self.features, Mapping):
            raise AgentError(
                f"features is {shown(repr(self.features))}; give first and end by name, as in "
                "features={'observation.state': [0, 4]}"
            )


@dataclass(frozen=True, slots=True)
class LeRobotFolder:
    """A policy, as far as its files tell without LeRobot.

    Attributes:
        folder: Where it lies.
        kind: LeRobot's name of the policy, such as ``act``.
        images: Height and width by name of the image that it reads; empty: it reads vectors.
        vectors: First number and end, of a task's observation, by name of each vector that it reads.
        fit: Tasks that it plays.
        bounds: Of its actions.
        processors: Whether the folder has the policy's processors.
        files: Names of all that belongs to it.
    """

    folder: Path
    kind: str
    images: Mapping[str, tuple[int, int]]
    vectors: Mapping[str, tuple[int, int]]
    fit: PolicyShape
    bounds: Bounds
    processors: bool
    files: tuple[str, ...]

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where ``task`` shows or takes something else; None where it fits."""
        return self.fit.refuses(task)

    def sees(self) -> str:
        """Return in words what is read of an observation."""
        if self.images:
            ((name, size),) = self.images.items()
            made = "" if size == IMAGE[1:] else f", made {size[0]} x {size[1]} bilinearly"
            return f"images {IMAGE} as {name}, divided by 255{made}"
        parts = [f"numbers {first} to {end - 1} as {name}" for name, (first, end) in self.vectors.items()]
        return f"observations {self.fit.shape}: {', '.join(parts)}"


def read_folder(folder: Path, options: LeRobotOptions) -> LeRobotFolder:
    """Return what ``folder`` says of its policy.

    Raises:
        AgentError: A file is missing or damaged, or the policy reads or gives what no task has; one sentence.
    """
    config = _json(folder, CONFIG)
    for name in (WEIGHTS,):
        if not (folder / name).is_file():
            raise AgentError(f"{folder} has no {name}; give the folder that save_pretrained() wrote")
    kind = config.get("type")
    if not isinstance(kind, str) or not kind:
        raise AgentError(f"{folder / CONFIG} names no type of policy, so it is none of LeRobot's policies")
    if config.get("use_peft"):
        raise AgentError(f"{folder} holds an adapter of PEFT, not a whole policy; merge it and save that")
    inputs = _features(folder, config, "input_features")
    images = {name: shape for name, (type_, shape) in inputs.items() if type_ == _IMAGES}
    vectors = {name: shape for name, (type_, shape) in inputs.items() if type_ in _VECTORS}
    if other := [name for name in inputs if name not in images and name not in vectors]:
        raise AgentError(f"{folder} reads {shown(other[0])}, which no task shows; play another policy")
    if images and vectors:
        raise AgentError(
            f"{folder} reads images ({', '.join(map(shown, images))}) and vectors "
            f"({', '.join(map(shown, vectors))}), and a task shows one of them; play another policy"
        )
    size = _action_size(folder, config)
    bounds = read_bounds(options.low, options.high, size, "the arguments low and high")
    sizes = _image(folder, images, options) if images else {}
    slices = {} if images else _slices(folder, vectors, options.features)
    shape = IMAGE if images else (max(end for _, end in slices.values()),)
    return LeRobotFolder(
        folder,
        kind,
        sizes,
        slices,
        PolicyShape(shape, bool(images), "continuous", size),
        bounds,
        _processors(folder, config, options),
        files_of(folder),
    )


def files_of(folder: Path) -> tuple[str, ...]:
    """Return the names of the files in ``folder`` that decide what its policy does, in a fixed order."""
    found = [CONFIG, WEIGHTS, *(name for name in PROCESSORS if (folder / name).is_file())]
    for name in PROCESSORS:
        if name in found:
            steps = _json(folder, name).get("steps")
            for step in steps if isinstance(steps, list) else ():
                state = step.get("state_file") if isinstance(step, dict) else None
                if isinstance(state, str) and (folder / state).is_file() and Path(state).name == state:
                    found.append(state)
    return tuple(found)


def _processors(folder: Path, config: Mapping[str, Any], options: LeRobotOptions) -> bool:
    """Return whether the policy is asked through its processors; AgentError where they are missing."""
    absent = [name for name in PROCESSORS if not (folder / name).is_file()]
    if not options.processors:
        if len(absent) < len(PROCESSORS):
            raise AgentError(
                f"{folder} has processors, without which it acts otherwise; leave processors out"
            )
        return False
    modes = config.get("normalization_mapping")
    plain = isinstance(modes, dict) and all(mode == "IDENTITY" for mode in modes.values())
    if absent and not (plain and len(absent) == len(PROCESSORS)):
        raise AgentError(
            f"{folder} has no {absent[0]}, and without it nobody knows how observations and actions were "
            "normalised; save both processors there (preprocessor.save_pretrained(FOLDER), and the "
            "postprocessor likewise), or give processors=False for a policy that was trained on plain numbers"
        )
    return not absent


def _features(folder: Path, config: Mapping[str, Any], part: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape by name."""
    features = config.get(part)
    if not isinstance(features, dict) or not features:
        raise AgentError(f"{folder / CONFIG} tells no {part}; save the policy after it was trained")
    found = {}
    for name, one in features.items():
        type_, shape = (one.get("type"), one.get("shape")) if isinstance(one, dict) else (None, None)
        sizes = shape if isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape) else []
        if not sizes or not isinstance(type_, str):
            raise AgentError(f"{folder / CONFIG}: {part} has no type and shape of {shown(str(name))}")
        found[str(name)] = (type_, tuple(sizes))
    return found


def _action_size(folder: Path, config: Mapping[str, Any]) -> int:
    given = _features(folder, config, "output_features")
    shapes = [shape for type_, shape in given.values() if type_ == "ACTION"]
    if len(shapes) != 1 or len(given) != 1 or len(shapes[0]) != 1:
        raise AgentError(
            f"{folder} gives {', '.join(map(shown, given))}; policies that give one vector of "
            "actions are played"
        )
    return shapes[0][0]


def _image(
    folder: Path, images: Mapping[str, tuple[int, ...]], options: LeRobotOptions
) -> dict[str, tuple[int, int]]:
    if options.features:
        raise AgentError(f"{folder} reads images, and features is about vectors; leave features out")
    if len(images) > 1:
        raise AgentError(
            f"{folder} reads {len(images)} images ({', '.join(map(shown, images))}), and a task shows one; "
            "play another policy"
        )
    ((name, shape),) = images.items()
    if len(shape) != 3 or shape[0] != 3:
        raise AgentError(
            f"{folder} reads {shown(name)} of shape {shape}; images of shape (3, height, width) fit"
        )
    if shape != IMAGE and not options.resize:
        raise AgentError(
            f"{folder} reads images of shape {shape}, and tasks show {IMAGE}; give resize=True to have them "
            "resized, or train on the tasks' own"
        )
    return {name: (shape[1], shape[2])}


def _slices(
    folder: Path, vectors: Mapping[str, tuple[int, ...]], given: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, int]]:
    """Return first and end of what each vector is of a task's observation."""
    for name, shape in vectors.items():
        if len(shape) != 1:
            raise AgentError(f"{folder} reads {shown(name)} of shape {shape}; vectors fit")
    if not given and len(vectors) == 1:
        ((name, shape),) = vectors.items()
        return {name: (0, shape[0])}
    first = next(iter(vectors))
    example = f"features={{{first!r}: [0, {vectors[first][0]}], ...}}"
    if not given:
        raise AgentError(
            f"{folder} reads {len(vectors)} vectors ({', '.join(map(shown, vectors))}), and a task shows "
            f"one; say which numbers of it each is, as in {example}"
        )
    if set(given) != set(vectors):
        raise AgentError(
            f"features names {', '.join(shown(str(one)) for one in given)}, and {folder} reads "
            f"{', '.join(map(shown, vectors))}; name just these, as in {example}"
        )
    found = {}
    for name, (size,) in vectors.items():
        ends = given[name]
        pair = isinstance(ends, Sequence) and len(ends) == 2 and all(type(one) is int for one in ends)
        if not pair or not 0 <= ends[0] < ends[1] or ends[1] - ends[0] != size:
            raise AgentError(
                f"features gives {shown(name)} the numbers {shown(str(ends))}, and it has {size}; give "
                f"[first, end] with end - first = {size}"
            )
        found[name] = (ends[0], ends[1])
    return found


def _json(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("it is larger than such a file is")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except FileNotFoundError:
        raise AgentError(
            f"{folder} has no {name}; give the folder that save_pretrained() of a LeRobot policy wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AgentError(f"{file} cannot be read ({shown(str(error), 160)}); save the policy again") from None
    return content
