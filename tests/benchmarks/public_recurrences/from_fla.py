"""Models of ``flash-linear-attention`` on a processor: its own Triton kernels, run by Triton's interpreter.

The interpreter computes what the kernels compute, slowly, without a GPU. Kernels with several settings
would be timed to choose one, which needs a driver; so each takes its first setting. The layers take the
kernels that read token by token, as they do for sequences of up to 64 tokens; those of the chunked forms
do not run in the interpreter of Triton 3.9.0.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"
os.environ["FLA_USE_COMPILE"] = "0"

from importlib.metadata import version
from typing import Any

from triton.runtime.autotuner import Autotuner

make_tuner = Autotuner.__init__
Autotuner.__init__ = (
    lambda self, fn, names, configs, *args, **kwargs: make_tuner(  # type: ignore[method-assign]
        self, fn, names, configs[:1], *args, **kwargs
    )
)

import recording  # noqa: E402
import torch  # noqa: E402
from fla.models import (  # noqa: E402
    GatedDeltaNetConfig,
    GatedDeltaNetModel,
    GLAConfig,
    GLAModel,
    HGRN2Config,
    HGRN2Model,
)
from fla.models.utils import Cache  # noqa: E402
from fla.ops.gated_delta_rule.naive import (  # noqa: E402
    naive_chunk_gated_delta_rule,
    naive_recurrent_gated_delta_rule,
)
from fla.ops.generalized_delta_rule.dplr.naive import dplr_recurrence  # noqa: E402
from fla.ops.gla import fused_recurrent_gla  # noqa: E402
from fla.ops.gla.naive import naive_recurrent_gla  # noqa: E402
from fla.ops.rwkv7 import fused_mul_recurrent_rwkv7  # noqa: E402
from recording import ROWS, TOKENS, by_tokens, perturb, weights_of  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

PACKAGE = {
    "package": "flash-linear-attention",
    "version": version("flash-linear-attention"),
    "triton": version("triton"),
    "licence": "MIT",
    "source": "https://github.com/fla-org/flash-linear-attention",
}
WIDTH = 32
COMMON = {"vocab_size": 4, "hidden_size": WIDTH, "num_hidden_layers": 2, "intermediate_size": 48}
DESCRIPTION = {
    "width": WIDTH,
    "layers": 2,
    "feed_forward": 48,
    "eps": 1e-6,
    "x": "y = the model with its final norm on inputs_embeds=x, mixer_y = layers.1.attn(x)",
    "state": "recurrent states are (rows, heads, value width, key width), as the package keeps them",
}


def record_model(model: nn.Module, **mixer: Any) -> dict[str, Tensor]:
    """Record the whole model of two layers, the second mixer alone and the model token by token."""
    x = torch.randn(ROWS, TOKENS, WIDTH)
    cache = Cache()

    def step(token: Tensor, _: int) -> Tensor:
        return model(inputs_embeds=token, past_key_values=cache, use_cache=True).last_hidden_state

    arrays = {
        "x": x,
        "y": model(inputs_embeds=x, use_cache=False).last_hidden_state,
        "mixer_y": model.layers[1].attn(x, **mixer)[0],
        "y_step": by_tokens(step, x),
    }
    for index in range(2):
        state = cache[index]
        arrays[f"state/{index}.recurrent"] = state["recurrent_state"]
        for name, value in zip("qkv", state["conv_state"] or (), strict=False):
            arrays[f"state/{index}.conv_{name}"] = value
    weights = {name: value for name, value in weights_of(model).items() if "embeddings" not in name}
    return weights | arrays


def record_gla() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """GLA's model; and the bare recurrence with a state to start from."""
    model = GLAModel(GLAConfig(**COMMON, num_heads=2)).eval()
    perturb(model)
    for layer in model.layers:
        layer.attn.gk_proj[1].bias.copy_(torch.randn(WIDTH // 2) * 2 - 2)
        layer.attn.gk_proj[1].weight.mul_(3)
    arrays = record_model(model)
    q, k = (torch.randn(ROWS, TOKENS, 2, 8) for _ in "qk")
    v = torch.randn(ROWS, TOKENS, 2, 12)
    gk = F.logsigmoid(torch.randn(ROWS, TOKENS, 2, 8) * 3) / 4
    start = torch.randn(ROWS, 2, 8, 12)
    arrays |= {"rule/q": q, "rule/k": k, "rule/v": v, "rule/gk": gk, "rule/initial": start}
    for name, (o, end) in {
        "": naive_recurrent_gla(q, k, v, gk, initial_state=start, output_final_state=True),
        "_kernel": fused_recurrent_gla(q, k, v, gk, initial_state=start, output_final_state=True),
    }.items():
        arrays |= {f"rule/o{name}": o, f"rule/final{name}": end}
    return arrays, DESCRIPTION | {
        "heads": 2,
        "key_width": 8,
        "value_width": 16,
        "gate_normalizer": 16,
        "gate_rank": 16,
        "rule": "q times key_width**-0.5 inside; states (rows, heads, key, value)",
    }


def record_hgrn2() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """HGRN2's model, with lower bounds that differ between channels and layers."""
    model = HGRN2Model(HGRN2Config(**COMMON, expand_ratio=16)).eval()
    perturb(model)
    model.lower_bounds.copy_(torch.randn(2, WIDTH))
    bound = model.lower_bounds.softmax(0)
    arrays = record_model(model, lower_bound=bound.cumsum(0)[1] - bound[0])
    return arrays, DESCRIPTION | {
        "heads": 2,
        "key_width": 16,
        "value_width": 16,
        "output_norm_eps": 1e-5,
        "mixer": "mixer_y has the second layer's lower bound",
    }


def record_gated_deltanet() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Gated DeltaNet's model; and the bare recurrence, token by token and by chunks."""
    config = GatedDeltaNetConfig(**COMMON, num_heads=2, head_dim=8, expand_v=2.0)
    model = GatedDeltaNetModel(config).eval()
    perturb(model)
    for layer in model.layers:
        layer.attn.A_log.copy_(torch.randn(2) * 0.7 - 1.0)
        layer.attn.dt_bias.copy_(torch.randn(2))
    arrays = record_model(model)
    q, k = (F.normalize(torch.randn(ROWS, TOKENS, 2, 8), dim=-1) for _ in "qk")
    v = torch.randn(ROWS, TOKENS, 2, 16)
    g = -F.softplus(torch.randn(ROWS, TOKENS, 2))
    beta = torch.rand(ROWS, TOKENS, 2) * 2
    start = torch.randn(ROWS, 2, 8, 16)
    arrays |= {"rule/q": q, "rule/k": k, "rule/v": v, "rule/g": g, "rule/beta": beta, "rule/initial": start}
    for name, function in {
        "": naive_recurrent_gated_delta_rule,
        "_chunk": naive_chunk_gated_delta_rule,
    }.items():
        o, end = function(q=q, k=k, v=v, beta=beta, g=g, initial_state=start, output_final_state=True)
        arrays |= {f"rule/o{name}": o, f"rule/final{name}": end}
    return arrays, DESCRIPTION | {
        "heads": 2,
        "key_width": 8,
        "value_width": 16,
        "conv": 4,
        "rule": "no l2norm inside, q times key_width**-0.5, beta up to 2; states (rows, heads, key, value)",
    }


def record_rwkv7_rule() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The recurrence of RWKV-7 alone: in plain PyTorch, and by the kernel that reads token by token."""
    r, k, v, kk = (torch.randn(ROWS, TOKENS, 2, 16) for _ in range(4))
    w = -0.6065306597126334 * torch.sigmoid(torch.randn(ROWS, TOKENS, 2, 16) * 2)
    kk = F.normalize(kk, dim=-1)
    rate = torch.sigmoid(torch.randn(ROWS, TOKENS, 2, 16) * 2)
    a, b = -kk, kk * rate
    start = torch.randn(ROWS, 2, 16, 16)
    o, end = fused_mul_recurrent_rwkv7(r, w, k, v, kk, rate, initial_state=start, output_final_state=True)
    turned = [value.transpose(1, 2) for value in (r * 16**0.5, k, v, a, b, w)]
    o_naive, end_naive = dplr_recurrence(*turned, initial_state=start.clone())
    return {
        "rule/r": r,
        "rule/w": w,
        "rule/k": k,
        "rule/v": v,
        "rule/a": a,
        "rule/b": b,
        "rule/initial": start,
        "rule/o": o_naive.transpose(1, 2),
        "rule/final": end_naive,
        "rule/o_kernel": o,
        "rule/final_kernel": end,
    }, {
        "heads": 2,
        "head_width": 16,
        "rule": "w is the log of the decay; a = -kk, b = kk * rate; states (rows, heads, key, value)",
    }


if __name__ == "__main__":
    recording.run(
        PACKAGE,
        {
            "gated_deltanet_fla": record_gated_deltanet,
            "gla": record_gla,
            "hgrn2": record_hgrn2,
            "rwkv7_rule": record_rwkv7_rule,
        },
        {},
    )
