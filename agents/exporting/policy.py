"""Acts by the policy in this folder. Needs numpy, and onnxruntime or torch, as model.json's "to" says.

    policy, (observation, reward) = Policy(), (env.reset(), 0.0)
    policy.reset()  # at the beginning of every episode
    while True:
        action = policy.act(observation, reward)  # reward: what the last action earned
        observation, reward, ... = env.step(action)

``python policy.py`` decides a hundred times on noise and tells the time of a decision.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[dict[str, Any]], dict[str, Any]]


class Policy:
    """The policy of a folder, with the recurrent state of one episode.

    Attributes:
        metadata: What ``model.json`` says.
        logits: Of the last decision, of the classes that the task has.
    """

    def __init__(self, folder: str | Path | None = None, threads: int = 1) -> None:
        folder = Path(folder or Path(__file__).parent)
        self.metadata: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self._run = (_onnx if self.metadata["to"] == "onnx" else _torch)(folder, self.metadata, threads)
        self.reset()

    def reset(self, target_return: float | None = None) -> None:
        """Begin an episode that is to earn ``target_return`` (None: what the model asks for)."""
        self._state = {
            one["input"]: np.full(one["shape"], one["initial"], one["dtype"])
            for one in self.metadata["state"]
        }
        asked = self.metadata["target_return"] if target_return is None else target_return
        self._asked, self._first, self.logits = float(asked or 0), True, np.empty(0)

    def act(self, observation: Any, reward: float = 0.0) -> Any:
        """Return the action: an int, or float32 numbers in [-1, 1]. An episode's first reward is not read."""
        given: dict[str, Any] = {"observation": observation, "reward": [reward], "first": [self._first]}
        given["target_return"], values = [self._asked], {}
        for one in self.metadata["inputs"]:
            value = np.ascontiguousarray(np.asarray(given[one["name"]], one["dtype"]))
            if value.shape != tuple(one["shape"]):
                raise ValueError(f"{one['name']} has the shape {value.shape}, not {tuple(one['shape'])}")
            values[one["name"]] = value
        found = self._run({**values, **self._state})
        if not np.isfinite(found["logits"]).all():
            raise ValueError("the policy's output is not finite; look at the observation")
        self._state = {one["input"]: found[one["output"]] for one in self.metadata["state"]}
        self._first, self.logits = False, found["logits"]
        return int(found["action"][0]) if self.metadata["task"]["action"] == "discrete" else found["action"]


def _onnx(folder: Path, metadata: dict[str, Any], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    file = str(folder / metadata["file"])
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [one["name"] for one in metadata["outputs"]] + [one["output"] for one in metadata["state"]]
    return lambda values: dict(zip(names, session.run(names, values), strict=True))


def _torch(folder: Path, metadata: dict[str, Any], threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    program = torch.export.load(folder / metadata["file"]).module()  # it may hold pickles: trust its maker
    given = [one["name"] for one in metadata["inputs"]] + [one["input"] for one in metadata["state"]]
    names = [one["name"] for one in metadata["outputs"]] + [one["output"] for one in metadata["state"]]

    def run(values: dict[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            found = program(*(torch.from_numpy(values[name]) for name in given))
        return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}

    return run


if __name__ == "__main__":
    policy, noise, taken = Policy(), np.random.default_rng(0), []
    for _ in range(100):
        shown = noise.uniform(0, 2, policy.metadata["task"]["observation_shape"])
        begun = time.perf_counter()
        done = policy.act(shown)
        taken.append(time.perf_counter() - begun)
    print(f"the last action: {done}; {1e3 * float(np.median(taken)):.3f} ms a decision")
