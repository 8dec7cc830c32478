"""The network of a Decision Transformer: GPT-2's blocks over (return, state, action) of each step.

Written from the model's description (Chen et al. 2021, arXiv:2106.01345) and the names of its weights in
transformers (``DecisionTransformerModel``), to which a test compares its answers. Three things are as there:
all tokens of a step have the same embedding of its time; the blocks add the first of their position
embeddings to every token; linear layers of the blocks keep their weights as (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.adapters.decision_transformer.folder import DtConfig
from lram.agents.api import AgentError
from lram.agents.shown import shown

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class DtBlock(nn.Module):
    """A block: causal attention and a feed-forward part, each after a norm and added to its input."""

    def __init__(self, config: DtConfig, number: int) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.n_inner or 4 * config.hidden_size
        self.heads = config.n_head
        scale = (width // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        self.scale = scale / (number + 1) if config.scale_attn_by_inverse_layer_idx else scale
        self.activation = ACTIVATIONS[config.activation_function]
        self.ln_1 = nn.LayerNorm(width, eps=config.layer_norm_epsilon)
        self.ln_2 = nn.LayerNorm(width, eps=config.layer_norm_epsilon)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, inner), "c_proj": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same."""
        n, tokens, width = x.shape
        parts = self.attn["c_attn"](self.ln_1(x)).view(n, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale)
        x = x + self.attn["c_proj"](seen.transpose(1, 2).reshape(n, tokens, width))
        inner: Tensor = self.mlp["c_proj"](self.activation(self.mlp["c_fc"](self.ln_2(x))))
        return x + inner


class DtNetwork(nn.Module):
    """Maps the steps that are shown to the action of one of them."""

    def __init__(self, config: DtConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.embed_timestep = nn.Embedding(config.max_ep_len, width)
        self.embed_return, self.embed_state = nn.Linear(1, width), nn.Linear(config.state_dim, width)
        self.embed_action = nn.Linear(config.act_dim, width)
        self.embed_ln = nn.LayerNorm(width)
        self.position = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(DtBlock(config, number) for number in range(config.n_layer))
        self.ln_f = nn.LayerNorm(width, eps=config.layer_norm_epsilon)
        self.predict_action = nn.Linear(width, config.act_dim)
        self.squash = config.action_tanh

    def forward(
        self, states: Tensor, actions: Tensor, returns: Tensor, times: Tensor, last: Tensor
    ) -> Tensor:
        """Return the actions (n, act_dim) of the steps ``last``.

        Args:
            states: (n, K, state_dim).
            actions: (n, K, act_dim); that of the step ``last`` and what follows is of no effect.
            returns: (n, K), still to be earned, scaled.
            times: (n, K), whole numbers: steps since the episode began.
            last: (n,), whole numbers: the place among the K of the step to decide.
        """
        n, shown_steps, _ = states.shape
        embedded = (
            self.embed_return(returns[..., None]),
            self.embed_state(states),
            self.embed_action(actions),
        )
        tokens = torch.stack(embedded, dim=2) + self.embed_timestep(times)[:, :, None]
        x = self.embed_ln(tokens).reshape(n, 3 * shown_steps, -1) + self.position
        for block in self.blocks:
            x = block(x)
        rows = torch.arange(n, device=x.device)
        answer: Tensor = self.predict_action(self.ln_f(x[rows, 3 * last + 1]))
        return torch.tanh(answer) if self.squash else answer


def build(config: DtConfig, weights: Mapping[str, Tensor]) -> DtNetwork:
    """Return the network with its weights; those of predictions that acting does not need are left.

    Raises:
        AgentError: A weight is missing, of another shape, or of a layer that is not known here.
    """
    if config.activation_function not in ACTIVATIONS:
        raise AgentError(
            f"the activation {shown(config.activation_function)} is not known; {', '.join(ACTIVATIONS)} are"
        )
    _check_blocks(config, weights)
    with torch.device("meta"):
        network = DtNetwork(config)
    found = {}
    for name, tensor in network.state_dict().items():
        their_name, transposed = _their_name(name)
        weight = weights.get(their_name)
        if weight is None:
            raise AgentError(f"the weights lack {their_name}; save the model again")
        weight = weight[0] if name == "position" and weight.dim() == 2 and len(weight) else weight
        weight = weight.t() if transposed and weight.dim() == 2 else weight
        if weight.shape != tensor.shape:
            raise AgentError(
                f"{their_name} has the shape {tuple(weights[their_name].shape)}, which does not fit "
                "config.json; save the model again"
            )
        found[name] = weight.contiguous()
    network.load_state_dict(found, assign=True)
    return network.eval().requires_grad_(False)


def _check_blocks(config: DtConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights of blocks beyond those that the configuration tells of, and layers of other models."""
    ours = ("encoder.", "embed_", "predict_")
    blocks = {name.split(".")[2] for name in weights if name.startswith("encoder.h.")}
    other = [name for name in weights if not name.startswith(ours)]
    other += [name for name in weights if "crossattention" in name or "cross_attn" in name]
    if len(blocks) != config.n_layer or other:
        what = (
            f"{shown(min(other))}"
            if other
            else f"{len(blocks)} blocks, and config.json tells {config.n_layer}"
        )
        raise AgentError(f"the weights have {what}; give what save_pretrained() of transformers wrote")


def _their_name(name: str) -> tuple[str, bool]:
    """Return what transformers calls a weight, and whether it keeps it the other way round."""
    if name == "position":
        return "encoder.wpe.weight", False
    if name.startswith("blocks."):
        return f"encoder.h.{name.removeprefix('blocks.')}", ".c_" in name and name.endswith("weight")
    if name.startswith("ln_f."):
        return f"encoder.{name}", False
    if name.startswith("predict_action."):
        return name.replace("predict_action.", "predict_action.0."), False
    return name, False
