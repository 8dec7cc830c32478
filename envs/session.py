"""The Session contract: one simulator holding one episode of one task at a time.

The calls come in this order::

    session = domain.make("door-open-v3", protocol)
    observation = session.reset(seed)          # starts an episode
    while True:
        step = session.step(action)            # until terminated or truncated
        if step.terminated or step.truncated:
            break
    observation = session.reset(another_seed)  # the same session again
    session.close()

What always holds, and is checked by :mod:`lram.envs.conformance`:

* After ``reset(seed)`` and a sequence of actions, every observation, reward and flag is the same
  bit for bit, whatever the session did before and in whichever process it lives.
* Observations have the shape and type that ``spec`` tells, and are finite. A returned array is the
  caller's own: later steps never change it.
* A vector observation is float32 of ``spec.observation_shape``; an image is uint8 (3, 64, 64).
* A discrete action is an integer below ``spec.action_size``; a continuous one is float32
  (``spec.action_size``,) in [-1, 1], which the session maps to the simulator's own range.
* ``step`` after the end of an episode, or before the first ``reset``, raises :class:`SessionError`, and
  so do an action of the wrong shape, kind or range of indices, one that is not finite, and a seed
  outside 0 <= seed < 2**31.
* The protocol's time limit is the session's work: it ends an episode with ``truncated``.

:class:`lram.envs.simulator.SimulatorSession` keeps most of these rules for an adapter that derives from
it; ``docs/how-to/extending.md`` has a whole example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Protocol, Union

import numpy as np
import numpy.typing as npt

from lram.envs.errors import SelectionError
from lram.envs.errors import SessionError as SessionError  # a part of the contract
from lram.envs.protocol_id import ProtocolId
from lram.envs.task import ActionKind, Dial, ObservationKind, Task

Observation = Union[npt.NDArray[np.float32], npt.NDArray[np.uint8]]
Action = Union[int, npt.NDArray[np.float32]]


class Step(NamedTuple):
    """What one decision led to.

    Attributes:
        observation: The observation after the step (at the end of an episode, the last one).
        reward: Reward of the task itself, unclipped; the score is its sum over the episode.
        terminated: The task ended the episode.
        truncated: A time limit ended the episode.
        success: Whether the task is solved at this step; None where the task has no such notion.
        signal: Reward that the agent is shown; it differs from ``reward`` where the protocol clips.
        context_reset: The agent's context starts anew with this observation although the episode
            continues (Atari: a life was lost, and the protocol treats that as a boundary).
        inner_episode_ends: An inner episode ended with this step, of a task that holds several in one context
            (Dark-Room). The agent is not reset; the last inner episode ends with the episode.
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None
    signal: float
    context_reset: bool = False
    inner_episode_ends: bool = False


@dataclass(frozen=True)
class SessionSpec:
    """Shapes and kinds of a session's observations and actions."""

    observation: ObservationKind
    observation_shape: tuple[int, ...]
    action: ActionKind
    action_size: int


class Session(Protocol):
    """One simulator; the module's text tells the contract."""

    @property
    def spec(self) -> SessionSpec:
        """Shapes and kinds, constant over the session's life."""
        ...

    def reset(self, seed: int) -> Observation:
        """Start the episode that ``seed`` (0 <= seed < 2**31) names; return its first observation."""
        ...

    def step(self, action: Action) -> Step:
        """Apply one action. Raises SessionError outside an episode."""
        ...

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the scene as an image for people, uint8 (height, width, 3)."""
        ...

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        ...


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a domain is run for measurement: named and versioned, because scores depend on it.

    Attributes:
        name: Short name within the domain, such as ``lram`` or ``sticky``.
        version: Raised whenever the same seeds would give other trajectories or scores.
        summary: One sentence for listings and reports.
        options: What the adapter reads; plain values only.
        versions: Exact version by distribution that the interpreter must have, because another one
            would give other trajectories. A domain's default is its first protocol whose versions fit.
        perturbs: Name of the domain's protocol that this one equals but for what agents are shown: seeds,
            dynamics and rewards are the same, so that reports put that one beside it. Empty for others.
    """

    name: str
    version: int
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    perturbs: str = ""

    def id(self, domain: str) -> str:
        """``domain:name@version``, as records carry it."""
        return str(ProtocolId(domain, self.name, self.version))


@dataclass(frozen=True)
class SourceTree:
    """A package that no registry has and that is imported from a checkout, by path.

    Attributes:
        module: Import name; a checkout is known by the folder of that name with an ``__init__.py``.
        url: Repository to clone.
        commit: Revision that was proven.
        licence: In a few words, with what it forbids.
        tasks: Shell patterns of the task names that need it (empty: all of the domain's).
    """

    module: str
    url: str
    commit: str
    licence: str
    tasks: tuple[str, ...] = ()

    def needed(self, task_name: str) -> bool:
        """Whether a task (by its name within the domain) needs this tree."""
        return not self.tasks or any(fnmatchcase(task_name, pattern) for pattern in self.tasks)


@dataclass(frozen=True)
class InterpreterRecipe:
    """What an interpreter of a domain's own holds.

    Attributes:
        requirements: Requirement lines with exact versions.
        pythons: Minor versions that they were proven with, such as ``3.11``, the preferred first.
        resolve: Whether the installer adds what the requirements depend on; False: the lines are
            complete, and nothing else is installed.
    """

    requirements: tuple[str, ...]
    pythons: tuple[str, ...] = ("3.11",)
    resolve: bool = True


@dataclass(frozen=True)
class Domain:
    """A domain's adapter: how to make its sessions, and what it needs.

    Attributes:
        name: Domain name, as in task ids.
        protocols: The first is the default.
        make: Builds a session of a task (by name) under a protocol; imports the simulator.
        requires: Import names that must be there (checked without importing them).
        install: What to install when they are not, such as ``lram-bench[atari]``.
        packages: Distributions whose versions a run records.
        tasks: Tasks that the domain brings along; empty for those of the built-in table.
        faulty: Names of those that are made to fail or to hang: a pattern leaves them out of a selection,
            and only their own name selects them.
        renderer: Whether rendering needs an OpenGL context (MuJoCo), for ``lram doctor``.
        sources: Packages that are used from checkouts.
        interpreter: What ``lram env install`` puts into an interpreter of the domain's own; None
            where the domain tells nothing.
        start_s: Rough seconds to build a session. From half a second on, a worker stays with a task
            while it has episodes left, so that few sessions are built.
        idle_sessions: Sessions that a worker keeps when no episode needs them; few where one is big.
        step_s: Rough seconds that the simulator needs for one decision, on one core.
        worker_mb: Rough resident memory of a worker's process beside its sessions, in MiB: the
            interpreter, the simulator's code, what its sessions share.
        session_mb: Rough resident memory that each session adds, in MiB; those that a worker keeps
            without an episode (``idle_sessions``) count as well.
        under: Gives a task's row as it is under a protocol, where horizon or score references depend on
            it; None where they do not.
        trial_task: Name of the task that the domain is tried with, after an install and by ``lram doctor``:
            one whose simulator starts fast. Empty: the first one.
        attributes: Gives what sets a task (by name) apart from the domain's others, value by attribute,
            such as its robot; results are grouped by them. None where tasks have their split only. Reports
            ask for names of old runs, too.
        least_return: Gives the least return that an episode of a task can have under any protocol (None:
            not known). An agent that fails by its own fault is given it.
        greatest_return: Gives the greatest return of an episode of a task under the protocol of that name
            (None: not known), where rewards are never negative; intervals end there.
        clipped_data: Whether public data of the domain hold clipped rewards, of which no score can be made.
        on_demand: Makes the row of the task of a name that is in no table (``DOMAIN:NAME`` in a selection);
            SelectionError where there is no such task. None where ``tasks`` are all.
        dial: Gives the number in which a task (by name) differs from the others of its family; reports draw
            scores against it. None for a task, or a domain, without.
    """

    name: str
    protocols: tuple[EvaluationProtocol, ...]
    make: Callable[[str, EvaluationProtocol], Session]
    requires: tuple[str, ...] = ()
    install: str = ""
    packages: tuple[str, ...] = ()
    tasks: Sequence[Task] = ()
    renderer: bool = False
    sources: tuple[SourceTree, ...] = ()
    interpreter: InterpreterRecipe | None = None
    start_s: float = 0.0
    idle_sessions: int = 8
    step_s: float = 0.001
    worker_mb: float = 200.0
    session_mb: float = 50.0
    under: Callable[[Task, EvaluationProtocol], Task] | None = None
    faulty: tuple[str, ...] = ()
    trial_task: str = ""
    attributes: Callable[[str], Mapping[str, str]] | None = None
    least_return: Callable[[Task], float | None] | None = None
    greatest_return: Callable[[Task, str], float | None] | None = None
    clipped_data: bool = False
    on_demand: Callable[[str], Task] | None = None
    dial: Callable[[str], Dial | None] | None = None

    def protocol(self, name: str | None = None) -> EvaluationProtocol:
        """Return the protocol called ``name`` (None: the default); SelectionError where there is none."""
        if name is None:
            return self.protocols[0]
        for candidate in self.protocols:
            if candidate.name == name:
                return candidate
        known = ", ".join(p.name for p in self.protocols)
        raise SelectionError(f"domain {self.name} has no protocol {name!r}; it has {known}")
