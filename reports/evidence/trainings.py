"""Training runs as they lie on disk: recipe, lines of metrics, and the final checkpoint's facts.

Read without torch: a report is made anywhere.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import CONFIG_FILE, WEIGHTS_FILE, read_description
from lram.agents.checkpoints.digests import digest_of_file
from lram.agents.durable import read_regular
from lram.agents.model.config import ModelConfig, config_from_dict
from lram.agents.places import placed
from lram.agents.training.heldout import KEY, SplitFacts, recorded_facts
from lram.agents.training.recipe import EARLIER_DEFAULTS, flat, model_config, recipe_digest, recipe_to_dict
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.sinks import METRICS_FILE, read_metrics
from lram.harness.errors import LramError, as_lram_error
from lram.harness.storage.number_checks import check_numbers, wrong
from lram.reports.model.training import Measures

_RECIPE_FILE = "recipe.toml"
_CHECKPOINT = Path("checkpoint")
_WEIGHTS = _CHECKPOINT / WEIGHTS_FILE
_LABELLED = re.compile(r"(?P<label>[^=/\\]+)=(?P<folder>.+)")
_ADVICE = "restore it, or leave this training out"
_T = TypeVar("_T")

_LONGEST, _FASTEST = 1e12, 1e18  # seconds, and tokens a second


@dataclass(frozen=True, slots=True)
class Speed:
    """The part of a line that depends on the machine; ``seconds`` are those of all updates so far."""

    seconds: float
    tokens_per_second: float
    waiting_share: float


@dataclass(frozen=True, slots=True)
class TrainLine:
    """A line of kind ``train``: what the updates since the line before gave."""

    update: int
    domains: dict[str, Measures]
    timesteps: int
    time: Speed


@dataclass(frozen=True, slots=True)
class ValidationLine:
    """A line of kind ``validation``; ``positions`` are losses by timestep of the window."""

    update: int
    loss: float | None
    perplexity: float | None
    top1: float | None
    action_error: float | None
    domains: dict[str, Measures]
    tasks: dict[str, Measures]
    positions: dict[str, list[float | None]]

    @property
    def mean(self) -> Measures:
        """The mean over domains."""
        return Measures(self.loss, self.perplexity, self.top1, self.action_error)


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What a checkpoint's card, or else the newest training state, tells of a training.

    Attributes:
        recipe: Its fields, the keys joined by dots.
        seed, updates: Of the recipe.
        recipe_digest: Over those that decide numbers.
        model: None where nothing tells it yet.
        parameters: Number of weights; None likewise.
        stores: Digests of the trajectory stores; None likewise.
        began_from: Digest of the checkpoint continued; empty for random weights.
        processes: That train together.
        machine: CPU, cores and GPU in words.
        digest: Of the final checkpoint; empty without one.
        split: What was trained and validated on; None where the card does not tell, or there is none yet.
    """

    recipe: Mapping[str, Any]
    seed: int
    updates: int
    recipe_digest: str
    model: ModelConfig | None = None
    parameters: int | None = None
    stores: tuple[str, ...] | None = None
    began_from: str = ""
    processes: int = 1
    machine: str = ""
    digest: str = ""
    split: SplitFacts | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """One training run: its facts, its lines, and tokens read up to each line of training."""

    label: str
    facts: TrainingFacts
    lines: tuple[TrainLine, ...]
    validations: tuple[ValidationLine, ...]
    tokens: tuple[int, ...]

    @property
    def domains(self) -> list[str]:
        """All domains that lines name."""
        groups = [line.domains for line in self.lines] + [line.domains for line in self.validations]
        return list(dict.fromkeys(name for group in groups for name in group))


Trainings = str | os.PathLike[str] | Training | Sequence["str | os.PathLike[str] | Training"]
"""One training run or several, each loaded already, or named by its folder, plain or as ``label=folder``."""


def load_trainings(folders: Trainings) -> list[Training]:
    """Read training runs, each plain or as ``label=folder``; the plain ones are called by their folder.

    Raises:
        LramError: Two have one label, or a folder is no training run, or damaged.
    """
    given = [folders] if isinstance(folders, str | os.PathLike | Training) else list(folders)
    if wrong := [one for one in given if not isinstance(one, str | os.PathLike | Training)]:
        raise LramError(
            f"a training is named by its folder, not by a {type(wrong[0]).__name__}; give its path"
        )
    found = [one if isinstance(one, Training) else _labelled(one) for one in given]
    labels = [one.label if isinstance(one, Training) else one[0] for one in found]
    label, number = Counter(labels).most_common(1)[0] if labels else ("", 0)
    if number > 1:
        raise LramError(f"{number} trainings are called {label!r}; tell them apart with label=folder")
    return [one if isinstance(one, Training) else _load(*one) for one in found]


def _labelled(folder: str | os.PathLike[str]) -> tuple[str, Path]:
    match = _LABELLED.fullmatch(str(folder))
    if match is None or Path(folder).exists():
        return Path(folder).resolve().name, placed(folder)
    return match["label"], placed(match["folder"])


def _load(label: str, folder: Path) -> Training:
    if not (folder / _RECIPE_FILE).is_file():
        raise LramError(
            f"{folder} is not a training run: it has no {_RECIPE_FILE}; 'lram train' makes training runs"
        )
    for file in (folder / METRICS_FILE, folder / _CHECKPOINT / CONFIG_FILE, folder / _WEIGHTS):
        if file.exists() and not file.is_file():
            raise LramError(f"{file} is no regular file; {_ADVICE}")
    try:
        ended = (folder / _CHECKPOINT / CONFIG_FILE).is_file()
        facts = _ended(folder) if ended else _on_the_way(folder)
        if ended and not (folder / METRICS_FILE).is_file():
            raise LramError(f"{folder} has no {METRICS_FILE}, so its curves are lost; {_ADVICE}")
        plain = read_metrics(folder / METRICS_FILE)
    except (AgentError, OSError) as error:
        raise LramError(f"the training {folder} cannot be read: {error}") from error
    file = folder / METRICS_FILE
    lines = [_typed(line, TrainLine, file) for line in plain if line.get("kind") == "train"]
    validations = [_typed(line, ValidationLine, file) for line in plain if line.get("kind") == "validation"]
    _check(folder, facts, lines, validations)
    tokens = _tokens(lines)
    check_numbers(tokens, file, "the number of tokens")
    return Training(label, facts, tuple(lines), tuple(validations), tokens)


def _check(
    folder: Path, facts: TrainingFacts, lines: Sequence[TrainLine], validations: Sequence[ValidationLine]
) -> None:
    """Raise LramError where a training says what cannot have been measured."""
    numbers = facts.seed, facts.updates, facts.parameters, facts.processes, facts.recipe
    check_numbers(numbers, folder, "a field of the recipe or of the checkpoint's card")
    if min(facts.seed, facts.updates, facts.processes, facts.parameters or 0) < 0:
        raise wrong(folder, "its recipe or its checkpoint's card has counts below 0")
    file = folder / METRICS_FILE
    check_numbers((*lines, *validations), file, "a line")
    if (first := min((line.update for group in (lines, validations) for line in group), default=0)) < 0:
        raise wrong(file, f"a line is of update {first}")
    for line in lines:
        if min(line.timesteps, line.time.seconds, line.time.tokens_per_second, line.time.waiting_share) < 0:
            raise wrong(file, f"the line of update {line.update} has times or counts below 0")
        if line.time.seconds > _LONGEST or line.time.tokens_per_second > _FASTEST:
            raise wrong(file, f"the line of update {line.update} has times that no training takes")


def _tokens(lines: Sequence[TrainLine]) -> tuple[int, ...]:
    # A line tells the tokens a second of the updates since the line before, and the seconds of all: their
    # product is the whole number of tokens again, but for the rounding of floats.
    read, total, before = [], 0, 0.0
    for line in lines:
        total += round(line.time.tokens_per_second * (line.time.seconds - before))
        before = line.time.seconds
        read.append(total)
    return tuple(read)


@dataclass(frozen=True, slots=True)
class _Store:
    digest: str


@dataclass(frozen=True, slots=True)
class _Data:
    stores: tuple[_Store, ...]
    trajectories: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Optimizer:
    updates: int


@dataclass(frozen=True, slots=True)
class _Recipe:
    seed: int
    optimizer: _Optimizer


@dataclass(frozen=True, slots=True)
class _Card:
    recipe: dict[str, Any]
    recipe_digest: str
    data: _Data
    parameters: int
    processes: int
    init_from: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Trained:
    card: _Card


def _ended(folder: Path) -> TrainingFacts:
    file = folder / _CHECKPOINT / CONFIG_FILE
    found = read_description(folder / _CHECKPOINT)
    card, model = _typed({"card": found.card}, _Trained, file).card, config_from_dict(found.model)
    recipe = _typed(card.recipe, _Recipe, file)
    weights = folder / _WEIGHTS
    return TrainingFacts(
        recipe={**EARLIER_DEFAULTS, **_flat(card.recipe)},
        seed=recipe.seed,
        updates=recipe.optimizer.updates,
        recipe_digest=card.recipe_digest,
        model=model,
        parameters=card.parameters,
        stores=tuple(store.digest for store in card.data.stores),
        began_from=card.init_from.get("digest", ""),
        processes=card.processes,
        machine=", ".join(
            str(part)
            for part in (card.machine.get("cpu"), card.machine.get("cores"), card.machine.get("gpu"))
            if part
        ),
        digest=_digest(weights, model, found.target_returns),
        split=recorded_facts({"data": {KEY: card.data.trajectories}, "init_from": card.init_from}),
    )


def card_of(checkpoint: Path) -> Mapping[str, Any]:
    """Return the card of a checkpoint; empty where it has none, LramError where its file is damaged."""
    with as_lram_error():
        return read_description(checkpoint).card


def _digest(weights: Path, config: ModelConfig, target_returns: Mapping[str, float]) -> str:
    try:
        return digest_of_file(weights, config, target_returns)
    except AgentError as error:
        raise LramError(f"{error}; {_ADVICE}") from error


@dataclass(frozen=True, slots=True)
class _State:
    model: dict[str, Any]
    stores: tuple[str, ...]
    processes: int
    origin: dict[str, str]


def _on_the_way(folder: Path) -> TrainingFacts:
    recipe = read_recipe(folder / _RECIPE_FILE, written_out=True)
    plain = _flat(recipe_to_dict(recipe))
    facts = TrainingFacts(plain, recipe.seed, recipe.optimizer.updates, recipe_digest(recipe))
    states = [file for file in (folder / "state").glob("update-*/state.json") if file.is_file()]
    if not states:
        if recipe.model.init_from:
            return facts
        return replace(facts, model=model_config(recipe.model))
    file = max(states, key=lambda file: file.parent.name)
    state = _typed(_json(file), _State, file)
    return replace(
        facts,
        model=config_from_dict(state.model),
        stores=state.stores,
        processes=state.processes,
        began_from=state.origin.get("digest", ""),
    )


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    plain = msgspec.json.decode(msgspec.json.encode(recipe))
    return {name: value for name, value in flat(plain).items() if value != {}}


def _json(file: Path) -> Any:
    try:
        return msgspec.json.decode(read_regular(file))
    except OSError as error:
        raise LramError(f"{file} cannot be read: {error.strerror}; {_ADVICE}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise LramError(f"{file} is damaged ({why}); {_ADVICE}") from error


def _typed(plain: Any, kind: type[_T], file: Path) -> _T:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise LramError(f"{file} is damaged ({error}); {_ADVICE}") from error
