"""An agent around a Decision Transformer: what each lane was shown, did, and has still to earn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lram.agents.acting.padded import fixed_passes
from lram.agents.adapters.actions import Bounds, read_bounds
from lram.agents.adapters.decision_transformer.folder import (
    CONFIG_FILE,
    DtConfig,
    read_config,
    read_weights,
)
from lram.agents.adapters.decision_transformer.network import DtNetwork, build
from lram.agents.adapters.normalization import Normalization, read_normalization
from lram.agents.adapters.policy import PolicyShape, safe_rows
from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.compute import Compute
from lram.agents.devices import find_device
from lram.agents.shown import shown
from lram.agents.sums import files_digest

_MOST_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class DtOptions:
    """Arguments of a name; :mod:`lram.agents.adapters.decision_transformer` tells what they mean."""

    target_return: float | None = None
    scale: float | None = None
    normalization: str | None = None
    context: int | None = None
    low: float | Sequence[float] = -1
    high: float | Sequence[float] = 1

    def __post_init__(self) -> None:
        for name, value in (("target_return", self.target_return), ("scale", self.scale)):
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and (not number or (name == "scale" and value == 0)):
                raise AgentError(f"{name} is {shown(repr(value))}; give a finite number, such as {name}=1000")
        if self.context is not None and not (type(self.context) is int and 0 < self.context <= _MOST_CONTEXT):
            raise AgentError(
                f"context is {shown(repr(self.context))}; give a number of steps from 1 to {_MOST_CONTEXT}"
            )
        if self.normalization is not None and not isinstance(self.normalization, str):
            raise AgentError(f"normalization is {shown(repr(self.normalization))}; give a .npz or .json")


@dataclass(slots=True, eq=False)
class DtState:
    """What the lanes hold, of the last K steps the earliest first.

    Attributes:
        states: Float32 (lanes, K, state_dim), normalised.
        actions: Float32 (lanes, K, act_dim), in the policy's own bounds.
        returns: Float32 (lanes, K), still to be earned when the step was decided, scaled.
        steps: (lanes,), decided in the episode.
        to_go: Float64 (lanes,), still to be earned, scaled.
        scale: Float64 (lanes,), what rewards are divided by.
    """

    states: npt.NDArray[np.float32]
    actions: npt.NDArray[np.float32]
    returns: npt.NDArray[np.float32]
    steps: npt.NDArray[np.int64]
    to_go: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]


class DtAgent(Agent):
    """A Decision Transformer as an agent.

    Args:
        network: Its network.
        config: Its configuration.
        options: Return, scale and context.
        bounds: Of its own actions.
        statistics: Of its states; None: they are shown as they are.
        info: What reports say of it.
        compute: Device and rows of a pass.
    """

    def __init__(
        self,
        network: DtNetwork,
        config: DtConfig,
        options: DtOptions,
        bounds: Bounds,
        statistics: Normalization | None,
        info: AgentInfo,
        compute: Compute,
    ) -> None:
        self._config, self._options, self._bounds, self._statistics = config, options, bounds, statistics
        self._context = options.context or config.max_length
        self._fit = PolicyShape((config.state_dim,), False, "continuous", config.act_dim)
        self._info = info
        self.rows = safe_rows(compute)
        """Lanes 0 .. rows - 1 share a pass, and so on: the harness asks for those of one at a time."""
        self._run = fixed_passes(_runner(network, compute.device), self.rows)

    @property
    def info(self) -> AgentInfo:
        """What a report says of this agent."""
        return self._info

    def refuses(self, task: TaskSpec) -> str | None:
        """Tell where the task shows or takes something else, or names no return to ask for."""
        if (other := self._fit.refuses(task)) is not None:
            return other
        if task.target_return is None and self._options.target_return is None:
            return f"{task.id} names no return to ask for; give one, as in hf-dt:FOLDER(target_return=1000)"
        return None

    def start(self, lanes: int) -> DtState:
        """Return contexts without a step."""
        c, k = self._config, self._context
        return DtState(
            np.zeros((lanes, k, c.state_dim), np.float32),
            np.zeros((lanes, k, c.act_dim), np.float32),
            np.zeros((lanes, k), np.float32),
            np.zeros(lanes, np.int64),
            np.zeros(lanes),
            np.ones(lanes),
        )

    def reset(self, state: DtState, lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Empty the lanes' contexts, and ask for the whole return."""
        for lane, episode in zip(lanes, episodes, strict=True):
            for array in (state.states, state.actions, state.returns, state.steps):
                array[lane] = 0
            options, task = self._options, episode.task
            target = task.target_return if options.target_return is None else options.target_return
            state.scale[lane] = task.reward_scale if options.scale is None else options.scale
            state.to_go[lane] = (target or 0.0) / state.scale[lane]

    def act(
        self,
        state: DtState,
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], DtState]:
        """Show each lane its last steps, and decide the newest one.

        Raises:
            AgentError: An episode is longer than the policy has embeddings of time for.
        """
        seen = np.stack(observations)
        seen = seen.astype(np.float32) if self._statistics is None else self._statistics(seen)
        for row, lane in enumerate(lanes):
            self._show(state, lane, seen[row], rewards[row])
        places = list(lanes)
        last = self._last(state.steps[places])
        first = state.steps[places] - last
        # Places after the newest step are not looked at; a time they could have keeps them within bounds.
        times = np.minimum(first[:, None] + np.arange(self._context), self._config.max_ep_len - 1)
        arrays = [state.states[places], state.actions[places], state.returns[places], times, last]
        own = self._bounds.clip(self._run(arrays)[0])
        state.actions[places, last] = own
        state.steps[places] += 1
        return [self._bounds.to_task(one) for one in own], state

    def took(self, state: DtState, lanes: Sequence[int], actions: Sequence[Action]) -> None:
        """Remember what was done instead, in the policy's own bounds."""
        for lane, action in zip(lanes, actions, strict=True):
            last = self._last(state.steps[lane] - 1)
            state.actions[lane, last] = self._bounds.unsquash(np.asarray(action, np.float32))

    def state_bytes(self, state: DtState) -> int:
        """Return the bytes of the contexts."""
        arrays = (state.states, state.actions, state.returns, state.steps, state.to_go, state.scale)
        return sum(array.nbytes for array in arrays)

    def _show(self, state: DtState, lane: int, seen: Any, reward: float) -> None:
        """Put a new step behind the lane's last ones."""
        step = int(state.steps[lane])
        if step >= self._config.max_ep_len:
            raise AgentError(
                f"the episode is longer than the {self._config.max_ep_len} steps that the policy has "
                "embeddings for (max_ep_len in its config.json); play shorter tasks with it"
            )
        if step:
            state.to_go[lane] -= reward / state.scale[lane]
        if step >= self._context:
            for array in (state.states, state.actions, state.returns):
                array[lane, :-1] = array[lane, 1:]
        place = int(self._last(step))
        state.states[lane, place] = seen
        state.actions[lane, place] = 0
        state.returns[lane, place] = state.to_go[lane]

    def _last(self, step: Any) -> Any:
        """Return the place in the context of a step, counted from the episode's first."""
        return np.minimum(step, self._context - 1)


def load_agent(folder: Path, options: DtOptions, compute: Compute) -> DtAgent:
    """Return the agent of ``folder``; AgentError where it cannot be read, in one sentence."""
    if compute.precision != "float32":
        raise AgentError(f"{folder} computes in float32; leave --precision {compute.precision} out")
    config = read_config(folder)
    weights, file = read_weights(folder)
    try:
        network = build(config, weights)
        bounds = read_bounds(options.low, options.high, config.act_dim, "the arguments")
    except AgentError as error:
        raise AgentError(f"{folder}: {error}") from None
    statistics, files = None, [folder / CONFIG_FILE, file]
    if options.normalization is not None:
        statistics = read_normalization(folder / options.normalization, (config.state_dim,), states=True)
        files.append(folder / options.normalization)
    info = _info(folder, config, options, bounds, network, files)
    network = network.to(find_device(compute.device))
    return DtAgent(network, config, options, bounds, statistics, info, compute)


def _info(
    folder: Path,
    config: DtConfig,
    options: DtOptions,
    bounds: Bounds,
    network: DtNetwork,
    files: Sequence[Path],
) -> AgentInfo:
    context = options.context or config.max_length
    asked = "the task's target return" if options.target_return is None else f"{options.target_return:g}"
    scale = "the task's scale" if options.scale is None else f"{options.scale:g}"
    mapped = "" if bounds.plain else f", {bounds.describe()} mapped to [-1, 1]"
    squashed = "by tanh" if config.action_tanh else "put within the bounds"
    fit = PolicyShape((config.state_dim,), False, "continuous", config.act_dim)
    shape = f"{config.n_layer} blocks of width {config.hidden_size}"
    return AgentInfo(
        "model",
        shown(f"Decision Transformer, {shape}, {context} steps, asks for {asked} ({folder.name})", 300),
        trained=True,
        parameters=sum(one.numel() for one in network.parameters()),
        digest=files_digest(*files),
        details=(
            ("sees", f"{fit.describe()}, the last {context} steps, the return still to be earned"),
            ("normalization", options.normalization or "none"),
            ("actions", f"{squashed}{mapped}"),
            ("asks for", f"{asked}, rewards divided by {scale}"),
            ("longest episode", f"{config.max_ep_len} steps; a longer one is refused when it comes there"),
        ),
    )


def _runner(network: DtNetwork, device: str) -> Any:
    def run(arrays: list[Any]) -> list[Any]:
        with torch.inference_mode():
            return [network(*(torch.from_numpy(one).to(device) for one in arrays)).cpu().numpy()]

    return run
