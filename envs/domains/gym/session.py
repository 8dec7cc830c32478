"""An environment of Gymnasium as a session."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.envs.domains.gym import names
from lram.envs.domains.gym.names import EnvironmentName
from lram.envs.domains.gym.spaces import ActionMapper, ObservationReader
from lram.envs.errors import SelectionError
from lram.envs.session import Action, EvaluationProtocol, Observation, SessionError, SessionSpec, Step
from lram.envs.simulator import SimulatorSession, finite_reward
from lram.envs.text import message_of, printable, type_of

# Which package registers ids of these forms when it is imported; another one is named before its id.
_PACKAGES = (
    (r"ALE/.*", "ale_py"),
    (r"(MiniGrid|BabyAI)-.*", "minigrid"),
    (r"popgym-.*", "popgym"),
    (r"(Fetch|Adroit|Hand|FrankaKitchen|AntMaze|PointMaze).*", "gymnasium_robotics"),
    (r"(highway|merge|roundabout|parking|intersection|racetrack)-.*", "highway_env"),
    (r"Meta-World/.*", "metaworld"),
    (r"dm_control/.*", "shimmy"),
)
_SUCCESS = ("is_success", "success")  # what environments call it in a step's info


class GymnasiumSession(SimulatorSession):
    """One environment. Made by ``DOMAIN.make``.

    The time limit is the environment's own. Success is known where the info of an episode's first step tells
    it, as ``is_success`` or ``success``.
    """

    def __init__(self, name: EnvironmentName, environment: Any) -> None:
        task = f"gym/{name.text}"
        self._see = ObservationReader(task, environment.observation_space)
        self._act = ActionMapper(task, environment.action_space)
        kinds = self._see.kind, self._act.kind
        spec = SessionSpec(kinds[0], self._see.shape, kinds[1], self._act.size)  # type: ignore[arg-type]
        super().__init__(task, spec, limit=None)
        self._environment = environment
        self._first = True
        self._success: str | None = None

    def _begin(self, seed: int) -> Observation:
        observation, _ = self._environment.reset(seed=seed)
        self._first = True
        return self._see(observation)

    def _advance(self, action: Action) -> Step:
        observation, reward, terminated, truncated, info = self._environment.step(self._act(action))
        if self._first:
            self._success = next((key for key in _SUCCESS if key in info), None)
            self._first = False
        value = finite_reward(self._name, reward)
        return Step(
            observation=self._see(observation),
            reward=value,
            terminated=bool(terminated),
            truncated=bool(truncated) and not terminated,
            success=None if self._success is None else bool(info.get(self._success, False)),
            signal=value,
        )

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the environment's own picture, uint8 (height, width, 3)."""
        picture = None if self._environment.render_mode is None else self._environment.render()
        if picture is None:
            raise SessionError(f"{self._name}: the environment has no render mode rgb_array")
        return np.ascontiguousarray(picture, np.uint8)

    def close(self) -> None:
        """Free the environment; may be called more than once."""
        super().close()
        if self._environment is not None:
            self._environment.close()
            self._environment = None


def make(task_name: str, protocol: EvaluationProtocol) -> GymnasiumSession:
    """Return a session of the environment of that name; SelectionError where it cannot be played."""
    name = names.parse(task_name)
    return GymnasiumSession(name, made(name))


def made(name: EnvironmentName) -> Any:
    """Return the environment itself; SelectionError where there is none, or it cannot be made."""
    import gymnasium

    spec = _spec(gymnasium, name)
    options = {"disable_env_checker": True, **name.options}
    try:
        if "rgb_array" in _render_modes(spec):
            options["render_mode"] = "rgb_array"
        return gymnasium.make(spec, **options)
    except Exception as error:
        raise SelectionError(f"gym:{name.text} cannot be made: {_described(error)}") from error


def _spec(gymnasium: Any, name: EnvironmentName) -> Any:
    module, colon, identifier = name.id.rpartition(":")
    try:
        if colon:
            import_module(module)
        elif identifier not in gymnasium.registry:
            for pattern, package in _PACKAGES:
                if re.fullmatch(pattern, identifier):
                    import_module(package)
        return gymnasium.spec(identifier)
    except ImportError as error:
        raise SelectionError(
            f"gym:{name.text} cannot be made, as a package cannot be imported ({_described(error)}); install "
            "the one that has it"
        ) from error
    except Exception as error:
        raise SelectionError(
            f"there is no environment gym:{name.text} ({_described(error)}); where a package of its own "
            "registers it, name that before the id: gym:module:Name-v0"
        ) from error


def _render_modes(spec: Any) -> Any:
    from gymnasium.envs.registration import load_env_creator

    point = spec.entry_point
    creator = point if callable(point) else load_env_creator(point)
    if not _takes_render_mode(creator):
        return ()
    metadata = getattr(creator, "metadata", None)
    return metadata.get("render_modes", ()) if isinstance(metadata, dict) else ()


def _takes_render_mode(creator: Any) -> bool:
    """Return whether an environment takes a render mode: some inherit the list of modes only."""
    try:
        parameters = inspect.signature(creator).parameters
    except (TypeError, ValueError):  # written in C
        return True
    return "render_mode" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _described(error: BaseException) -> str:
    return printable(f"{type_of(error)}: {message_of(error)}", 300).rstrip(".")
