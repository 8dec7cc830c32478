"""What a backbone tells of itself: one :class:`BackboneSpec` a kind. Imports no torch.

A backbone from outside is a module with a specification, named as ``my_module:SPEC`` or announced by the
entry
point group ``lram.backbones``; those that come with the package are in :mod:`lram.agents.backbones.registry`.
``docs/how-to/extending.md`` shows a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from lram.agents.api import AgentError

if TYPE_CHECKING:
    from lram.agents.backbones.contract import Backbone

COMPILED_PARTS = "lram.agents.backbones.parts.compiled:CompiledStep"
"""For ``fused`` of a kind that is made of :mod:`lram.agents.backbones.parts`: each in its compiled form."""

_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")

LATER = MappingProxyType({"later": True})
"""Metadata of an option that a kind was given after checkpoints of it were there: ``field(metadata=LATER)``.

A configuration leaves it out where it is the default, so that the digests of those stay what they were.
"""


class ModelShape(Protocol):
    """What a backbone reads of its model (a :class:`lram.agents.model.config.ModelConfig`)."""

    @property
    def width(self) -> int:
        """Width of a token."""

    @property
    def layers(self) -> int:
        """Blocks of the backbone."""

    @property
    def backbone(self) -> Any:
        """The backbone's own options, of the class that its specification names."""

    @property
    def pass_tokens(self) -> int:
        """Tokens of a decision's pass, at most."""

    @property
    def name(self) -> str:
        """The preset's name, or any other; for people only."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a row keeps of the tokens that it has read; by default a recurrent state of one size.

    Attributes:
        cache: Name of the cache of past tokens; empty for a recurrent state.
        tokens: The most past tokens that a decision reads; None for no limit, and for a recurrent state.
        restarts: Whether the cache, once full, starts again from its newest tokens (otherwise the oldest
        goes). anew: Whether the embedded tokens themselves are kept, and all read anew at each decision. What
            ``step``
            and ``forward`` give then differs once a token was dropped.
        longest_forward: Tokens that ``forward`` can read at once; None for any number.
        spare: The most slots that a cache has beyond ``tokens``: what should be forgotten may stand there
            until they are written over. Checks read twice as many tokens beyond a full cache.
        words: What is kept, for people; empty where the other fields say it.
    """

    cache: str = ""
    tokens: int | None = None
    restarts: bool = False
    anew: bool = False
    longest_forward: int | None = None
    spare: int = 16
    words: str = ""

    @property
    def recurrent(self) -> bool:
        """Whether all of the past is in a state whose size does not depend on it."""
        return not self.cache


@dataclass(frozen=True, slots=True)
class Size:
    """A size of a kind's presets.

    Attributes:
        name: Such as ``16M``.
        width: Width of a token.
        layers: Blocks.
        options: Options that the size sets, by field.
        source: Where the numbers are from.
    """

    name: str
    width: int
    layers: int
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """How the encoders of a kind's models begin; what is not named begins as PyTorch draws it.

    Attributes:
        normal_inputs: Weights of the Linears that read states and images: normal of deviation 0.02, as those
            of
            rewards and returns-to-go always are; their biases 0.
        zero_inputs: Biases of these Linears: 0.
        drawn_biases: Biases of the tokens (not of the image's) and of their norm: normal of deviation 0.02.
    """

    normal_inputs: bool = False
    zero_inputs: bool = False
    drawn_biases: bool = False


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package that changes how a kind computes, or that it is compared with.

    Attributes:
        distribution: Its name for pip.
        module: What is imported.
        purpose: In a few words.
        computes: Whether a kind computes with it where it is installed; otherwise it is only compared with.
    """

    distribution: str
    module: str
    purpose: str
    computes: bool = True


@dataclass(frozen=True, slots=True)
class RenamedPreset:
    """A preset whose name means another model now.

    Attributes:
        name: Such as ``transformer-1M``.
        meant: The preset, with brackets, that it named in earlier versions.
        means: The one that it names now.
    """

    name: str
    meant: str
    means: str


class ReferenceChoices(Protocol):
    """What the weights of a reference model do not tell, as a user chose it; None where nothing was
    chosen.
    """

    @property
    def heads(self) -> int | None:
        """Attention heads."""

    @property
    def context(self) -> int | None:
        """Timesteps that the model looks back."""

    @property
    def positions(self) -> str | None:
        """``learned`` or ``constant``."""

    @property
    def timestep_tokens(self) -> int:
        """Tokens of a timestep."""


class TensorSize(Protocol):
    """Returns how long the axis of a tensor of our name is; AgentError where there is no such tensor or
    axis.
    """

    def __call__(self, name: str, axis: int) -> int:
        """See the class."""


def _no_check(model: ModelShape) -> None:
    """Any options do."""


def _recurrent(model: ModelShape) -> Past:
    return Past()


def _no_words(model: ModelShape) -> str:
    return ""


def _same_options(options: Any, tokens: int, longest: int) -> Any:
    return options


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """A kind of backbone.

    The first three are needed; a kind of these alone trains, is checked, acts, is timed and ablated.

    Attributes:
        kind: Its name in configurations and presets: lower-case letters, digits and underscores.
        options: A frozen dataclass of its options, each with a default, of types that JSON has. A model's
            configuration has them in a section called as the kind.
        build: The :class:`lram.agents.backbones.contract.Backbone` class, called with a :class:`ModelShape`;
            or
            ``module:Class``, imported when a model is built.
        title: Its name for people; empty: the kind.
        check: Raises AgentError for options that do not fit each other or the model.
        describe: The architecture in a few words; empty: the title.
        blocks: What is to be said of its blocks beside number and width; may be empty.
        past: What a row keeps of the past.
        holding: Options of the same weights whose past holds ``tokens``, given (options, tokens, longest);
            all
            lengths up to ``longest`` tokens must share their weights. Only for caches that can be made
            longer.
        sizes: Of its presets, ``KIND-SIZE``.
        brackets: Regular expression of what may stand in a preset's brackets, ``KIND[...]-SIZE``.
        listed: Such brackets that listings show.
        preset: Options of a preset, given what stands in its brackets (empty without) and its size.
        renamed: Names of presets that mean other models now.
        fused: ``module:Class`` of its compiled step, made with (backbone, tokens of a pass in all rows);
            empty
            where it has none.
        attention: In words, what computes attention in the plain and in the fused step.
        encoders: How its models' encoders begin.
        reference: Module that reads weights of the reference implementation, see
            :mod:`lram.agents.checkpoints.reference`; empty where the reference has no such kind.
        packages: Packages that matter to it, for ``lram doctor`` and for provenance.
    """

    kind: str
    options: type
    build: str | Callable[[ModelShape], Backbone]
    title: str = ""
    check: Callable[[ModelShape], None] = _no_check
    describe: Callable[[ModelShape], str] = _no_words
    blocks: Callable[[ModelShape], str] = _no_words
    past: Callable[[ModelShape], Past] = _recurrent
    holding: Callable[[Any, int, int], Any] = _same_options
    sizes: tuple[Size, ...] = ()
    brackets: str = ""
    listed: tuple[str, ...] = ()
    preset: Callable[[str, Size], Any] | None = None
    renamed: tuple[RenamedPreset, ...] = ()
    fused: str = ""
    attention: tuple[str, str] = ("none", "none")
    encoders: EncoderWeights = EncoderWeights()
    reference: str = ""
    packages: tuple[Package, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not _KIND.fullmatch(self.kind):
            raise AgentError(
                f"the backbone kind {str(self.kind)[:80]!r} must be a lower-case letter, then at most 31 of "
                "a to z, 0 to 9 and _"
            )
        if not (isinstance(self.options, type) and is_dataclass(self.options)):
            raise AgentError(f"the options of the backbone {self.kind} are no dataclass; give a frozen one")
        try:
            self.options()
        except TypeError as error:
            raise AgentError(
                f"each option of the backbone {self.kind} needs a default ({self.options.__name__}: {error})"
            ) from None
        if not (callable(self.build) or (isinstance(self.build, str) and ":" in self.build)):
            raise AgentError(f"the backbone {self.kind} is built by no class and by no 'module:Class'")

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.title or self.kind

    def option_names(self) -> tuple[str, ...]:
        """The fields of its options."""
        return tuple(one.name for one in fields(self.options))

    def written_names(self, options: Any) -> tuple[str, ...]:
        """The fields of its options that a configuration names: all but later ones at their defaults."""
        return tuple(
            one.name
            for one in fields(self.options)
            if not one.metadata.get("later") or getattr(options, one.name) != one.default
        )

    def of_size(self, size: Size, brackets: str = "") -> Any:
        """Return the options of a preset."""
        if self.preset is None:
            return self.options(**size.options)
        return self.preset(brackets, size)
