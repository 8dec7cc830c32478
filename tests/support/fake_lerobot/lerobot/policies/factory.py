"""A policy that draws, and plays chunks; processors that scale."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class FakePolicy(torch.nn.Module):
    """Actions W x + calls / 8, with noise where ``noise`` is not 0, in chunks of three."""

    def __init__(self, config: Any, folder: str) -> None:
        super().__init__()
        self.config, self._folder = config, folder
        self.weight = torch.nn.Parameter(torch.zeros(2, config.width))
        # What a policy may remember in a buffer.
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self._queue: deque[Any] = deque()

    @classmethod
    def from_pretrained(cls, folder: str, *, config: Any, strict: bool) -> FakePolicy:
        print("Loading weights from local directory")  # LeRobot prints
        policy = cls(config, folder)
        policy.load_state_dict(load_file(str(Path(folder) / "model.safetensors")), strict=strict)
        return policy

    def reset(self) -> None:
        """Forget the queue, and not the count of calls: only a fresh copy does."""
        self._queue.clear()

    def select_action(self, batch: dict[str, Any]) -> Any:
        if (Path(self._folder) / "die").exists() and self.calls.item() >= 5:
            os._exit(3)
        self.calls += 1
        if not self._queue:
            seen = torch.cat([batch[name].flatten(1) for name in self.config.input_features], 1)
            action = seen @ self.weight.T + self.calls / 8
            chunk = [action + self.config.noise * torch.randn(1, 2) for _ in range(3)]
            self._queue.extend(chunk)
        return self._queue.popleft()


class FakeSteps:
    def __init__(self, factor: float, key: str, text: str) -> None:
        self.factor, self.key, self.text = factor, key, text

    def __call__(self, given: Any) -> Any:
        if not isinstance(given, dict):
            return given * self.factor
        assert given["task"] == self.text, given["task"]
        return {**given, self.key: given[self.key] * self.factor}

    def reset(self) -> None:
        """Nothing is remembered."""


def get_policy_class(kind: str) -> type[FakePolicy]:
    assert kind == "fake"
    return FakePolicy


def make_pre_post_processors(config: Any, pretrained_path: str, **overrides: Any) -> tuple[Any, Any]:
    assert overrides["preprocessor_overrides"] == {"device_processor": {"device": "cpu"}}, overrides
    made = []
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        told = json.loads((Path(pretrained_path) / name).read_text())
        made.append(FakeSteps(told["factor"], next(iter(config.input_features)), told.get("text", "")))
    return made[0], made[1]
