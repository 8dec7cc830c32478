"""Training runs from recipe to checkpoint: ``start`` a new one, ``go_on`` with one that stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from lram.agents.api import AgentError
from lram.agents.backbones.registry import is_from_outside
from lram.agents.backbones.sequences import check_sequences, plain_sequences
from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint
from lram.agents.checkpoints.known_tasks import known_tasks
from lram.agents.checkpoints.shipped import checkpoint_folder
from lram.agents.model.config import config_from_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.tokens import ACTION_DIMS
from lram.agents.own_errors import of_memory, own_code
from lram.agents.places import placed
from lram.agents.shown import command, shown
from lram.agents.training import folder
from lram.agents.training.distributed import World, joined
from lram.agents.training.heldout import EARLIER_KEY, KEY, all_trajectories, compared_with_earlier
from lram.agents.training.initial import standardise_states
from lram.agents.training.recipe import Recipe, model_config, recipe_digest, recipe_to_dict
from lram.agents.training.sinks import METRICS_FILE, JsonLines, Trackers, read_metrics
from lram.agents.training.sources import TrainingData, labels_of, open_data, refuse_other_labels
from lram.agents.training.state import TrainingState, load_state
from lram.agents.training.stopping import stop_requests
from lram.agents.training.trainer import Observer, Outputs, Trainer, autocast, reproducible

DataOpener = Callable[[Recipe, int, int], TrainingData]


class Silent:
    """An :class:`Observer` that says nothing."""

    def begin(self, trainer: Trainer) -> None:
        """See :class:`Observer`."""

    def update(self, update: int, loss: float, tokens: int) -> None:
        """See :class:`Observer`."""

    def line(self, line: Mapping[str, Any]) -> None:
        """See :class:`Observer`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is given beside its recipe.

    Attributes:
        observer: Told what happens.
        card: Facts for the checkpoints' cards, such as versions; plain JSON.
        data: Opens what a recipe selects, for a state width and a rank.
    """

    observer: Observer = field(default_factory=Silent)
    card: Mapping[str, Any] = field(default_factory=dict)
    data: DataOpener = open_data


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: False when it was asked to stop; a state is there to continue from.
        update: Updates made.
        validation: The last line of validation; None without.
    """

    finished: bool
    update: int
    validation: Mapping[str, Any] | None


_PLAIN = Surroundings()


def start(recipe: Recipe, run: str | Path, around: Surroundings = _PLAIN) -> Outcome:
    """Train by ``recipe`` into the new folder ``run``.

    Raises:
        AgentError: Something in the recipe cannot be done, and nothing was written; or training ended
            with a sentence that says why.
    """
    run = placed(run)
    recipe.check()
    with joined(recipe.device) as world, reproducible(recipe.threads), _failures_reported(run):
        if world.writes:
            folder.check_vacant(run)
        model, origin = _new_model(recipe)
        if recipe.data.labels != "taken" and model.config.actions_in_context:
            raise AgentError(
                f"data.labels is {recipe.data.labels}, and the model reads the actions that were taken in "
                "its context; set model.actions_in_context to false, or data.labels to taken"
            )
        check_sequences(model, recipe.optimizer.sequences, world.device)
        _check_forward(model, recipe, world.device)
        data = _with_earlier(around.data(recipe, model.config.state_width, world.rank), origin)
        _check_context(recipe, model, data)
        for note in data.notes if world.writes else ():
            folder.say(note)
        return _train(recipe, run, model, origin, data, world, None, around, begins=True)


def _check_context(recipe: Recipe, model: ActionModel, data: TrainingData) -> None:
    """Raise AgentError where the model cannot read a window of the recipe's context at once."""
    config, context = model.config, recipe.sampling.context
    longest, tokens = config.past.longest_forward, config.pass_tokens
    if config.actions_in_context and all(task.action == "discrete" for task in data.windows.tasks):
        tokens -= ACTION_DIMS - 1
    if longest is not None and context * tokens > longest:
        raise AgentError(
            f"sampling.context = {context} timesteps of {tokens} tokens are more than the model's {longest} "
            f"learned positions; set it to {longest // tokens} or less, or model.{config.kind}.max_positions "
            f"to {context * tokens}"
        )


def _check_forward(model: ActionModel, recipe: Recipe, device: torch.device) -> None:
    """Raise AgentError where a backbone from outside cannot read a window: before there is a folder of it.

    It is tried as it will be trained, on ``device``, where the model is moved, and in the recipe's precision:
    some backbones are made of kernels for GPUs, or for bfloat16, alone.
    """
    config = model.config
    if not is_from_outside(config.spec):
        return
    longest, tokens = config.past.longest_forward, recipe.sampling.context * config.pass_tokens
    tokens = min(tokens, longest or tokens)
    x = torch.zeros(2, tokens, config.width, device=device)
    advice = "fix its forward; 'lram check' tries it on a checkpoint of 'lram create'"
    reading = own_code(f"the backbone {config.kind} cannot read {tokens} tokens", advice)
    unchanged = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with torch.no_grad(), unchanged, plain_sequences(), autocast(recipe, device), reading:
        y = model.to(device).backbone(x)
    if not isinstance(y, torch.Tensor) or y.shape != x.shape:
        made = f"the shape {tuple(y.shape)}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
        raise AgentError(
            f"the forward of the backbone {config.kind} makes {made} of (rows, tokens, width) = "
            f"{tuple(x.shape)}, which it has to keep; {advice}"
        )


def go_on(run: str | Path, settings: Sequence[str] = (), around: Surroundings = _PLAIN) -> Outcome:
    """Continue with a run that stopped, from its newest state; the result is that of a run that did not stop.

    Args:
        run: Its folder.
        settings: ``section.field=value`` for fields that decide no numbers, such as ``sampling.workers``; the
            run keeps them.
        around: See :class:`Surroundings`.

    Raises:
        AgentError: There is no such run, recipe or trajectories are others, or as in :func:`start`.
    """
    run = placed(run)
    recipe = folder.recipe_of(run, tuple(settings))
    if folder.is_finished(run):
        lines = read_metrics(run / METRICS_FILE)
        return Outcome(True, recipe.optimizer.updates, _last_validation(lines))
    with joined(recipe.device) as world, reproducible(recipe.threads), _failures_reported(run):
        found = load_state(run, talks=world.writes)
        if found is None:
            if world.writes:
                folder.check_recipe_text(run)
            model, origin = _new_model(recipe)
        else:
            state = found[0]
            _same_recipe(run, state, recipe)
            model, origin = build_model(config_from_dict(dict(state.model)), recipe.seed), dict(state.origin)
        check_sequences(model, recipe.optimizer.sequences, world.device)
        data = _with_earlier(around.data(recipe, model.config.state_width, world.rank), origin)
        return _train(recipe, run, model, origin, data, world, found, around)


def _same_recipe(run: Path, state: TrainingState, recipe: Recipe) -> None:
    from lram.agents.training.recipe_text import recipe_from_dict

    folder.refuse_changes(run, recipe_from_dict(state.recipe, f"the state of {run}"), recipe)
    if not 0 <= state.update <= recipe.optimizer.updates:
        raise AgentError(
            f"the state of {run} tells of update {state.update}, and its recipe has "
            f"{recipe.optimizer.updates}; restore the folder or start a new run"
        )


@contextmanager
def _failures_reported(run: Path) -> Iterator[None]:
    """Turn what the system refuses, wherever in a training it does, into one sentence."""
    try:
        yield
    except AgentError:
        raise
    except OSError as error:
        what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        raise AgentError(
            f"training into {run} ended, because the system refused a file ({what}); fix that, and continue "
            f"with '{command('train', '--resume', run)}', or with the same command where the run had not "
            "begun"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if of_memory(error):
            raise AgentError(
                f"training into {run} ended, because the memory is too small ({shown(str(error), 120)}); "
                "take fewer sampling.sequences, a shorter sampling.context or a smaller model"
            ) from error
        raise


def _new_model(recipe: Recipe) -> tuple[ActionModel, dict[str, str]]:
    """Return the model to begin with, and the checkpoint that its weights are from."""
    section = recipe.model
    if not section.init_from:
        return build_model(model_config(section), recipe.seed), {}
    if section.preset:
        raise AgentError("the recipe names model.preset and model.init_from; leave one of them out")
    loaded, meta = load_checkpoint(checkpoint_folder(section.init_from))
    config = model_config(section, meta.config)
    model = build_model(config, recipe.seed)
    weights, wanted = loaded.state_dict(), model.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights or name not in wanted or weights[name].shape != wanted[name].shape:
            raise AgentError(
                f"the weights of {section.init_from} do not fit the recipe's model at {name}; leave out the "
                "fields of [model] that change its sizes"
            )
    model.load_state_dict(weights)
    known = known_tasks(meta.card)
    seen, complete = all_trajectories(meta.card) if meta.trained else ("", True)
    return model, {
        "checkpoint": section.init_from,
        "digest": meta.digest,
        # Text, as states have it.
        **({} if known.tasks is None else {"tasks": "\n".join(known.tasks)}),
        **({"tasks_complete": "true"} if known.tasks is not None and known.complete else {}),
        **({"trajectories": seen} if seen else {}),
        **({"trajectories_complete": "true"} if complete else {}),
        **(
            {"target_returns": msgspec.json.encode(dict(meta.target_returns)).decode()}
            if meta.target_returns
            else {}
        ),
    }


def _with_earlier(data: TrainingData, origin: Mapping[str, str]) -> TrainingData:
    """Return ``data`` with what the checkpoint that training began from was trained on of the validation."""
    section = data.facts.get(KEY)
    if not origin or not isinstance(section, Mapping):
        return data
    earlier, complete = origin.get("trajectories", ""), origin.get("trajectories_complete") == "true"
    compared = compared_with_earlier(section, data.held_out, earlier, complete)
    return replace(data, facts={**data.facts, KEY: compared})


def _beginning(data: TrainingData, origin: Mapping[str, str]) -> folder.Beginning:
    return folder.Beginning(data.digests, origin.get("digest", ""), labels_of(data))


def _same_beginning(run: Path, recipe: Recipe, now: folder.Beginning) -> None:
    """Raise AgentError where a run of which there is no state yet would begin with something else."""
    before = folder.beginning_of(run)
    if before is None:
        return
    if before.init_from != now.init_from:
        raise AgentError(
            f"{recipe.model.init_from} has other weights (digest {now.init_from[:12]}) than those that {run} "
            f"began from ({before.init_from[:12]}); put them back, or start a new run"
        )
    if before.stores != now.stores:
        raise AgentError(
            f"the trajectories of {', '.join(recipe.data.stores)} are not those that {run} began with; "
            "restore them, or start a new run"
        )
    refuse_other_labels(run, before.labels, now.labels)


def _train(
    recipe: Recipe,
    run: Path,
    model: ActionModel,
    origin: Mapping[str, str],
    data: TrainingData,
    world: World,
    found: tuple[TrainingState, Mapping[str, Any]] | None,
    around: Surroundings,
    begins: bool = False,
) -> Outcome:
    with ExitStack() as stack:
        if world.writes:
            beginning = (recipe, _beginning(data, origin)) if begins else None
            stack.enter_context(folder.written(run, beginning))
        if found is None and not begins:
            _same_beginning(run, recipe, _beginning(data, origin))
        world.barrier()
        stop = stack.enter_context(stop_requests())
        section = recipe.model
        if found is None and section.state_init == "standardised" and not section.init_from:
            standardise_states(model, data.windows, world)
        trainer = Trainer(recipe, run, model.to(world.device), data, world, origin)
        if found is not None:
            trainer.restore(*found)
        if world.writes and not begins:
            folder.keep_settings(run, recipe)
        outputs = _Writer(trainer, run, around, stack) if world.writes else None
        if outputs is not None:
            around.observer.begin(trainer)
        finished = trainer.train(outputs.outputs if outputs is not None else _nowhere(), stop)
        if outputs is None:
            return Outcome(finished, trainer.update, None)
        if finished:
            outputs.final()
        return Outcome(finished, trainer.update, outputs.validation)


class _Writer:
    """What the writing process writes beside states."""

    def __init__(self, trainer: Trainer, run: Path, around: Surroundings, stack: ExitStack) -> None:
        recipe = recipe_to_dict(trainer.recipe)
        self._trainer, self._run, self._around = trainer, run, around
        self._lines = stack.enter_context(
            closing(JsonLines(run / METRICS_FILE, trainer.update, _last_lines(trainer)))
        )
        if self._lines.damaged:
            folder.say(
                f"{run / METRICS_FILE} is damaged at line {self._lines.damaged}, which came after the state "
                "that training continues from; this line and those after it are dropped and made again"
            )
        _tell_missing(run, trainer, self._lines.kept)
        self._trackers = stack.enter_context(
            closing(Trackers(trainer.recipe.saving.trackers, run, recipe, trainer.update))
        )
        self.last: dict[str, Mapping[str, Any]] = {line["kind"]: line for line in self._lines.kept}
        self.outputs = Outputs(self._write, self._lines.sync, self._checkpoint, around.observer)

    @property
    def validation(self) -> Mapping[str, Any] | None:
        """The last line of validation."""
        return self.last.get("validation")

    def _write(self, line: Mapping[str, Any]) -> None:
        self.last[line["kind"]] = line
        try:
            self._lines.write(line)
        except OSError as error:
            raise AgentError(
                f"{self._run / METRICS_FILE} cannot be written ({error.strerror}); fix that, and continue "
                f"with '{command('train', '--resume', self._run)}'"
            ) from error
        self._trackers.write(line)

    def _checkpoint(self, update: int) -> None:
        self._save(self._run / folder.BETWEEN / f"step-{update}")
        folder.prune_checkpoints(self._run, self._trainer.recipe.saving.keep)

    def final(self) -> None:
        """Write the checkpoint that ends the run."""
        self._save(self._run / folder.FINAL)

    def _save(self, path: Path) -> None:
        model = self._trainer.model
        try:
            save_checkpoint(
                path,
                model,
                model.config,
                trained=True,
                card=self._card(),
                overwrite=path.exists(),
                target_returns=self._target_returns(),
            )
        except OSError as error:
            raise AgentError(
                f"the checkpoint {path} cannot be written ({error.strerror or error}); fix that, and "
                f"continue with '{command('train', '--resume', self._run)}'"
            ) from error

    def _target_returns(self) -> dict[str, float]:
        """Return what the checkpoint asks for: tasks of trainings before keep their own."""
        trainer = self._trainer
        before = trainer.origin.get("target_returns", "")
        if trainer.recipe.data.target_returns != "data" or not before:
            return dict(trainer.data.target_returns)
        return {**msgspec.json.decode(before, type=dict[str, float]), **trainer.data.target_returns}

    def _card(self) -> dict[str, Any]:
        trainer = self._trainer
        metrics = {
            kind: {name: value for name, value in line.items() if name not in ("kind", "time", "positions")}
            for kind, line in self.last.items()
        }
        origin = dict(trainer.origin)
        sequences = trainer.recipe.optimizer.sequences
        tasks, complete = origin.pop("tasks", ""), origin.pop("tasks_complete", "") == "true"
        earlier: dict[str, Any] = {}
        if tasks:
            earlier = {"earlier_tasks": tasks.split("\n"), "earlier_tasks_complete": complete}
        seen, complete = origin.pop("trajectories", ""), origin.pop("trajectories_complete", "") == "true"
        if origin:
            earlier[EARLIER_KEY] = {"digests": seen, "complete": complete}
        origin.pop("target_returns", "")
        return {
            "made_by": "lram train",
            "recipe": recipe_to_dict(trainer.recipe),
            "recipe_digest": recipe_digest(trainer.recipe),
            "init_from": origin,
            **earlier,
            "data": dict(trainer.data.facts),
            **({"code": dict(trainer.code)} if trainer.code else {}),
            "parameters": trainer.model.parameter_count,
            "update": trainer.update,
            "processes": trainer.world.size,
            "sequences": check_sequences(trainer.model, sequences, trainer.world.device),
            "seconds": round(trainer.seconds, 1),
            "metrics": metrics,
            **self._around.card,
        }


def _last_lines(trainer: Trainer) -> set[tuple[str, int]]:
    """Return kind and update of the last line of each kind that was written before the trainer's state."""
    recipe, update = trainer.recipe, trainer.update
    ends = update == recipe.optimizer.updates

    def last(every: int) -> int:
        return update if ends else update // every * every if every else 0

    lines = {("train", at)} if (at := last(recipe.saving.metrics_every)) else set()
    return lines | (
        {("validation", last(recipe.validation.every))} if len(trainer.data.validation) else set()
    )


def _tell_missing(run: Path, trainer: Trainer, kept: Sequence[Mapping[str, Any]]) -> None:
    every = trainer.recipe.saving.metrics_every
    there = {line["update"] for line in kept if line["kind"] == "train"}
    missing = [update for update in range(every, trainer.update + 1, every) if update not in there]
    if missing:
        folder.say(
            f"{run / METRICS_FILE} lacks the lines of {len(missing)} updates, the first {missing[0]}; "
            "its curve has a gap, and training continues"
        )


def _nowhere() -> Outputs:
    return Outputs(lambda line: None, lambda: None, lambda update: None, Silent())


def _last_validation(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    found = [line for line in lines if line["kind"] == "validation"]
    return found[-1] if found else None
