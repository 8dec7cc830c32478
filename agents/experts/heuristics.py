"""Hand-written controllers: policies for single tasks that read nothing but the observation.

They are here to give a report a point between random play and a trained model, and to test that a good
policy does score. Measured under each domain's default protocol over 30 episodes (seeds 1100 to 1129, for
simulator and agent alike; mean return and its standard error; ale-py 0.12.1, procgen-mirror 0.10.7,
dm_control 1.0.28 with mujoco 3.3.0):

==========================  ==============  ==============
task                        random          scripted
==========================  ==============  ==============
atari/breakout                1.3 +- 0.2     33.0 +- 1.2
atari/freeway                 0.0 +- 0.0     21.3 +- 0.3
atari/kangaroo               46.7 +- 15.7   400.0 +- 0.0
atari/road-runner            16.7 +- 10.8   960.0 +- 9.1
procgen/bigfish               0.6 +- 0.2      8.6 +- 2.3
procgen/bossfight             0.0 +- 0.0      0.9 +- 0.5
procgen/coinrun               3.3 +- 0.9      6.7 +- 0.9
dmcontrol/cartpole-balance  352.6 +- 10.2   999.9 +- 0.03
dmcontrol/cartpole-swingup   25.0 +- 3.6    786.3 +- 21.3
dmcontrol/finger-spin         0.6 +- 0.2    916.8 +- 14.0
dmcontrol/pendulum-swingup    1.0 +- 1.0    820.9 +- 17.5
dmcontrol/point_mass-easy     5.9 +- 5.6    795.7 +- 11.7
dmcontrol/reacher-easy       36.7 +- 16.3   895.5 +- 20.4
dmcontrol/reacher-hard        6.9 +- 3.4    833.2 +- 24.9
==========================  ==============  ==============

The toy tasks' controllers are their solutions. Meta-World's experts come with the package and are not
here: in 200 steps they solved 242 of 250 episodes, five of each task (seeds 1100 to 1104, metaworld 3.1.1,
success at any step), where random play solved 2.

Each controller is a function of the current observation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action, Observation

Controller: TypeAlias = Callable[[Observation], Action]

# Slots of the 204-wide DMControl observation that the controllers read.
POSITION = slice(41, 49)
VELOCITY = slice(14, 41)
ORIENTATION = slice(140, 142)
TO_TARGET = slice(142, 144)

ATARI_NOOP, ATARI_FIRE, ATARI_UP, ATARI_RIGHT, ATARI_LEFT = 0, 1, 2, 3, 4
PROCGEN_UP = 5
PROCGEN_RIGHT_UP = 8
PROCGEN_FIRE = 9
# Of Breakout's 64 x 64 screen: the columns between the walls, the paddle's rows, those below the bricks.
BREAKOUT_COLUMNS = slice(4, 60)
BREAKOUT_PADDLE = slice(57, 59)
BREAKOUT_BALL = slice(28, 57)
BREAKOUT_BRIGHT = 30
REACHER_LINK = 0.12  # metres, both links (reacher.xml)
# Linear-quadratic regulators around the upright pole, from finite differences of the suite's own models
# (dm_control 1.0.28), state cost 1 on positions and 0.1 on velocities, action cost 1.
CARTPOLE_GAINS = np.array([-0.932, -6.390, -1.047, -1.682])  # cart, pole angle, cart speed, pole speed
PENDULUM_GAINS = np.array([9.500, 1.976])  # pole angle, pole speed
# Angular acceleration of the free pole per sine of its angle (1/s^2), from the same finite differences.
CARTPOLE_GRAVITY = 15.3
PENDULUM_GRAVITY = 19.4
# Found by the cross-entropy method on the suite's own model, on the share of time at speed. A row is a joint
# (proximal, distal), a column one of ``finger_spin``'s features.
FINGER_GAINS = np.array(
    [
        [3.03, -1.77, -0.02, -2.14, 1.67, 0.91, 0.25, -0.79, -0.19, -0.13, 0.17, 0.76],
        [-0.62, -1.01, 0.20, -2.94, -1.33, 0.37, -0.08, -0.94, 0.28, 0.10, 0.65, 0.30],
    ]
)


def _vector(*values: float) -> npt.NDArray[np.float32]:
    return np.clip(np.array(values, np.float32), -1.0, 1.0)


def freeway(observation: Observation) -> Action:
    """Walk up always; a chicken that is hit walks on from where it was thrown to."""
    return ATARI_UP


def road_runner(observation: Observation) -> Action:
    """Run left always, where the seeds lie and away from the coyote."""
    return ATARI_LEFT


def kangaroo(observation: Observation) -> Action:
    """Walk right always."""
    return ATARI_RIGHT


def breakout(observation: Observation) -> Action:
    """Keep the paddle under the ball; FIRE where there is none to be seen."""
    screen = observation[0, :, BREAKOUT_COLUMNS] > BREAKOUT_BRIGHT
    paddle = np.flatnonzero(screen[BREAKOUT_PADDLE].any(axis=0))
    balls = np.argwhere(screen[BREAKOUT_BALL])
    if not paddle.size or not balls.size:
        return ATARI_FIRE
    offset = balls[-1, 1] - paddle.mean()
    if abs(offset) < 1.5:
        return ATARI_NOOP
    return ATARI_RIGHT if offset > 0 else ATARI_LEFT


def bigfish(observation: Observation) -> Action:
    """Swim to the top and stay: fewer of the bigger fish come by there."""
    return PROCGEN_UP


def bossfight(observation: Observation) -> Action:
    """Shoot always, from where the ship is."""
    return PROCGEN_FIRE


def coinrun(observation: Observation) -> Action:
    """Run right and jump always: the coin is at the level's right end."""
    return PROCGEN_RIGHT_UP


def _balance(observation: Observation) -> float:
    cart, cosine, sine = observation[POSITION][:3]
    cart_speed, pole_speed = observation[VELOCITY][:2]
    return float(-CARTPOLE_GAINS @ [cart, np.arctan2(sine, cosine), cart_speed, pole_speed])


def cartpole_balance(observation: Observation) -> Action:
    """Hold the pole upright and the cart in the middle by a linear-quadratic regulator."""
    return _vector(_balance(observation))


def cartpole_swingup(observation: Observation) -> Action:
    """Pump the pole's energy up to that of standing still upright, then hold it there.

    Energy control after Astrom and Furuta, "Swinging up a pendulum by energy control" (2000).
    """
    cart, cosine = observation[POSITION][:2]
    cart_speed, pole_speed = observation[VELOCITY][:2]
    if cosine > 0.9 and abs(pole_speed) < 3.0:
        return _vector(_balance(observation))
    energy = pole_speed**2 / 2 - CARTPOLE_GRAVITY * (1 - cosine)
    pump = -np.sign(pole_speed * cosine) * np.clip(-energy, -1.0, 1.0)
    return _vector(0.8 * pump - 0.4 * cart - 0.1 * cart_speed)


def pendulum_swingup(observation: Observation) -> Action:
    """Pump energy with the whole torque, then hold the pole upright."""
    cosine, sine = observation[ORIENTATION]
    speed = observation[VELOCITY][0]
    if cosine > 0.95:
        return _vector(float(-PENDULUM_GAINS @ [np.arctan2(sine, cosine), speed]))
    energy = speed**2 / 2 - PENDULUM_GRAVITY * (1 - cosine)
    return _vector(-np.sign(speed if speed else 1.0) * np.sign(energy))


def point_mass(observation: Observation) -> Action:
    """Pull the mass to the origin, where the target is, with damping."""
    position, velocity = observation[POSITION][:2], observation[VELOCITY][:2]
    return _vector(*(-10.0 * position - 10.0 * velocity))


def reacher(observation: Observation) -> Action:
    """Push the finger straight towards the target: joint torques are the Jacobian's transpose of it."""
    shoulder, wrist = observation[POSITION][:2]
    elbow = REACHER_LINK * np.array([-np.sin(shoulder), np.cos(shoulder)])
    hand = REACHER_LINK * np.array([-np.sin(shoulder + wrist), np.cos(shoulder + wrist)])
    jacobian = np.stack([elbow + hand, hand], axis=1)
    pull = jacobian.T @ observation[TO_TARGET]
    return _vector(*(60.0 * pull - 0.3 * observation[VELOCITY][:2]))


def finger_spin(observation: Observation) -> Action:
    """Strike the spinner's ends in time with its rotation, by a linear law over its phase and the joints.

    The spinner looks the same after half a turn, so its phase is twice its angle.
    """
    proximal, distal, x, z = observation[POSITION][:4]
    proximal_speed, distal_speed, spin = observation[VELOCITY][:3] / np.array([10.0, 10.0, 15.0])
    angle = np.arctan2(-x, z)
    cosine, sine = np.cos(2 * angle), np.sin(2 * angle)
    features = [1.0, cosine, sine, proximal, distal, proximal_speed, distal_speed, spin]
    features += [cosine**2 - sine**2, 2 * cosine * sine, cosine * spin, sine * spin]
    return _vector(*(FINGER_GAINS @ features))


def toy_reach(observation: Observation) -> Action:
    """Go straight to the goal."""
    return _vector(*(10.0 * observation[4:6]))


def toy_steps(observation: Observation) -> Action:
    """Give the answer that is shown."""
    return int(np.argmax(observation))


def toy_image(observation: Observation) -> Action:
    """Name the brightest of the five columns."""
    return int(np.argmax(observation[:, :, :60].reshape(3, 64, 5, 12).mean(axis=(0, 1, 3))))


CONTROLLERS: Mapping[str, Controller] = {
    "atari/freeway": freeway,
    "atari/breakout": breakout,
    "atari/kangaroo": kangaroo,
    "atari/road-runner": road_runner,
    "procgen/bigfish": bigfish,
    "procgen/bossfight": bossfight,
    "procgen/coinrun": coinrun,
    "dmcontrol/cartpole-balance": cartpole_balance,
    "dmcontrol/cartpole-swingup": cartpole_swingup,
    "dmcontrol/finger-spin": finger_spin,
    "dmcontrol/pendulum-swingup": pendulum_swingup,
    "dmcontrol/point_mass-easy": point_mass,
    "dmcontrol/reacher-easy": reacher,
    "dmcontrol/reacher-hard": reacher,
    "toy/reach": toy_reach,
    "toy/steps": toy_steps,
    "toy/blink": toy_steps,
    "toy/slow": toy_steps,
    "toy/lives": toy_steps,
    "toy/noscore": toy_steps,
    "toy/image": toy_image,
}
