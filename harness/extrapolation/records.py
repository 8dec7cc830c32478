"""What an extrapolation sets out to measure, and what it found.

``ExtrapolationPlan`` is ``extrapolation.json``; one ``LossRecord`` or ``ValidityRecord`` is one line of
``loss/*.jsonl`` or ``validity/*.jsonl``. What agents scored is an evaluation of its own, in ``scores/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from lram.agents.acting.contexts import Context, Mode
from lram.agents.api import AgentInfo
from lram.agents.compute import Compute

SCHEMA = 1

Reading = Literal["whole", "within"]
"""How a trajectory is read: ``whole``, from its first timestep to its last, or ``within`` the trained length.

Within a length of n timesteps, windows of n begin every n / 2, and of each, but for the first, the second
half counts: so every prediction has n / 2 to n timesteps of context, or all that there are.
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model whose extrapolation is measured.

    Attributes:
        label: Its name in the reports.
        spec: What builds it, with its state carried.
        info: What it says of itself.
        trained: Timesteps of the sequences that it was trained on, at last; None where that is not known.
        told: Where ``trained`` was read: the card or an option.
        reach: Timesteps that its ``forward`` can read at once; None: as many as there are.
        code: SHA-256 by module of the user's own source behind it, as in the plan of a run
            (:class:`lram.harness.storage.records.AgentEntry`); empty in plans that did not note it.
    """

    label: str
    spec: str
    info: AgentInfo
    trained: int | None
    told: str = ""
    reach: int | None = None
    code: dict[str, str] = field(default_factory=dict)

    def reads(self, stretch: Stretch) -> bool:
        """Whether ``stretch`` can be read whole."""
        return self.reach is None or stretch.length <= self.reach

    def variant(self, context: Context) -> str:
        """Return the label that its scores have with ``context``."""
        return f"{self.label}{context.suffix}"


@dataclass(frozen=True, slots=True)
class Source:
    """A trajectory store, with the digest of what it held."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a trajectory that an agent would read in one context.

    Attributes:
        store: Which of the plan's stores.
        number: Of the episode there.
        task, policy: Whose.
        start, stop: Decisions; an episode is cut where the agent's context begins anew.
    """

    store: int
    number: int
    task: str
    policy: str
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of decisions."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ExtrapolationPlan:
    """What is measured.

    Attributes:
        schema: Version of this layout.
        seed: Names initial states and everything random.
        agents: The models.
        contexts: Timesteps of the limited contexts, rising.
        modes: Which contexts are played.
        tasks: The selection that is played; empty: nothing is.
        episodes: Of every variant on every task.
        stores: Of trajectories; empty: no losses.
        stretches: What losses are measured on, the same for all agents that can read them whole.
        unseen: Why no agent was trained on them, in words.
        compute: How models compute.
        threads: Threads of the tensor library.
        protocols: Protocol by domain, as asked for; None in plans of versions that did not note it here.
    """

    schema: int
    seed: int
    agents: tuple[Candidate, ...]
    contexts: tuple[int, ...]
    modes: tuple[Mode, ...]
    tasks: tuple[str, ...] = ()
    episodes: int = 0
    stores: tuple[Source, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    unseen: str = ""
    compute: Compute = field(default_factory=Compute)
    threads: int = 1
    protocols: dict[str, str] | None = None

    def variants(self) -> list[Context]:
        """Return the contexts that every agent plays with."""
        limited = [
            Context(mode, length) for mode in self.modes if mode != "carry" for length in self.contexts
        ]
        return [*limited, *([Context("carry")] if "carry" in self.modes else [])]

    def readings(self) -> list[LossItem]:
        """Return what losses are to be measured, in order."""
        readings: tuple[Reading, ...] = get_args(Reading)
        return [
            LossItem(agent.label, place, reading)
            for place in range(len(self.stretches))
            for agent in self.agents
            if agent.reads(self.stretches[place])
            for reading in readings
            if reading == "whole" or agent.trained
        ]


@dataclass(frozen=True, slots=True)
class LossItem:
    """One agent reads one stretch: the unit of recording. ``stretch`` is its place in the plan."""

    agent: str
    stretch: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class LossRecord:
    """What one agent predicted of one stretch, by timestep.

    Attributes:
        agent, stretch, reading: The item.
        context: Length that was read ``within``; 0 for the whole.
        dims: Dimensions of an action; the sums are over them.
        loss: Sum of cross-entropies at each timestep, in nats, rounded to 5 decimals; None where it is not
            finite, and what is right or wrong there means nothing.
        right: Dimensions whose likeliest class of all is the action's.
        error: Sum of action errors (:func:`lram.agents.training.metrics.pair_values`).
    """

    agent: str
    stretch: int
    reading: Reading
    context: int
    dims: int
    loss: tuple[float | None, ...]
    right: tuple[int, ...]
    error: tuple[float, ...]

    @property
    def item(self) -> LossItem:
        """What this record settles."""
        return LossItem(self.agent, self.stretch, self.reading)


@dataclass(frozen=True, slots=True)
class EquivalencePoint:
    """How step and forward agree up to a timestep.

    Attributes:
        timesteps: So many were read.
        difference: Greatest absolute difference of a hidden state so far; None where it is not finite.
        state: Greatest absolute number in the state then; None where one is not finite.
    """

    timesteps: int
    difference: float | None
    state: float | None


@dataclass(frozen=True, slots=True)
class ValidityRecord:
    """Whether an agent's step still is its forward, and its state finite, at lengths beyond training.

    Attributes:
        agent: Its label.
        read: What was read, in words.
        form: Of the step.
        scale: Greatest absolute hidden state of ``forward``; None where it is not finite.
        allowed: Difference that is allowed, as a part of the scale, and ``why``; None likewise.
        points: At rising lengths.
        compared: Timesteps up to which the two are meant to agree (less than all for a Transformer that
            recomputes its window); 0: all.
    """

    agent: str
    read: str
    form: str
    scale: float | None
    allowed: float | None
    why: str
    points: tuple[EquivalencePoint, ...]
    compared: int = 0

    @property
    def limit(self) -> float | None:
        """The greatest absolute difference that is allowed; None where the scale is not finite."""
        return None if self.scale is None or self.allowed is None else self.allowed * self.scale

    @property
    def holds(self) -> bool:
        """Whether everything is finite and within what is allowed."""
        limit = self.limit
        return limit is not None and all(
            point.state is not None and point.difference is not None and point.difference <= limit
            for point in self.points
        )
