"""Record small Decision Transformers of transformers, and what they answer in an episode, step by step.

Run in an environment that has transformers and torch, from the root of the repository::

    python tests/benchmarks/record_hf_dt.py tests/data/hf_dt

Each folder is what ``save_pretrained`` wrote, of random weights. ``expected.npz`` holds ``NAME.states``,
``NAME.rewards`` and ``NAME.actions`` of one episode, played as the authors' evaluation does it
(https://huggingface.co/blog/decision-transformers): the last ``CONTEXT`` steps, padded on the left and
masked; the return-to-go less each reward, both divided by ``SCALE``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

TARGET, SCALE, STEPS, CONTEXT = 90.0, 10.0, 14, 5
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "other": {
        "activation_function": "gelu_new",
        "action_tanh": False,
        "n_inner": 20,
        "n_head": 4,
        "scale_attn_by_inverse_layer_idx": True,
        "layer_norm_epsilon": 1e-3,
        "n_layer": 3,
    },
}


def build(more: dict[str, Any]) -> DecisionTransformerModel:
    """Return a model of random weights that are large enough for its answers to differ."""
    small = {"hidden_size": 16, "n_layer": 2, "n_head": 2, "n_positions": 4, "max_ep_len": 16}
    settings = {"state_dim": 5, "act_dim": 3, "initializer_range": 0.4, **small, **more}
    model = DecisionTransformerModel(DecisionTransformerConfig(**settings)).eval()
    generator = torch.Generator().manual_seed(len(more))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            centre = 1.0 if "ln" in name and name.endswith("weight") else 0.0
            tensor.copy_(centre + 0.25 * torch.randn(tensor.shape, generator=generator))
    return model


def answer(model: DecisionTransformerModel, history: dict[str, list[Any]]) -> torch.Tensor:
    """Return the action after ``history``: states, returns to go, and the actions before."""
    steps = len(history["states"])
    first = max(0, steps - CONTEXT)
    padding = CONTEXT - (steps - first)

    def padded(values: Any, width: int) -> torch.Tensor:
        rows = torch.tensor(np.array(values[first:steps]), dtype=torch.float32).reshape(1, -1, width)
        return torch.cat([torch.zeros(1, padding, width), rows], dim=1)

    times = torch.arange(first, steps).reshape(1, -1)
    actions = [*history["actions"], np.zeros(model.config.act_dim)]
    with torch.no_grad():
        found = model(
            states=padded(history["states"], model.config.state_dim),
            actions=padded(actions, model.config.act_dim),
            rewards=None,
            returns_to_go=padded(history["returns"], 1),
            timesteps=torch.cat([torch.zeros(1, padding, dtype=torch.long), times], dim=1),
            attention_mask=torch.cat([torch.zeros(1, padding), torch.ones(1, steps - first)], dim=1),
        )
    return found.action_preds[0, -1]


def record(folder: Path) -> None:
    """Write models and answers into ``folder``."""
    torch.set_num_threads(1)
    expected: dict[str, Any] = {}
    for name, more in MODELS.items():
        model = build(more)
        shutil.rmtree(folder / name, ignore_errors=True)
        model.save_pretrained(folder / name)
        (folder / name / "model.safetensors").chmod(0o644)
        rng = np.random.default_rng(7)
        states = rng.normal(0, 1, (STEPS, 5)).astype(np.float32)
        rewards = rng.normal(2, 5, STEPS)
        history: dict[str, list[Any]] = {"states": [], "returns": [], "actions": []}
        to_go = TARGET / SCALE
        for state, reward in zip(states, rewards, strict=True):
            history["states"].append(state)
            history["returns"].append(to_go)
            history["actions"].append(answer(model, history).numpy())
            to_go -= reward / SCALE
        expected |= {f"{name}.states": states, f"{name}.rewards": rewards}
        expected[f"{name}.actions"] = np.stack(history["actions"])
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)
