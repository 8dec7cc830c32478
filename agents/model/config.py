"""What an action model is made of: one frozen dataclass, the same in code and in ``config.json``.

The backbone's own options stand in a section that is called as its kind (``"mamba": {...}``); the registry of
backbones (:mod:`lram.agents.backbones`) tells what a kind is. Sizes and defaults are those of the LRAM
reference
implementation (arXiv 2410.22391). This module imports no torch: a plan can be made, and a model described,
without it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import msgspec

from lram.agents.api import AgentError
from lram.agents.backbones.limits import MOST_SIZE, check_limits
from lram.agents.backbones.registry import find_spec, home_of, kinds, spec_of
from lram.agents.backbones.spec import BackboneSpec, Past
from lram.agents.model.tokens import ACTION_DIMS, Decoding
from lram.agents.own_errors import cause_of
from lram.agents.shown import shown

MOST_LAYERS = 4096
"""Blocks of the deepest model; one takes a millisecond to make."""

_LATER = ("returns_in_context", "rewards_in_context")  # true wherever they are not named


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """An action model.

    Attributes:
        width: Width of a token.
        layers: Blocks of the backbone.
        backbone: The backbone's options, such as :class:`lram.agents.backbones.xlstm.XLSTMConfig`; their
            class
            tells the kind.
        state_width: Vector observations are filled up with zeros to this width.
        actions_in_context: Whether past actions are tokens too, one a dimension.
        returns_in_context: Whether returns-to-go are tokens; without them, an action is read at the state.
        rewards_in_context: Whether rewards are tokens.
        decode: ``center`` of a bin, or its ``lower`` edge, as the reference decodes.
        name: The preset's name, or any other; for people only.
    """

    width: int
    layers: int
    backbone: Any
    state_width: int = 204
    actions_in_context: bool = False
    returns_in_context: bool = True
    rewards_in_context: bool = True
    decode: Decoding = "center"
    name: str = ""

    def __post_init__(self) -> None:
        check_limits("width", self.width, MOST_SIZE)
        check_limits("layers", self.layers, MOST_LAYERS)
        check_limits("state_width", self.state_width, MOST_SIZE)
        if len(self.name) > 200 or not self.name.isprintable():
            raise AgentError("the model's name is not a printable text of 200 characters or less")
        spec = self.spec
        try:
            spec.check(self)
        except (AgentError, ValueError, TypeError):  # what does not fit, as a check says it
            raise
        except Exception as error:
            raise AgentError(
                f"the check of the backbone {spec.kind} raised {cause_of(error)}; fix it, or the options"
            ) from error

    @property
    def spec(self) -> BackboneSpec:
        """What is known of its kind of backbone."""
        return spec_of(self.backbone)

    @property
    def kind(self) -> str:
        """Which backbone."""
        return self.spec.kind

    @property
    def past(self) -> Past:
        """What a lane keeps of the tokens that it has read."""
        return self.spec.past(self)

    def holding(self, timesteps: int, longest: int | None = None) -> ModelConfig:
        """Return it with a past that holds all tokens of so many timesteps and one decision.

        What has a state of one size, or a cache that cannot be made longer, is returned as it is.

        Args:
            timesteps: Read before the decision.
            longest: The most that any variant of this model reads: all variants have the same weights.
        """
        tokens, most = ((steps + 1) * self.pass_tokens for steps in (timesteps, longest or timesteps))
        return dataclasses.replace(self, backbone=self.spec.holding(self.backbone, tokens, most))

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

        Tokens are named where they are not the usual state, return-to-go and reward.
        """
        return (self.spec.describe(self) or self.spec.label) + "".join(
            f", {words}"
            for words, named in (
                ("with actions in context", self.actions_in_context),
                ("without returns-to-go", not self.returns_in_context),
                ("without rewards", not self.rewards_in_context),
            )
            if named
        )


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """Return ``config`` as plain values for JSON.

    The backbone's options are a section called as its kind; for a backbone from outside, ``backbone`` names
    where its code is. Fields that checkpoints of earlier versions lack are left out where they say nothing
    new, so that the digests of those stay what they were.
    """
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "backbone":
            home = home_of(config.spec)
            plain |= {"backbone": home} if home else {}
            # Field by field: what msgspec has made of a dataclass without slots lacks its defaults.
            names = config.spec.written_names(value)
            plain[config.kind] = {name: msgspec.to_builtins(getattr(value, name)) for name in names}
        elif field.name not in _LATER or not value:
            plain[field.name] = value
    return plain


def config_from_dict(plain: Any) -> ModelConfig:
    """Read a configuration.

    Args:
        plain: As :func:`config_to_dict` gives it; ``backbone`` may also be a kind without a section.

    Raises:
        AgentError: The first unknown field, wrong type or bad value.
    """
    if not isinstance(plain, dict):
        raise AgentError("the model's configuration is not a JSON object")
    spec = _spec_in(plain)
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    _refuse_unknown(
        plain, (*(name for name in _ordered_names() if name != "backbone"), "backbone", spec.kind), ""
    )
    section = plain.get(spec.kind, {})
    if isinstance(section, dict):
        _refuse_unknown(section, spec.option_names(), f"{spec.kind}.")
    options = _converted(section, spec.options, f"$.{spec.kind}")
    others = {name: value for name, value in plain.items() if name in names and name != "backbone"}
    config: ModelConfig = _converted({**others, "backbone": options}, ModelConfig, "$")
    return config


def _spec_in(plain: dict[str, Any]) -> BackboneSpec:
    """Return the one backbone that a configuration names: by its code, by its kind, or by its section."""
    given = plain.get("backbone")
    if given is not None and not isinstance(given, str):
        raise AgentError("the model's backbone is no text; give a kind, or module:SPEC")
    sections = [kind for kind in kinds() if plain.get(kind) is not None]
    spec = find_spec(given) if given else None
    found = dict.fromkeys([*([spec.kind] if spec is not None else []), *sections])
    if len(found) != 1:
        raise AgentError(f"a model has exactly one of {', '.join(kinds())}; given: {list(found)}")
    return spec if spec is not None else find_spec(sections[0])


def _ordered_names() -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(ModelConfig))


def _converted(plain: Any, kind: type, where: str) -> Any:
    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        text = shown(str(error), 200).replace("`$", f"`{where}")
        raise AgentError(f"the model's configuration does not fit: {text}") from None


def _refuse_unknown(plain: dict[str, Any], known: tuple[str, ...], prefix: str) -> None:
    # msgspec drops unknown fields of dataclasses in silence; a misspelt one must not be.
    for name in plain:
        if name not in known:
            raise AgentError(
                f"the model's configuration has no field {prefix}{shown(str(name))}; "
                f"known: {', '.join(known)}"
            )
