"""What the planner minimises in each task: the suite's reward (dm_control 1.0.28) and what leads to it.

Every cost is the mean over the plan's decisions of a cost per decision, in the main ``1 - reward``, and a
term for where the plan ends. Where the suite's reward is zero almost everywhere (ball_in_cup, finger,
pendulum, reacher) a shaped term says which way is better; it is ours, and so are all weights. A small
price of effort makes the planner rest where rest is as good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lram.agents.experts.heuristics import (
    CARTPOLE_GRAVITY,
    PENDULUM_GRAVITY,
    POSITION,
    REACHER_LINK,
    TO_TARGET,
)
from lram.agents.experts.planning.search import Array
from lram.agents.experts.planning.states import WALKER_TORSO, wrapped

TARGET_POSITION = slice(54, 56)
PENDULUM_COSINE = float(np.cos(np.deg2rad(8)))  # rewarded above
FINGER_SPEED = 15.0  # radians a second, rewarded from there on
FINGER_TIP = 0.13  # metres from the hinge to the tip
WALKER_STANDS = 1.2  # metres
CHEETAH_SPEED = 10.0  # metres a second


@dataclass(frozen=True, slots=True)
class Futures:
    """Where a batch of plans leads to, after each decision.

    Attributes:
        qpos: (plans, decisions, positions).
        qvel: (plans, decisions, velocities).
        sensors: (plans, decisions, sensor values); MuJoCo's are one physics step behind.
        actions: (plans, decisions, action size).
        observation: Of the start, (204,).
    """

    qpos: Array
    qvel: Array
    sensors: Array
    actions: Array
    observation: Array


Cost: TypeAlias = Callable[[Futures], Array]


def tolerance(x: Array) -> Array:
    """Return the suite's default falling-off: 1 at zero, 0.1 at one."""
    return np.asarray(0.1 ** (x**2))


def effort(futures: Futures) -> Array:
    """Return the mean square of each plan's actions, (plans,)."""
    return np.asarray((futures.actions**2).mean(axis=(1, 2)))


def ball_in_cup(futures: Futures) -> Array:
    """Not caught; how far the ball is from the cup's inside, by way of above the rim.

    The rim is 0.05 m above the target's centre, the walls' inner faces 0.042 m to its sides; the ball's
    radius is 0.025 m.
    """
    cup_x, cup_z, ball_x, ball_z = np.moveaxis(futures.qpos, -1, 0)
    across, above = np.abs(ball_x - cup_x), (0.2 + ball_z) - (0.55 + cup_z)
    caught = (across < 0.025) & (np.abs(above) < 0.025)
    inside = (across < 0.042) & (np.abs(above) < 0.08)
    around = np.where(above > 0.08, np.hypot(across, above), 0.15 + np.maximum(0.0, 0.08 - above))
    way = np.where(inside, np.abs(above) + across, around)
    step = np.where(caught, 0.0, 0.3 + 2 * way)
    return np.asarray(step.mean(axis=1) + 0.5 * step[:, -1] + 0.05 * effort(futures))


def cartpole(futures: Futures) -> Array:
    """One minus the suite's smooth reward; at the end, energy that the pole lacks, and how settled it is."""
    cart, pole = np.moveaxis(futures.qpos, -1, 0)
    upright = (1 + np.cos(pole)) / 2
    centred = (1 + tolerance(cart / 2)) / 2
    small_control = (4 + np.maximum(0.0, 1 - futures.actions[..., 0] ** 2)) / 5
    slow = (1 + tolerance(futures.qvel[..., 1] / 5)) / 2
    step = 1 - upright * centred * small_control * slow + 0.05 * np.maximum(0.0, np.abs(cart) - 1.5)
    angle, (cart_speed, speed) = wrapped(pole[:, -1]), futures.qvel[:, -1].T
    # The upright pole falls at the root of its gravity's rate; an angle and a speed that cancel are fine.
    falling = np.sqrt(CARTPOLE_GRAVITY) * angle + speed
    unsettled = np.minimum(1.0, 0.1 * falling**2 + 0.5 * (cart[:, -1] + cart_speed) ** 2)
    lacking = np.abs(speed**2 / 2 - CARTPOLE_GRAVITY * (1 - np.cos(angle))) / (2 * CARTPOLE_GRAVITY)
    end = 0.3 * (1 - upright[:, -1] * (1 - 0.5 * unsettled)) + 0.5 * lacking
    return np.asarray(step.mean(axis=1) + end)


def pendulum(futures: Futures) -> Array:
    """Not upright; the energy that standing upright takes and that the pole lacks or has too much of."""
    cosine, speed = np.cos(futures.qpos[..., 0]), futures.qvel[..., 0]
    lacking = np.abs(speed**2 / 2 - PENDULUM_GRAVITY * (1 - cosine)) / (2 * PENDULUM_GRAVITY)
    step = 0.5 * (cosine < PENDULUM_COSINE) + lacking
    return np.asarray(step.mean(axis=1) + 2 * lacking[:, -1] + 0.005 * effort(futures))


def point_mass(futures: Futures) -> Array:
    """One minus the suite's smooth reward, and the distance to the target at the origin."""
    gap = np.linalg.norm(futures.qpos, axis=-1)
    near = tolerance(np.maximum(0.0, gap - 0.015) / 0.015)
    small_control = (4 + (1 - futures.actions**2).mean(axis=-1)) / 5
    step = 1 - near * small_control + 2 * gap
    return np.asarray(step.mean(axis=1) + 2 * gap[:, -1])


def reacher(reach: float) -> Cost:
    """Return the cost of a finger further than ``reach`` metres from the target: not there, and how far."""

    def cost(futures: Futures) -> Array:
        start = futures.observation
        target = _fingertip(start[POSITION][:2]) + start[TO_TARGET]
        gap = np.linalg.norm(_fingertip(futures.qpos) - target, axis=-1)
        # A tenth less than the suite asks for: its edge is no place to rest.
        step = 0.5 * (gap > 0.9 * reach) + 2 * gap
        hurry = (futures.qvel[:, -1] ** 2).mean(axis=-1)
        return np.asarray(step.mean(axis=1) + 2 * gap[:, -1] + 0.01 * hurry + 0.01 * effort(futures))

    return cost


def _fingertip(joints: Array) -> Array:
    shoulder, both = joints[..., 0], joints[..., 0] + joints[..., 1]
    x, y = np.cos(shoulder) + np.cos(both), np.sin(shoulder) + np.sin(both)
    return np.asarray(REACHER_LINK * np.stack([x, y], axis=-1))


def finger_spin(futures: Futures) -> Array:
    """Too slow, and how much too slow."""
    spin = -futures.qvel[..., 2]
    slow = np.maximum(0.0, FINGER_SPEED - spin) / FINGER_SPEED
    step = slow + 0.3 * (spin < FINGER_SPEED)
    return np.asarray(step.mean(axis=1) + 0.2 * slow[:, -1])


def finger_turn(radius: float) -> Cost:
    """Return the cost of a tip outside the target of ``radius`` metres.

    Not there, by which angle, and how far the finger is from where it could push that way.
    """

    def cost(futures: Futures) -> Array:
        x, z = futures.observation[TARGET_POSITION]
        turn = wrapped(np.arctan2(-x, z) - futures.qpos[..., 2])
        angle = np.abs(turn)
        outside = 2 * FINGER_TIP * np.sin(angle / 2) > radius - 0.01
        leaving = 0.01 * np.abs(futures.qvel[..., 2])
        step = np.where(outside, 0.3 + angle / np.pi + 0.5 * _unready(futures.qpos, np.sign(turn)), leaving)
        return np.asarray(step.mean(axis=1) + 0.5 * step[:, -1] + 0.002 * effort(futures))

    return cost


def _unready(qpos: Array, turn: Array) -> Array:
    """Return the fingertip's distance (metres) from behind the spinner's nearer end, seen along ``turn``.

    Lengths from the hinge of the spinner, 0.4 m beside the finger's (finger.xml).
    """
    proximal, both = qpos[..., 0], qpos[..., 0] + qpos[..., 1]
    x = 0.18 * np.cos(proximal) + 0.16 * np.cos(both) - 0.4
    z = 0.18 * np.sin(proximal) + 0.16 * np.sin(both)
    cosine, sine = np.cos(qpos[..., 2]), np.sin(qpos[..., 2])
    nearer = np.where(sine > 0, 1.0, -1.0)
    # The end lies along (-sine, cosine), and moves along (-cosine, -sine) as the hinge's angle grows.
    behind_x = nearer * (-0.1 * sine + 0.07 * turn * cosine)
    behind_z = nearer * (0.1 * cosine + 0.07 * turn * sine)
    return np.asarray(np.hypot(x - behind_x, z - behind_z))


def cheetah(futures: Futures) -> Array:
    """One minus the suite's reward, the share of full speed; a torso tilted by more than half a radian."""
    step = 1 - np.minimum(futures.sensors[..., 0] / CHEETAH_SPEED, 1.0)
    tilted = np.maximum(0.0, np.abs(futures.qpos[..., 2]) - 0.5)
    return np.asarray((step + 0.2 * tilted).mean(axis=1) + 0.005 * effort(futures))


def walker(speed: float) -> Cost:
    """Return the cost of walking at ``speed`` (metres a second, 0: standing).

    One minus the suite's reward, without the floor of its share of moving, so that every gain counts; and
    height and uprightness that lack.
    """

    def cost(futures: Futures) -> Array:
        height, upright = futures.qpos[..., 0] + WALKER_TORSO, np.cos(futures.qpos[..., 2])
        low = np.maximum(0.0, WALKER_STANDS - height)
        reward = (3 * tolerance(low / (WALKER_STANDS / 2)) + (1 + upright) / 2) / 4
        if speed:
            reward = reward * (5 * np.clip(futures.sensors[..., 0] / speed, 0.0, 1.0) + 1) / 6
        step = 1 - reward + 0.3 * low + 0.1 * (1 - upright)
        return np.asarray(step.mean(axis=1) + 0.5 * step[:, -1] + 0.005 * effort(futures))

    return cost
