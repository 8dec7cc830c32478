"""What the tasks of a domain differ in, for results by group: robots, objects, splits."""

from __future__ import annotations

from lram.envs.task import Task

_COMPOSUITE = ("robot", "object", "obstacle", "objective")
_ROBOT = "Panda"
# Two of MimicGen's core tasks were demonstrated with another arm (their environments' default).
_MIMICGEN_ROBOTS = {"NutAssembly_D0": "Sawyer", "PickPlace_D0": "Sawyer"}


def facets(task: Task) -> dict[str, str]:
    """Return by name the groups that a task belongs to within its domain.

    Every task has its ``split``; CompoSuite's tasks have a robot, an object, an obstacle and an
    objective (what they are composed of), MimicGen's a robot and the ``reset`` distribution (D0 is the
    narrowest), Dark-Room's a way of paying (``reward``).
    """
    found: dict[str, str] = {"split": task.split}
    if task.domain == "composuite":
        found.update(zip(_COMPOSUITE, task.name.split("_")))
    elif task.domain == "robosuite":
        found["robot"] = task.name.partition("-")[2] or _ROBOT
    elif task.domain == "mimicgen":
        base, _, robot = task.name.partition("-")
        found["robot"] = robot or _MIMICGEN_ROBOTS.get(base, _ROBOT)
        found["reset"] = base.rpartition("_")[2]
    elif task.domain == "darkroom":
        found["reward"] = task.name.partition("-")[0]
    return {name: value for name, value in found.items() if value}
