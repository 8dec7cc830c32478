"""check_session finds each broken rule; every case here is a sound session with one thing broken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.errors import ConformanceError
from lram.envs.session import Action, Observation, SessionError, SessionSpec, Step
from lram.envs.simulator import SimulatorSession, vector_spec


class Sound(SimulatorSession):
    """A random walk of twelve decisions that keeps every rule."""

    def __init__(self) -> None:
        super().__init__("walk/sound", vector_spec(3, "continuous", 3), limit=12)
        self.place = np.zeros(3, np.float32)
        self.rng = np.random.default_rng(0)

    def _begin(self, seed: int) -> Observation:
        self.rng = np.random.default_rng(seed)
        self.place = self.rng.normal(size=3).astype(np.float32)
        return self.place.copy()

    def _advance(self, action: Action) -> Step:
        self.place = self.place + 0.1 * np.asarray(action) + self.rng.normal(size=3).astype(np.float32)
        return Step(self.place.astype(np.float32), float(self.place.sum()), False, False, None, 0.0)


def replaced(**changes: Any) -> type[Sound]:
    """Return a Sound whose steps carry ``changes``."""

    class Replaced(Sound):
        def step(self, action: Action) -> Step:
            return super().step(action)._replace(**changes)

    return Replaced


class WrongSpec(Sound):
    @property
    def spec(self) -> SessionSpec:
        return SessionSpec("image", (64, 64, 3), "discrete", 3)


class ChangingSpec(Sound):
    @property
    def spec(self) -> SessionSpec:
        return vector_spec(3, "continuous", 3 if not self._decisions else 4)


class StepsBeforeReset(Sound):
    def step(self, action: Action) -> Step:
        self._in_episode = True
        return super().step(action)


class WrongError(Sound):
    def step(self, action: Action) -> Step:
        if not self._in_episode:
            raise ValueError("no episode")
        return super().step(action)


class StepsAfterEnd(Sound):
    def step(self, action: Action) -> Step:
        self._in_episode = self._in_episode or self._decisions > 0
        return super().step(action)


class DoubleObservation(Sound):
    def reset(self, seed: int) -> Any:
        return super().reset(seed).astype(np.float64)


class NarrowObservation(Sound):
    def reset(self, seed: int) -> Observation:
        return super().reset(seed)[:2]


class NotFinite(Sound):
    def _advance(self, action: Action) -> Step:
        step = super()._advance(action)
        if self._decisions == 5:
            step.observation[1] = np.inf
        return step


class ReadOnly(Sound):
    def _begin(self, seed: int) -> Observation:
        observation = super()._begin(seed)
        observation.flags.writeable = False
        return observation


class SharedArray(Sound):
    def _advance(self, action: Action) -> Step:
        self.place += 0.1 * np.asarray(action) + self.rng.normal(size=3).astype(np.float32)
        return Step(self.place, float(self.place.sum()), False, False, None, 0.0)

    def _begin(self, seed: int) -> Observation:
        super()._begin(seed)
        return self.place


class ReadsCallersArray(Sound):
    """Gives out a new array each time, but continues from the one it gave out."""

    def _advance(self, action: Action) -> Step:
        step = super()._advance(action)
        self.place = step.observation
        return step


class GlobalRandomness(Sound):
    def _advance(self, action: Action) -> Step:
        step = super()._advance(action)
        return step._replace(reward=float(np.random.random()))


class RemembersLastEpisode(Sound):
    def _begin(self, seed: int) -> Observation:
        before = self.place.copy()
        return super()._begin(seed) + before


class DiffersBetweenObjects(Sound):
    built = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).built += 1
        self.offset = float(self.built)

    def _advance(self, action: Action) -> Step:
        return super()._advance(action)._replace(signal=self.offset)


class IgnoresSeed(Sound):
    def _begin(self, seed: int) -> Observation:
        return super()._begin(0)


class Limitless(Sound):
    def __init__(self) -> None:
        super().__init__()
        self._limit = None


class TakesAnyAction(Sound):
    def _checked(self, action: Action) -> Action:
        return np.nan_to_num(np.resize(np.asarray(action, np.float32), 3))


class TakesAnySeed(Sound):
    def reset(self, seed: int) -> Observation:
        return super().reset(seed % 2**31)


class ForgetsSuccess(Sound):
    def _advance(self, action: Action) -> Step:
        return super()._advance(action)._replace(success=None if self._decisions == 3 else False)


class ClosesOnce(Sound):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


def test_a_sound_session_passes() -> None:
    check_session(Sound)
    check_session(Sound, limit=12)
    check_session(Sound, seeds=(0, 2**31 - 1), steps=3, actions=[np.zeros(3, np.float32)])


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (WrongSpec, r"image's shape must be \(3, 64, 64\)"),
        (ChangingSpec, "spec must stay the same"),
        (StepsBeforeReset, r"before the first reset\(\) must raise SessionError"),
        (WrongError, r"before the first reset\(\) must raise SessionError, but it raised ValueError"),
        (StepsAfterEnd, "after an episode's end must raise SessionError"),
        (DoubleObservation, "must return float32, not float64"),
        (NarrowObservation, r"must return the shape \(3,\)"),
        (NotFinite, "finite values only"),
        (ReadOnly, "may write to"),
        (SharedArray, "must not be changed by later steps"),
        (ReadsCallersArray, "whatever the caller writes"),
        (GlobalRandomness, "global random generators"),
        (RemembersLastEpisode, "whatever it did before"),
        (DiffersBetweenObjects, "a new session"),
        (IgnoresSeed, "seeds 7 and 8 must not give the same"),
        (TakesAnyAction, "too wide must raise SessionError"),
        (TakesAnySeed, "the seed -1 must raise SessionError"),
        (ForgetsSuccess, "success must be a bool at every step"),
        (ClosesOnce, r"close\(\) may be called more than once"),
        (replaced(reward=np.float64(1)), "reward must be a Python float, not float64"),
        (replaced(reward=1), "reward must be a Python float, not int"),
        (replaced(signal=float("nan")), "signal must be finite"),
        (replaced(terminated=np.bool_(False)), "terminated must be a Python bool"),
        (replaced(success=1), "success must be None or a Python bool"),
        (replaced(terminated=True, truncated=True), "both terminated and truncated"),
        (replaced(terminated=True, context_reset=True), "context_reset must not be set"),
    ],
)
def test_each_broken_rule_is_found_and_named(broken: Callable[[], Sound], rule: str) -> None:
    with pytest.raises(ConformanceError, match=rule):
        check_session(broken)


def test_a_missing_time_limit_is_found_where_the_limit_is_told() -> None:
    with pytest.raises(ConformanceError, match="must end by decision 12"):
        check_session(Limitless, limit=12)
    with pytest.raises(ConformanceError, match="must end by decision 11"):
        check_session(Sound, limit=11)


def test_the_session_is_closed_whatever_is_found() -> None:
    closed = []

    class Watched(NotFinite):
        def close(self) -> None:
            closed.append(self)

    with pytest.raises(ConformanceError):
        check_session(Watched)
    assert closed


def test_digests_hang_on_seed_actions_and_length() -> None:
    digest = trajectory_digest(Sound(), 1, 5)
    assert digest == trajectory_digest(Sound(), 1, 5)
    assert digest != trajectory_digest(Sound(), 2, 5)
    assert digest != trajectory_digest(Sound(), 1, 6)
    assert digest != trajectory_digest(Sound(), 1, 5, [np.zeros(3, np.float32)])


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, True, "7"])
def test_the_shared_base_refuses_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(SessionError, match="seed"):
        Sound().reset(seed)


def test_the_shared_base_accepts_numpy_seeds_and_clips_actions() -> None:
    session = Sound()
    assert (session.reset(np.int64(3)) == Sound().reset(3)).all()  # type: ignore[arg-type]
    inside = Sound()
    inside.reset(3)
    far = session.step(np.full(3, 5.0, np.float32)).observation
    assert (far == inside.step(np.ones(3, np.float32)).observation).all()


def test_the_shared_base_begins_no_context_where_its_limit_ends_the_episode() -> None:
    class Lives(Sound):
        def _advance(self, action: Action) -> Step:
            return super()._advance(action)._replace(context_reset=self._decisions % 4 == 3)

    session = Lives()
    session.reset(3)
    steps = [session.step(np.zeros(3, np.float32)) for _ in range(12)]
    assert [number for number, step in enumerate(steps, 1) if step.context_reset] == [4, 8]
    assert steps[-1].truncated


def test_a_refused_action_leaves_the_episode_as_it_was() -> None:
    session, other = Sound(), Sound()
    session.reset(3)
    other.reset(3)
    with pytest.raises(SessionError, match="not finite"):
        session.step(np.full(3, np.nan, np.float32))
    action = np.ones(3, np.float32)
    assert (session.step(action).observation == other.step(action).observation).all()
