"""Layers of Hugging Face ``transformers`` in its own PyTorch code: Qwen3-Next, Mamba-2, RecurrentGemma."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import recording
import torch
import transformers.models.mamba2.modeling_mamba2 as mamba2
import transformers.models.qwen3_next.modeling_qwen3_next as qwen
import transformers.models.recurrent_gemma.modeling_recurrent_gemma as gemma
from recording import DECISION, ROWS, TOKENS, Timing, by_tokens, count_weights, perturb, weights_of
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, Mamba2Config, Qwen3NextConfig, RecurrentGemmaConfig

# Reads one token (rows, 1, width) at a position.
Step = Callable[[Tensor, int], Tensor]
PACKAGE = {
    "package": "transformers",
    "version": version("transformers"),
    "licence": "Apache-2.0",
    "source": "https://github.com/huggingface/transformers",
}


def qwen_config(width: int, layers: int, heads: int, head_width: int, wide: int) -> Qwen3NextConfig:
    """Return a stack of linear-attention layers with plain feed-forward parts."""
    return Qwen3NextConfig(
        vocab_size=16,
        hidden_size=width,
        intermediate_size=wide,
        num_hidden_layers=layers,
        linear_num_key_heads=heads,
        linear_num_value_heads=2 * heads,
        linear_key_head_dim=head_width,
        linear_value_head_dim=head_width,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=width // 2,
        num_experts=0,
        layer_types=["linear_attention"] * layers,
    )


def record_gated_deltanet() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Qwen3-Next's layer: two value heads a key head; and the bare recurrence."""
    config = qwen_config(width=32, layers=1, heads=2, head_width=8, wide=48)
    layer = qwen.Qwen3NextDecoderLayer(config, 0).eval()
    perturb(layer)
    layer.linear_attn.A_log.copy_(torch.randn(4) * 0.7 - 1.0)
    mixer = layer.linear_attn
    x = torch.randn(ROWS, TOKENS, 32)
    cache = DynamicCache(config=config)
    arrays = weights_of(layer) | {
        "x": x,
        "y": mixer(x),
        "block_y": layer(x, position_embeddings=None),
        "y_step": by_tokens(lambda token, _: mixer(token, cache=cache), x),
        "state/conv": cache.layers[0].conv_states[0],
        "state/recurrent": cache.layers[0].recurrent_states[0],
    }
    q, k, v = (torch.randn(ROWS, TOKENS, heads, 8) for heads in (2, 2, 4))
    g = -F.softplus(torch.randn(ROWS, TOKENS, 4))
    beta = torch.rand(ROWS, TOKENS, 4)
    start = torch.randn(ROWS, 4, 8, 8)
    for name, function in (
        ("", qwen.torch_recurrent_gated_delta_rule),
        ("_chunk", qwen.torch_chunk_gated_delta_rule),
    ):
        o, end = function(
            q,
            k,
            v,
            g=g,
            beta=beta,
            initial_state=start,
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )
        arrays |= {f"rule/o{name}": o, f"rule/final{name}": end}
    arrays |= {"rule/q": q, "rule/k": k, "rule/v": v, "rule/g": g, "rule/beta": beta, "rule/initial": start}
    return arrays, {
        "key_heads": 2,
        "value_heads": 4,
        "head_width": 8,
        "width": 32,
        "feed_forward": 48,
        "conv": 4,
        "eps": config.rms_norm_eps,
        "l2norm_eps": 1e-6,
        "x": "y = linear_attn(x), block_y = the whole layer on x",
        "rule": "l2norm of q and k inside, q times head_width**-0.5",
    }


def time_layers(width: int, layers: nn.ModuleList, step: Step, context: int = 50) -> Timing:
    """Return the weights of layers, and what reads three tokens one by one, after ``context`` such decisions.

    The layers are called one after the other, as their model does, but without what it does around them.
    """
    x = torch.randn(1, DECISION, width)
    read = itertools.count()
    decide = lambda: by_tokens(lambda token, _: step(token, next(read)), x)  # noqa: E731
    for _ in range(context):
        decide()
    return count_weights(layers), decide


def time_gated_deltanet(width: int, layers: int) -> Timing:
    """Linear-attention layers of Qwen3-Next with plain feed-forward parts."""
    config = qwen_config(
        width, layers, heads=width // 128, head_width=64, wide=round(width * 8 / 3 / 64) * 64
    )
    stack = nn.ModuleList(qwen.Qwen3NextDecoderLayer(config, index) for index in range(layers)).eval()
    norm = qwen.Qwen3NextRMSNorm(width)
    cache = DynamicCache(config=config)

    def step(token: Tensor, _: int) -> Tensor:
        for layer in stack:
            token = layer(token, position_embeddings=None, cache=cache)
        return norm(token)

    return time_layers(width, stack, step)


def mamba2_config(width: int, layers: int, head_width: int, state: int, groups: int) -> Mamba2Config:
    """Return a configuration with the package's defaults but for the sizes."""
    return Mamba2Config(
        vocab_size=16,
        hidden_size=width,
        num_hidden_layers=layers,
        num_heads=2 * width // head_width,
        head_dim=head_width,
        state_size=state,
        n_groups=groups,
        chunk_size=8 if width < 64 else 256,
    )


def record_mamba2(groups: int = 1) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Mamba-2's block; the chunk of 8 tokens makes states pass between chunks."""
    config = mamba2_config(width=24, layers=1, head_width=12, state=16, groups=groups)
    block = mamba2.Mamba2Block(config, 0).eval()
    block.mixer.init_mamba2_weights()
    perturb(block)
    block.mixer.A_log.copy_(torch.randn(4) * 0.7 - 1.0)
    block.mixer.dt_bias.copy_(torch.randn(4))
    x = torch.randn(ROWS, TOKENS, 24)
    cache = DynamicCache(config=config)
    return weights_of(block) | {
        "x": x,
        "y": block.mixer(x),
        "block_y": block(x),
        "y_step": by_tokens(lambda token, _: block.mixer(token, cache=cache), x),
        "state/conv": cache.layers[0].conv_states[0],
        "state/recurrent": cache.layers[0].recurrent_states[0],
    }, {
        "width": 24,
        "expand": 2,
        "heads": 4,
        "head_width": 12,
        "state": 16,
        "groups": groups,
        "conv": 4,
        "chunk": 8,
        "eps": config.layer_norm_epsilon,
        "x": "y = mixer(x), block_y = the whole block on x",
    }


def time_mamba2(width: int, layers: int) -> Timing:
    """Blocks of Mamba-2."""
    model = mamba2.Mamba2Model(mamba2_config(width, layers, head_width=64, state=128, groups=1)).eval()
    cache = DynamicCache(config=model.config)

    def step(token: Tensor, _: int) -> Tensor:
        for layer in model.layers:
            token = layer(token, cache=cache)
        return model.norm_f(token)

    return time_layers(width, model.layers, step)


def gemma_config(
    width: int, layers: int, heads: int, wide: int, window: int, pattern: tuple[str, ...]
) -> RecurrentGemmaConfig:
    """Return RecurrentGemma's configuration; ``wide`` is the width of the feed-forward part."""
    return RecurrentGemmaConfig(
        vocab_size=16,
        hidden_size=width,
        lru_width=width,
        num_hidden_layers=layers,
        intermediate_size=2 * wide,
        num_attention_heads=heads,
        num_key_value_heads=1,
        attention_window_size=window,
        block_types=pattern,
    )


def record_rglru() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """RecurrentGemma's residual block with the recurrent part; and the bare RG-LRU, also without a reset."""
    config = gemma_config(24, 1, heads=3, wide=40, window=8, pattern=("recurrent",))
    block = initialised(config).layers[0]
    perturb(block)
    part = block.temporal_block
    for gate in (part.rg_lru.input_gate_weight, part.rg_lru.recurrent_gate_weight):
        gate.copy_(torch.randn_like(gate) * 0.5)
    x = torch.randn(ROWS, TOKENS, 24)
    positions = torch.arange(TOKENS)[None].expand(ROWS, -1)
    whole = lambda offset: part(x, positions + offset, None, use_cache=False)[0]  # noqa: E731
    arrays = {
        "x": x,
        "y": whole(0),
        "y_no_reset": whole(1),
        "block_y": block(x, positions, None, use_cache=False),
    }
    part._setup_cache(ROWS, x.device, x.dtype)
    arrays["y_step"] = by_tokens(
        lambda token, at: part(token, positions[:, at : at + 1], None, use_cache=True)[0], x
    )
    arrays |= {"state/conv": part.conv1d_state, "state/recurrent": part.rg_lru.recurrent_states}
    u = torch.randn(ROWS, TOKENS, 24)
    part.rg_lru.recurrent_states = None
    arrays |= {"rule/u": u, "rule/h": part.rg_lru(u, positions)}
    part.rg_lru.recurrent_states = None
    arrays |= {"rule/h_no_reset": part.rg_lru(u, positions + 1)}
    return weights_of(block) | arrays, {
        "width": 24,
        "lru_width": 24,
        "heads": 3,
        "feed_forward": 40,
        "conv": 4,
        "eps": config.rms_norm_eps,
        "x": "y = temporal_block(x), block_y = the whole layer on x",
        "no_reset": "positions start at 1, so that the first token is not a reset; the state starts at zero",
    }


def record_griffin_attention() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """RecurrentGemma's residual block with local attention over a window of 8 tokens."""
    window = 8
    config = gemma_config(32, 1, heads=2, wide=40, window=window, pattern=("attention",))
    block = initialised(config).layers[0]
    perturb(block)
    x = torch.randn(ROWS, TOKENS, 32)
    at = torch.arange(TOKENS)
    positions = at[None].expand(ROWS, -1)
    seen = (at[None] <= at[:, None]) & (at[None] > at[:, None] - window)
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None].expand(ROWS, 1, -1, -1)
    return weights_of(block) | {
        "x": x,
        "y": block.temporal_block(x, positions, mask)[0],
        "block_y": block(x, positions, mask, use_cache=False),
    }, {
        "width": 32,
        "heads": 2,
        "key_heads": 1,
        "head_width": 16,
        "window": window,
        "window_rule": "a token sees itself and the window - 1 tokens before it",
        "rope": "first half of a head's channels, base 10000",
        "feed_forward": 40,
        "eps": config.rms_norm_eps,
        "x": "y = temporal_block(x), block_y = the whole layer on x",
    }


def record_griffin() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """RecurrentGemma's whole model of three layers (recurrent, recurrent, attention) on given embeddings."""
    config = gemma_config(16, 3, heads=2, wide=24, window=8, pattern=("recurrent", "recurrent", "attention"))
    model = initialised(config)
    perturb(model)
    for layer in model.layers[:2]:
        for gate in (
            layer.temporal_block.rg_lru.input_gate_weight,
            layer.temporal_block.rg_lru.recurrent_gate_weight,
        ):
            gate.copy_(torch.randn_like(gate) * 0.5)
    x = torch.randn(ROWS, TOKENS, 16)
    y = model(inputs_embeds=x, use_cache=False).last_hidden_state
    cache = DynamicCache(config=config)
    model._setup_cache(config, ROWS, x.device, x.dtype)

    def step(token: Tensor, at: int) -> Tensor:
        positions = torch.full((ROWS, 1), at)
        return model(
            inputs_embeds=token, position_ids=positions, cache=cache, use_cache=True
        ).last_hidden_state

    arrays = {"x": x, "y": y, "y_step": by_tokens(step, x)}
    return weights_of(model) | arrays, {
        "width": 16,
        "lru_width": 16,
        "heads": 2,
        "key_heads": 1,
        "layers": ["recurrent", "recurrent", "attention"],
        "window": 8,
        "feed_forward": 24,
        "conv": 4,
        "eps": config.rms_norm_eps,
        "x": "y = the model with its final norm on inputs_embeds=x; it multiplies x by sqrt(width) = 4 first",
    }


def initialised(config: RecurrentGemmaConfig) -> gemma.RecurrentGemmaModel:
    """Return a model in its own initial weights, with the attention in plain PyTorch."""
    config._attn_implementation = "eager"
    return gemma.RecurrentGemmaModel(config).eval()


def time_gemma(width: int, layers: int, pattern: tuple[str, ...]) -> Timing:
    """Layers of RecurrentGemma, past their window, so that the cache holds no token that is masked."""
    config = gemma_config(width, layers, heads=width // 64, wide=3 * width, window=150, pattern=pattern)
    model = gemma.RecurrentGemmaModel(config).eval()
    cache = DynamicCache(config=config)
    model._setup_cache(config, 1, torch.device("cpu"), torch.float32)

    def step(token: Tensor, at: int) -> Tensor:
        positions = torch.full((1, 1), at)
        token = token * model.normalizer.type(token.dtype)
        for layer in model.layers:
            token = layer(token, positions, None, use_cache=True, cache=cache)
        return model.final_norm(token)

    return time_layers(width, model.layers, step, context=60)


TIMED = {
    "gated_deltanet": time_gated_deltanet,
    "mamba2": time_mamba2,
    "hawk": partial(time_gemma, pattern=("recurrent",)),
    "griffin": partial(time_gemma, pattern=("recurrent", "recurrent", "attention")),
}
"""What can be timed, by name."""

if __name__ == "__main__":
    recording.run(
        PACKAGE,
        {
            "gated_deltanet": record_gated_deltanet,
            "mamba2": record_mamba2,
            "mamba2_groups": lambda: record_mamba2(groups=2),
            "rglru": record_rglru,
            "griffin_attention": record_griffin_attention,
            "griffin": record_griffin,
        },
        TIMED,
    )
