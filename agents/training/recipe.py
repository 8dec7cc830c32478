"""Recipes: everything that decides what a training run does, as one frozen dataclass.

Each field carries its own description and bounds, from which errors, ``lram train --help`` and
``docs/how-to/training.md`` are made. The defaults are the LRAM reference implementation's recipe, counted in
optimiser updates. The reference counts micro-steps: 200,000 of them, one update in each 6 (a micro-batch
of each of its 6 domains), make 33,333 updates, and its 4,000 micro-steps of warm-up make 667 (ml-jku/LRAM,
``configs/agent_params/model_kwargs``, ``configs/run_params/pretrain.yaml``, ``lr_sched_kwargs/cosine.yaml``;
its AdamW, clipping and decay in ``src/algos/decision_transformer_sb3.py``).

This module imports no torch. Files and ``--set``: :mod:`lram.agents.training.recipe_text`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from lram.agents.api import AgentError
from lram.agents.backbones.registry import built_in, find_spec, kinds, renamed_presets
from lram.agents.backbones.spec import BackboneSpec
from lram.agents.compute import SequenceForm
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.presets import parse_preset
from lram.agents.shown import shown

Share: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrZero: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Updates: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000_000)]
UpdatesOrZero: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Processes: TypeAlias = Annotated[int, Meta(ge=0, le=256)]
Threads: TypeAlias = Annotated[int, Meta(ge=1, le=1024)]
Turns: TypeAlias = Annotated[int, Meta(ge=0, le=10_000)]
Positive: TypeAlias = Annotated[float, Meta(gt=0, le=1e9)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]

MOST_TIMESTEPS = 100_000_000
"""Timesteps of a micro-batch: far beyond any memory, with observations of a few hundred numbers each."""


@dataclass(frozen=True, slots=True)
class ModelSection:
    """Which model is trained: a preset, a checkpoint, or sizes of one's own; any field can be overridden.

    Attributes:
        preset: Where the model starts from; empty with ``init_from``, or where all is in ``overrides``.
        init_from: Checkpoint whose weights (and model, but for the overrides) training starts from: its
            folder, or the name of a model that comes with the package.
        overrides: Fields of :class:`lram.agents.model.config.ModelConfig`, its sections as dictionaries. In a
            file they stand in ``[model]`` beside the preset. None is written ``"none"`` there.
    """

    preset: Annotated[str, Meta(description="a preset of 'lram agents', such as xlstm[7:1]-1M")] = ""
    init_from: Annotated[
        str,
        Meta(
            description="a checkpoint's folder, or a model that comes along: training starts from its weights"
        ),
    ] = ""
    state_init: Annotated[
        Literal["reference", "standardised"],
        Meta(
            description="how the Linear that reads states begins: as the reference draws it, or as if states "
            "were standardised by the training data; with init_from, as the checkpoint has it"
        ),
    ] = "reference"
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataSection:
    """Which trajectories are learned from."""

    stores: Annotated[
        tuple[str, ...], Meta(description="folders of trajectory stores; at least one is needed")
    ] = ()
    tasks: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="patterns of task ids, such as `metaworld/*`"),
    ] = ("*",)
    policies: Annotated[
        tuple[str, ...], Meta(min_length=1, description="patterns of the policies that acted")
    ] = ("*",)
    top_fraction: Annotated[
        Share, Meta(description="of each task's trajectories, only this share with the highest returns")
    ] = 1.0
    episode_fraction: Annotated[
        Share, Meta(description="of each task's trajectories, only this share, drawn at random")
    ] = 1.0
    labels: Annotated[
        Literal["taken", "scripted", "experts"],
        Meta(
            description="what is learned at a decision: the action that was taken, or, in tasks with vector "
            "states that `scripted` plays (experts: `scripted` or else `sac`), what it would have done there"
        ),
    ] = "taken"
    validation_share: Annotated[
        float,
        Meta(ge=0, lt=1, description="of each task's trajectories, this share is held out for validation"),
    ] = 0.025
    validation_unit: Annotated[
        Literal["trajectory", "episode"],
        Meta(
            description="what validation_share is of: trajectory: of the different ones, so no copy of one "
            "is on both sides; episode: of all episodes, as earlier versions did"
        ),
    ] = "trajectory"
    seed: Annotated[
        Seed,
        Meta(description="seed of both random draws; not the run's, so that runs of many seeds share them"),
    ] = 1
    target_returns: Annotated[
        Literal["table", "data"],
        Meta(
            description="what the model is asked for when it acts: the task table's targets (the reference's "
            "way), or a quantile of the returns of these trajectories, which the checkpoint then carries"
        ),
    ] = "table"
    target_quantile: Annotated[
        float, Meta(ge=0, le=1, description="that quantile of each task's returns; 1: the best")
    ] = 0.9


@dataclass(frozen=True, slots=True)
class SamplingSection:
    """How windows of trajectories are drawn."""

    context: Annotated[Count, Meta(description="timesteps of a window")] = 50
    sequences: Annotated[
        Count, Meta(description="windows of a micro-batch on each process (reference: 32 on each of 4 GPUs)")
    ] = 32
    domain_sequences: Annotated[
        Mapping[str, Count], Meta(description="sequences for single domains, such as `{atari = 8}`")
    ] = field(default_factory=dict)
    domain_weights: Annotated[
        Mapping[str, Turns], Meta(description="turns of a domain in each cycle; 1 where not named")
    ] = field(default_factory=dict)
    balance_tasks: Annotated[
        bool, Meta(description="draw tasks equally often, not in proportion to their timesteps")
    ] = False
    fill: Annotated[
        bool,
        Meta(
            description="fill windows that begin with an episode from what follows their end, for tasks "
            "whose beginnings matter"
        ),
    ] = False
    workers: Annotated[Processes, Meta(description="processes that prepare batches; 0: the trainer")] = 0


@dataclass(frozen=True, slots=True)
class OptimizerSection:
    """AdamW with warm-up and cosine decay. One update takes ``accumulate`` micro-batches."""

    learning_rate: Annotated[Positive, Meta(description="the largest, after the warm-up")] = 1e-4
    beta1: Annotated[float, Meta(ge=0, lt=1, description="AdamW's first beta")] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1, description="AdamW's second beta")] = 0.999
    eps: Annotated[Positive, Meta(description="AdamW's epsilon")] = 1e-8
    weight_decay: Annotated[
        NotNegative, Meta(description="of weights of linear layers and convolutions; all else has none")
    ] = 0.01
    clip: Annotated[NotNegative, Meta(description="largest norm of the gradient; 0: not clipped")] = 0.25
    updates: Annotated[
        Updates, Meta(description="optimiser updates (reference: 200,000 micro-steps, 6 an update)")
    ] = 33_333
    warmup_updates: Annotated[
        UpdatesOrZero,
        Meta(
            description="updates of linear warm-up (reference: 4,000 micro-steps); if not set, and "
            "`updates` is 667 or less: a fiftieth of those"
        ),
    ] = 667
    final_learning_rate: Annotated[NotNegative, Meta(description="where the cosine ends")] = 1e-6
    bin_smoothing: Annotated[
        NotNegative,
        Meta(
            description="standard deviation, in bins, of the targets that a continuous action is spread to; "
            "0: its own bin alone (the reference's way)"
        ),
    ] = 0.0
    accumulate: Annotated[
        Turns, Meta(description="micro-batches of an update; 0: one cycle through the domains")
    ] = 0
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Meta(description="bfloat16: autocast; weights and optimiser stay float32 (reference: bfloat16)"),
    ] = "float32"
    compile: Annotated[bool, Meta(description="torch.compile (reference: on, except for Mamba)")] = False
    sequences: Annotated[
        SequenceForm,
        Meta(
            description="how whole sequences are read: torch: plain PyTorch; fused: compiled kernels of "
            "processors; packages: mamba-ssm and mlstm_kernels, as installed; triton: kernels for GPUs; "
            "auto: fused or, on GPUs, torch with mamba-ssm for Mamba where it is installed"
        ),
    ] = "auto"


@dataclass(frozen=True, slots=True)
class ValidationSection:
    """When and on how much the held-out trajectories are looked at."""

    every: Annotated[
        UpdatesOrZero,
        Meta(description="updates between validations; 0: at the end only (reference: 50,000 micro-steps)"),
    ] = 8_333
    windows: Annotated[CountOrZero, Meta(description="windows a domain, always the same; 0: none")] = 512


@dataclass(frozen=True, slots=True)
class SavingSection:
    """What is written, and when."""

    metrics_every: Annotated[Updates, Meta(description="updates that a line of metrics sums up")] = 10
    state_updates: Annotated[
        UpdatesOrZero, Meta(description="updates between training states to resume from; 0: by time only")
    ] = 0
    state_seconds: Annotated[Positive, Meta(description="seconds between training states")] = 300.0
    checkpoint_updates: Annotated[
        UpdatesOrZero, Meta(description="updates between checkpoints; 0: the final one only")
    ] = 0
    keep: Annotated[
        Count | Literal["all"],
        Meta(description='so many of these checkpoints are kept, the newest; "all": every one'),
    ] = 3
    trackers: Annotated[
        tuple[str, ...],
        Meta(description="besides metrics.jsonl: tensorboard, wandb, mlflow, trackio, entry points"),
    ] = ("tensorboard",)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run; the module's text says where the defaults come from."""

    name: Annotated[str, Meta(description="for people; it changes nothing")] = ""
    seed: Annotated[Seed, Meta(description="of initial weights and of all drawing")] = 0
    threads: Annotated[
        Threads, Meta(description="threads of the trainer; bits are repeated for the same number only")
    ] = 1
    device: Annotated[
        str, Meta(min_length=1, description="where the model is trained: cpu, cuda, cuda:1")
    ] = "cpu"
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    sampling: SamplingSection = field(default_factory=SamplingSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    validation: ValidationSection = field(default_factory=ValidationSection)
    saving: SavingSection = field(default_factory=SavingSection)

    def check(self) -> None:
        """Raise AgentError for what no single field's bounds can tell."""
        optimizer = self.optimizer
        if optimizer.warmup_updates >= optimizer.updates:
            fitting = optimizer.updates // 50
            raise AgentError(
                f"optimizer.warmup_updates is {optimizer.warmup_updates} and must be below "
                f"optimizer.updates = {optimizer.updates}; set it to {fitting}, for instance"
            )
        if optimizer.final_learning_rate > optimizer.learning_rate:
            raise AgentError(
                f"optimizer.final_learning_rate is {optimizer.final_learning_rate:g}, above "
                f"optimizer.learning_rate = {optimizer.learning_rate:g}; set a lower one"
            )
        if optimizer.compile and optimizer.sequences not in ("auto", "torch"):
            raise AgentError(
                "optimizer.compile is true and optimizer.sequences is "
                f"{optimizer.sequences}, but PyTorch's compiler takes the plain form; set one of them only"
            )
        sampling = self.sampling
        for place, count in {"": sampling.sequences, **sampling.domain_sequences}.items():
            if count * sampling.context > MOST_TIMESTEPS:
                name = f"sampling.domain_sequences.{place}" if place else "sampling.sequences"
                raise AgentError(
                    f"{name} = {count} windows of sampling.context = {sampling.context} timesteps are more "
                    f"than the {MOST_TIMESTEPS} timesteps that a micro-batch may have; set smaller ones"
                )
        self.check_saving()
        if not self.data.stores:
            raise AgentError(
                "the recipe names no data; set data.stores to folders that 'lram collect' has written"
            )

    def check_saving(self) -> None:
        """Raise AgentError where checkpoints are to be kept that are not written."""
        if self.saving.keep == "all" and not self.saving.checkpoint_updates:
            raise AgentError(
                'saving.keep is "all", and saving.checkpoint_updates = 0 writes no checkpoint but the final '
                "one; set it to the updates between checkpoints, for instance "
                f"{max(1, self.optimizer.updates // 10)}"
            )


FREE = frozenset(
    {
        "name",
        "data.stores",
        "sampling.workers",
        "saving.state_updates",
        "saving.state_seconds",
        "saving.checkpoint_updates",
        "saving.keep",
        "saving.trackers",
    }
)
"""Fields that may differ when a run continues: they change no number. Stores are held by their digests."""


EARLIER_DEFAULTS = {
    "data.validation_unit": "episode",
    "data.labels": "taken",
    "optimizer.bin_smoothing": 0.0,
    "optimizer.sequences": "auto",
}
"""What fields did by default when they were not there yet: keys over what differs from the defaults keep."""


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return ``recipe`` as plain values, as a file has them: the model's overrides beside its preset."""
    plain: dict[str, Any] = msgspec.to_builtins(recipe)
    model = plain["model"]
    overrides = _replace(model.pop("overrides"), None, "none")
    if (renamed := renamed_presets().get(recipe.model.preset)) is not None:
        model["preset"] = renamed.means  # read back from a whole recipe, the name would mean an earlier model
    plain["model"] = {name: value for name, value in {**model, **overrides}.items() if value != ""}
    return plain


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 over the fields that decide the numbers."""
    decisive = {name: value for name, value in flat(recipe_to_dict(recipe)).items() if name not in FREE}
    if not decisive["sampling.fill"]:  # a later field, that must not change the digests of earlier recipes
        del decisive["sampling.fill"]
    later = {"optimizer.bin_smoothing": 0.0, "optimizer.sequences": "auto", "data.labels": "taken"}
    for name, plain in later.items():  # likewise
        if decisive[name] == plain:
            del decisive[name]
    if decisive["data.validation_unit"] == "episode":  # likewise
        del decisive["data.validation_unit"]
    for one in renamed_presets().values():  # a name that means another model today
        if decisive.get("model.preset") == one.meant:
            decisive["model.preset"] = one.name
    return hashlib.sha256(msgspec.json.encode(decisive, order="sorted")).hexdigest()


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, its keys joined by dots."""
    result: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def model_config(section: ModelSection, initial: ModelConfig | None = None) -> ModelConfig:
    """Return the configuration of the model; AgentError where it makes no sense.

    Args:
        section: The recipe's.
        initial: That of the checkpoint ``init_from``, where one is named.
    """
    if initial is None and section.preset:
        initial = parse_preset(section.preset)
    if initial is None and not section.overrides:
        raise AgentError("the recipe names no model; set model.preset, for instance to xlstm[7:1]-1M")
    plain = config_to_dict(initial) if initial is not None else {}
    specs = _named_backbones(section.overrides)
    for name, value in _without_none(section.overrides, specs).items():
        both = isinstance(value, Mapping) and isinstance(plain.get(name), Mapping)
        plain[name] = {**plain[name], **value} if both else value
    others = [kind for kind in specs if initial is not None and kind != initial.kind]
    if initial is not None and others and plain[initial.kind] is not None:
        whose = f"the preset {shown(section.preset)}" if section.preset else "the checkpoint of init_from"
        raise AgentError(
            f"the recipe's model has two backbones, {initial.kind} of {whose} and {others[0]}; leave one of "
            "them out, and set model.width and model.layers where it is the preset"
        )
    own_fields = [one.name for one in fields(ModelConfig)]
    for name in sorted(plain.keys() - {*MODEL_FIELDS, *specs}):
        if plain[name] is None and specs and not get_close_matches(name, own_fields, n=1, cutoff=0.75):
            del plain[name]  # a base has options there, and what is said over it leaves them out
        elif isinstance(plain[name], Mapping) and specs:
            raise AgentError(
                f"the recipe's model has the section {shown(name)}, and its backbone is of the kind "
                f"{' and '.join(specs)}; take the section out, or where a base has it, set "
                f'model.{shown(name)} to "none"'
            )
    for name in ("width", "layers"):
        if name not in plain:
            raise AgentError(f"the recipe's model has no {name}; set model.{name}, or model.preset")
    return config_from_dict(plain)


def _named_backbones(overrides: Mapping[str, Any]) -> dict[str, BackboneSpec]:
    """Return the backbones that overrides name, by their code or kind or by their section, by kind."""
    named = overrides.get("backbone")
    names = [named] if isinstance(named, str) and named else []
    names += [name for name in kinds() if isinstance(overrides.get(name), Mapping)]
    return {spec.kind: spec for spec in map(find_spec, names)}


def _without_none(overrides: Mapping[str, Any], specs: Mapping[str, BackboneSpec]) -> dict[str, Any]:
    """Return overrides with None for "none", but where that is a word of the field, as of positions.

    Args:
        overrides: Fields of the model.
        specs: The backbones whose options may be among them, by kind.
    """
    plain: dict[str, Any] = _replace(overrides, "none", None)
    for kind, section in overrides.items():
        if kind not in specs or not isinstance(section, Mapping):
            continue
        hints = get_type_hints(specs[kind].options)
        for name, value in section.items():
            if value == "none" and _is_word("none", hints.get(name)):
                plain[kind][name] = value
    return plain


def _is_word(word: str, hint: Any) -> bool:
    """Return whether an option of the type ``hint`` may be ``word`` and cannot be None."""
    return word in get_args(hint) or (_fits(word, hint) and not _fits(None, hint))


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def _replace(value: Any, old: Any, new: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _replace(inner, old, new) for name, inner in value.items()}
    return new if value == old and type(value) is type(old) else value


MODEL_SECTION = tuple(one.name for one in fields(ModelSection) if one.name != "overrides")
"""Fields of a recipe's section of the model that are not the model's own."""

MODEL_FIELDS = (*(one.name for one in fields(ModelConfig)), *kinds())
"""Fields of the model, and the sections of its backbone's options."""


@lru_cache(maxsize=256)
def known_fields(path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the names that a section may have; None where any name is right (or the model checks it)."""
    if path == ("model",):
        return (*MODEL_SECTION, *MODEL_FIELDS)
    kind: Any = Recipe
    for name in path:
        kind = get_type_hints(kind).get(name) if is_dataclass(kind) else None
    return tuple(one.name for one in fields(kind)) if is_dataclass(kind) else None


def choices(name: str) -> tuple[str, ...]:
    """Return the values that a field of dotted name may have, where they are a fixed few."""
    kind = _kind(name)
    if kind is int and _or_words(name):  # beside numbers
        return ("a whole number", *_or_words(name))
    return get_args(kind) if get_origin(kind) is Literal else ()


def _or_words(name: str) -> tuple[str, ...]:
    """Return the words that a field of numbers may have instead of one."""
    section, _, field_name = name.rpartition(".")
    kind = _kind(section) if section else Recipe
    hint = get_type_hints(kind).get(field_name) if is_dataclass(kind) else None
    return tuple(
        word for one in get_args(hint) if get_origin(one) is Literal for word in get_args(one) if word
    )


def is_list(name: str) -> bool:
    """Return whether a field of dotted name holds several values."""
    return get_origin(_kind(name)) is tuple


def is_text(name: str) -> bool:
    """Return whether a field of dotted name holds text, or several texts."""
    kind = _kind(name)
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return kind is str or (
        get_origin(kind) is Literal and all(isinstance(one, str) for one in get_args(kind))
    )


def _kind(name: str) -> Any:
    """Return the type of a field of dotted name, without its bounds; None for an unknown one."""
    kind: Any = Recipe
    for part in name.split("."):
        if kind is ModelSection and part in MODEL_FIELDS:
            kind = ModelConfig
        spec = built_in(part) if kind is ModelConfig else None
        if spec is not None:
            kind = spec.options
            continue
        kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
        if isinstance(kind, UnionType) or get_origin(kind) is Union:  # a section that may be missing
            kind = next((one for one in get_args(kind) if one is not NoneType), None)
    return kind


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field for help texts and documents."""

    name: str
    default: Any
    description: str


def describe_fields() -> Iterator[FieldRow]:
    """Yield every field of a recipe: dotted name, default, what it is."""
    yield from _describe(Recipe(), "")


def _describe(section: Any, prefix: str) -> Iterator[FieldRow]:
    hints = get_type_hints(type(section), include_extras=True)
    for one in fields(section):
        value = getattr(section, one.name)
        if is_dataclass(value):
            yield from _describe(value, f"{one.name}.")
        elif one.name == "overrides":
            yield FieldRow("model.FIELD", None, f"any field of the model: {', '.join(MODEL_FIELDS)}")
        else:
            yield FieldRow(prefix + one.name, value, _description(hints[one.name]))


def _description(hint: Any) -> str:
    found = [
        meta.description
        for meta in (get_args(hint)[1:] if get_origin(hint) is Annotated else ())
        if isinstance(meta, Meta) and meta.description
    ]
    return found[-1] if found else ""
