"""What an exported network's file does not tell: ``FILE.toml`` beside ``FILE``.

::

    observation = [39]        # shape of one; images: [3, 64, 64]
    pixels = "unit"           # images only: "raw" (uint8), "float" (0 to 255) or "unit" (0 to 1)
    action = "continuous"     # or "discrete"
    size = 4                  # dimensions, or number of discrete actions
    output = "mean"           # "actions", "mean" (put within the bounds) or "logits" (discrete)
    batch = 1                 # lanes of every pass, where the network needs more or treats rows apart
    low = -1                  # what of the network's actions is -1 for the task; a number, or one a dimension
    high = 1                  # likewise 1
    draw = false              # true: discrete actions are drawn by the logits, continuous ones with ``std``
    std = 0.1                 # standard deviation around the mean; a number, or one a dimension

    [names]                   # ONNX, where the network has more than one input or output
    observation = "obs"
    answer = "action"

    [[memory]]                # each array that a recurrent network reads and gives anew
    shape = [64]              # of one lane
    axis = 0                  # where the lanes' axis is in the network's array
    dtype = "float32"
    initial = 0.0             # all its numbers when an episode begins
    input = "h"               # ONNX: its names; TorchScript goes by the order of these tables
    output = "h_new"

    [normalization]           # of observations, as VecNormalize: mean, var, clip, epsilon
    mean = [0.0]
    var = [1.0]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lram.agents.adapters.actions import Bounds, read_bounds
from lram.agents.adapters.normalization import Normalization, normalization
from lram.agents.api import AgentError
from lram.agents.shown import shown

_Whole = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
_Numbers = float | list[float]
_LARGEST = 8 * 2**20


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of an ONNX network's input and output; empty: the first that is no memory's."""

    observation: str = ""
    answer: str = ""


class MemoryTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One array that a network remembers; the module's text tells the fields."""

    shape: list[_Whole]
    axis: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    dtype: Literal["float32", "float64", "int64", "int32", "bool"] = "float32"
    initial: float = 0.0
    input: str = ""
    output: str = ""


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an exported network is used; the module's text tells the fields."""

    observation: Annotated[list[_Whole], msgspec.Meta(min_length=1, max_length=4)]
    action: Literal["continuous", "discrete"]
    size: _Whole
    output: Literal["actions", "mean", "logits"]
    pixels: Literal["raw", "float", "unit"] | None = None
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    low: _Numbers = -1.0
    high: _Numbers = 1.0
    draw: bool = False
    std: _Numbers | None = None
    names: Names = Names()
    memory: list[MemoryTable] = []
    normalization: Mapping[str, Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one observation."""
        return tuple(self.observation)


def sidecar_of(file: Path) -> Path:
    """Return the sidecar's path for a network's file."""
    return file.with_name(f"{file.name}.toml")


def read_sidecar(file: Path) -> Sidecar:
    """Return what ``FILE.toml`` says of the network in ``file``.

    Raises:
        AgentError: It is missing, no TOML, or says something that cannot be; one sentence.
    """
    sidecar = sidecar_of(file)
    if not sidecar.is_file():
        raise AgentError(
            f"{sidecar} is missing: it tells what the network sees and what its output means "
            "(docs/how-to/policies.md shows one)"
        )
    if sidecar.stat().st_size > _LARGEST:
        raise AgentError(f"{sidecar} is larger than a sidecar is; write it as docs/how-to/policies.md shows")
    try:
        found = msgspec.convert(tomllib.loads(sidecar.read_text(encoding="utf-8")), Sidecar)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, RecursionError) as error:
        reason = shown(str(error), 200)
        raise AgentError(f"{sidecar}: {reason}; docs/how-to/policies.md shows a whole one") from None
    if problem := _problem(found):
        raise AgentError(f"{sidecar}: {problem}")
    return found


def bounds_of(sidecar: Sidecar, file: Path) -> Bounds | None:
    """Return the bounds of a network's continuous actions; AgentError where they are none."""
    if sidecar.action == "discrete":
        return None
    return read_bounds(sidecar.low, sidecar.high, sidecar.size, str(sidecar_of(file)))


def normalization_of(sidecar: Sidecar, file: Path) -> Normalization | None:
    """Return the statistics of observations, where there are any; AgentError where they do not fit."""
    if sidecar.normalization is None:
        return None
    return normalization(sidecar.normalization, sidecar.shape, f"{sidecar_of(file)} [normalization]")


def _problem(found: Sidecar) -> str:
    """Return what of a sidecar contradicts the rest, and the remedy; empty where nothing does."""
    image, discrete = len(found.observation) == 3, found.action == "discrete"
    if image and found.pixels is None:
        return 'observations are images; say pixels = "raw", "float" or "unit"'
    if not image and found.pixels is not None:
        return "pixels is for images, of shape [channels, height, width]; leave it out"
    if found.output == "logits" and not discrete:
        return 'logits are of discrete actions; say output = "mean" or "actions"'
    if found.output == "mean" and discrete:
        return 'discrete actions have no mean; say output = "logits" or "actions"'
    if found.draw and found.output == "actions":
        return "actions are not drawn again; leave draw out, or give logits or a mean"
    if (found.std is not None) != (found.draw and not discrete):
        return "std is the deviation of continuous actions that are drawn: draw = true and std go together"
    if found.std is not None and min(_list(found.std)) < 0:
        return "std must be 0 or more"
    if found.std is not None and len(_list(found.std)) not in (1, found.size):
        return f"std must be a number, or {found.size} of them"
    if any(table.axis > len(table.shape) for table in found.memory):
        return "a memory's axis must be at most the number of its shape's dimensions"
    return ""


def _list(value: _Numbers) -> Sequence[float]:
    return value if isinstance(value, list) else [value]
