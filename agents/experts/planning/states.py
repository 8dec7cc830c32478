"""The simulator's state behind a DMControl observation, for the tasks that show all of it.

Each function takes an observation as float64 (204,) and returns the model's ``qpos`` and ``qvel``. What an
observation leaves out (the root's place along the track) does not change the future and is set to zero;
what it wraps (angles given by sine and cosine) comes back within half a turn. Orders of joints are those of
the suite's XML files (dm_control 1.0.28).
"""

from __future__ import annotations

import numpy as np

from lram.agents.experts.heuristics import ORIENTATION, POSITION, VELOCITY
from lram.agents.experts.planning.search import Array

ORIENTATIONS = slice(0, 14)
HEIGHT = 203
WALKER_TORSO = 1.3  # metres, height of the torso where its joint reads zero (walker.xml)


def wrapped(angle: Array) -> Array:
    """Return ``angle`` (radians) within half a turn of zero."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def shown(size: int) -> tuple[slice, slice]:
    """Return the slots of positions and velocities of a task with ``size`` joints."""
    return slice(POSITION.start, POSITION.start + size), slice(VELOCITY.start, VELOCITY.start + size)


def ball_in_cup(observation: Array) -> tuple[Array, Array]:
    """Cup x and z, ball x and z."""
    positions, velocities = shown(4)
    return observation[positions], observation[velocities]


def two_joints(observation: Array) -> tuple[Array, Array]:
    """Reacher's shoulder and wrist, point_mass's x and y."""
    positions, velocities = shown(2)
    return observation[positions], observation[velocities]


def cartpole(observation: Array) -> tuple[Array, Array]:
    """Cart, pole; the pole is shown by its cosine and sine."""
    cart, cosine, sine = observation[POSITION][:3]
    return np.array([cart, np.arctan2(sine, cosine)]), observation[VELOCITY][:2]


def finger(observation: Array) -> tuple[Array, Array]:
    """Proximal and distal joint, spinner's hinge; that is shown by where its tip is, turning about -y."""
    proximal, distal, x, z = observation[POSITION][:4]
    return np.array([proximal, distal, np.arctan2(-x, z)]), observation[VELOCITY][:3]


def pendulum(observation: Array) -> tuple[Array, Array]:
    """The one hinge, shown by its cosine and sine."""
    cosine, sine = observation[ORIENTATION]
    return np.array([np.arctan2(sine, cosine)]), observation[VELOCITY][:1]


def cheetah(observation: Array) -> tuple[Array, Array]:
    """Root x (not shown), z and pitch, six joints."""
    positions, _ = shown(8)
    return np.concatenate([[0.0], observation[positions]]), observation[VELOCITY][:9]


def walker(observation: Array) -> tuple[Array, Array]:
    """Root z, x (not shown) and pitch, then each leg's hip, knee and ankle, turning about -y.

    A body's orientation is shown by its cosine and sine; no joint of a leg reaches half a turn.
    """
    cosine, sine = observation[ORIENTATIONS].reshape(7, 2).T
    torso, right_thigh, right_leg, right_foot, left_thigh, left_leg, left_foot = np.arctan2(sine, cosine)
    children = np.array([right_thigh, right_leg, right_foot, left_thigh, left_leg, left_foot])
    parents = np.array([torso, right_thigh, right_leg, torso, left_thigh, left_leg])
    root = [observation[HEIGHT] - WALKER_TORSO, 0.0, torso]
    return np.concatenate([root, wrapped(parents - children)]), observation[VELOCITY][:9]


def finger_shown(qpos: Array, qvel: Array) -> Array:
    """Return the part of an observation (204,) that the scripted finger reads: ``finger``'s inverse."""
    observation = np.zeros(204)
    tip = 0.13 * np.array([-np.sin(qpos[2]), np.cos(qpos[2])])  # metres from the hinge (finger.xml)
    observation[POSITION][:4] = *qpos[:2], *tip
    observation[VELOCITY][:3] = qvel
    return observation
