"""A small model of every kind of backbone, and of every form of a cache; and backbones of drawn weights."""

from __future__ import annotations

import torch

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.griffin import GriffinConfig
from lram.agents.backbones.registry import BUILT_IN, build_backbone
from lram.agents.backbones.stack import StackConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.model.config import ModelConfig

PLAIN = (
    "gru",
    "lstm",
    "mamba",
    "gated_deltanet",
    "gla",
    "hgrn2",
    "mingru",
    "minlstm",
    "rwkv7",
    "rglru",
    "mamba2",
)
CONFIGS = {
    **{spec.kind: ModelConfig(16, 1, spec.options()) for spec in BUILT_IN if spec.kind in PLAIN},
    "xlstm[1:1]": ModelConfig(16, 2, XLSTMConfig(slstm_at=(1,))),
    "griffin": ModelConfig(16, 2, GriffinConfig(window=12, blocks=("recurrent", "attention"))),
    "stack": ModelConfig(16, 2, StackConfig(blocks=("slstm", "attention"), window=12)),
    "transformer[full]": ModelConfig(16, 1, TransformerConfig(positions="rotary", window=None, cache="full")),
    "transformer[full], window": ModelConfig(16, 1, TransformerConfig(window=30, cache="full")),
    "transformer[ring]": ModelConfig(16, 1, TransformerConfig(positions="rotary", window=12, cache="ring")),
    "transformer[recompute]": ModelConfig(16, 1, TransformerConfig(window=12, cache="recompute")),
}
assert set(CONFIGS) >= {spec.kind for spec in BUILT_IN} - {"xlstm", "transformer"}


def noisy_backbone(config: ModelConfig, noise: float = 0.1) -> Backbone:
    """Weights drawn by the kind's rules, then noise, so that zeros and ones matter too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(config)
        backbone.reset_parameters()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(noise * torch.randn(parameter.shape))
    return backbone
