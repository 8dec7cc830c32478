"""What plans and points of a sweep must be to be believed, whoever wrote them."""

from __future__ import annotations

from pathlib import Path

from lram.harness.latency.records import OK, LatencyPlan, LatencyPoint
from lram.harness.storage.number_checks import check_numbers, wrong

MOST_POINTS = 1_000_000
"""Points that a sweep may ask for."""


def check_plan(file: Path, plan: LatencyPlan) -> None:
    """Raise LramError, naming ``file``, where ``plan`` asks for what no sweep can."""
    check_numbers(plan, file)
    labels = [agent.label for agent in plan.agents]
    variants = [(one.agent, one.step) for one in plan.variants]
    for what, found in (("agents", labels), ("variants", variants)):
        if not found or len(set(found)) < len(found):
            raise wrong(file, f"its {what} are none, or one is there twice")
    if not {agent for agent, _ in variants} == set(labels):
        raise wrong(file, "its variants are not those of its agents")
    if not plan.contexts or list(plan.contexts) != sorted(set(plan.contexts)) or plan.contexts[0] < 1:
        raise wrong(file, "its contexts are not numbers of 1 and more that rise")
    if not plan.batches or len(set(plan.batches)) < len(plan.batches) or min(plan.batches) < 1:
        raise wrong(file, "its batches are not different numbers of 1 and more")
    if plan.repeats < 1 or plan.threads < 1:
        raise wrong(file, f"it has {plan.repeats} repeats and {plan.threads} threads")
    points = plan.repeats * len(variants) * len(plan.batches) * len(plan.contexts)
    if points > MOST_POINTS:
        raise wrong(file, f"it asks for {points:,} points, and a sweep has at most {MOST_POINTS:,}")


def check_point(where: str | Path, point: LatencyPoint) -> None:
    """Raise LramError, naming ``where``, for a point that no process can have measured."""
    check_numbers(point, where)
    of = f"what was measured of {point.job} at context {point.context}"
    for name in ("agent_ns", "model_ns", "loop_ns", "repeated_ns", "distinct_ns"):
        taken: tuple[int, ...] = getattr(point, name)
        if taken and min(taken) < 1:
            raise wrong(where, f"{of} took {min(taken)} ns")
    if point.outcome == OK and not point.agent_ns:
        raise wrong(where, f"{of} is said to be measured, and no decision is there")
    counts = (point.read, point.warm_up, point.state_bytes, point.weight_bytes)
    measured = (point.resident_bytes, point.peak_bytes, point.reach_s, point.energy_j, point.energy_s)
    if min(*counts, *measured) < 0:
        raise wrong(where, f"{of} has counts below 0")
