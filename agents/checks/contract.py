"""The Agent contract as checks that any agent's author can run: ``lram check AGENT``, or from Python::

    from lram.agents.checks.contract import contract_checks

    assert all(check.status != "failed" for check in contract_checks(MyAgent()))

Short episodes of made-up tasks are played, with seeded observations and rewards, in several
arrangements that must not matter. An agent that raises has failed, with what it raised; nothing is
raised here. That a model acts as it was trained is another matter: :mod:`lram.agents.checks.equivalence`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lram.agents.api import Action, AgentInfo, Episode, MinimalAgent, Observation, TaskSpec
from lram.agents.shown import shown

Status = Literal["passed", "failed", "skipped"]

DECISIONS = 8
"""Decisions of an episode that is compared."""

LANES = 19
"""Lanes of the largest state: agents may keep them in blocks, of 8 for instance."""

BEFORE = 3
"""Decisions of another episode that its lane plays first, where that must not matter."""

VECTOR_TASK = TaskSpec("check/vector", "check", "vector", (39,), "continuous", 4, 100.0, 10.0)
IMAGE_TASK = TaskSpec("check/image", "check", "image", (3, 64, 64), "discrete", 15, 100.0, 10.0)

DESCRIPTION = "info"
"""Subject of the check of what an agent says of itself, for which it need not act."""

EXACT = "an episode is played in whatever lane is free, so any difference would make results depend on chance"


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        name: What must hold.
        subject: On what it was tried.
        status: ``skipped`` where it could not be tried; ``reason`` tells why.
        measured: What was found, in words and numbers.
        allowed: What would have passed.
        reason: Why just that is allowed.
        difference: The number that was measured, where there is one, in the unit of ``limit``.
        limit: The greatest that passes.
        raised: Whether it failed because something raised, so that nothing is known but that.
    """

    name: str
    subject: str
    status: Status
    measured: str
    allowed: str = ""
    reason: str = ""
    difference: float | None = None
    limit: float | None = None
    raised: bool = False


def contract_checks(
    agent: MinimalAgent,
    tasks: Sequence[TaskSpec] = (VECTOR_TASK, IMAGE_TASK),
    seed: int = 0,
    decisions: int = DECISIONS,
) -> list[Check]:
    """Check what :mod:`lram.agents.api` promises, on every one of ``tasks`` that the agent can play.

    Args:
        agent: Any agent; its own state is made anew by ``start`` for each arrangement.
        tasks: What to play; observations are random numbers of the task's shape.
        seed: Of observations, rewards and episodes.
        decisions: Of an episode that is compared.
    """
    checks = guarded("the agent says what it is", DESCRIPTION, partial(_check_info, agent))
    playable = []
    for task in tasks:
        found = guarded("the agent says what it plays", task.id, partial(_refusal, agent, task))
        checks += found
        if found[0].status == "passed":
            playable.append(task)
    if not playable:
        reason = "the agent refuses every task that was tried, so it has not acted; name tasks that it plays"
        checks.append(Check("actions are valid", "no task", "skipped", "", "", reason))
    for task in playable:
        checks += _episode_checks(agent, task, playable, seed, decisions)
    return checks


def guarded(name: str, subject: str, check: Callable[[], list[Check]]) -> list[Check]:
    """Return what ``check`` finds, or the failed check ``name`` when it raises."""
    try:
        return check()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        try:
            words = shown(" ".join(str(error).split()), 1000)
        except BaseException:  # its class may raise there as well
            words = "(its message cannot be read)"
        measured = f"raised {type(error).__name__}: {words} ({where})"
        return [Check(name, subject, "failed", measured, raised=True)]


@dataclass(frozen=True, slots=True)
class _Script:
    """What an episode shows, whatever is done in it."""

    episode: Episode
    observations: list[Observation]
    rewards: list[float]

    @classmethod
    def make(cls, task: TaskSpec, seed: int, decisions: int = DECISIONS) -> _Script:
        rng = np.random.default_rng(seed)
        seen: list[Observation] = []
        for _ in range(decisions):
            if task.observation == "image":
                seen.append(rng.integers(0, 256, task.observation_shape, dtype=np.uint8))
            else:
                seen.append(rng.standard_normal(task.observation_shape).astype(np.float32))
        return cls(Episode(task, seed), seen, [float(r) for r in rng.normal(size=decisions)])


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """Where and beside what an episode is played; the default is alone, in a fresh state.

    Attributes:
        lanes: Lanes of the state.
        lane: The lane of the episode that is compared.
        others: By lane, tasks of other episodes that begin, act, wait and end there.
        before: What the lane plays first and is torn from by the reset.
        first_reward: Given with the first decision.
    """

    lanes: int = 1
    lane: int = 0
    others: Mapping[int, TaskSpec] = field(default_factory=dict)
    before: _Script | None = None
    first_reward: float = 0.0


class _ContractBrokenError(Exception):
    """What came back from the agent is not even one action a lane."""


def _check_info(agent: MinimalAgent) -> list[Check]:
    info = agent.info
    good = isinstance(info, AgentInfo) and bool(info.description)
    shown = f"{info.kind}: {info.description}" if good else repr(info)
    return [_exact("the agent says what it is", DESCRIPTION, good, shown, "an AgentInfo with a description")]


def _refusal(agent: MinimalAgent, task: TaskSpec) -> list[Check]:
    reason = agent.refuses(task)
    status: Status = "passed" if reason is None else "skipped"
    measured, why = ("plays it", "") if reason is None else ("refused", f"not played: {reason}")
    if reason is not None and not (isinstance(reason, str) and reason):
        status, measured, why = "failed", f"refuses gave {reason!r}", ""
    return [Check("the agent says what it plays", task.id, status, measured, "None, or why not", why)]


def _episode_checks(
    agent: MinimalAgent, task: TaskSpec, playable: Sequence[TaskSpec], seed: int, decisions: int
) -> list[Check]:
    script = _Script.make(task, seed + 1, decisions)
    own: list[list[Action]] = []

    def alone() -> list[Check]:
        actions, touched, state = _play(agent, script, _Arrangement())
        own.append(actions)
        wrong = next((text for action in actions if (text := _problem(task, action))), "")
        return [
            _exact(
                "actions are valid",
                task.id,
                not wrong,
                wrong or f"{len(actions)} actions",
                f"0 to {task.action_size - 1}"
                if task.action == "discrete"
                else f"float32 ({task.action_size},) in [-1, 1]",
                "",
            ),
            _exact(
                "observations are left as they were",
                task.id,
                not touched,
                "changed in place" if touched else "unchanged",
                "exactly",
                "the simulator's and the record's arrays are the same memory",
            ),
            _count_state(agent, task, state),
        ]

    checks = guarded("actions are valid", task.id, alone)
    if not own:
        return checks
    others = [playable[(place + 1) % len(playable)] for place in range(4)]
    arrangements = {
        "the same seed gives the same actions": _Arrangement(),
        "a lane's number does not matter": _Arrangement(lanes=LANES, lane=17),
        "a lane's neighbours do not matter": _Arrangement(
            lanes=LANES, lane=9, others=dict(zip((0, 8, 10, 18), others, strict=True))
        ),
        "a reset lane is fresh": _Arrangement(before=_Script.make(task, seed + 2, BEFORE)),
        "a fresh lane's reward is not read": _Arrangement(first_reward=-1234.5),
    }
    for name, arrangement in arrangements.items():

        def compare(name: str = name, arrangement: _Arrangement = arrangement) -> list[Check]:
            return [_same(name, task, own[0], _play(agent, script, arrangement)[0])]

        checks += guarded(name, task.id, compare)
    return checks


def _play(agent: MinimalAgent, script: _Script, how: _Arrangement) -> tuple[list[Action], bool, Any]:
    """Return the episode's actions, whether an observation was changed in place, and the last state."""
    state = agent.start(how.lanes)
    if how.before is not None:
        agent.reset(state, [how.lane], [how.before.episode])
        for seen, reward in zip(how.before.observations, how.before.rewards, strict=True):
            _, state = _act(agent, state, [(how.lane, seen, reward)])
    agent.reset(state, [how.lane], [script.episode])
    company = _company(agent, how, script.episode.seed)
    actions, touched = [], False
    for seen, reward in zip(script.observations, [how.first_reward, *script.rewards], strict=False):
        ready = [*company(state), (how.lane, seen.copy(), reward)]
        # The compared lane comes neither first nor last where there are others.
        ready = ready[-2:] + ready[:-2]
        given, state = _act(agent, state, ready)
        actions.append(given[[lane for lane, *_ in ready].index(how.lane)])
        touched |= any(not np.array_equal(after, seen) for lane, after, _ in ready if lane == how.lane)
    return actions, touched, state


def _company(
    agent: MinimalAgent, how: _Arrangement, seed: int
) -> Callable[[Any], list[tuple[int, Observation, float]]]:
    """Return what tells, decision by decision, which other lanes act; it resets them at times."""
    rng = np.random.default_rng(seed)
    playing: dict[int, Iterator[tuple[Observation, float]]] = {}

    def ready(state: Any) -> list[tuple[int, Observation, float]]:
        acting = []
        for lane, task in how.others.items():
            if lane not in playing or rng.random() < 0.3:
                script = _Script.make(task, int(rng.integers(1 << 31)), DECISIONS + BEFORE)
                agent.reset(state, [lane], [script.episode])
                playing[lane] = zip(script.observations, script.rewards, strict=True)
            elif rng.random() < 0.3:
                continue  # its simulator is slow
            seen, reward = next(playing[lane])
            acting.append((lane, seen, 100 * reward))
        return acting

    return ready


def _act(
    agent: MinimalAgent, state: Any, ready: Sequence[tuple[int, Observation, float]]
) -> tuple[list[Action], Any]:
    lanes, observations, rewards = zip(*ready, strict=True)
    given, state = agent.act(state, list(observations), list(rewards), list(lanes))
    actions = list(islice(given, len(ready) + 1))
    if len(actions) != len(ready):
        raise _ContractBrokenError(f"act gave {len(actions)} actions for {len(ready)} lanes")
    # An agent may hand out the same array again and again; what counts is what it was at this moment.
    return [action.copy() if isinstance(action, np.ndarray) else action for action in actions], state


def _problem(task: TaskSpec, action: object) -> str:
    """Return what keeps ``action`` from being one of ``task``; empty when nothing does."""
    if task.action == "discrete":
        if isinstance(action, bool) or not isinstance(action, int | np.integer):
            return f"{type(action).__name__} {action!r}, not an integer"
        return "" if 0 <= action < task.action_size else f"{action}, outside 0 to {task.action_size - 1}"
    if not isinstance(action, np.ndarray):
        return f"{type(action).__name__}, not an array"
    if action.dtype != np.float32 or action.shape != (task.action_size,):
        return f"{action.dtype} {action.shape}, not float32 ({task.action_size},)"
    if not np.isfinite(action).all():
        return "NaN or infinity"
    worst = float(np.abs(action).max())
    return "" if worst <= 1 else f"{worst:g}, outside [-1, 1]"


def _same(name: str, task: TaskSpec, expected: Sequence[Action], given: Sequence[Action]) -> Check:
    gaps = [_gap(one, other) for one, other in zip(expected, given, strict=True)]
    apart = [place for place, gap in enumerate(gaps, start=1) if gap]
    measured = f"equal over {len(gaps)} decisions"
    if apart:
        measured = f"differ from decision {apart[0]} of {len(gaps)} on, by up to {max(gaps):.2g}"
    return _exact(name, task.id, not apart, measured, "equal", EXACT)


def _gap(one: Action, other: Action) -> float:
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    gap = float(np.abs(a - b).max())
    return gap if gap == gap else float("inf")  # NaN on one side only


def _count_state(agent: MinimalAgent, task: TaskSpec, state: Any) -> Check:
    size = agent.state_bytes(state)
    good = isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 0
    shown = f"{size} bytes" if good else repr(size)
    return _exact("the state's bytes are counted", task.id, good, shown, "an integer, 0 or more")


def _exact(name: str, subject: str, good: bool, measured: str, allowed: str, reason: str = "") -> Check:
    return Check(name, subject, "passed" if good else "failed", measured, allowed, reason)
