"""The chapter "score by episode within the context": do agents get better from one inner episode to the next?

It is there where an evaluation's episodes are trials of several inner episodes (Dark-Room), of which the
agent remembers the earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from lram.harness.storage.run_folder import Run
from lram.reports import text
from lram.reports.aggregate import display_name
from lram.reports.collect import Evidence, gathered
from lram.reports.model import ALL_EQUAL, Caveat, Estimate
from lram.reports.pairs import ALL_OR_NONE, Pairs
from lram.reports.sections.inner_episodes.figures import parts_figure
from lram.reports.sections.inner_episodes.model import (
    LEVEL,
    Curve,
    Difference,
    PartsResult,
    estimate_parts,
    trials_of,
)
from lram.reports.sections.registry import Chapter
from lram.reports.statistics import fewest_pairs
from lram.reports.tables import Row, csv_of
from lram.reports.views import Cell, Table, columns, integer

TITLE = "Score by episode within the context"


def chapter(runs: Sequence[Run] | Evidence, *, seed: int = 0, pairs: Pairs = ALL_OR_NONE) -> Chapter | None:
    """Return the chapter on the inner episodes of ``runs``; None where no record has any.

    Args:
        runs: Evaluations, or what was collected from them.
        seed: Of the resampling.
        pairs: Models to compare.

    Raises:
        LramError: The runs do not go together, or one is damaged.
    """
    evidence = gathered(runs)
    result = estimate_parts(evidence, seed, pairs)
    if result is None:
        return None
    apart = [_differences(result, evidence)] if result.differences else []
    return Chapter(
        key="parts",
        title=TITLE,
        lead=_lead(result),
        tables=(_gains(result), *apart),
        drawings=(parts_figure(result),),
        csv={
            "parts_curves.csv": csv_of(_curve_rows(result)),
            "parts_gains.csv": csv_of(_gain_rows(result)),
            "parts_trials.csv": csv_of(_trial_rows(evidence)),
        },
        summary=msgspec.to_builtins(result),
        caveats=_caveats(result),
        methods=_METHODS,
    )


_METHODS = (
    (
        "Inner episodes",
        "A trial is one planned episode: several inner episodes, between which the world begins anew and the "
        "agent does not. The return of inner episode k is averaged over the trials of a task and then over "
        "the tasks of a group. Everything is about other goals of the same kind: the unit is a task's mean "
        "(in a group of one task, a trial). Means have t intervals over the units. The gain is the last "
        "inner episode's return minus the first's; a gain, and a difference of two models on the same "
        "trials, are tested by sign flips of the units' values, and their intervals hold the values that "
        f"this test does not reject. Fewer than {fewest_pairs(LEVEL)} units can show nothing. Gains are "
        "corrected for all agents and groups, differences for all that are shown (Holm). The noise between "
        "training runs is in none of it. References are the tasks' score references divided by the number of "
        "inner episodes.",
    ),
)


def _lead(result: PartsResult) -> tuple[str, ...]:
    protocols = text.names(dict.fromkeys(group.protocol for group in result.groups))
    lengths = text.names(str(parts) for parts in sorted({group.parts for group in result.groups}))
    improving = [curve for curve in result.curves if _gains_shown(curve, result.level)]
    told = []
    for name in dict.fromkeys(curve.name for curve in improving):
        where = [_group_words(result, curve.group) for curve in improving if curve.name == name]
        played = sum(curve.name == name for curve in result.curves)
        told.append(f"{name} (everywhere)" if len(where) == played > 1 else f"{name} ({', '.join(where)})")
    found = (
        f"The last inner episode earned more than the first (p < 0.05, corrected) for: {'; '.join(told)}."
        if told
        else "For no agent is the last inner episode shown to earn more than the first."
    )
    return (
        f"Each trial ({protocols}) holds {lengths} inner episodes in one context. An agent that learns in "
        "its context earns more in the later ones: its weights do not change, so what it gains it has from "
        "what it saw in the trial.",
        f"{found} A rise shows learning in the context; it does not show how: an agent that wanders by habit "
        "through more of the room does not rise, however well it scores, and one that has found the goal in "
        "the first inner episode cannot rise much.",
    )


def _group_words(result: PartsResult, index: int) -> str:
    return result.groups[index].name.replace(", ", " ")


def _caveats(result: PartsResult) -> tuple[Caveat, ...]:
    lacking = [curve for curve in result.curves if curve.trials < curve.of_trials]
    if not lacking:
        return ()
    told = ", ".join(
        f"{c.name} {c.trials} of {c.of_trials} ({_group_words(result, c.group)})" for c in lacking
    )
    return (Caveat("parts", f"Curves by inner episode rest on fewer trials than were planned: {told}."),)


def _gains(result: PartsResult) -> Table:
    rows = []
    for curve in result.curves:
        group = result.groups[curve.group]
        rows.append(
            (
                Cell(group.name),
                Cell(curve.name),
                integer(curve.tasks),
                integer(curve.trials),
                _cell(curve.parts[0]),
                _cell(curve.parts[-1]),
                _cell(curve.gain),
                Cell(text.p_value(curve.gain_p_holm), value=curve.gain_p_holm),
                _cell(curve.whole),
                _number(group.random),
                _number(group.reference),
            )
        )
    headings = [
        "Tasks of",
        "Agent",
        "Tasks",
        "Trials",
        "First",
        "Last",
        "Gain",
        "p, Holm",
        "Mean",
        "Random",
        "Reference",
    ]
    caption = (
        f"Mean return of the first and the last inner episode, with {result.level:.0%} intervals over tasks; "
        "the gain is the last minus the first, its p by sign flips of the tasks' gains and corrected for all "
        "gains of the table. Random and reference: what the tasks' references earn in one "
        "inner episode (Dark-Room: uniform actions, and shortest paths by one that knows the goal)."
    )
    return Table("parts-gains", caption, columns(headings, words=2), tuple(rows))


def _differences(result: PartsResult, evidence: Evidence) -> Table:
    names = {agent.label: display_name(agent) for agent in evidence.agents}
    rows = tuple(
        (
            Cell(result.groups[one.group].name),
            Cell(names[one.first]),
            Cell(names[one.second]),
            integer(one.tasks),
            integer(one.trials),
            _cell(one.whole),
            _cell(one.last),
            Cell(text.p_value(one.p_holm), value=one.p_holm),
            Cell(_verdict(one, result.level)),
        )
        for one in result.differences
    )
    headings = ["Tasks of", "Model", "against", "Tasks", "Trials", "All", "Last", "p, Holm", "Verdict"]
    caption = (
        "Difference of the mean return of an inner episode (model minus the other), over all inner episodes "
        f"and in the last one, on the same trials, with {result.level:.0%} intervals over tasks. p and "
        "verdict are on all inner episodes, by sign flips of the tasks' differences and corrected for all "
        f"differences of the table; fewer than {fewest_pairs(result.level)} tasks (of one task: trials) "
        "cannot tell. They compare two checkpoints; another training seed may turn them round."
    )
    *numbers, verdict = columns(headings, words=3)
    return Table("parts-differences", caption, (*numbers, replace(verdict, numeric=False)), rows)


def _verdict(one: Difference, level: float) -> str:
    if one.whole.note == ALL_EQUAL and one.whole.value == 0:
        return "no difference seen"
    if one.p_holm is None or one.p_holm >= 1 - level:
        return "cannot tell"
    return "better" if one.whole.value > 0 else "worse"


def _gains_shown(curve: Curve, level: float) -> bool:
    p = curve.gain_p_holm
    return p is not None and p < 1 - level and curve.gain.value > 0


def _cell(estimate: Estimate) -> Cell:
    return Cell(_two(estimate.value), text.span(estimate, _two), value=estimate.value)


def _number(value: float | None) -> Cell:
    return Cell(text.NONE) if value is None else Cell(_two(value), value=value)


def _two(value: float) -> str:
    return text.number(value, 2)


def _curve_rows(result: PartsResult) -> Iterator[Row]:
    for curve in result.curves:
        for place, estimate in enumerate(curve.parts, start=1):
            yield {**_head(result, curve), "part": place, **_values("return", estimate)}


def _gain_rows(result: PartsResult) -> Iterator[Row]:
    for curve in result.curves:
        group = result.groups[curve.group]
        yield {
            **_head(result, curve),
            **_values("gain", curve.gain),
            "gain_p": curve.gain_p,
            "gain_p_holm": curve.gain_p_holm,
            **_values("mean", curve.whole),
            "random": group.random,
            "reference": group.reference,
        }


def _head(result: PartsResult, curve: Curve) -> Row:
    group = result.groups[curve.group]
    return {
        "agent": curve.agent,
        "group": group.name,
        "protocol": group.protocol,
        "tasks": curve.tasks,
        "trials": curve.trials,
    }


def _values(name: str, estimate: Estimate) -> Row:
    interval = estimate.interval
    return {
        name: estimate.value,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def _trial_rows(evidence: Evidence) -> Iterator[Row]:
    for planned in evidence.tasks:
        for agent in evidence.agents:
            for (run_seed, episode), parts in trials_of(evidence, agent.label, planned.task).items():
                for place, earned in enumerate(parts, start=1):
                    yield {
                        "agent": agent.label,
                        "task": planned.task.id,
                        "run_seed": run_seed,
                        "episode": episode,
                        "part": place,
                        "return": earned,
                    }
