"""An archive of Stable-Baselines3, read without unpickling: its JSON, and its weights by ``weights_only``.

``data`` of an archive is JSON. What JSON cannot hold stands there as a pickle in base64, with the object's
fields beside it as plain values or text (``stable_baselines3.common.save_util.data_to_json``). Only these
plain values and texts are read.
"""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.checkpoints.untrusted import damage_reported, load_plain, unpack
from lram.agents.shown import shown

_LARGEST_DATA = 64 * 2**20
_MEMBERS = ("data", "policy.pth")
_FAMILIES = {
    "stable_baselines3.common.policies": "PPO",
    "stable_baselines3.sac.policies": "SAC",
    "stable_baselines3.td3.policies": "TD3",
    "stable_baselines3.dqn.policies": "DQN",
}
"""Algorithms by the module of their policies. A2C's is PPO's, DDPG's is TD3's."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Space:
    """An observation or action space, as far as plain values and texts tell.

    Attributes:
        kind: Class, such as ``Box``.
        shape: Of a Box; None where it is not recorded.
        dtype: NumPy's name; empty where it is not recorded.
        low: Lower bounds of a Box, flat; None where the text leaves some out.
        high: Likewise.
        first: The first number of both, such as (0, 255) for images; NaN where there is none.
    """

    kind: str
    shape: tuple[int, ...] | None
    dtype: str
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    first: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sb3Archive:
    """What is read of an archive.

    Attributes:
        algorithm: PPO, A2C, SAC, TD3 (or DDPG) or DQN.
        version: Of stable_baselines3; empty where it is not recorded.
        policy: Keyword arguments of the policy: plain values, and texts for the others.
        observations: The observation space.
        actions: The action space.
        exploration: Share of random actions that DQN ended with.
        weights: The policy's, by name, in float32.
    """

    algorithm: str
    version: str
    policy: Mapping[str, Any]
    observations: Space
    actions: Space
    exploration: float
    weights: Mapping[str, Tensor]


def read_archive(file: Path) -> Sb3Archive:
    """Return what ``file`` holds.

    Raises:
        AgentError: It is no such archive, is damaged, or of another algorithm; one sentence.
    """
    with tempfile.TemporaryDirectory(prefix="lram-sb3-") as folder:
        policy, version = Path(folder) / "policy.pth", ""
        with damage_reported(str(file)), zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if missing := [name for name in _MEMBERS if name not in names]:
                raise AgentError(
                    f"{file} has no {missing[0]}, so it is no archive of Stable-Baselines3; give what "
                    "model.save() wrote"
                )
            if archive.getinfo("data").file_size > _LARGEST_DATA:
                raise AgentError(
                    f"{file}: its data is larger than {_LARGEST_DATA} bytes; save the model again"
                )
            data = json.loads(archive.read("data"))
            unpack(archive, "policy.pth", policy, str(file))
            if "_stable_baselines3_version" in names:
                with archive.open("_stable_baselines3_version") as text:
                    version = shown(text.read(40).decode("utf-8", "replace").strip(), 20)
        weights = _weights(load_plain(policy, f"{file} (policy.pth)"), file, policy.stat().st_size)
    if not isinstance(data, dict):
        raise AgentError(f"{file}: its data is no JSON object; save the model again")
    exploration = data.get("exploration_rate", 0.0)
    return Sb3Archive(
        _algorithm(data, file),
        version,
        _fields(data, "policy_kwargs"),
        _space(_fields(data, "observation_space")),
        _space(_fields(data, "action_space")),
        min(max(float(exploration), 0.0), 1.0) if isinstance(exploration, int | float) else 0.0,
        weights,
    )


def _algorithm(data: Mapping[str, Any], file: Path) -> str:
    module = str(_fields(data, "policy_class").get("__module__", ""))
    if module not in _FAMILIES:
        raise AgentError(
            f"{file} has a policy of {shown(module) or 'an unknown module'}; PPO, A2C, SAC, TD3, DDPG and "
            "DQN of stable_baselines3 are read: write an agent around others (docs/how-to/extending.md)"
        )
    family = _FAMILIES[module]
    return "A2C" if family == "PPO" and "clip_range" not in data else family


def _weights(value: Any, file: Path, largest: int) -> dict[str, Tensor]:
    named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    if not named or not value or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise AgentError(f"{file}: its policy.pth is no state dict; save the model again")
    for name, tensor in value.items():
        plain = tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_nested
        # A tensor can repeat one number a billion times at no cost, until it is copied.
        if not plain or tensor.numel() * tensor.element_size() > largest:
            raise AgentError(f"{file}: {shown(name)} is not a plain tensor of floating-point numbers")
    return {name: tensor.detach() for name, tensor in value.items()}


def _fields(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _space(fields: Mapping[str, Any]) -> Space:
    found = re.search(r"(\w+)'>", str(fields.get(":type:", "")))
    shape = fields.get("_shape", fields.get("shape"))
    sized = isinstance(shape, list) and all(type(one) is int and one > 0 for one in shape)
    texts = [str(fields.get(name, "")) for name in ("low", "high")]
    first = [float(number[0]) if (number := _NUMBER.search(text)) else float("nan") for text in texts]
    low, high = (
        tuple(map(float, _NUMBER.findall(text))) if text and "..." not in text else None for text in texts
    )
    return Space(
        found[1] if found else "",
        tuple(shape) if sized and shape else None,
        str(fields.get("dtype", "")),
        low,
        high,
        (first[0], first[1]),
    )
