"""What an agent is shown of an episode that is otherwise the same: late, or not at all.

A perturbed session plays another one, with the same seeds, actions and rewards; only its observations differ.
What is random in that has a generator of its own, so the simulator's draws are those of the unperturbed
episode.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from lram.envs.session import Action, Observation, Session, SessionSpec, Step

_STREAM = 0x64726F70  # keeps these draws apart from what a simulator draws from the same seed


class PerturbedSession:
    """A session whose observations are late and in part missing; the Session contract otherwise.

    Args:
        inner: The session that is played.
        delay: Decisions by which each observation is late: at decision t that of t - ``delay`` is shown, and
            the first one until there is such a one.
        dropped: Probability that an observation after the first is lost on the way: the last one that arrived
            is shown again. Each is lost or not by itself, from the episode's seed.
    """

    def __init__(self, inner: Session, *, delay: int = 0, dropped: float = 0.0) -> None:
        self._inner, self._delay, self._dropped = inner, delay, dropped
        self._waiting: deque[Observation] = deque()
        self._rng = np.random.default_rng(0)
        self._shown: Observation = np.zeros(0, np.float32)

    @property
    def spec(self) -> SessionSpec:
        """The inner session's."""
        return self._inner.spec

    def reset(self, seed: int) -> Observation:
        """See :class:`lram.envs.session.Session`."""
        self._shown = self._inner.reset(seed)
        self._rng = np.random.default_rng((_STREAM, seed))
        self._waiting = deque([self._shown] * self._delay)
        return self._shown.copy()

    def step(self, action: Action) -> Step:
        """See :class:`lram.envs.session.Session`."""
        step = self._inner.step(action)
        self._waiting.append(step.observation)
        arrived = self._waiting.popleft()
        if not self._dropped or self._rng.random() >= self._dropped:
            self._shown = arrived
        return step._replace(observation=self._shown.copy())

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the inner session's scene as it is, not as the agent is shown it."""
        return self._inner.render()

    def close(self) -> None:
        """Close the inner session."""
        self._inner.close()
