"""Records what agents see while they are timed, from the real simulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lram.agents.api import Action, Observation, TaskSpec
from lram.agents.experts.noise import uniform_action
from lram.harness.latency.simulators import Simulators
from lram.harness.rollout.translation import task_spec
from lram.harness.storage import seeds
from lram.harness.storage.records import PlannedTask
from lram.harness.timing.inputs import Inputs


def record(
    planned: PlannedTask, timesteps: int, seed: int, log_folder: Path, interpreters: Mapping[str, str]
) -> Inputs:
    """Play ``planned`` by uniform actions and return its first so many timesteps.

    Raises:
        LramError: The simulator failed.
    """
    spec: TaskSpec = task_spec(planned)
    rng = np.random.default_rng(seeds.derive("latency inputs", seed, spec.id))
    observations: list[Observation] = []
    rewards: list[float] = []
    actions: list[Action] = []
    with Simulators(planned, 1, seed, log_folder, interpreters) as simulators:
        while len(rewards) < timesteps:
            simulators.renew()
            (seen,), (reward,) = simulators.observations, simulators.rewards
            action = uniform_action(spec, rng)
            observations.append(seen.copy())
            rewards.append(reward)
            actions.append(action)
            simulators.step([action])
    kind = np.int64 if spec.action == "discrete" else np.float32
    return Inputs(np.stack(observations), np.array(rewards, np.float64), np.array(actions, kind))
