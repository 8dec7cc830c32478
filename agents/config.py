"""What an action model is made of: one frozen dataclass, the same in code and in ``config.json``.

Exactly one of the sections ``xlstm``, ``mamba`` and ``transformer`` is there; it tells the kind of
backbone. Sizes and defaults are those of the LRAM reference implementation (arXiv 2410.22391).
This module imports no torch: a plan can be made, and a model described, without it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from lram.agents.api import AgentError
from lram.agents.shown import shown
from lram.agents.tokens import ACTION_DIMS, Decoding

Kind = Literal["xlstm", "mamba", "transformer"]
KINDS: tuple[Kind, ...] = ("xlstm", "mamba", "transformer")
MOST_LAYERS = 4096
"""Blocks of the deepest model; one takes a millisecond to make."""

_MOST_SIZE = 1 << 20
_LIMITS: dict[str, int] = {
    "width": _MOST_SIZE,
    "layers": MOST_LAYERS,
    "state_width": _MOST_SIZE,
    "xlstm.heads": 1 << 16,
    "xlstm.conv_kernel": 1 << 12,
    "xlstm.qkv_block": _MOST_SIZE,
    "xlstm.mlstm_factor": 64,
    "xlstm.ffn_factor": 64,
    "mamba.state_size": 1 << 16,
    "mamba.conv_kernel": 1 << 12,
    "mamba.expand": 64,
    "mamba.dt_rank": _MOST_SIZE,
    "transformer.heads": 1 << 16,
    "transformer.window": 1 << 24,
    "transformer.max_positions": 1 << 24,
}
"""Largest values: far above what is trained, and so small that no product of some is beyond 64 bits."""

_LATER = ("returns_in_context", "rewards_in_context")  # true wherever they are not named


@dataclass(frozen=True, slots=True)
class XLSTMConfig:
    """A stack of mLSTM blocks with sLSTM blocks at ``slstm_at`` (Beck et al. 2024, arXiv 2405.04517).

    Attributes:
        heads: Heads of every mLSTM and sLSTM.
        slstm_at: Positions of the sLSTM blocks, counted from 0; all others are mLSTM.
        conv_kernel: Width of the causal convolution before queries and keys.
        qkv_block: Size of the diagonal blocks of the query, key and value projections.
        mlstm_factor: Inner width of an mLSTM over the width (rounded up to a multiple of 64).
        ffn_factor: Inner width of the feed-forward part of an sLSTM block, likewise.
    """

    heads: int = 4
    slstm_at: tuple[int, ...] = ()
    conv_kernel: int = 4
    qkv_block: int = 4
    mlstm_factor: float = 2.0
    ffn_factor: float = 1.3


@dataclass(frozen=True, slots=True)
class MambaConfig:
    """A stack of Mamba-1 blocks (Gu and Dao 2023, arXiv 2312.00752).

    Attributes:
        state_size: Recurrent numbers a channel.
        conv_kernel: Width of the causal convolution.
        expand: Channels over the width.
        dt_rank: Rank of the step-size projection; None is width / 16, rounded up.
    """

    state_size: int = 16
    conv_kernel: int = 4
    expand: int = 2
    dt_rank: int | None = None


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """A stack of pre-norm causal attention blocks in the style of GPT-2.

    Attributes:
        heads: Attention heads.
        positions: ``learned`` (a table of ``max_positions``) or ``rotary`` (unbounded).
        window: Tokens, see ``cache``. None, with ``full`` and rotary positions only: no limit.
        cache: How a decision reads the past.

            ``ring``: keys and values of the last tokens are kept. Every token sees itself and the
            ``window - 1`` tokens before it, in ``forward`` by a band mask and in ``step`` by the
            ring, so the two agree at any length. Needs rotary positions.

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
    """

    heads: int = 8
    positions: Literal["learned", "rotary"] = "learned"
    window: int | None = 149
    cache: Literal["ring", "full", "recompute"] = "recompute"
    max_positions: int = 1600


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """An action model.

    Attributes:
        width: Width of a token.
        layers: Blocks of the backbone.
        xlstm: Set when the backbone is an xLSTM.
        mamba: Set when it is a Mamba.
        transformer: Set when it is a Transformer.
        state_width: Vector observations are filled up with zeros to this width.
        actions_in_context: Whether past actions are tokens too, one a dimension.
        returns_in_context: Whether returns-to-go are tokens; without them, an action is read at the state.
        rewards_in_context: Whether rewards are tokens.
        decode: ``center`` of a bin, or its ``lower`` edge, as the reference decodes.
        name: The preset's name, or any other; for people only.
    """

    width: int
    layers: int
    xlstm: XLSTMConfig | None = None
    mamba: MambaConfig | None = None
    transformer: TransformerConfig | None = None
    state_width: int = 204
    actions_in_context: bool = False
    returns_in_context: bool = True
    rewards_in_context: bool = True
    decode: Decoding = "center"
    name: str = ""

    def __post_init__(self) -> None:
        sections = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(sections) != 1:
            raise AgentError(f"a model has exactly one of xlstm, mamba, transformer; given: {sections}")
        for name in ("width", "layers", "state_width"):
            _check_limits(name, getattr(self, name))
        if len(self.name) > 200 or not self.name.isprintable():
            raise AgentError("the model's name is not a printable text of 200 characters or less")
        _CHECKS[sections[0]](self)

    @property
    def kind(self) -> Kind:
        """Which backbone."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def pass_tokens(self) -> int:
        """Tokens of one decision: last actions, last reward, state, return-to-go, as far as in context."""
        past = (ACTION_DIMS if self.actions_in_context else 0) + self.rewards_in_context
        return past + self.fresh_tokens

    @property
    def fresh_tokens(self) -> int:
        """Those of them that an episode's first decision has: state and return-to-go, the pass's last."""
        return 1 + self.returns_in_context

    @property
    def decided_at(self) -> int:
        """Place in a timestep, counted from the state, of the token that its action is read at."""
        return self.fresh_tokens - 1

    def token_places(self, tokens: int) -> dict[str, slice]:
        """Return where the kinds of tokens are in a timestep of so many: state, return-to-go, action, reward.

        A kind that is not in context has an empty slice.
        """
        past = tokens - self.rewards_in_context
        return {
            "state": slice(0, 1),
            "return-to-go": slice(1, self.fresh_tokens),
            "action": slice(self.fresh_tokens, past),
            "reward": slice(past, tokens),
        }

    def describe(self) -> str:
        """Return the model in a few words, such as ``xLSTM [7:1] (sLSTM at 1 of 8 blocks)``.

        The ratio is the one that ``name`` writes, as papers do; it may be rounded, and the positions
        say what it stands for. Without one, the true ratio. Tokens are told where they are not the usual
        state, return-to-go and reward.
        """
        return self._architecture() + "".join(
            f", {words}"
            for words, told in (
                ("with actions in context", self.actions_in_context),
                ("without returns-to-go", not self.returns_in_context),
                ("without rewards", not self.rewards_in_context),
            )
            if told
        )

    def _architecture(self) -> str:
        if self.xlstm is not None:
            at = self.xlstm.slstm_at
            divisor = math.gcd(self.layers - len(at), len(at))
            true = f"[{(self.layers - len(at)) // divisor}:{len(at) // divisor}]"
            written = re.search(r"\[\d+:\d+\]", self.name)
            where = f" (sLSTM at {', '.join(map(str, at))} of {self.layers} blocks)" if at else ""
            return f"xLSTM {written[0] if written else true}{where}"
        if self.transformer is not None:
            section = self.transformer
            past = {"ring": "attention band", "full": "cache of", "recompute": "window"}[section.cache]
            reach = "unbounded cache" if section.window is None else f"{past} {section.window}"
            return f"Transformer ({section.positions} positions, {reach})"
        return "Mamba"


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """Return ``config`` as plain values for JSON, without the sections of the other kinds.

    Fields that checkpoints of earlier versions lack are left out where they say nothing new, so that the
    digests of those stay what they were.
    """
    plain: dict[str, Any] = msgspec.to_builtins(config)
    for name in _LATER:
        if plain[name]:
            del plain[name]
    return {name: value for name, value in plain.items() if name not in KINDS or value is not None}


def config_from_dict(plain: Any) -> ModelConfig:
    """Read a configuration; AgentError tells the first unknown field, wrong type or bad value."""
    if not isinstance(plain, dict):
        raise AgentError("the model's configuration is not a JSON object")
    _refuse_unknown(plain, ModelConfig, "")
    for kind, section in (("xlstm", XLSTMConfig), ("mamba", MambaConfig), ("transformer", TransformerConfig)):
        if isinstance(plain.get(kind), dict):
            _refuse_unknown(plain[kind], section, f"{kind}.")
    try:
        return msgspec.convert(plain, ModelConfig)
    except (msgspec.ValidationError, OverflowError) as error:
        raise AgentError(f"the model's configuration does not fit: {shown(str(error), 200)}") from None


def _refuse_unknown(plain: dict[str, Any], section: type, prefix: str) -> None:
    # msgspec drops unknown fields of dataclasses in silence; a misspelt one must not be.
    known = [field.name for field in dataclasses.fields(section)]
    for name in plain:
        if name not in known:
            raise AgentError(
                f"the model's configuration has no field {prefix}{shown(str(name))}; "
                f"known: {', '.join(known)}"
            )


def _check_limits(name: str, value: float | None) -> None:
    # Not the other way round, which nan would pass.
    if value is not None and not 0 < value <= _LIMITS[name]:
        # A number of many digits is no text: Python refuses to write it.
        told = value if -1e15 < value < 1e15 or value != value else "a number of many digits"
        raise AgentError(f"the model's {name} must be above 0 and at most {_LIMITS[name]}, not {told}")


def _check_xlstm(config: ModelConfig) -> None:
    section = config.xlstm
    assert section is not None
    for name in ("heads", "conv_kernel", "qkv_block", "mlstm_factor", "ffn_factor"):
        _check_limits(f"xlstm.{name}", getattr(section, name))
    inner = round_up(section.mlstm_factor * config.width)
    if inner % section.heads or inner % section.qkv_block:
        raise AgentError(f"inner width {inner} is no multiple of heads and qkv_block of the xLSTM")
    if section.slstm_at and config.width % section.heads:
        raise AgentError(f"width {config.width} is no multiple of the xLSTM's {section.heads} heads")
    for position in section.slstm_at:
        if not 0 <= position < config.layers:
            told = position if abs(position) < 10**15 else "a number of many digits"
            raise AgentError(f"xlstm.slstm_at {told} is outside the {config.layers} blocks")
    if len(set(section.slstm_at)) != len(section.slstm_at):
        raise AgentError(f"xlstm.slstm_at names a block twice: {shown(str(list(section.slstm_at[:100])))}")


def _check_mamba(config: ModelConfig) -> None:
    for name in ("state_size", "conv_kernel", "expand", "dt_rank"):
        _check_limits(f"mamba.{name}", getattr(config.mamba, name))


def _check_transformer(config: ModelConfig) -> None:
    section = config.transformer
    assert section is not None
    for name in ("heads", "window", "max_positions"):
        _check_limits(f"transformer.{name}", getattr(section, name))
    if config.width % section.heads:
        raise AgentError(f"width {config.width} is no multiple of the Transformer's {section.heads} heads")
    if section.positions == "rotary" and (config.width // section.heads) % 2:
        raise AgentError("rotary positions need an even width a head")
    if section.positions == "learned" and section.cache == "ring":
        raise AgentError(
            "learned positions end at max_positions, so a ring would not agree with forward; "
            "use rotary positions, or cache: full or recompute"
        )
    if section.window is None:
        if section.cache != "full" or section.positions != "rotary":
            raise AgentError("a Transformer without a window needs cache: full and rotary positions")
        return
    if section.positions == "learned" and section.window > section.max_positions:
        raise AgentError(f"window {section.window} is longer than max_positions {section.max_positions}")
    if section.cache != "ring" and section.window < config.pass_tokens:
        raise AgentError(
            f"window {section.window} is shorter than the {config.pass_tokens} tokens of a decision"
        )


_CHECKS = {"xlstm": _check_xlstm, "mamba": _check_mamba, "transformer": _check_transformer}


def round_up(value: float, multiple: int = 64) -> int:
    """Return ``value`` rounded up to a multiple, as the xlstm package sizes its inner layers."""
    return math.ceil(value / multiple) * multiple
