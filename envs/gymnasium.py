"""Tasks as Gymnasium environments, for trainers of others (Stable-Baselines3, CleanRL)::

    from lram.envs.gymnasium import make, make_vector

    environment = make("metaworld/reach-v3")
    observation, info = environment.reset(seed=7)  # the episode that lram calls 7
    lanes = make_vector("dmcontrol/cartpole-swingup", 8)

The environment is a session in this process (:mod:`lram.envs.session`): what a policy sees, how its actions
are scaled and when an episode ends are those of an evaluation under the same protocol, so that a policy that
was trained here is evaluated on the very same task. Needs Gymnasium: ``pip install 'lram-bench[gym]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lram.envs.availability import missing_requirements
from lram.envs.errors import SelectionError, SessionError
from lram.envs.registry import load_domain, select
from lram.envs.session import Observation, Session, SessionSpec

try:
    import gymnasium
except ImportError as missing:
    raise ImportError(
        "gymnasium is not installed, and lram.envs.gymnasium makes its environments: "
        "pip install 'lram-bench[gym]'"
    ) from missing

Reward = Literal["score", "signal"]
"""``score``: the task's own reward. ``signal``: what agents are shown, where a protocol clips (Atari)."""

_Environment: Any = gymnasium.Env
_FRAMES_A_SECOND = 30
_SEEDS = 2**31


class SessionEnv(_Environment):  # type: ignore[misc]  # Gymnasium need not be there when types are checked
    """One task as a :class:`gymnasium.Env`. Made by :func:`make`.

    ``observation_space`` is a float32 ``Box`` (width,), or for images a uint8 ``Box`` (3, 64, 64), channels
    first; ``action_space`` is ``Discrete``, or a float32 ``Box`` of [-1, 1]. ``info`` of a step holds
    ``score`` and ``signal`` (both rewards) and, where the task can be solved, ``success`` (at this step) and
    ``is_success`` (at any step of the episode so far, which Stable-Baselines3 logs).

    Args:
        session: What is played; closed with the environment.
        task: Task id, for errors.
        reward: Which reward ``step`` returns.
        render_mode: ``rgb_array`` or None.
    """

    metadata: Mapping[str, Any] = {"render_modes": ["rgb_array"], "render_fps": _FRAMES_A_SECOND}

    def __init__(
        self, session: Session, task: str, reward: Reward = "score", render_mode: str | None = None
    ) -> None:
        if reward not in ("score", "signal"):
            raise SelectionError(f"there is no reward {reward!r}; give 'score' or 'signal'")
        if render_mode not in (None, "rgb_array"):
            raise SelectionError(f"there is no render mode {render_mode!r}; give 'rgb_array' or None")
        self.observation_space, self.action_space = spaces_of(session.spec)
        self.render_mode = render_mode
        self._session = session
        self._task = task
        self._reward = reward
        self._solved = False

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; return its first observation and no info.

        Args:
            seed: Names the episode (0 <= seed < 2**31), as in :meth:`lram.envs.session.Session.reset`, and
                with it the episodes of later calls without a seed.
            options: Not used.

        Raises:
            SessionError: A seed that is out of range, or the simulator failed.
        """
        if seed is not None and not 0 <= seed < _SEEDS:
            raise SessionError(f"{self._task}: a seed is an integer from 0 to 2**31 - 1, not {seed!r}")
        super().reset(seed=seed)
        episode = int(self.np_random.integers(_SEEDS)) if seed is None else int(seed)
        self._solved = False
        return self._session.reset(episode), {}

    def step(
        self, action: int | np.integer[Any] | npt.NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one action; SessionError for one that is none of the space's kind, or outside an episode."""
        # Discrete spaces give NumPy's integers, and some trainers arrays without dimensions.
        plain = action if self._session.spec.action == "continuous" else np.asarray(action)[()]
        step = self._session.step(plain)  # type: ignore[arg-type]  # the session checks what it is
        info: dict[str, Any] = {"score": step.reward, "signal": step.signal}
        if step.success is not None:
            self._solved |= step.success
            info |= {"success": step.success, "is_success": self._solved}
        reward = step.reward if self._reward == "score" else step.signal
        return step.observation, reward, step.terminated, step.truncated, info

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the scene, uint8 (height, width, 3); None without a render mode."""
        return None if self.render_mode is None else self._session.render()

    def close(self) -> None:
        """Free the simulator; may be called more than once."""
        self._session.close()


def make(
    task: str,
    protocol: str | None = None,
    *,
    reward: Reward = "score",
    render_mode: str | None = None,
) -> SessionEnv:
    """Return the environment of one task.

    Args:
        task: Its id, such as ``metaworld/reach-v3``.
        protocol: Name of a protocol of its domain (None: the default).
        reward: Which reward ``step`` returns.
        render_mode: ``rgb_array``, or None for no pictures.

    Raises:
        SelectionError: No such task, protocol, reward or render mode, a selection of several tasks, or a
            domain whose simulator is not installed.
        SessionError: The simulator cannot be made.
    """
    session, name = _session(task, protocol)
    try:
        environment = SessionEnv(session, name, reward, render_mode)
    except SelectionError:
        session.close()
        raise
    # Tells Gymnasium's own tools how to make another one; the session keeps its time limit by itself.
    environment.spec = gymnasium.envs.registration.EnvSpec(
        id="lram/session-v0",
        entry_point="lram.envs.gymnasium:make",
        disable_env_checker=True,
        order_enforce=False,
        kwargs={"task": task, "protocol": protocol, "reward": reward, "render_mode": render_mode},
    )
    return environment


def make_vector(task: str, count: int, protocol: str | None = None, *, reward: Reward = "score") -> Any:
    """Return a :class:`gymnasium.vector.SyncVectorEnv` of ``count`` environments of one task.

    All are in this process. Seeds are given to the environments in turn: ``reset(seed=5)`` plays the
    episodes 5, 6, 7 and on. Raises as :func:`make`.
    """
    if type(count) is not int or count < 1:
        raise SelectionError(f"a vector of environments has 1 or more of them, not {count!r}")
    from gymnasium.vector import SyncVectorEnv

    return SyncVectorEnv([partial(make, task, protocol, reward=reward)] * count)


def spaces_of(spec: SessionSpec) -> tuple[Any, Any]:
    """Return Gymnasium's observation and action space of sessions of that spec."""
    spaces = gymnasium.spaces
    seen: Any
    if spec.observation == "image":
        seen = spaces.Box(0, 255, spec.observation_shape, np.uint8)
    else:
        seen = spaces.Box(-np.inf, np.inf, spec.observation_shape, np.float32)
    if spec.action == "discrete":
        return seen, spaces.Discrete(spec.action_size)
    return seen, spaces.Box(-1.0, 1.0, (spec.action_size,), np.float32)


def _session(selection: str, protocol: str | None) -> tuple[Session, str]:
    tasks = select(selection)
    if len(tasks) != 1:
        raise SelectionError(f"{selection!r} names {len(tasks)} tasks; an environment has one")
    domain = load_domain(tasks[0].domain)
    chosen = domain.protocol(protocol)
    if absent := missing_requirements(domain):
        advice = f": pip install '{domain.install}'" if domain.install else ""
        raise SelectionError(f"domain {domain.name} lacks {', '.join(absent)}{advice}")
    return domain.make(tasks[0].name, chosen), tasks[0].id
