"""What sweeps of latencies say, in numbers: percentiles, crossovers, control rates, audits.

A process is the unit of repetition: decisions of one process share its memory layout and its moment, so
an interval is over processes, never over decisions. It is the range of order statistics of the process
medians (:func:`lram.harness.timing.intervals.median_interval`): no assumption on their distribution, and a
coverage that is known: 94% for five processes, at least 95% from six on; below five there is none. Crossovers
are computed in each round of processes, and the number is their median with such an interval
(:mod:`lram.harness.timing.crossings`), so that a round without any (the one agent is faster everywhere)
counts as what it is.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from itertools import combinations

from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import OK, OUT_OF_MEMORY, LatencyPoint, Variant
from lram.harness.timing.crossings import FEWEST_ROUNDS, Bound, crossing, rounds_crossing
from lram.harness.timing.facts import ROWS_FACT
from lram.harness.timing.intervals import median_interval
from lram.harness.words import count
from lram.reports.model import rounded
from lram.reports.sections.latency.model import (
    Audit,
    Clock,
    ContextLatency,
    Crossing,
    Fit,
    LatencyMedian,
    LatencyResult,
    MeasuredAgent,
)
from lram.reports.sections.latency.readiness import ready
from lram.reports.sections.latency.sweeps import differing, folder_names, machines_differ

RATES = (10, 20, 50, 100)
"""Control rates that decisions are held to, in Hz."""

FEWEST = FEWEST_ROUNDS
"""Processes from which on there are intervals, crossovers, and which of two agents is faster."""

INPUTS = 1.1
"""Ratio of the times of decisions on repeated and on distinct inputs that is no difference."""

ENOUGH = {0.9: 20, 0.99: 100}
"""Decisions, of all processes together, from which a percentile is given; see :func:`_percentile`."""


Medians = dict[tuple[int, int, int], dict[int, float]]
"""Milliseconds of the agent step by (subject, batch, context), then by process."""


Taken = dict[tuple[int, int, int], list[tuple[int, ...]]]
"""Nanoseconds of every agent step by (subject, batch, context), a process each."""


def summarise(runs: Sequence[LatencyRun]) -> LatencyResult:
    """Return what ``runs`` say together."""
    subjects: list[MeasuredAgent] = []
    spots: list[ContextLatency] = []
    medians: Medians = {}
    decisions: Taken = {}
    notes: list[str] = []
    labels = list(dict.fromkeys(entry.label for run in runs for entry in run.plan.agents))
    names = folder_names(runs)
    for folder, run in enumerate(runs):
        by_setting: dict[tuple[tuple[str, str], int, int], list[LatencyPoint]] = {}
        for point in run.points():
            key = (point.job.agent, point.job.step), point.job.batch, point.context
            by_setting.setdefault(key, []).append(point)
        missing = sum(len(contexts) for _, contexts in run.missing())
        if missing:
            words = count(missing, "point is", "points are")
            notes.append(f"{names[folder]} is not finished: {words} missing")
        for variant in run.plan.variants:
            asked = variant.agent, variant.step
            found = [points for key, points in by_setting.items() if key[0] == asked]
            place = len(subjects)
            subjects.append(_subject(runs, folder, variant, found, labels, names))
            for batch in run.plan.batches:
                audit: Audit = "not made"
                for context in run.plan.contexts:
                    points = by_setting.get((asked, batch, context), [])
                    audited = audit_of(points)
                    # Earlier sweeps were audited at one context, and others repeated its inputs.
                    audit = audited if run.plan.distinct or audited != "not made" else audit
                    spots.append(_spot(place, batch, context, points, audit))
                    decisions[place, batch, context] = [p.agent_ns for p in points if p.agent_ns]
                    if audit == "failed":
                        continue
                    taken = {p.job.repeat: statistics.median(p.agent_ns) / 1e6 for p in points if p.agent_ns}
                    if taken:
                        medians[place, batch, context] = taken
    batches = tuple(sorted({spot.batch for spot in spots}))
    contexts = tuple(sorted({spot.context for spot in spots}))
    return LatencyResult(
        subjects=tuple(subjects),
        spots=tuple(spots),
        crossings=tuple(_crossings(subjects, batches, contexts, medians)),
        fits=tuple(_fits(spots, decisions)),
        contexts=contexts,
        batches=batches,
        notes=tuple(notes),
    )


def _subject(
    runs: Sequence[LatencyRun],
    folder: int,
    variant: Variant,
    found: Iterable[Sequence[LatencyPoint]],
    labels: Sequence[str],
    names: Sequence[str],
) -> MeasuredAgent:
    plan = runs[folder].plan
    entry = plan.entry(variant.agent)
    steps = [one.step for one in plan.variants if one.agent == variant.agent]
    facts: dict[str, str] = {}
    weight_bytes = 0
    for points in found:
        for point in points:
            if point.facts:
                facts, weight_bytes = point.facts, point.weight_bytes
    name = entry.label + (f", {variant.step}" if len(steps) > 1 else "")
    settings = differing(runs)
    name = ", ".join((name, *settings[folder]))
    alike = [
        other
        for other, run in zip(settings, runs, strict=True)
        if other == settings[folder] and any(agent.label == entry.label for agent in run.plan.agents)
    ]
    if len(alike) > 1 or machines_differ(runs):
        name += f" ({names[folder]})"
    lines = [
        (place, one.step)
        for place, run in enumerate(runs)
        for one in run.plan.variants
        if one.agent == entry.label
    ]
    return MeasuredAgent(
        name=name,
        label=entry.label,
        spec=entry.spec,
        description=entry.info.description,
        place=labels.index(entry.label),
        style=lines.index((folder, variant.step)),
        step=variant.step,
        folder=folder,
        kind=facts.get("backbone", "other"),
        parameters=entry.info.parameters,
        trained=entry.info.trained,
        digest=entry.info.digest,
        facts=facts,
        weight_bytes=weight_bytes,
        distinct=plan.distinct,
        device=plan.device,
    )


def _input_ratios(points: Sequence[LatencyPoint]) -> list[float]:
    """Return each process's time of decisions on repeated inputs over that on distinct ones."""
    return [
        statistics.median(point.repeated_ns) / statistics.median(point.distinct_ns)
        for point in points
        if point.outcome == OK and point.repeated_ns and point.distinct_ns
    ]


def audit_of(points: Sequence[LatencyPoint]) -> Audit:
    """Return whether an agent takes less time for inputs that it has seen, by the processes at one context.

    It fails where the median of the processes' ratios is below 1 / ``INPUTS`` and their interval, of few
    processes their whole range, below 1.
    """
    ratios = _input_ratios(points)
    if not ratios:
        return "not made"
    found = median_interval(ratios)
    return "failed" if found.median < 1 / INPUTS and found.high < 1 else "passed"


def _spot(
    subject: int, batch: int, context: int, points: Sequence[LatencyPoint], audit: Audit
) -> ContextLatency:
    good = [point for point in points if point.outcome == OK]
    if not good:
        outcome = points[0].outcome if points else "not measured yet"
        return ContextLatency(subject, batch, context, outcome)
    ratios = _input_ratios(good)
    digests = {point.actions for point in good if point.actions}
    loads = [p.load.other_cores for p in good if p.load is not None and p.load.other_cores is not None]
    energies = [1e3 * point.energy_j / len(point.agent_ns) for point in good if point.energy_j]
    return ContextLatency(
        subject=subject,
        batch=batch,
        context=context,
        outcome=OK,
        agent=_clock([point.agent_ns for point in good]),
        model=_clock([point.model_ns for point in good if point.model_ns]),
        loop=_clock([point.loop_ns for point in good if point.loop_ns]),
        held=good[0].held,
        state_bytes=max(point.state_bytes for point in good),
        peak_bytes=round(statistics.median(point.peak_bytes for point in good)),
        energy_mj=rounded(statistics.median(energies)) if energies else None,
        repeated=_middle(ratios) if ratios else None,
        audit=audit,
        agree=len(digests) == 1 if len(good) > 1 and digests else None,
        warm=sum(point.warm for point in good),
        other_cores=rounded(statistics.median(loads)) if loads else None,
        failed=sum(point.outcome == OUT_OF_MEMORY or point.outcome.startswith("failed") for point in points),
        rows=_rows(good[0]),
    )


def _rows(point: LatencyPoint) -> int | None:
    """Return the rows of a pass; None where the agent does not tell."""
    told = point.facts.get(ROWS_FACT, "")
    return int(told) if re.fullmatch("[1-9][0-9]{0,8}", told) else None


def _clock(processes: Sequence[Sequence[int]]) -> Clock | None:
    if not processes:
        return None
    medians = [statistics.median(taken) / 1e6 for taken in processes]
    return Clock(
        median=_middle(medians),
        p90=_percentile(processes, 0.9),
        p99=_percentile(processes, 0.99),
        decisions=sum(map(len, processes)),
        processes=len(processes),
        spread=rounded(max(medians) / min(medians)),
    )


def _percentile(processes: Sequence[Sequence[int]], share: float) -> float | None:
    """Return the time, in ms, that ``share`` of the decisions of a process drawn at random did not exceed.

    A process is measured for so many seconds, so that a slow one makes fewer decisions; to count each
    decision once would count it for less. So each process weighs the same. None where there are too few
    decisions: of unequal weights their effective number counts (Kish 1965).

    Args:
        processes: Nanoseconds of the decisions of each, one at least.
        share: A key of ``ENOUGH``.
    """
    # Each process's weights sum to 1, and the sum of their squares to 1 / its decisions.
    if len(processes) ** 2 / sum(1 / len(taken) for taken in processes) < ENOUGH[share] * (1 - 1e-12):
        return None
    whole = math.lcm(*map(len, processes))  # whole numbers: a sum of fractions would miss a tie
    weighted = sorted((taken_ns, whole // len(taken)) for taken in processes for taken_ns in taken)
    needed, passed = round(100 * share) * whole * len(processes), 0
    for nanoseconds, weight in weighted:
        passed += 100 * weight
        if passed >= needed:
            return rounded(nanoseconds / 1e6)
    raise AssertionError("all decisions together are all of them")


def _middle(values: Sequence[float]) -> LatencyMedian:
    found = median_interval(values)
    if len(values) < FEWEST:
        covered = rounded(found.coverage) if len(values) > 1 else 0.0
        return LatencyMedian(rounded(found.median), None, None, covered)
    return LatencyMedian(
        rounded(found.median), rounded(found.low), rounded(found.high), rounded(found.coverage)
    )


def _crossings(
    subjects: Sequence[MeasuredAgent], batches: Sequence[int], contexts: Sequence[int], medians: Medians
) -> Iterable[Crossing]:
    for one, other in combinations(range(len(subjects)), 2):
        if not _comparable(subjects[one], subjects[other]):
            continue
        differ = subjects[one].keeps_tokens != subjects[other].keeps_tokens
        for batch in batches:
            shared = [c for c in contexts if (one, batch, c) in medians and (other, batch, c) in medians]
            if not shared:
                continue
            kept = _with_rounds(shared, medians, (one, other), batch)
            ends = kept or shared
            first, second = one, other
            growth = [
                statistics.median(medians[one, batch, c].values())
                / statistics.median(medians[other, batch, c].values())
                for c in (ends[0], ends[-1])
            ]
            # With one context only, or equal growth, the recurrent one stands first.
            if growth[1] > growth[0] or (growth[0] == growth[1] and subjects[one].keeps_tokens and differ):
                first, second = other, one
            yield _crossing(first, second, batch, shared, kept, medians, differ)


def _with_rounds(
    contexts: Sequence[int], medians: Medians, pair: tuple[int, int], batch: int
) -> tuple[int, ...]:
    """Return those contexts that enough rounds have measured, the same at all of them; none where few have.

    A context that most processes lack (memory ran out, or a decision took too long to be measured again) is
    left out, so that the crossover is that of the others.
    """
    rounds = {c: set(medians[pair[0], batch, c]) & set(medians[pair[1], batch, c]) for c in contexts}

    def shared(kept: Iterable[int]) -> int:
        return len(set.intersection(*(rounds[c] for c in kept)))

    while rounds and shared(rounds) < FEWEST:
        # The one without which most rounds are left; of equal ones the one with the fewest, then the longest.
        worst = max(
            rounds,
            key=lambda c: (shared(rounds.keys() - {c}) if len(rounds) > 1 else 0, -len(rounds[c]), c),
        )
        del rounds[worst]
    return tuple(rounds)


def _comparable(one: MeasuredAgent, other: MeasuredAgent) -> bool:
    """Return whether two subjects were treated alike: one sweep, one form of the step where both have any."""
    if one.folder != other.folder:
        return False
    return one.step == other.step or "other" in (one.kind, other.kind)


def _crossing(
    first: int,
    second: int,
    batch: int,
    contexts: Sequence[int],
    kept: Sequence[int],
    medians: Medians,
    differ: bool,
) -> Crossing:
    """Return the crossing of two subjects; ``kept`` are the contexts that it rests on (none: cannot tell)."""
    mine = {context: medians[first, batch, context] for context in contexts}
    theirs = {context: medians[second, batch, context] for context in contexts}
    low = high = at = None
    if kept:
        rounds = sorted(set.intersection(*(set(one[c]) for one in (mine, theirs) for c in kept)))
        found = rounds_crossing(
            [crossing(kept, [mine[c][r] for c in kept], [theirs[c][r] for c in kept]) for r in rounds]
        )
        at, low, high = map(_rounded, (found.middle, found.low, found.high))
    faster: dict[str, list[int]] = {"first": [], "second": [], "unclear": []}
    ratios, reached = [], []
    for context in contexts:
        ours, other = mine[context], theirs[context]
        both = sorted(set(ours) & set(other))
        if both:
            reached.append(context)
            ratios.append(_middle([ours[r] / other[r] for r in both]))
        ratio = median_interval([ours[r] / other[r] for r in both]) if len(both) >= FEWEST else None
        if ratio is None or ratio.low <= 1 <= ratio.high:
            faster["unclear"].append(context)
        else:
            faster["first" if ratio.high < 1 else "second"].append(context)
    return Crossing(
        first=first,
        second=second,
        batch=batch,
        at=at,
        low=low,
        high=high,
        first_faster=tuple(faster["first"]),
        second_faster=tuple(faster["second"]),
        unclear=tuple(faster["unclear"]),
        kinds_differ=differ,
        contexts=tuple(reached),
        ratios=tuple(ratios),
        left_out=tuple(c for c in contexts if c not in kept) if kept else (),
    )


def _rounded(bound: Bound) -> Bound:
    return Bound(bound.where, rounded(bound.context))


def _fits(spots: Sequence[ContextLatency], taken: Taken) -> Iterable[Fit]:
    for subject, batch in dict.fromkeys((spot.subject, spot.batch) for spot in spots):
        mine = [
            s
            for s in spots
            if (s.subject, s.batch) == (subject, batch) and s.agent is not None and s.audit != "failed"
        ]
        for hz in RATES if mine else ():
            by_verdict: dict[bool | None, list[int]] = {True: [], False: [], None: []}
            for spot in mine:
                processes = taken[subject, batch, spot.context]
                late = [sum(one > 1e9 / hz for one in decisions) for decisions in processes]
                by_verdict[ready(late, [len(one) for one in processes])].append(spot.context)
            fits, misses, unknown = (tuple(by_verdict[verdict]) for verdict in (True, False, None))
            yield Fit(subject, batch, hz, fits, misses, unknown)
