"""The domain ``memory``: its table of tasks, its protocols, and tasks of other dials on demand.

The split ``train`` holds the small values of each dial, ``heldout`` the larger ones, so that a model is
trained on ``memory@train`` and its score drawn against the dial on both. Any other value is made when it is
named: ``memory/parity-64``.
"""

from __future__ import annotations

import re

from lram.envs.domains.memory import bandit, keydoor, recall, tracking
from lram.envs.domains.memory.family import Family, MemoryOptions
from lram.envs.domains.memory.layout import WIDTH
from lram.envs.errors import SelectionError
from lram.envs.session import Domain, EvaluationProtocol, InterpreterRecipe, Session, SessionError
from lram.envs.task import Dial, Split, Task

FAMILIES = {
    family.name: family
    for family in (*recall.FAMILIES, *tracking.FAMILIES, *bandit.FAMILIES, *keydoor.FAMILIES)
}
_NAME = re.compile(r"(?P<family>[a-z_]+[0-9]*)-(?P<value>[1-9][0-9]{0,5})", re.ASCII)

_QUESTIONS = {
    "random": "Questions at random steps (each with probability 1/2, and the last)",
    "last": "One question, at the last step, where a task asks at random steps",
}
_EPISODES = {
    "test": "episodes to measure on",
    "training": "episodes to train on, which share no random number with those to measure on",
    "validation": "episodes to choose by, which share no random number with the others",
}
PROTOCOLS = tuple(
    EvaluationProtocol(
        name,
        1,
        f"{_QUESTIONS[questions]}; {_EPISODES[episodes]}.",
        {"questions": questions, "episodes": episodes},
    )
    for name, questions, episodes in (
        ("dense", "random", "test"),
        ("dense-training", "random", "training"),
        ("dense-validation", "random", "validation"),
        ("final", "last", "test"),
        ("final-training", "last", "training"),
        ("final-validation", "last", "validation"),
    )
)


def parsed(task_name: str) -> tuple[Family, int]:
    """Return the family of a task and the value of its dial; SelectionError where it names none."""
    name, dash, _ = task_name.partition("-")
    family = FAMILIES.get(name)
    if family is None or not dash:
        raise SelectionError(
            f"memory has no task {task_name[:80]!r}; a name is a family and a number, such as parity-64, and "
            f"the families are {', '.join(FAMILIES)}"
        )
    found = _NAME.fullmatch(task_name)
    if found is None or not family.least <= int(found["value"]) <= family.most:
        raise SelectionError(
            f"memory has no task {task_name[:80]!r}: the {family.unit} of {family.name} are from "
            f"{family.least} to {family.most}, a whole number as in {family.name}-{family.trained[0]}"
        )
    return family, int(found["value"])


def task(name: str) -> Task:
    """Return the row of the task of that name; SelectionError where there is none."""
    family, value = parsed(name)
    return _row(
        family,
        value,
        "train" if value in family.trained else "heldout" if value in family.longer else "extra",
    )


def _row(family: Family, value: int, split: Split) -> Task:
    optimum = family.optimum(value)
    return Task(
        domain="memory",
        name=f"{family.name}-{value}",
        split=split,
        horizon=family.steps(value),
        observation="vector",
        observation_size=WIDTH,
        action="discrete",
        action_size=family.actions(value),
        target_return=optimum,
        reward_scale=1.0,
        score_random=family.chance(value),
        score_reference=optimum,
        sources=(("score_random", family.chance_of), ("score_reference", family.optimum_of)),
    )


def dial(task_name: str) -> Dial | None:
    """Return the dial of a task; None for a name that is none of the domain's."""
    try:
        family, value = parsed(task_name)
    except SelectionError:
        return None
    return Dial(family.name, value, family.unit, family.theory)


def attributes(task_name: str) -> dict[str, str]:
    """Return a task's family, and what it needs: recall, tracking, or learning in-context."""
    family, _ = parsed(task_name)
    return {"family": family.name, "kind": family.kind}


def least_return(task: Task) -> float:
    """Return 0: no reward is negative."""
    return 0.0


def greatest_return(task: Task, protocol: str) -> float:
    """Return 1 where questions are asked, 100 for bandits, 20 for Dark Key-Door."""
    family, value = parsed(task.name)
    return family.greatest(value)


def make(task_name: str, protocol: EvaluationProtocol) -> Session:
    """Return a session of the task; SessionError for an unknown one."""
    try:
        family, value = parsed(task_name)
    except SelectionError as error:
        raise SessionError(str(error)) from None
    return family.make(task_name, value, MemoryOptions(**protocol.options))


DOMAIN = Domain(
    name="memory",
    protocols=PROTOCOLS,
    make=make,
    on_demand=task,
    trial_task="parity-10",
    dial=dial,
    attributes=attributes,
    least_return=least_return,
    greatest_return=greatest_return,
    packages=("numpy",),
    interpreter=InterpreterRecipe(("numpy==1.26.4",), pythons=("3.11", "3.12", "3.10", "3.9")),
    tasks=tuple(
        task(f"{family.name}-{value}")
        for family in FAMILIES.values()
        for value in (*family.trained, *family.longer)
    ),
    step_s=0.00001,
    worker_mb=39.0,
    session_mb=0.1,
)
