"""RWKV-7 of the ``rwkv`` package, in float32 on a processor, from weights that are drawn here."""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["RWKV_V7_ON"] = "1"
os.environ["RWKV_JIT_ON"] = "1"
os.environ["RWKV_CUDA_ON"] = "0"

import recording
import torch
from recording import DECISION, ROWS, TOKENS, Timing
from rwkv.model import RWKV
from torch import Tensor

PACKAGE = {
    "package": "rwkv",
    "version": version("rwkv"),
    "licence": "Apache-2.0",
    "source": "https://github.com/BlinkDL/ChatRWKV",
}


def draw_weights(
    width: int, layers: int, head: int, ranks: dict[str, int], embeddings: Tensor
) -> dict[str, Tensor]:
    """Draw a model's weights, none of them at a special value; its head is the identity.

    So the package, which reads tokens and returns logits, reads the rows of ``embeddings`` and returns the
    hidden states after the final norm.
    """

    def normal(*shape: int, scale: float = 0.3, mean: float = 0.0) -> Tensor:
        return mean + torch.randn(*shape) * scale

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Tensor:
        return torch.randn(rows, columns) * gain * columns**-0.5

    weights = {"emb.weight": embeddings, "head.weight": torch.eye(width)}
    norms = ["blocks.0.ln0", "ln_out"]
    for index in range(layers):
        block = f"blocks.{index}."
        norms += [f"{block}ln1", f"{block}ln2", f"{block}att.ln_x"]
        for name in "rwkvag":
            weights[f"{block}att.x_{name}"] = torch.rand(1, 1, width)
        means = {"w": -1.0, "a": 0.0, "v": 0.5, "g": None}
        for name, mean in means.items():
            if mean is not None:
                weights[f"{block}att.{name}0"] = normal(1, 1, width, scale=1.0, mean=mean)
            weights[f"{block}att.{name}1"] = matrix(ranks[name], width).T.contiguous()
            weights[f"{block}att.{name}2"] = matrix(width, ranks[name]).T.contiguous()
        weights[f"{block}att.k_k"] = normal(1, 1, width, mean=0.7)
        weights[f"{block}att.k_a"] = normal(1, 1, width, mean=1.0)
        weights[f"{block}att.r_k"] = normal(width // head, head)
        for name in ("receptance", "key", "value", "output"):
            weights[f"{block}att.{name}.weight"] = matrix(width, width)
        weights[f"{block}ffn.x_k"] = torch.rand(1, 1, width)
        weights[f"{block}ffn.key.weight"] = matrix(4 * width, width)
        weights[f"{block}ffn.value.weight"] = matrix(width, 4 * width)
    for name in norms:
        weights[f"{name}.weight"] = normal(width, mean=1.0)
        weights[f"{name}.bias"] = normal(width)
    return weights


def load(weights: dict[str, Tensor]) -> RWKV:
    """Let the package read the weights from a file, as it does for published models."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        torch.save(weights, path.with_suffix(".pth"))
        return RWKV(model=str(path), strategy="cpu fp32")


def record_rwkv7() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Two layers, so that the first layer's values reach the second; each row a sequence of its own."""
    width, head = 32, 16
    x = torch.randn(ROWS, TOKENS, width)
    ranks = {"w": 4, "a": 6, "v": 3, "g": 5}
    weights = draw_weights(width, layers=2, head=head, ranks=ranks, embeddings=x.reshape(-1, width))
    model = load({name: value.clone() for name, value in weights.items()})
    whole, steps, states = [], [], []
    for row in range(ROWS):
        tokens = list(range(row * TOKENS, (row + 1) * TOKENS))
        whole.append(model.forward(tokens, None, full_output=True)[0])
        state, outputs = None, []
        for token in tokens:
            y, state = model.forward([token], state)
            outputs.append(y)
        steps.append(torch.stack(outputs))
        states.append(state)
    kept = {name: value for name, value in weights.items() if name not in ("emb.weight", "head.weight")}
    arrays = {f"weight/{name}": value for name, value in kept.items()}
    arrays |= {"x": x, "y": torch.stack(whole), "y_step": torch.stack(steps)}
    for index in range(2):
        for place, name in enumerate(("att_shift", "recurrent", "ffn_shift")):
            arrays[f"state/{index}.{name}"] = torch.stack([state[3 * index + place] for state in states])
    return arrays, {
        "width": width,
        "heads": width // head,
        "head_width": head,
        "layers": 2,
        "ranks": ranks,
        "norm_eps": 1e-5,
        "group_norm_eps": 64e-5,
        "x": "y = ln0, two blocks and ln_out on x",
        "state": "recurrent states are (rows, heads, value width, key width)",
    }


def time_rwkv7(width: int, layers: int) -> Timing:
    """The model of the package, token by token."""
    root = width**0.5 / 32
    ranks = {
        name: max(1, round(scale * root)) * 32
        for name, scale in zip("wavg", (2.5, 2.5, 1.7, 5.0), strict=True)
    }
    weights = draw_weights(width, layers, head=64, ranks=ranks, embeddings=torch.randn(DECISION, width))
    model = load(dict(weights))
    state = model.generate_zero_state()

    def decide() -> None:
        nonlocal state
        for token in range(DECISION):
            _, state = model.forward([token], state)

    learned = [value for name, value in weights.items() if name not in ("emb.weight", "head.weight")]
    return sum(value.numel() for value in learned), decide


TIMED = {"rwkv7": time_rwkv7}
"""What can be timed, by name."""

if __name__ == "__main__":
    recording.run(PACKAGE, {"rwkv7": record_rwkv7}, TIMED)
