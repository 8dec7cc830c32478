"""Training from the command line: versions for the checkpoint's card, progress, recipes for fine-tuning."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lram.agents.training.recipe import ModelSection, Recipe
from lram.agents.training.recipe_text import recipe_of_card
from lram.envs.task import Split
from lram.harness.storage.provenance import collect
from lram.harness.waiting import LINE_EVERY_S, Pace, left, say, still

if TYPE_CHECKING:
    from lram.agents.training.run import Surroundings
    from lram.agents.training.trainer import Trainer


@contextmanager
def surroundings(*, quiet: bool = False) -> Iterator[Surroundings]:
    """Return what a run is given here: a card with versions and machine, and progress on standard error."""
    from lram.agents.training.run import Silent, Surroundings

    made = collect({}, {})
    machine = {"cpu": made.cpu, "cores": made.cores, "gpu": made.gpu, "platform": made.platform}
    card = {"python": made.python, "versions": made.packages, "git": made.git, "machine": machine}
    if quiet or os.environ.get("RANK", "0") != "0":  # of several processes, one talks
        yield Surroundings(Silent(), card)
        return
    progress = Progress()
    with still(lambda: progress.doing):
        yield Surroundings(progress, card)


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
    """Return the recipe that continues with a checkpoint on other data.

    It is the recipe that the checkpoint's card tells (the defaults, where it tells none), on this machine's
    processor, with the data, the model and the number of updates replaced.

    Args:
        checkpoint: Its folder, or the name of a model that comes with the package.
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
    from lram.agents.checkpoints.shipped import checkpoint_folder
    from lram.agents.model.config import config_to_dict

    _, meta = load_checkpoint(checkpoint_folder(checkpoint))
    base = recipe_of_card(meta.card, str(checkpoint)) or Recipe()
    rate = learning_rate if learning_rate is not None else base.optimizer.learning_rate
    model = ModelSection(init_from=str(checkpoint))
    name = f"fine-tuned from {meta.digest[:12]}"
    if scratch:
        model = ModelSection(overrides=config_to_dict(meta.config), state_init=base.model.state_init)
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
            sequences="auto",  # as the device, it may not be here
            final_learning_rate=min(base.optimizer.final_learning_rate, rate),
        ),
    )


def task_patterns(selection: Sequence[str]) -> tuple[str, ...]:
    """Return patterns of task ids for a selection; SelectionError for a term that selects nothing.

    Ids and patterns stay as they are, so that tasks that are not registered here can be named;
    domains, splits, suites and exclusions become the ids of the tasks that they stand for.
    """
    terms = [term.strip() for part in selection for term in part.split(",") if term.strip()]
    plain = all("/" in term and not _has_split(term) and not term.startswith("!") for term in terms)
    if plain:
        return tuple(terms) or ("*",)
    from lram.envs.registry import select

    return tuple(task.id for task in select(terms))


def _has_split(term: str) -> bool:
    """Return whether a term ends with a split; a task's own name may have an ``@`` in it."""
    return term.rpartition("@")[2] in get_args(Split) and "@" in term


class Progress:
    """An observer that writes a line now and then to standard error.

    Attributes:
        doing: What is done at the moment, for lines in between (:func:`lram.harness.waiting.still`).
    """

    def __init__(self) -> None:
        self.doing = "reading the trajectories and making the model"
        self._updates = self._every = 0
        self._next = self._last = time.monotonic()
        self._between = 0.0
        self._pace = Pace()
        self._validation_s: float | None = None

    def begin(self, trainer: Trainer) -> None:
        """See :class:`lram.agents.training.trainer.Observer`."""
        from lram.agents.training.heldout import recorded_facts

        recipe, config = trainer.recipe, trainer.model.config
        optimizer = recipe.optimizer
        self._updates = optimizer.updates
        self._every = recipe.validation.every if recipe.validation.windows else 0
        domains = list(dict.fromkeys(trainer.data.windows.cycle))
        say(
            f"{config.describe()}, {trainer.model.parameter_count:,} parameters; "
            f"{len(trainer.data.windows.tasks)} tasks of {', '.join(domains)}; an update reads "
            f"{trainer.accumulate} micro-batches"
        )
        say(f"{optimizer.updates:,} updates, the first {optimizer.warmup_updates:,} of them warm-up")
        if (split := recorded_facts({"data": trainer.data.facts, "init_from": trainer.origin})) is not None:
            say(split.words())
        if trainer.update:
            say(f"continuing after update {trainer.update:,}")
        self.doing = "the first update, which also compiles what this model needs"
        self._last = time.monotonic()
        self._next = self._last + LINE_EVERY_S

    def update(self, update: int, loss: float, tokens: int) -> None:
        """See :class:`lram.agents.training.trainer.Observer`."""
        now = time.monotonic()
        self._pace.add(now - self._last - self._between)
        self._last, self._between = now, 0.0
        self.doing = f"after update {update:,}/{self._updates:,}"
        if now < self._next:
            return
        self._next = now + LINE_EVERY_S
        speed = f", {tokens / seconds:,.0f} tokens/s" if (seconds := self._pace.seconds) else ""
        say(
            f"update {update:,}/{self._updates:,}, loss {loss:.4f}{speed}, {left(self._seconds_left(update))}"
        )

    def line(self, line: Mapping[str, Any]) -> None:
        """See :class:`lram.agents.training.trainer.Observer`."""
        if line["kind"] == "validation":
            seconds = line["time"]["seconds"]
            self._between += seconds
            # The first one may compile, too; later ones are what is to come.
            self._validation_s = min(seconds, self._validation_s or seconds)
            each = ", ".join(f"{domain} {one['loss']:.4f}" for domain, one in line["domains"].items())
            say(f"update {line['update']:,}/{self._updates:,}, validation loss {line['loss']:.4f} ({each})")

    def _seconds_left(self, update: int) -> float | None:
        """Return the seconds that updates and validations take yet; None while that is not known."""
        if self._pace.seconds is None:
            return None
        validations = 0
        if self._validation_s is not None:
            validations = 1 + (
                (self._updates - 1) // self._every - update // self._every if self._every else 0
            )
        return (self._updates - update) * self._pace.seconds + validations * (self._validation_s or 0.0)
