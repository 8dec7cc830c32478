"""What a summary says of trainings; ``training`` of ``summary.json``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured of predictions (:mod:`lram.agents.training.metrics`); None: no finite number.

    Attributes:
        loss: Mean cross-entropy, in nats.
        perplexity: e^loss.
        top1: Share of actions whose class is the likeliest.
        action_error: Mean distance of the likeliest action from the one taken, in [-1, 1] a dimension; the
            share of wrong actions where they are discrete.
    """

    loss: float | None
    perplexity: float | None
    top1: float | None
    action_error: float | None


@dataclass(frozen=True, slots=True)
class Validation:
    """The last validation: after which update, the mean over domains, and each domain."""

    update: int
    mean: Measures
    domains: dict[str, Measures]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Episodes on both sides of a training's split; equal digests are one trajectory.

    Attributes:
        training: Episodes trained on.
        different: Trajectories that they are.
        validation: Episodes validated on.
        validation_in_training: Of them, those whose trajectory was also trained on.
        validation_in_earlier: Of them, those that the checkpoint which training began from was trained on.
        earlier_complete: Whether all is known that it was trained on.
    """

    training: int
    different: int
    validation: int
    validation_in_training: int
    validation_in_earlier: int = 0
    earlier_complete: bool = True


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """One training run.

    Attributes:
        label: Unlike any other training's.
        name: The label as tables and figures print it: an unfinished training is called so.
        model: The architecture in words; empty where it is not recorded yet.
        size: Width and number of blocks in words, after the preset's name; likewise.
        parameters: Number of weights (None: not recorded yet).
        finished: Whether the final checkpoint is there.
        updates, of_updates: Optimiser updates made, up to the last line of metrics, and asked for.
        timesteps: Real timesteps trained on, by all processes (earlier versions counted those of one).
        tokens: Tokens that the backbone read, of all processes.
        seconds: Spent on updates, without validation and interruptions.
        tokens_per_second: Over all of them (None: nothing is recorded yet).
        waiting_share: Share of the seconds spent waiting for data, likewise.
        seed: The recipe's.
        processes: That trained together.
        stores: Digests of the trajectory stores (None: not recorded yet).
        recipe_digest: SHA-256 over the fields that decide numbers.
        checkpoint_digest: Of the final checkpoint, as agents carry it; empty without one.
        began_from: Digest of the checkpoint that was continued; empty for random weights.
        evaluated_as: Labels of the report's agents that are the final checkpoint, without noise.
        machine: Where it was trained, in words; empty where it is not recorded.
        validation: None where there was none.
        split: What was trained and validated on, and how much of it is on both sides; None where that was not
            recorded, as by earlier versions.
    """

    label: str
    name: str
    model: str
    size: str
    parameters: int | None
    finished: bool
    updates: int
    of_updates: int
    timesteps: int
    tokens: int
    seconds: float
    tokens_per_second: float | None
    waiting_share: float | None
    seed: int
    processes: int
    stores: tuple[str, ...] | None
    recipe_digest: str
    checkpoint_digest: str
    began_from: str
    evaluated_as: tuple[str, ...]
    machine: str
    validation: Validation | None
    split: HeldOut | None = None
