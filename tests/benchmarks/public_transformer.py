"""GPT-2 and Llama of ``transformers`` with a ``StaticCache``, and GPT-2 without a cache.

GPT-2 has our weights. Llama has other parts (gated feed-forward, rotary positions, no biases), made to
have as many weights. The cache is as long as the context and one decision, no longer, because attention
runs over all of it. After each decision its length is set back, so that the context stays the same.

Without a cache, the last 50 timesteps are read anew at each decision, as the reference implementation of
the paper does by default; it is shown, and ours are not compared with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

import torch
from compare_public import Comparison
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, StaticCache

from lram.harness.timing.backbones import BenchCase, TimedBackbone
from lram.harness.timing.rounds import PreparedDecision, TimedCandidate

WINDOW = 50
"""Timesteps that the reference implementation reads at each decision."""


def versions() -> dict[str, str]:
    """Return the versions of what is compared with."""
    return {"transformers": version("transformers")}


def compare(subject: TimedBackbone, forms: Sequence[str], context: int) -> Comparison:
    """Return our forms beside the package's models."""

    def candidate(
        form: str, prepare: Callable[[], PreparedDecision], cache: str = "full"
    ) -> dict[BenchCase, TimedCandidate]:
        case = BenchCase(subject.name, form, subject.work.rows, context, cache)
        return {case: TimedCandidate(case.name, prepare)}

    gpt2 = candidate("GPT2Model, StaticCache", partial(cached, subject, make_gpt2, context))
    llama = candidate("LlamaModel, StaticCache", partial(cached, subject, make_llama, context))
    comparison = Comparison.of(subject.candidates(forms, context), gpt2, llama)
    if context == WINDOW:
        no_cache = candidate("GPT2Model, no cache", partial(recomputed, subject), "recompute")
        comparison.candidates.update(no_cache)
    return comparison


def cached(
    subject: TimedBackbone, make: Callable[[TimedBackbone, int], nn.Module], context: int
) -> PreparedDecision:
    """Return a decision that reads its tokens in one call, with the keys and values of all before."""
    work = subject.work
    model = make(subject, context)
    tokens = context * work.tokens
    cache = StaticCache(config=model.config, max_cache_len=tokens + work.tokens)
    for chunk in work.past(0, context):
        model(inputs_embeds=chunk, past_key_values=cache, use_cache=True)
    turns = itertools.cycle(work.inputs())

    def decide() -> Tensor:
        for layer in cache.layers:
            layer.cumulative_length.fill_(tokens)
        return model(inputs_embeds=next(turns), past_key_values=cache, use_cache=True).last_hidden_state

    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    new = kept // (context + 1)
    return PreparedDecision(
        decide, weight_bytes(model) + kept - new, new, kept, f"transformers {version('transformers')}"
    )


def recomputed(subject: TimedBackbone) -> PreparedDecision:
    """Return a decision that reads the tokens of the last timesteps, its own among them."""
    work = subject.work
    model = make_gpt2(subject, WINDOW)
    past = torch.cat(list(work.past(1, WINDOW)), dim=1)
    turns = itertools.cycle([torch.cat([past, new], dim=1) for new in work.inputs()])

    def decide() -> Tensor:
        return model(inputs_embeds=next(turns), use_cache=False).last_hidden_state

    return PreparedDecision(
        decide, weight_bytes(model), 0, past.nbytes, f"transformers {version('transformers')}"
    )


def make_gpt2(subject: TimedBackbone, context: int) -> GPT2Model:
    """Return GPT-2 with the weights of ``subject``, whose linear layers it stores transposed."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    weights = subject.backbone.state_dict()
    model = GPT2Model(
        GPT2Config(
            vocab_size=1,
            bos_token_id=None,
            eos_token_id=None,
            n_positions=len(weights["wpe.weight"]),
            n_embd=config.width,
            n_layer=config.layers,
            n_head=section.heads,
            activation_function="gelu",
            attn_implementation="sdpa",
        )
    )
    linear = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    theirs = {name: tensor.T if name.endswith(linear) else tensor for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    assert (missing, unexpected) == (["wte.weight"], [])
    return model.eval()


def make_llama(subject: TimedBackbone, context: int) -> LlamaModel:
    """Return Llama of the same width, layers and heads; gated feed-forward of as many weights."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    model = LlamaModel(
        LlamaConfig(
            vocab_size=1,
            bos_token_id=None,
            eos_token_id=None,
            hidden_size=config.width,
            intermediate_size=round(8 / 3 * config.width / 32) * 32,
            num_hidden_layers=config.layers,
            num_attention_heads=section.heads,
            max_position_embeddings=(context + 1) * subject.work.tokens,
            attn_implementation="sdpa",
        )
    )
    return model.eval()


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of the weights that a decision reads: all but the tables of embeddings."""
    return sum(
        parameter.nbytes
        for name, parameter in model.named_parameters()
        if not name.startswith(("wte.", "wpe.", "embed_tokens."))
    )
