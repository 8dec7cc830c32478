"""Rolling plans out on MuJoCo from an observed state."""

from __future__ import annotations

from typing import Any

import numpy as np

from lram.agents.experts.planning.costs import Futures
from lram.agents.experts.planning.problems import Guide, SearchTask
from lram.agents.experts.planning.search import Array


class Simulator:
    """The model of one task, in the planner's coarseness.

    Args:
        problem: Which task.
        threads: Over how many threads plans are spread. It changes no result: each plan is rolled out
            alone, from the given state and without the solver's last solution.
    """

    def __init__(self, problem: SearchTask, threads: int = 1) -> None:
        import mujoco
        from mujoco import rollout

        self._problem = problem
        self._substeps = problem.substeps // problem.coarseness
        self._step = mujoco.mj_step
        self._reset = mujoco.mj_resetData
        self._model = _load(problem)
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        self._rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)

    def futures(self, observation: Array, actions: Array) -> Futures:
        """Return where ``actions`` (plans, decisions, action size) lead to from ``observation`` (204,)."""
        qpos, qvel = self._problem.state(observation)
        start = np.concatenate([[0.0], qpos, qvel])  # time first; no model of the suite has activations here
        controls = np.repeat(actions, self._substeps, axis=1)
        starts = np.repeat(start[None], len(actions), axis=0)
        states, sensors = self._rollout.rollout(self._model, self._data, starts, controls)
        after = slice(self._substeps - 1, None, self._substeps)
        positions, velocities = np.split(states[:, after, 1:], [self._model.nq], axis=2)
        return Futures(positions, velocities, sensors[:, after], actions, observation)

    def guided(self, guide: Guide, observation: Array, decisions: int) -> Array:
        """Return the actions (decisions, action size) that ``guide`` takes from ``observation`` on."""
        data = self._data[0]
        self._reset(self._model, data)
        data.qpos[:], data.qvel[:] = self._problem.state(observation)
        actions = np.zeros((decisions, self._model.nu))
        for index in range(decisions):
            actions[index] = guide.controller(guide.shown(data.qpos, data.qvel).astype(np.float32))
            data.ctrl[:] = actions[index]
            self._step(self._model, data, self._substeps)
        return actions


def _load(problem: SearchTask) -> Any:
    import mujoco
    from dm_control.suite import common

    model = mujoco.MjModel.from_xml_string(common.read_model(f"{problem.model}.xml"), common.ASSETS)
    if problem.adjust is not None:
        problem.adjust(model)
    model.opt.timestep *= problem.coarseness
    return model
