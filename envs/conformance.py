"""The Session contract as a check that any adapter's author can run.

In a test of your own package::

    from lram.envs.conformance import check_session

    def test_my_domain_keeps_the_contract():
        check_session(lambda: DOMAIN.make("my-task", DOMAIN.protocol()), limit=200)

and, for what one process cannot show, print ``trajectory_digest(...)`` in two processes and compare.
The rules are those of :mod:`lram.envs.session`.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from lram.envs.errors import ConformanceError
from lram.envs.session import Action, Observation, Session, SessionError, SessionSpec, Step


def check_session(
    make: Callable[[], Session],
    *,
    seeds: tuple[int, int] = (7, 8),
    steps: int = 50,
    actions: Sequence[Action] | None = None,
    limit: int | None = None,
) -> None:
    """Check every rule of the Session contract that one process can show.

    Args:
        make: Builds a session; called twice.
        seeds: Two seeds whose episodes differ.
        steps: Decisions to play and compare (fewer where the episode ends before).
        actions: Actions to play, repeated from the first when they run out; None plays uniformly
            random ones, the same in every episode.
        limit: The protocol's time limit in decisions. Where given, one episode is played to its end,
            which must come at the latest with this decision.

    Raises:
        ConformanceError: one sentence that tells the first rule found broken.
    """
    session = make()
    try:
        _check_spec(session.spec)
        played = list(actions) if actions is not None else _random_actions(session.spec, steps)
        _require(bool(played), "check_session needs at least one action")
        _refuses(partial(session.step, played[0]), "step() before the first reset() must raise SessionError")
        first = _play(session, seeds[0], steps, played)
        _check_other_episodes(session, seeds, steps, played, first)
        _check_refused_actions(session, seeds[0], played)
        _check_refused_seeds(session)
        if limit is not None:
            _check_limit(session, seeds[0], limit, played)
        another = make()
        try:
            again = _play(another, seeds[0], steps, played)
            _require(again == first, "a new session with the same seed and actions must play the same")
        finally:
            another.close()
    finally:
        session.close()
        try:
            session.close()
        except Exception as error:
            raise ConformanceError(f"close() may be called more than once, but raised {error!r}") from error


def trajectory_digest(
    session: Session, seed: int, steps: int = 50, actions: Sequence[Action] | None = None
) -> str:
    """Return a SHA-256 over everything an episode's first ``steps`` decisions gave.

    Equal digests in two processes show that the trajectory depends on the seed and actions alone.
    """
    played = list(actions) if actions is not None else _random_actions(session.spec, steps)
    digest = hashlib.sha256()
    for part in _play(session, seed, steps, played):
        digest.update(part)
    return digest.hexdigest()


def _check_other_episodes(
    session: Session, seeds: tuple[int, int], steps: int, actions: list[Action], first: list[bytes]
) -> None:
    other = _play(session, seeds[1], steps, actions)
    _require(other != first, f"seeds {seeds[0]} and {seeds[1]} must not give the same trajectory")
    # A caller's use of the global generators, and of the arrays it was given, must not be felt.
    np.random.seed(seeds[1])
    random.seed(seeds[1])
    again = _play(session, seeds[0], steps, actions, scribble=True)
    _require(
        again == first,
        "a session that is reset with the same seed must play the same, whatever it did before, whatever "
        "the global random generators hold, and whatever the caller writes into returned arrays",
    )


def _play(
    session: Session, seed: int, steps: int, actions: list[Action], *, scribble: bool = False
) -> list[bytes]:
    """Play up to ``steps`` decisions, checking each; return everything that came back, as bytes."""
    spec = session.spec
    returned: list[tuple[Observation, bytes]] = []
    trajectory: list[bytes] = []

    def keep(observation: Observation) -> None:
        frozen = observation.tobytes()
        trajectory.append(frozen)
        if scribble:
            observation[...] = 1
        else:
            returned.append((observation, frozen))

    observation = session.reset(seed)
    _check_observation(observation, spec, "reset()")
    keep(observation)
    has_success: bool | None = None
    for index in range(steps):
        if scribble:
            np.random.random()
        step = session.step(actions[index % len(actions)])
        _check_step(step, spec)
        tells = step.success is not None
        _require(
            has_success in (None, tells),
            "success must be a bool at every step of an episode, or None at every step",
        )
        has_success = tells
        keep(step.observation)
        trajectory.append(repr(step[1:]).encode())
        if step.terminated or step.truncated:
            _refuses(
                partial(session.step, actions[0]), "step() after an episode's end must raise SessionError"
            )
            break
    for array, frozen in returned:
        _require(array.tobytes() == frozen, "a returned observation must not be changed by later steps")
    _require(session.spec == spec, "spec must stay the same over the session's life")
    return trajectory


def _check_spec(spec: SessionSpec) -> None:
    _require(isinstance(spec, SessionSpec), f"spec must be a SessionSpec, not {type(spec).__name__}")
    _require(spec.observation in ("image", "vector"), f"spec.observation must not be {spec.observation!r}")
    _require(spec.action in ("discrete", "continuous"), f"spec.action must not be {spec.action!r}")
    if spec.observation == "image":
        _require(
            spec.observation_shape == (3, 64, 64),
            f"an image's shape must be (3, 64, 64), not {spec.observation_shape}",
        )
    else:
        _require(
            len(spec.observation_shape) == 1 and spec.observation_shape[0] > 0,
            f"a vector's shape must be (width,), not {spec.observation_shape}",
        )
    _require(spec.action_size > 0, f"spec.action_size must be positive, not {spec.action_size}")


def _check_observation(observation: Any, spec: SessionSpec, source: str) -> None:
    _require(
        isinstance(observation, np.ndarray),
        f"{source} must return a numpy array as observation, not {type(observation).__name__}",
    )
    dtype = np.dtype(np.uint8 if spec.observation == "image" else np.float32)
    _require(observation.dtype == dtype, f"{source} must return {dtype}, not {observation.dtype}")
    _require(
        observation.shape == spec.observation_shape,
        f"{source} must return the shape {spec.observation_shape} of the spec, not {observation.shape}",
    )
    _require(bool(np.isfinite(observation).all()), f"{source} must return finite values only")
    _require(observation.flags.writeable, f"{source} must return an array that the caller may write to")


def _check_step(step: Any, spec: SessionSpec) -> None:
    _require(isinstance(step, Step), f"step() must return a Step, not {type(step).__name__}")
    _check_observation(step.observation, spec, "step()")
    for name in ("reward", "signal"):
        value = getattr(step, name)
        _require(type(value) is float, f"{name} must be a Python float, not {type(value).__name__}")
        _require(math.isfinite(value), f"{name} must be finite, not {value}")
    for name in ("terminated", "truncated", "context_reset", "inner_episode_ends"):
        value = getattr(step, name)
        _require(type(value) is bool, f"{name} must be a Python bool, not {type(value).__name__}")
    _require(
        step.success is None or type(step.success) is bool,
        f"success must be None or a Python bool, not {type(step.success).__name__}",
    )
    _require(not (step.terminated and step.truncated), "a step must not be both terminated and truncated")
    _require(
        not (step.context_reset and (step.terminated or step.truncated)),
        "context_reset must not be set at an episode's end",
    )


def _check_refused_actions(session: Session, seed: int, actions: list[Action]) -> None:
    size = session.spec.action_size
    wrong: list[tuple[Any, str]]
    if session.spec.action == "discrete":
        wrong = [(size, "the index action_size"), (-1, "a negative index"), (0.5, "a fraction")]
    else:
        wrong = [
            (np.zeros(size + 1, np.float32), "an action that is too wide"),
            (np.full(size, np.nan, np.float32), "an action that is not a number"),
        ]
    for action, what in wrong:
        session.reset(seed)
        _refuses(partial(session.step, action), f"{what} must raise SessionError")
    session.reset(seed)
    session.step(actions[0])


def _check_refused_seeds(session: Session) -> None:
    for seed in (-1, 2**31):
        _refuses(partial(session.reset, seed), f"the seed {seed} must raise SessionError")


def _check_limit(session: Session, seed: int, limit: int, actions: list[Action]) -> None:
    session.reset(seed)
    for count in range(1, limit + 1):
        step = session.step(actions[(count - 1) % len(actions)])
        _check_step(step, session.spec)
        if step.terminated or step.truncated:
            _refuses(
                partial(session.step, actions[0]), "step() after an episode's end must raise SessionError"
            )
            return
    raise ConformanceError(f"the episode must end by decision {limit}, its protocol's time limit")


def _random_actions(spec: SessionSpec, steps: int) -> list[Action]:
    rng = np.random.default_rng(0)
    if spec.action == "discrete":
        return [int(index) for index in rng.integers(spec.action_size, size=steps)]
    return list(rng.uniform(-1, 1, (steps, spec.action_size)).astype(np.float32))


def _refuses(call: Callable[[], Any], rule: str) -> None:
    try:
        call()
    except SessionError:
        return
    except Exception as error:
        raise ConformanceError(f"{rule}, but it raised {type(error).__name__}: {error}") from error
    raise ConformanceError(f"{rule}, but nothing was raised")


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise ConformanceError(rule)
