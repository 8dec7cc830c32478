"""What a task is: the row of facts that a plan, a score and a report need about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout", "extra"]
ObservationKind = Literal["image", "vector"]
ActionKind = Literal["discrete", "continuous"]
ScoreKind = Literal["human", "data"]


@dataclass(frozen=True)
class Dial:
    """The one number in which tasks of a family differ: how long, how many, how large.

    Attributes:
        family: What the tasks have in common, such as ``parity``; unique within the domain.
        value: Of this task.
        unit: What the number counts, such as ``bits``.
        theory: What is known of who can solve the family, in one sentence; empty where nothing is said.
    """

    family: str
    value: int
    unit: str
    theory: str = ""


@dataclass(frozen=True)
class Task:
    """One control task of one domain.

    Attributes:
        domain: Domain name, such as ``metaworld``.
        name: Task name inside the domain, such as ``door-open-v3``.
        split: ``train`` or ``heldout`` as in the paper's 432 + 37; ``extra`` for tasks outside it.
        horizon: Decisions after which the default protocol ends an episode (None: not known).
        observation: ``image`` (uint8, 3 x 64 x 64) or ``vector`` (float32).
        observation_size: Width of a vector observation (None for images, or where it is not known).
        action: ``discrete`` (an index) or ``continuous`` (each dimension in [-1, 1]).
        action_size: Number of discrete actions, or of continuous dimensions (None: not known).
        target_return: Return that a return-conditioned agent is asked for, in the reward that
            agents see (Atari's is the clipped one).
        reward_scale: Rewards and returns-to-go are divided by this before a model reads them.
        score_random: Return of a random policy (None: no reference).
        score_reference: Return of the reference, a human's or the training data's (None: no reference).
        score_kind: ``human`` or ``data``: what the reference stands for.
        reference_name: The task's name in the public reference implementation.
        sources: Where the numbers come from, by field name.
    """

    domain: str
    name: str
    split: Split
    horizon: int | None
    observation: ObservationKind
    observation_size: int | None
    action: ActionKind
    action_size: int | None
    target_return: float | None
    reward_scale: float
    score_random: float | None = None
    score_reference: float | None = None
    score_kind: ScoreKind = "data"
    reference_name: str = ""
    sources: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """``domain/name``: how a task is written everywhere."""
        return f"{self.domain}/{self.name}"
