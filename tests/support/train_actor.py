"""Train the actor of a DMControl task by soft actor-critic: a file that ``lram.agents.experts.actors`` loads.

    python train_actor.py walker-stand FOLDER [--steps 100000] [--planned 8] [--seed 1]

Needs stable-baselines3. The networks read the entries of the observation that the task fills. Where rewards
are too rare to be found by chance, ``--planned 8`` puts 8 episodes of ``planner`` and as many of
``planner~0.3x10`` into the memory first. Every 10,000 timesteps the actor plays three episodes without noise,
and the best one so far is written to FOLDER/TASK.safetensors, as float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from dm_control import suite
from safetensors.numpy import save_file
from stable_baselines3 import SAC

from lram.agents.api import Episode, TaskSpec
from lram.agents.experts.actors import Actor
from lram.agents.factory import create_agent
from lram.envs.domains.dmcontrol import observation_slots
from lram.envs.registry import load_domain

EVERY, EPISODES, FIRST = 10_000, 3, 500_001  # timesteps between looks, what is played then, from which seed
PLANNED_FIRST = 700_000


class Control(gymnasium.Env[Any, Any]):
    """The task under its default protocol, seen by ``entries`` alone; each episode has a seed of its own."""

    def __init__(self, task: str, entries: np.ndarray[Any, Any], seed: int) -> None:
        domain = load_domain("dmcontrol")
        self._session, self._entries, self._seed = domain.make(task, domain.protocol()), entries, seed
        size = self._session.spec.action_size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, entries.shape, np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._seed += 1
        return self._session.reset(self._seed)[self._entries], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        step = self._session.step(action)
        return step.observation[self._entries], step.reward, step.terminated, step.truncated, {}


def entries_of(task: str) -> np.ndarray[Any, Any]:
    """Return which entries of the 204 the task fills, ascending."""
    slots, specs = observation_slots(), suite.load(*task.split("-", 1)).observation_spec()
    starts = {slots[key].start: int(np.prod(spec.shape)) for key, spec in specs.items()}
    return np.concatenate([np.arange(start, start + size) for start, size in sorted(starts.items())])


def remember_plans(model: SAC, task: str, entries: np.ndarray[Any, Any], episodes: int) -> None:
    """Put episodes of the planner into the memory that the model learns from."""
    domain = load_domain("dmcontrol")
    session = domain.make(task, domain.protocol())
    of = session.spec
    shape = (of.observation, of.observation_shape, of.action, of.action_size)
    spec = TaskSpec(f"dmcontrol/{task}", "dmcontrol", *shape, None, 1.0)
    for agent in (create_agent("planner"), create_agent("planner~0.3x10")):
        state = agent.start(1)
        for seed in range(PLANNED_FIRST, PLANNED_FIRST + episodes):
            agent.reset(state, [0], [Episode(spec, seed)])
            seen, over = session.reset(seed), False
            while not over:
                (action,), state = agent.act(state, [seen], [0.0], [0])
                step = session.step(action)
                now, then = seen[entries][None], step.observation[entries][None]
                reward, ended = np.array([step.reward]), np.array([step.terminated])
                model.replay_buffer.add(now, then, np.asarray(action)[None], reward, ended, [{}])
                seen, over = step.observation, step.terminated or step.truncated
    session.close()


def tensors_of(model: SAC, entries: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the actor as it is kept."""
    layers = [one for one in (*model.actor.latent_pi, model.actor.mu) if isinstance(one, torch.nn.Linear)]
    found = {"entries": entries.astype(np.int64)}
    for number, layer in enumerate(layers):
        found[f"weight{number}"] = layer.weight.detach().numpy().astype(np.float16)
        found[f"bias{number}"] = layer.bias.detach().numpy().astype(np.float16)
    return found


def returns_of(task: str, actor: Actor) -> list[float]:
    """Play the episodes that the best actor is chosen by."""
    domain = load_domain("dmcontrol")
    session, returns = domain.make(task, domain.protocol()), []
    for seed in range(FIRST, FIRST + EPISODES):
        seen, total, over = session.reset(seed), 0.0, False
        while not over:
            step = session.step(actor(seen))
            seen, total, over = step.observation, total + step.reward, step.terminated or step.truncated
        returns.append(total)
    session.close()
    return returns


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--planned", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    entries = entries_of(asked.task)
    model = SAC(
        "MlpPolicy",
        Control(asked.task, entries, asked.seed * 1_000_000),
        seed=asked.seed,
        learning_rate=7e-4,
        batch_size=128,
        buffer_size=400_000,
        learning_starts=3_000,
        train_freq=2,
        tau=0.01,
        policy_kwargs={"net_arch": [128, 128], "optimizer_kwargs": {"fused": True}},
        device="cpu",
    )
    if asked.planned:
        remember_plans(model, asked.task, entries, asked.planned)
    best = -np.inf
    asked.folder.mkdir(parents=True, exist_ok=True)
    for _ in range(asked.steps // EVERY):
        model.learn(EVERY, reset_num_timesteps=False, log_interval=None)
        tensors = tensors_of(model, entries)
        returns = returns_of(asked.task, Actor.of(tensors))
        print(model.num_timesteps, *[round(one) for one in returns], flush=True)
        if np.mean(returns) > best:
            best = float(np.mean(returns))
            save_file(
                tensors,
                asked.folder / f"{asked.task}.safetensors",
                {"trained": f"SAC, seed {asked.seed}, {model.num_timesteps} timesteps"},
            )


if __name__ == "__main__":
    main()
