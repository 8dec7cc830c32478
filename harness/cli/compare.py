"""``lram compare``: a verdict on two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.envs.scores import Normaliser, audit, normalised_by
from lram.harness.cli.exits import VERDICTS
from lram.harness.cli.options import JsonOption, NormaliserOption
from lram.harness.cli.printing.output import print_json
from lram.harness.errors import LramError
from lram.harness.storage.listing import show_not_read
from lram.harness.storage.run_folder import load_runs
from lram.harness.waiting import still
from lram.harness.words import one_line

if TYPE_CHECKING:
    from lram.reports.verdict.judging import Verdict
    from lram.reports.verdict.sides import Side


def compare(
    first: Annotated[str, Parameter(help="Label of an agent in --runs, a run's folder, or FOLDER:LABEL.")],
    second: Annotated[str, Parameter(help="The agent it is compared with, named in the same way.")],
    /,
    *,
    runs: Annotated[
        list[Path] | None,
        Parameter(name=["--runs", "-r"], help="Folders of runs in which labels are looked up.", negative=()),
    ] = None,
    level: Annotated[
        float, Parameter(help="Level of the interval; a verdict needs p below 1 minus it.")
    ] = 0.95,
    seed: Annotated[int, Parameter(help="Seed of the sign flips behind interval and p.")] = 0,
    normaliser: NormaliserOption = "paper",
    json: JsonOption = False,
) -> int:
    """Say whether a checkpoint is better than another, by how much, and what it would take to tell.

    Compares episodes that began alike, by normalised score, as reports do.

    Exit codes: 0 better, 10 no difference shown, 11 worse, 12 not comparable, 2 bad input.

    Example: lram compare "small-xlstm[7:1]" small-mamba --runs runs/first
    """
    if not 0.5 <= level <= 0.999:  # 2,000 sign patterns tell no p below 0.0005
        raise LramError(f"--level is a share from 0.5 to 0.999, such as 0.95, not {level:g}")
    from lram.reports.verdict.judging import judge
    from lram.reports.verdict.sides import find_side

    with still("reading and comparing the runs"):
        opened = load_runs(runs or ())
        sides = [replace(find_side(text, opened), normaliser=normaliser) for text in (first, second)]
        show_not_read({run.path: None for side in sides for run in side.runs})
        verdict = judge(*sides, seed=seed, level=level)
    unscored = _unscored(sides)
    if json:
        import msgspec

        print_json({**msgspec.to_builtins(verdict), "normaliser": normaliser, "unscored": unscored})
    else:
        print("\n".join(map(one_line, [*lines(verdict), *_references(normaliser, unscored)])))
    return VERDICTS[verdict.word]


def _unscored(sides: Sequence[Side]) -> dict[str, str]:
    """Return the tasks of both sides that have no normalised score, and why."""
    planned = [{one.task.id: one for run in side.runs for one in run.plan.tasks} for side in sides]
    rows = {
        task: normalised_by(sides[0].normaliser, one.task, one.protocol)
        for task, one in planned[0].items()
        if task in planned[1]
    }
    return {task: reason for task, row in rows.items() if (reason := audit(row)) is not None}


def _references(normaliser: Normaliser, unscored: Mapping[str, str]) -> Iterator[str]:
    """Yield what the scores are measured from, and the tasks that have none."""
    from lram.harness.words import count

    if normaliser != "paper":
        yield f"note: normaliser {normaliser}: 0 is random play as measured here, 1 the source's reference"
    if unscored:
        named = "; ".join(f"{task}: {reason}" for task, reason in unscored.items())
        yield f"note: {count(len(unscored), 'task')} without a normalised score are left out: {named}"


def lines(verdict: Verdict) -> list[str]:
    """Return a verdict in sentences."""
    from lram.harness.words import count
    from lram.reports import text

    def three(value: float) -> str:
        return text.number(value, 3)

    found = verdict.difference
    if found is None:
        told = [f"not comparable: {verdict.reason}"]
    else:
        more = "more" if found.value >= 0 else "less"
        p = text.p_value(verdict.p)
        span = text.span(found, three)
        interval = (
            f"{100 * verdict.level:.3g}% interval {span}" if found.interval else f"no interval: {found.note}"
        )
        spoken = f"{verdict.first} scores {three(abs(found.value))} {more} than {verdict.second}"
        told = [
            f"{verdict.word}: {spoken} ({three(found.value)}, {interval}, "
            f"p {'' if p.startswith('<') else '= '}{p})",
            f"rests on {count(verdict.tasks, 'task')} of {text.names(verdict.domains)}, "
            f"{count(verdict.episodes, 'pair')} of episodes that began alike",
        ]
        told += [*_scope(verdict), *_reach(verdict)]
    return [*told, *(f"note: {note}" for note in verdict.notes)]


def _scope(verdict: Verdict) -> list[str]:
    """Return what kind of outcomes a verdict is about."""
    if verdict.word not in ("better", "worse") or verdict.unseen_rate is None:
        return []
    return [
        f"as far as outcomes were seen: one that comes in fewer than {100 * verdict.unseen_rate:.0f} of 100 "
        "episodes of a task may not be among them"
    ]


def _reach(verdict: Verdict) -> list[str]:
    """Return what the evidence could show, and what it would take to show more."""
    from lram.harness.words import count

    found = verdict.difference
    if found is not None and found.value == 0 and verdict.p == 1 and found.interval is None:
        return ["all pairs of episodes ended alike", *filter(None, [verdict.not_detectable])]
    if verdict.detectable is None:
        return [verdict.not_detectable]
    per_task = verdict.episodes / verdict.tasks
    told = [
        f"with {per_task:.3g} episodes a task, true differences of {verdict.detectable:.3f} and more are "
        "shown four times in five, if the noise is what was seen"
    ]
    needed = verdict.episodes_needed
    if verdict.word == "no difference shown" and needed is not None and needed > per_task:
        told.append(
            f"were the true difference the one seen, about {count(needed, 'episode')} a task would show it "
            "as often"
        )
    return told
