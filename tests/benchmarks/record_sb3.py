"""Record small archives of Stable-Baselines3, and what the package's own ``predict`` answers with them.

Run in an environment that has stable-baselines3, from the root of the repository::

    python tests/benchmarks/record_sb3.py tests/data/sb3

``NAME.zip`` is what ``model.save`` wrote without optimizers; ``expected.npz`` holds ``NAME.seen``, eight
observations, and ``NAME.actions``, in the policy's own bounds. Of the convolutional policy the weights are a
formula (:func:`filled`), and its archive has no ``policy.pth``: the test writes it.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3


class Nothing(gymnasium.Env[Any, Any]):
    """An environment of two spaces, for algorithms that want to see one."""

    def __init__(self, observation: Box, action: Any) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.reset()[0], 0.0, False, False, {}


def filled(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights of the same shapes by a formula; the policy's and the value's extractor are one."""
    found = {}
    own = [name.removeprefix("pi_").removeprefix("vf_") for name in weights]
    for short, (name, tensor) in zip(own, weights.items(), strict=True):
        place = sorted(set(own)).index(short)
        numbers = torch.arange(tensor.numel(), dtype=torch.float64) * (place + 1) * 0.7
        fan = max(tensor[0].numel(), 1) if tensor.dim() > 1 else 4
        found[name] = (torch.sin(numbers) * (2.0 / fan) ** 0.5).reshape(tensor.shape).float()
    return found


VECTOR = Box(-np.inf, np.inf, (6,), np.float32)
IMAGE = Box(0, 255, (3, 64, 64), np.uint8)
PLAIN = Box(-1, 1, (2,), np.float32)
FAR = Box(-50, 50, (2,), np.float32)
WIDE = Box(np.array([-2, -0.5], np.float32), np.array([1, 3], np.float32))
SMALL: dict[str, Any] = {"net_arch": [8, 7]}
MODELS: dict[str, tuple[Any, str, Box, Any, dict[str, Any]]] = {
    "ppo": (PPO, "MlpPolicy", VECTOR, WIDE, {**SMALL, "log_std_init": -1.0}),
    "ppo_elu": (PPO, "MlpPolicy", VECTOR, Discrete(5), {**SMALL, "activation_fn": torch.nn.ELU}),
    "a2c": (A2C, "MlpPolicy", VECTOR, PLAIN, {"net_arch": {"pi": [8], "vf": [4]}}),
    "sac": (SAC, "MlpPolicy", VECTOR, WIDE, {**SMALL, "n_critics": 1}),
    "sac_sde": (SAC, "MlpPolicy", VECTOR, PLAIN, {**SMALL, "n_critics": 1, "use_sde": True}),
    "td3": (TD3, "MlpPolicy", VECTOR, PLAIN, {**SMALL, "n_critics": 1}),
    "dqn": (DQN, "MlpPolicy", VECTOR, Discrete(4), SMALL),
    "ppo_cnn": (PPO, "CnnPolicy", IMAGE, FAR, {"features_extractor_kwargs": {"features_dim": 16}}),
}


def record(folder: Path) -> None:
    """Write archives and answers into ``folder``."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, np.ndarray[Any, Any]] = {}
    for name, (algorithm, policy, observation, action, more) in MODELS.items():
        buffer = {} if algorithm in (PPO, A2C) else {"buffer_size": 10}
        env = Nothing(observation, action)
        state_noise = {"use_sde": True} if more.get("use_sde") else {}
        kwargs = {"policy_kwargs": dict(more), "seed": 1, "device": "cpu", **buffer, **state_noise}
        model = algorithm(policy, env, **kwargs)
        weights = model.policy.state_dict()
        if name == "ppo_cnn":
            model.policy.load_state_dict(filled(weights))
        else:
            with torch.no_grad():
                for key, tensor in weights.items():
                    if key.startswith("action_net"):  # begins a hundred times smaller than others
                        tensor.mul_(50)
        rng = np.random.default_rng(2)
        if observation is IMAGE:
            seen = rng.integers(0, 256, (8, *IMAGE.shape), dtype=np.uint8)
        else:
            seen = rng.normal(0, 2, (8, *observation.shape)).astype(np.float32)
        expected[f"{name}.seen"] = seen if observation is not IMAGE else np.zeros(0, np.uint8)
        expected[f"{name}.actions"] = model.predict(seen, deterministic=True)[0]
        whole = io.BytesIO()
        model.save(whole)
        with (
            zipfile.ZipFile(whole) as old,
            zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for member in old.namelist():
                if member == "policy.pth" and name == "ppo_cnn":
                    shapes = {key: list(tensor.shape) for key, tensor in weights.items()}
                    new.writestr("shapes.json", json.dumps(shapes))
                elif member in ("data", "policy.pth", "_stable_baselines3_version"):
                    new.writestr(member, old.read(member))
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)
