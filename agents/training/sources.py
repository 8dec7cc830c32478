"""What a run reads: micro-batches by number to train on, and fixed ones to validate on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lram.agents.api import AgentError, TaskSpec
from lram.agents.training.batches import Batch
from lram.agents.training.recipe import Recipe, SamplingSection

if TYPE_CHECKING:
    from lram.agents.trajectories.store import TrajectoryStore


class MicroBatches(Protocol):
    """Micro-batches of one process, such as :class:`lram.agents.training.windows.Windows`.

    Attributes:
        cycle: Domain of micro-batch i is ``cycle[i % len(cycle)]``.
        tasks: Table that the batches' task numbers point into.
    """

    @property
    def cycle(self) -> tuple[str, ...]:
        """See the class."""
        ...

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """See the class."""
        ...

    def __getitem__(self, item: int) -> Batch:
        """Return micro-batch ``item``."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What one process reads.

    Attributes:
        windows: To train on.
        validation: To validate on; the same for every process.
        digests: Of the stores, in the recipe's order.
        facts: For the checkpoint's card, as plain JSON.
        target_returns: For the checkpoint, by task; empty where the task table's hold.
        notes: What is printed when training begins, a sentence each.
        held_out: Digests of the episodes that are validated on; empty where they are not known.
    """

    windows: MicroBatches
    validation: Sequence[Batch]
    digests: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    target_returns: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()


def open_data(recipe: Recipe, state_width: int, rank: int = 0) -> TrainingData:
    """Open the recipe's stores; AgentError where they do not hold what it selects.

    Args:
        recipe: Its sections data, sampling and validation.
        state_width: The model's.
        rank: Which of several processes this is.
    """
    from lram.agents.training.heldout import KEY, card_facts, facts_of, split_digests
    from lram.agents.training.labels import LabelledStore
    from lram.agents.training.selection import selection_of
    from lram.agents.training.targets import target_returns
    from lram.agents.training.windows import Sampling, Windows, evaluation_windows
    from lram.agents.trajectories.store import TrajectoryStore

    labels = recipe.data.labels
    stores: list[TrajectoryStore] = [
        TrajectoryStore(path) if labels == "taken" else LabelledStore(path, labels=labels)
        for path in recipe.data.stores
    ]
    digests = tuple(store.digest for store in stores)
    if len(set(digests)) < len(digests):
        raise AgentError(f"data.stores names the same trajectories twice: {', '.join(recipe.data.stores)}")
    data, drawing = recipe.data, recipe.sampling
    selection = selection_of(recipe)
    sampling = Sampling(
        context=drawing.context,
        sequences=drawing.sequences,
        sequences_by_domain=drawing.domain_sequences,
        weights=drawing.domain_weights,
        balance_tasks=drawing.balance_tasks,
        fill=drawing.fill,
    )
    windows = Windows(stores, selection, sampling, seed=recipe.seed, rank=rank, state_width=state_width)
    validation: Sequence[Batch] = ()
    if recipe.validation.windows and data.validation_share:
        validation = evaluation_windows(
            stores,
            selection,
            context=drawing.context,
            windows=recipe.validation.windows,
            state_width=state_width,
        )
    sides = split_digests(stores, selection, state_width=state_width)
    facts: dict[str, Any] = {
        "stores": [
            {"path": path, "digest": digest} for path, digest in zip(recipe.data.stores, digests, strict=True)
        ],
        "domains": list(dict.fromkeys(windows.cycle)),
        "tasks": {
            one.task: {"episodes": one.episodes, "transitions": one.transitions} for one in windows.summary()
        },
        KEY: card_facts(selection, None if sides is None else facts_of(*sides)),
    }
    if labels != "taken":
        facts["labels"] = _labelled(labels, stores, [one.task for one in windows.summary()])
    targets: Mapping[str, float] = {}
    if data.target_returns == "data":
        targets = target_returns(stores, selection, quantile=data.target_quantile, state_width=state_width)
    held_out = () if sides is None else tuple(sides[1])
    notes = _unknown_domains(drawing, stores)
    return TrainingData(windows, validation, digests, facts, targets, notes, held_out)


def labels_of(data: TrainingData) -> dict[str, tuple[str, ...]] | None:
    """Return the tasks that experts' actions are learned of, by expert; None without such labels."""
    found = data.facts.get("labels")
    return None if found is None else {name: tuple(tasks) for name, tasks in found.items()}


def refuse_other_labels(
    run: Path, before: Mapping[str, Sequence[str]] | None, now: Mapping[str, Sequence[str]] | None
) -> None:
    """Raise AgentError where a run would learn other labels than ``before``; None: they are not known."""
    if before is not None and before != now:
        raise AgentError(
            f"{run} learned {_labels_words(before)}, and here it would learn {_labels_words(now)} "
            "(data.labels): an expert plays other tasks here; install what it needs ('lram doctor'), or "
            "start a new run"
        )


def _labels_words(labels: Mapping[str, Sequence[str]] | None) -> str:
    """Return in words what :func:`labels_of` gives."""
    found = [
        f"actions of {name} in {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'} "
        f"({', '.join(tasks[:3])}{', ...' if len(tasks) > 3 else ''})"
        for name, tasks in (labels or {}).items()
    ]
    return " and ".join(found) or "the actions that were taken"


def _unknown_domains(drawing: SamplingSection, stores: Sequence[TrajectoryStore]) -> tuple[str, ...]:
    """Tell of domains that the recipe names and no store has.

    They are misspelt, or inherited from a base or a checkpoint and right, so they are not refused.
    """
    there = {task.domain for store in stores for task in store.tasks.values()}
    named = {"domain_weights": drawing.domain_weights, "domain_sequences": drawing.domain_sequences}
    return tuple(
        f"sampling.{field_name} names {name}, of which the stores have no task, so it changes nothing; they "
        f"have {', '.join(sorted(there))}"
        for field_name, by_domain in named.items()
        for name in sorted(by_domain.keys() - there)
    )


def _labelled(labels: str, stores: Sequence[TrajectoryStore], tasks: Sequence[str]) -> dict[str, list[str]]:
    """Return the tasks that experts' actions are learned of, by expert; AgentError where there are none."""
    from lram.agents.training.labels import EXPERTS, LabelledStore

    asked = [one.labelled(tasks) for one in stores if isinstance(one, LabelledStore)]
    found = {name: sorted({task for one in asked for task in one.get(name, ())}) for name in EXPERTS[labels]}
    if not any(found.values()):
        raise AgentError(
            f"data.labels is {labels}, and none of the selected tasks is one with vector states that "
            f"{' or '.join(EXPERTS[labels])} plays here; set data.labels to taken, or select others "
            "(lram agents, lram doctor)"
        )
    return {name: known for name, known in found.items() if known}
