"""Training from the command line: versions for the checkpoint's card, progress, recipes for fine-tuning."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.agents.training.recipe import ModelSection, Recipe
from lram.agents.training.recipe_text import recipe_from_dict
from lram.harness.provenance import collect

if TYPE_CHECKING:
    from lram.agents.training.run import Surroundings
    from lram.agents.training.trainer import Trainer

LINE_EVERY_S = 10.0


def surroundings(*, quiet: bool = False) -> Surroundings:
    """Return what a run is given here: a card with versions and machine, and progress on standard error."""
    from lram.agents.training.run import Silent, Surroundings

    made = collect({}, {})
    machine = {"cpu": made.cpu, "cores": made.cores, "gpu": made.gpu, "platform": made.platform}
    card = {"python": made.python, "versions": made.packages, "git": made.git, "machine": machine}
    return Surroundings(Silent() if quiet else Progress(), card)


def finetuning_recipe(
    checkpoint: str | Path,
    stores: Sequence[str],
    tasks: Sequence[str],
    *,
    updates: int,
    learning_rate: float | None = None,
    top_fraction: float = 1.0,
    episode_fraction: float = 1.0,
    scratch: bool = False,
) -> Recipe:
    """Return the recipe that goes on with a checkpoint on other data.

    It is the recipe that the checkpoint's card tells (the defaults, where it tells none), on this machine's
    processor, with the data, the model and the number of updates replaced.

    Args:
        checkpoint: Its folder.
        stores: Folders of trajectory stores.
        tasks: Patterns of task ids in them.
        updates: Optimiser updates; the warm-up is a fiftieth of them.
        learning_rate: The largest (None: as the checkpoint was trained).
        top_fraction: Share of each task's trajectories, those of the highest returns.
        episode_fraction: Share of each task's trajectories, drawn at random.
        scratch: Random weights instead of the checkpoint's, for comparison.

    Raises:
        AgentError: It is no checkpoint.
    """
    from lram.agents.checkpoints.folder import load_checkpoint
    from lram.agents.model.config import config_to_dict

    _, meta = load_checkpoint(checkpoint)
    told = meta.card.get("recipe")
    base = recipe_from_dict(told, f"the card of {checkpoint}") if isinstance(told, Mapping) else Recipe()
    rate = learning_rate if learning_rate is not None else base.optimizer.learning_rate
    model = ModelSection(init_from=str(checkpoint))
    name = f"fine-tuned from {meta.digest[:12]}"
    if scratch:
        model = ModelSection(overrides=config_to_dict(meta.config))
        name = f"from scratch, to compare with fine-tuning {meta.digest[:12]}"
    return replace(
        base,
        name=name,
        threads=1,
        device="cpu",
        model=model,
        data=replace(
            base.data,
            stores=tuple(stores),
            tasks=tuple(tasks),
            policies=("*",),
            validation_unit="trajectory",
            top_fraction=top_fraction,
            episode_fraction=episode_fraction,
        ),
        # Weights may name domains that are not there.
        sampling=replace(base.sampling, domain_weights={}),
        optimizer=replace(
            base.optimizer,
            updates=updates,
            warmup_updates=updates // 50,
            learning_rate=rate,
            final_learning_rate=min(base.optimizer.final_learning_rate, rate),
        ),
    )


def task_patterns(selection: Sequence[str]) -> tuple[str, ...]:
    """Return patterns of task ids for a selection; SelectionError for a term that selects nothing.

    Ids and patterns stay as they are, so that tasks that are not registered here can be named;
    domains, splits, suites and exclusions become the ids of the tasks that they stand for.
    """
    terms = [term.strip() for part in selection for term in part.split(",") if term.strip()]
    plain = all("/" in term and "@" not in term and not term.startswith("!") for term in terms)
    if plain:
        return tuple(terms) or ("*",)
    from lram.envs.registry import select

    return tuple(task.id for task in select(terms))


class Progress:
    """An observer that writes a line now and then to standard error."""

    def __init__(self) -> None:
        self._updates = 0
        self._trainer: Trainer | None = None
        self._next = self._began = time.monotonic()
        self._first = self._tokens = 0

    def begin(self, trainer: Trainer) -> None:
        """See :class:`lram.agents.training.trainer.Observer`."""
        from lram.agents.training.heldout import told_facts

        recipe, config = trainer.recipe, trainer.model.config
        self._updates, self._first = recipe.optimizer.updates, trainer.update
        domains = list(dict.fromkeys(trainer.data.windows.cycle))
        _print(
            f"{config.describe()}, {trainer.model.parameter_count:,} parameters; "
            f"{len(trainer.data.windows.tasks)} tasks of {', '.join(domains)}; an update reads "
            f"{trainer.accumulate} micro-batches"
        )
        if (split := told_facts({"data": trainer.data.facts})) is not None:
            _print(split.words())
        if trainer.update:
            _print(f"going on after update {trainer.update:,}")
        self._began = time.monotonic()
        self._next = self._began + LINE_EVERY_S

    def update(self, update: int, loss: float, tokens: int) -> None:
        """See :class:`lram.agents.training.trainer.Observer`."""
        self._tokens += tokens
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LINE_EVERY_S
        seconds = now - self._began
        left = (self._updates - update) * seconds / (update - self._first)
        _print(
            f"update {update:,}/{self._updates:,}, loss {loss:.4f}, {self._tokens / seconds:,.0f} tokens/s, "
            f"{_duration(left)} left"
        )

    def line(self, line: Mapping[str, Any]) -> None:
        """See :class:`lram.agents.training.trainer.Observer`."""
        if line["kind"] == "validation":
            each = ", ".join(f"{domain} {one['loss']:.4f}" for domain, one in line["domains"].items())
            _print(
                f"update {line['update']:,}/{self._updates:,}, validation loss {line['loss']:.4f} ({each})"
            )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _print(line: str) -> None:
    with suppress(OSError):  # a reader that is gone must not end the run
        print(line, file=sys.stderr, flush=True)
