"""Golden models: weights and outputs recorded from the reference implementation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.reference import from_reference
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

CONFIGS = {
    "tiny_xlstm_m": ModelConfig(64, 4, backbone=XLSTMConfig()),
    "tiny_xlstm_ms": ModelConfig(64, 4, backbone=XLSTMConfig(slstm_at=(1,))),
    "tiny_dt": ModelConfig(64, 3, backbone=TransformerConfig(heads=4, max_positions=150)),
    "tiny_mamba": ModelConfig(64, 3, backbone=MambaConfig()),
}


@dataclass
class Golden:
    """A recorded model: ours with its weights, and what the reference was given and returned."""

    config: ModelConfig
    model: ActionModel
    arrays: dict[str, torch.Tensor]
    facts: dict[str, Any]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Bitwise comparisons hold for one thread; more threads split the work at other places.
    torch.set_num_threads(1)


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    def load(name: str) -> Golden:
        config = replace(CONFIGS[name], decode="lower")
        with torch.device("meta"):
            model = ActionModel(config)
        weights = from_reference(load_file(GOLDEN / f"{name}.safetensors"), config.kind)
        model.load_state_dict(weights, strict=True, assign=True)
        with np.load(GOLDEN / "inputs.npz") as inputs, np.load(GOLDEN / f"{name}.npz") as outputs:
            arrays = {**inputs, **outputs}
        facts = json.loads((GOLDEN / f"{name}.json").read_text())
        return Golden(config, model.eval(), {k: torch.from_numpy(v) for k, v in arrays.items()}, facts)

    return load
