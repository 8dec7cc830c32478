"""From an archive of Stable-Baselines3 to an agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lram.agents.adapters.actions import Bounds, Choose, drawn, greatest, read_bounds
from lram.agents.adapters.normalization import Normalization, read_normalization
from lram.agents.adapters.policy import AdaptedPolicy, PolicyShape, safe_rows
from lram.agents.adapters.sb3.archive import Sb3Archive, read_archive
from lram.agents.adapters.sb3.choosing import explored, gaussian, squashed_gaussian
from lram.agents.adapters.sb3.network import ActingNetwork, activation_class, build_network
from lram.agents.api import AgentError, AgentInfo
from lram.agents.compute import Compute
from lram.agents.devices import find_device
from lram.agents.shown import shown
from lram.agents.sums import files_digest

_DEFAULT_ACTIVATION = {"PPO": "tanh", "SAC": "relu", "TD3": "relu", "DQN": "relu"}
STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")
"""How people call the pickle of VecNormalize that lies beside an archive (the RL Zoo: the first)."""
_EXTRACTORS = tuple(
    f"<class 'stable_baselines3.common.torch_layers.{name}'>" for name in ("FlattenExtractor", "NatureCNN")
)


@dataclass(frozen=True, slots=True)
class Sb3Options:
    """Arguments of a name; :mod:`lram.agents.adapters.sb3` tells what they mean."""

    activation: str | None = None
    deterministic: bool = True
    low: float | Sequence[float] | None = None
    high: float | Sequence[float] | None = None
    normalization: str | bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.deterministic, bool):
            raise AgentError(f"deterministic is {self.deterministic!r}; give True or False")
        if self.activation is not None and not isinstance(self.activation, str):
            raise AgentError(f"activation is {self.activation!r}; give a name, such as 'relu'")
        if not (self.normalization in (None, False) or isinstance(self.normalization, str)):
            raise AgentError(f"normalization is {self.normalization!r}; give a .npz or .json, or False")
        if (self.low is None) != (self.high is None):
            raise AgentError("low and high go together; give both, such as low=-2, high=2")


def load_policy(file: Path, options: Sb3Options, compute: Compute) -> AdaptedPolicy:
    """Return the agent of the archive ``file``.

    Raises:
        AgentError: It cannot be read, or is of a policy that is not known here; one sentence.
    """
    if compute.precision != "float32":
        raise AgentError(f"{file} computes in float32; leave --precision {compute.precision} out")
    archive = read_archive(file)
    try:
        return _load(file, archive, options, compute)
    except AgentError as error:
        words = str(error)
        raise AgentError(words if words.startswith(str(file)) else f"{file}: {words}") from None


def _load(file: Path, archive: Sb3Archive, options: Sb3Options, compute: Compute) -> AdaptedPolicy:
    family = "PPO" if archive.algorithm == "A2C" else archive.algorithm
    _check_extractor(archive)
    shape, pixels = _observations(archive, family)
    activation, assumed = _activation(archive, family, options)
    clip_mean = archive.policy.get("clip_mean", 2.0)
    network = build_network(
        family,
        archive.weights,
        shape,
        activation_class(activation),
        clip_mean=float(clip_mean) if isinstance(clip_mean, int | float) else 2.0,
        with_std=not options.deterministic,
    )
    if not options.deterministic and (family == "TD3" or network.state_noise):
        why = "TD3 draws nothing" if family == "TD3" else "its exploration depends on states (gSDE)"
        raise AgentError(f"{why}, so it acts deterministically only; leave deterministic=False out")
    continuous = family in ("SAC", "TD3") or (family == "PPO" and "log_std" in archive.weights)
    _check_kind(archive, continuous)
    bounds: Bounds | None = None
    if continuous:
        bounds, source = _bounds(archive, network.outputs, options)
        assumed += [source] if source else []
    elif options.low is not None:
        raise AgentError("its actions are discrete and have no bounds; leave low and high out")
    squashed = family in ("SAC", "TD3") or archive.policy.get("squash_output") is True
    statistics, files = _normalization(file, shape, options), [file]
    if statistics is not None:
        files.append(file.parent / str(options.normalization))
        pixels = False
    choose = _chooser(archive, network, bounds, squashed, options.deterministic)
    run = _runner(network, pixels, squashed and options.deterministic, statistics, compute.device)
    fit = PolicyShape(
        shape, archive.observations.dtype == "uint8" and len(shape) == 3, *_size(continuous, network)
    )
    layers = f"{'NatureCNN' if network.images else 'MLP'} {'-'.join(map(str, network.hidden)) or 'linear'}"
    how = "deterministic" if options.deterministic else "drawn from the episode's seed"
    mapped = f", {bounds.describe()} mapped to [-1, 1]" if bounds is not None and not bounds.plain else ""
    details = [
        ("sees", f"{fit.describe()}{', divided by 255' if pixels else ''}"),
        ("normalization", str(options.normalization) if statistics is not None else "none"),
        ("actions", f"{how}{mapped}"),
        ("archive", f"stable_baselines3 {archive.version or 'of an unknown version'}"),
        ("assumed", "; ".join(assumed) or "nothing"),
    ]
    info = AgentInfo(
        "model",
        shown(f"SB3 {archive.algorithm}, {layers} {activation}, {how}{mapped} ({file.name})", 300),
        trained=True,
        parameters=network.parameters,
        digest=files_digest(*files),
        details=tuple(details),
    )
    return AdaptedPolicy(
        run, choose, fit=fit, info=info, rows=safe_rows(compute), draws=not options.deterministic
    )


def _size(continuous: bool, network: ActingNetwork) -> tuple[Any, int]:
    return ("continuous" if continuous else "discrete"), network.outputs


def _observations(archive: Sb3Archive, family: str) -> tuple[tuple[int, ...], bool]:
    """Return an observation's shape, and whether it is divided by 255."""
    space = archive.observations
    if space.kind not in ("Box", ""):
        raise AgentError(f"its observations are a {shown(space.kind)} space; those of Box spaces are read")
    shape = space.shape
    if shape is None:
        first = {
            "PPO": "mlp_extractor.policy_net.0.weight",
            "SAC": "actor.latent_pi.0.weight",
            "TD3": "actor.mu.0.weight",
            "DQN": "q_net.q_net.0.weight",
        }[family]
        tensor = archive.weights.get(first)
        if tensor is None or tensor.dim() != 2:
            raise AgentError("it does not tell the shape of its observations; save the model again")
        shape = (int(tensor.shape[1]),)
    image = len(shape) == 3 and space.dtype == "uint8" and space.first == (0.0, 255.0)
    return shape, image and archive.policy.get("normalize_images") is not False


def _check_extractor(archive: Sb3Archive) -> None:
    """Refuse a features extractor of one's own: one without weights leaves no other trace in the archive."""
    extractor = archive.policy.get("features_extractor_class", _EXTRACTORS[0])
    if extractor not in _EXTRACTORS:
        raise AgentError(
            f"its features extractor is {shown(str(extractor))}, which is not known here; those of MlpPolicy "
            "and CnnPolicy (FlattenExtractor, NatureCNN) are read: write an agent around this policy "
            "(docs/how-to/extending.md)"
        )


def _activation(archive: Sb3Archive, family: str, options: Sb3Options) -> tuple[str, list[str]]:
    """Return the activation's name, and what was assumed of it."""
    if options.activation is not None:
        return options.activation.lower(), []
    named = archive.policy.get("activation_fn")
    if isinstance(named, str):
        activation_class(named)  # raises, with the names that are known
        return named.rpartition(".")[2].removesuffix("'>").lower(), []
    default = _DEFAULT_ACTIVATION[family]
    return default, [f"activation {default}, the default of {archive.algorithm}"]


def _check_kind(archive: Sb3Archive, continuous: bool) -> None:
    wanted = "Box" if continuous else "Discrete"
    if archive.actions.kind not in (wanted, ""):
        raise AgentError(f"its actions are a {shown(archive.actions.kind)} space; Box and Discrete are read")


def _bounds(archive: Sb3Archive, size: int, options: Sb3Options) -> tuple[Bounds, str]:
    """Return the bounds of the policy's actions, and what was assumed of them."""
    if options.low is not None:
        return read_bounds(options.low, options.high, size, "the arguments"), ""
    low, high = archive.actions.low, archive.actions.high
    if low is None or high is None or len(low) != size or len(high) != size:
        return read_bounds(-1, 1, size, ""), "actions in [-1, 1] (low and high say others)"
    if not all(map(math.isfinite, low + high)):
        raise AgentError("its actions have no bounds; say what is -1 and what is 1: (low=-1, high=1)")
    return read_bounds(low, high, size, "its action space"), ""


def _normalization(file: Path, shape: tuple[int, ...], options: Sb3Options) -> Normalization | None:
    if isinstance(options.normalization, str):
        return read_normalization(file.parent / options.normalization, shape)
    beside = [name for name in STATISTICS if (file.parent / name).exists()]
    if beside and options.normalization is None:
        raise AgentError(
            f"{file}: {beside[0]} lies beside it, so its observations may have been normalised, and a pickle "
            "could run code; give the statistics as normalization='FILE.npz' (docs/how-to/policies.md), or "
            "normalization=False"
        )
    return None


def _chooser(
    archive: Sb3Archive, network: ActingNetwork, bounds: Bounds | None, squashed: bool, deterministic: bool
) -> Choose:
    if bounds is None:
        if deterministic:
            return greatest
        return explored(archive.exploration) if archive.algorithm == "DQN" else drawn
    if squashed:
        return squashed_gaussian(bounds, None if deterministic else network.outputs)
    std = None if deterministic or network.log_std is None else np.exp(network.log_std.double().numpy())
    return gaussian(bounds, std)


def _runner(
    network: ActingNetwork, pixels: bool, squash: bool, statistics: Normalization | None, device: str
) -> Callable[[list[Any]], list[Any]]:
    module = network.module.to(find_device(device))

    def run(arrays: list[Any]) -> list[Any]:
        seen = arrays[0] if statistics is None else statistics(arrays[0])
        with torch.inference_mode():
            x = torch.from_numpy(seen).to(device).float()
            answer = module(x / 255.0 if pixels else x)
            return [(torch.tanh(answer) if squash else answer).cpu().numpy()]

    return run
