"""How observations were normalised while a policy was trained, from a file that is no pickle.

Stable-Baselines3 keeps the statistics of ``VecNormalize`` in a pickle, which could run code and is not read
here. Its owner writes them as plain numbers::

    v = VecNormalize.load("vecnormalize.pkl", env)
    np.savez("normalization.npz", mean=v.obs_rms.mean, var=v.obs_rms.var, clip=v.clip_obs, epsilon=v.epsilon)

Decision Transformers are published with ``mean`` and ``std`` of the states; these are neither clipped nor is
anything added, unless ``clip`` and ``epsilon`` say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.api import AgentError
from lram.agents.shown import shown

_LARGEST = 64 * 2**20
_NAMES = ("mean", "var", "clip", "epsilon")
_UNCLIPPED = float(np.finfo(np.float32).max)
_CONVERT = (
    "write its numbers where you trust it: v = VecNormalize.load(FILE, env), then "
    "np.savez('normalization.npz', mean=v.obs_rms.mean, var=v.obs_rms.var, clip=v.clip_obs, "
    "epsilon=v.epsilon)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """Statistics of observations.

    Attributes:
        mean: Float64, of an observation's shape.
        var: Likewise; the variance.
        clip: Greatest size of a normalised number.
        epsilon: Added to the variance.
    """

    mean: npt.NDArray[np.float64]
    var: npt.NDArray[np.float64]
    clip: float = 10.0
    epsilon: float = 1e-8

    def __call__(self, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return observations (n, ...) as a policy reads them, as ``VecNormalize`` computes them."""
        scaled = (observations - self.mean) / np.sqrt(self.var + self.epsilon)
        found: npt.NDArray[np.float32] = np.clip(scaled, -self.clip, self.clip).astype(np.float32)
        return found


def read_normalization(file: Path, shape: tuple[int, ...], *, states: bool = False) -> Normalization:
    """Return the statistics in a ``.npz`` or ``.json``: ``mean``, ``var``, perhaps ``clip``, ``epsilon``.

    Args:
        file: The file.
        shape: Of an observation.
        states: They are of a Decision Transformer: ``std`` may stand for ``var``.

    Raises:
        AgentError: It is a pickle or damaged, or does not fit the observation; one sentence.
    """
    if not file.is_file():
        named = "mean and std" if states else "mean, var, clip and epsilon"
        raise AgentError(f"{file} does not exist; give a .npz or .json with {named}")
    if states and file.suffix not in (".npz", ".json"):
        raise AgentError(f"{file} is neither .npz nor .json; write the states' mean and std into one")
    if file.suffix not in (".npz", ".json"):
        raise AgentError(f"{file} is neither .npz nor .json, and a pickle could run code; {_CONVERT}")
    if file.stat().st_size > _LARGEST:
        raise AgentError(f"{file} is larger than statistics of observations are; give mean and var alone")
    try:
        if file.suffix == ".json":
            values: Any = json.loads(file.read_text(encoding="utf-8"))
        else:
            with np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in (*_NAMES, "std") if name in arrays}
    except Exception as error:  # whatever NumPy, zipfile and json raise for a damaged file
        reason = shown(str(error).partition("\n")[0], 160)
        raise AgentError(f"{file} cannot be read ({reason}); write it again") from None
    if states and isinstance(values, dict) and "var" not in values and "std" in values:
        std = values.pop("std")
        values = {**values, "var": _squared(std, str(file))}
    if states and isinstance(values, dict):
        values = {"clip": _UNCLIPPED, "epsilon": 0.0, **values}
    return normalization(values, shape, str(file))


def _squared(value: object, source: str) -> npt.NDArray[np.float64]:
    try:
        std = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise AgentError(f"{source}: std holds something else than numbers; write it again") from None
    if not (std > 0).all():
        raise AgentError(f"{source}: std holds numbers that are not above 0")
    return std * std


def normalization(values: object, shape: tuple[int, ...], source: str) -> Normalization:
    """Return statistics from plain numbers; ``source`` is what messages call them.

    Raises:
        AgentError: Something is missing, of another shape, or no finite number; one sentence.
    """
    if not isinstance(values, Mapping) or not {"mean", "var"} <= set(values):
        raise AgentError(f"{source} lacks mean and var; write both, of shape {shape}")
    if unknown := set(values) - {"mean", "var", "clip", "epsilon"}:
        raise AgentError(f"{source}: {shown(str(min(unknown)))} is none of mean, var, clip, epsilon")
    found = {}
    for name, value in values.items():
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise AgentError(f"{source}: {name} holds something else than numbers; write it again") from None
        wanted = shape if name in ("mean", "var") else ()
        if array.shape != wanted and not (not wanted and array.size == 1):
            raise AgentError(f"{source}: {name} has the shape {array.shape}, and the policy sees {wanted}")
        if not np.isfinite(array).all() or (name != "mean" and (array < 0).any()):
            raise AgentError(f"{source}: {name} holds numbers that are negative or not finite")
        found[name] = array
    numbers = {name: float(found[name].item()) for name in ("clip", "epsilon") if name in found}
    return Normalization(found["mean"], found["var"], **numbers)
