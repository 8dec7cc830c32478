"""The planner's tasks: the suite's model, how the state is read, what is minimised, how it is searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from lram.agents.experts.heuristics import CONTROLLERS, Controller
from lram.agents.experts.planning import costs, states
from lram.agents.experts.planning.costs import Cost
from lram.agents.experts.planning.search import Array, SearchOptions

State: TypeAlias = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class Guide:
    """A controller that plans are searched around.

    Attributes:
        controller: Plays on the model from the observed state; plans are what is added to its actions.
        shown: Makes from qpos and qvel the observation (204,) that it reads.
    """

    controller: Controller
    shown: Callable[[Array, Array], Array]


@dataclass(frozen=True, slots=True)
class SearchTask:
    """A task as the planner sees it.

    Attributes:
        model: Name of the suite's XML file.
        substeps: Physics steps of a decision.
        state: Returns qpos and qvel of an observation.
        cost: Of futures.
        search: How plans are searched.
        coarseness: Physics steps that the planner's model takes at once.
        adjust: What the suite changes in the model after loading it.
        guide: Controller to search around (None: around doing nothing).
    """

    model: str
    substeps: int
    state: State
    cost: Cost
    search: SearchOptions
    coarseness: int = 1
    adjust: Callable[[Any], None] | None = None
    guide: Guide | None = None


def _spin(model: Any) -> None:
    model.joint("hinge").damping[:] = 0.03  # as the suite's Spin sets it


TURN = SearchOptions(horizon=50, knots=6, every=4, samples=64, rounds=1, spread=1.0, finest=0.3, margin=0.0)
REACH = SearchOptions(horizon=30, knots=6, every=3, samples=32)
WALK = SearchOptions(horizon=30, knots=8, every=3, samples=40, rounds=1, spread=0.8, finest=0.5)

PROBLEMS: Mapping[str, SearchTask] = {
    "dmcontrol/ball_in_cup-catch": SearchTask(
        "ball_in_cup",
        10,
        states.ball_in_cup,
        costs.ball_in_cup,
        SearchOptions(horizon=40, knots=7, every=5, samples=32, finest=0.25, contented=0.001),
    ),
    "dmcontrol/cartpole-balance": SearchTask(
        "cartpole",
        1,
        states.cartpole,
        costs.cartpole,
        SearchOptions(horizon=60, knots=6, every=4, samples=32),
    ),
    "dmcontrol/cartpole-swingup": SearchTask(
        "cartpole", 1, states.cartpole, costs.cartpole, SearchOptions(horizon=100, knots=10, samples=32)
    ),
    "dmcontrol/cheetah-run": SearchTask(
        "cheetah",
        1,
        states.cheetah,
        costs.cheetah,
        SearchOptions(horizon=60, knots=12, every=3, samples=80, rounds=1, finest=0.5),
    ),
    "dmcontrol/finger-spin": SearchTask(
        "finger",
        2,
        states.finger,
        costs.finger_spin,
        SearchOptions(horizon=40, knots=20, every=2, samples=40, rounds=1, contented=0.0),
        adjust=_spin,
        guide=Guide(CONTROLLERS["dmcontrol/finger-spin"], states.finger_shown),
    ),
    "dmcontrol/finger-turn_easy": SearchTask("finger", 2, states.finger, costs.finger_turn(0.07), TURN),
    "dmcontrol/finger-turn_hard": SearchTask("finger", 2, states.finger, costs.finger_turn(0.03), TURN),
    "dmcontrol/pendulum-swingup": SearchTask(
        "pendulum",
        1,
        states.pendulum,
        costs.pendulum,
        SearchOptions(horizon=40, knots=6, every=3, samples=32),
    ),
    "dmcontrol/point_mass-easy": SearchTask(
        "point_mass",
        1,
        states.two_joints,
        costs.point_mass,
        SearchOptions(horizon=40, knots=5, every=3, samples=32),
    ),
    # The radii of target and finger together: 0.05 and 0.015 metres, and 0.01.
    "dmcontrol/reacher-easy": SearchTask("reacher", 1, states.two_joints, costs.reacher(0.06), REACH),
    "dmcontrol/reacher-hard": SearchTask("reacher", 1, states.two_joints, costs.reacher(0.025), REACH),
    "dmcontrol/walker-run": SearchTask("walker", 10, states.walker, costs.walker(8.0), WALK, coarseness=2),
    "dmcontrol/walker-stand": SearchTask("walker", 10, states.walker, costs.walker(0.0), WALK, coarseness=2),
    "dmcontrol/walker-walk": SearchTask("walker", 10, states.walker, costs.walker(1.0), WALK, coarseness=2),
}
