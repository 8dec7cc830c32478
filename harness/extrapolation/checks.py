"""What plans and records of an extrapolation must be to be believed, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

from lram.harness.extrapolation.records import ExtrapolationPlan, LossRecord, ValidityRecord
from lram.harness.storage.number_checks import check_numbers, wrong

LONGEST = 100_000_000
"""Timesteps of the longest context or trajectory."""

MOST_CONTEXTS = 1_000
"""Contexts that an extrapolation may play."""


def check_plan(file: Path, plan: ExtrapolationPlan) -> None:
    """Raise LramError, naming ``file``, where ``plan`` asks for what no extrapolation can."""
    check_numbers(plan, file)
    labels = [agent.label for agent in plan.agents]
    if not labels or len(set(labels)) < len(labels):
        raise wrong(file, "its agents are none, or one is there twice")
    if list(plan.contexts) != sorted(set(plan.contexts)) or not all(0 < c <= LONGEST for c in plan.contexts):
        raise wrong(file, "its contexts are not numbers of 1 and more that rise")
    if len(plan.contexts) > MOST_CONTEXTS:
        raise wrong(file, f"it has {len(plan.contexts):,} contexts")
    if len(set(plan.modes)) < len(plan.modes):
        raise wrong(file, "one of its modes is there twice")
    for agent in plan.agents:
        if not all(length is None or 0 < length <= LONGEST for length in (agent.trained, agent.reach)):
            raise wrong(
                file, f"{agent.label} was trained on {agent.trained} timesteps and reads {agent.reach}"
            )
    for stretch in plan.stretches:
        if not 0 <= stretch.store < len(plan.stores):
            raise wrong(file, f"a stretch is of store {stretch.store}, and it has {len(plan.stores)}")
        if not 0 <= stretch.start < stretch.stop <= stretch.start + LONGEST or stretch.number < 0:
            raise wrong(
                file, f"a stretch of episode {stretch.number} goes from {stretch.start} to {stretch.stop}"
            )


def check_loss(where: str | Path, record: LossRecord) -> None:
    """Raise LramError, naming ``where``, for a loss that no model can have had."""
    check_numbers(record, where)
    if record.dims < 1 or record.context < 0:
        raise wrong(where, f"the losses of {record.agent} are of {record.dims} dimensions of an action")
    if record.right and not 0 <= min(record.right) <= max(record.right) <= record.dims:
        raise wrong(
            where, f"{record.agent} is right in more dimensions than an action has, or in less than 0"
        )
    if record.error and min(record.error) < 0:
        raise wrong(where, f"the action error of {record.agent} is {min(record.error):g}")


def check_validity(where: str | Path, record: ValidityRecord) -> None:
    """Raise LramError, naming ``where``, for a check of validity that nobody can have made."""
    check_numbers(record, where)
    if any(point.timesteps < 1 for point in record.points):
        raise wrong(where, f"the validity of {record.agent} was looked at before its first timestep")
