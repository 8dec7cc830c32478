"""Transformer: causal attention in the style of GPT-2, and three ways to keep the past.

A preset's brackets name how it keeps the past (:class:`TransformerConfig`): ``[recompute]`` is the
reference's
default and that of a plain ``transformer-``, ``[full]`` keeps the keys and values of up to 1600 tokens,
``[ring]`` those of the last 150, with rotary positions. The weights of the first two fit each other.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_TOKENS, check_limits, check_share
from lram.agents.backbones.sizes import table_sizes
from lram.agents.backbones.spec import LATER, BackboneSpec, ModelShape, Past, RenamedPreset, Size


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """A stack of causal attention blocks in the style of GPT-2.

    Attributes:
        heads: Attention heads.
        positions: ``learned`` (a table of ``max_positions``), ``rotary`` (unbounded), or ``none``: only the
            causal mask tells tokens apart by their order (Haviv et al. 2022, arXiv 2203.16634).
        window: Tokens, see ``cache``. None, with ``full`` and no table of positions only: no limit.
        cache: How a decision reads the past.

            ``ring``: keys and values of the last tokens are kept. Every token sees itself and the
            ``window - 1`` tokens before it, in ``forward`` by a band mask and in ``step`` by the
            ring, so the two agree at any length. Needs positions that are rotary or none.

            ``full``: keys and values of all tokens since the episode's start are kept, in memory
            that doubles when it is used up. When a token comes and ``window`` tokens are there, the
            row starts again: of its tokens only the newest ``window // 2`` stay, and are read anew
            as if the episode had begun with them, at positions 0, 1, ...; so a token sees itself and
            all before it, or, once ``window`` tokens were read, between ``window // 2`` and
            ``window - 1`` before it. ``forward`` cuts its sequences in the same way, so the two
            agree at any length.

            ``recompute``: the last ``window`` embedded tokens are kept and read anew at each
            decision, at positions counted from the window's start, as the reference implementation
            does. ``forward`` has no band. The two agree while no token has left the window.
        max_positions: Rows of the table of learned positions, and the longest ``forward`` with it
            (for ``full``: the largest ``window``).
        dropout: In training, the share of numbers that is zeroed of the embedded tokens, of attention's
            weights and of what each part of a block adds, as GPT-2 has it; acting knows none.
        norm: ``layer`` (with a bias, as GPT-2) or ``rms`` (by the root mean square).
        norm_order: ``pre``: a block's parts read normed tokens, and a last norm follows the blocks (GPT-2).
            ``post``: norms follow the sums, as in the first Transformer (arXiv 1706.03762).
        qk_norm: Whether each head's queries and keys are normed, by ``norm`` (arXiv 2302.05442).
    """

    heads: int = 8
    positions: Literal["learned", "rotary", "none"] = "learned"
    window: int | None = 149
    cache: Literal["ring", "full", "recompute"] = "recompute"
    max_positions: int = 1600
    dropout: float = field(default=0.0, metadata=LATER)
    norm: Literal["layer", "rms"] = field(default="layer", metadata=LATER)
    norm_order: Literal["pre", "post"] = field(default="pre", metadata=LATER)
    qk_norm: bool = field(default=False, metadata=LATER)


RING_PASS = 16
"""Most tokens that enter a ring at once. It has that many spare slots, because the first token of a
pass must still see its whole band after the last is written."""

_PRESETS = {
    # The reference acts on the last 50 timesteps, the newest without its reward: 3 x 50 - 1 tokens.
    "recompute": TransformerConfig(positions="learned", window=149, cache="recompute"),
    "full": TransformerConfig(positions="learned", window=1600, cache="full"),
    "ring": TransformerConfig(positions="rotary", window=150, cache="ring"),
}


def _preset(brackets: str, size: Size) -> TransformerConfig:
    return dataclasses.replace(_PRESETS[brackets or "recompute"], heads=size.options["heads"])


def _check(model: ModelShape) -> None:
    section: TransformerConfig = model.backbone
    check_limits("transformer.heads", section.heads, 1 << 16)
    check_limits("transformer.window", section.window, MOST_TOKENS)
    check_limits("transformer.max_positions", section.max_positions, MOST_TOKENS)
    check_share("transformer.dropout", section.dropout)
    if model.width % section.heads:
        raise AgentError(f"width {model.width} is no multiple of the Transformer's {section.heads} heads")
    if section.positions == "rotary" and (model.width // section.heads) % 2:
        raise AgentError("rotary positions need an even width a head")
    if section.positions == "learned" and section.cache == "ring":
        raise AgentError(
            "learned positions end at max_positions, so a ring would not agree with forward; "
            "use positions: rotary or none, or cache: full or recompute"
        )
    if section.window is None:
        if section.cache != "full" or section.positions == "learned":
            raise AgentError(
                "a Transformer without a window needs cache: full, and positions: rotary or none"
            )
        return
    if section.positions == "learned" and section.window > section.max_positions:
        raise AgentError(f"window {section.window} is longer than max_positions {section.max_positions}")
    if section.cache != "ring" and section.window < model.pass_tokens:
        raise AgentError(
            f"window {section.window} is shorter than the {model.pass_tokens} tokens of a decision"
        )


def _describe(model: ModelShape) -> str:
    section: TransformerConfig = model.backbone
    past = {"ring": "attention band", "full": "cache of", "recompute": "window"}[section.cache]
    reach = "unbounded cache" if section.window is None else f"{past} {section.window}"
    positions = "no" if section.positions == "none" else section.positions
    variants = (
        (f"dropout {section.dropout:g}", section.dropout > 0),
        ("RMSNorm", section.norm == "rms"),
        ("post-norm", section.norm_order == "post"),
        ("normed queries and keys", section.qk_norm),
    )
    suffix = "".join(f", {words}" for words, named in variants if named)
    return f"Transformer ({positions} positions, {reach}{suffix})"


def _past(model: ModelShape) -> Past:
    section: TransformerConfig = model.backbone
    anew = section.cache == "recompute"
    ends = anew and section.positions == "learned"
    return Past(
        section.cache,
        section.window,
        restarts=section.cache == "full" and section.window is not None,
        anew=anew,
        longest_forward=section.max_positions if ends else None,
        spare=RING_PASS,
    )


def _holding(section: TransformerConfig, tokens: int, longest: int) -> TransformerConfig:
    """A ring is as long as it is; the table of learned positions is made for the longest."""
    if section.cache == "ring":
        return section
    positions = max(section.max_positions, longest)
    return dataclasses.replace(section, window=tokens, max_positions=positions)


SPEC = BackboneSpec(
    kind="transformer",
    options=TransformerConfig,
    build="lram.agents.backbones.transformer.plain:Transformer",
    title="Transformer",
    check=_check,
    describe=_describe,
    past=_past,
    holding=_holding,
    sizes=table_sizes("transformer"),
    brackets="|".join(_PRESETS),
    listed=tuple(_PRESETS),
    preset=_preset,
    renamed=(RenamedPreset("transformer-1M", "transformer[ring]-1M", "transformer[recompute]-1M"),),
    fused="lram.agents.backbones.transformer.fused:FusedTransformer",
    attention=("PyTorch, scaled_dot_product_attention", "own kernel over the keys in use (numba)"),
    reference="lram.agents.backbones.transformer.reference",
)
