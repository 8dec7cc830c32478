"""``lram compare``: a verdict on two checkpoints, or on two models over their trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from lram.envs.scores import Normaliser, audit, normalised_by
from lram.harness.cli.exits import VERDICTS
from lram.harness.cli.options import JsonOption, NormaliserOption
from lram.harness.cli.printing.ci import append_whole, check_junit, step_summary_file, write_junit
from lram.harness.cli.printing.output import print_json
from lram.harness.errors import ROOTS, LramError
from lram.harness.storage.listing import show_not_read
from lram.harness.storage.run_folder import load_runs
from lram.harness.waiting import still
from lram.harness.words import one_line

if TYPE_CHECKING:
    from lram.harness.storage.records import PlannedTask
    from lram.harness.storage.run_folder import Run
    from lram.reports.verdict.gate import GateCase
    from lram.reports.verdict.judging import Verdict
    from lram.reports.verdict.models import ModelsVerdict


def compare(
    first: Annotated[
        str,
        Parameter(
            help="Label of an agent in --runs, a run's folder, or FOLDER:LABEL; with --seeds-of, a model."
        ),
    ],
    second: Annotated[str, Parameter(help="The agent it is compared with, named in the same way.")],
    /,
    *,
    runs: Annotated[
        list[Path] | None,
        Parameter(
            name=["--runs", "-r"],
            help="Folder of a run in which labels are looked up; repeat it for several.",
            negative=(),
        ),
    ] = None,
    seeds_of: Annotated[
        list[str] | None,
        Parameter(
            help="Compare models instead of checkpoints: agents of --runs that are trainings of one model "
            "with different seeds, as NAME=A,B,C or NAME='a-*'; once for each of the two, which FIRST and "
            "SECOND then name.",
            negative=(),
        ),
    ] = None,
    level: Annotated[
        float, Parameter(help="Level of the interval; a verdict needs p below 1 minus it.")
    ] = 0.95,
    seed: Annotated[int, Parameter(help="Seed of the sign flips behind interval and p.")] = 0,
    normaliser: NormaliserOption = "paper",
    json: JsonOption = False,
    junit: Annotated[
        Path | None,
        Parameter(
            help="Also write a JUnit XML file: a test for the comparison, and one for each domain (of one "
            "domain: each task). A regression fails; 'not comparable' is an error."
        ),
    ] = None,
    github_summary: Annotated[
        bool,
        Parameter(
            help="Also add the verdict to the file that GITHUB_STEP_SUMMARY names, as GitHub shows it.",
            negative=(),
        ),
    ] = False,
) -> int:
    """Say whether a checkpoint is better than another, by how much, and what it would take to tell.

    Compares episodes that began alike, by normalised score, as reports do. With --seeds-of, models by
    their trainings: the test is over training seeds, and needs three of each.

    As a gate of CI, --junit and --github-summary show the verdict where a job's results are looked at.

    Exit codes: 0 better, 10 no difference shown, 11 worse, 12 not comparable, 2 bad input.

    Example: lram compare "small-xlstm[7:1]" small-mamba --runs runs/first
    """
    summary = step_summary_file() if github_summary else None
    if junit is not None:
        check_junit(junit)
    gate = _Gate(first, second, level, seed, junit, summary)
    with gate.refusals():
        if not 0.5 <= level <= 0.999:  # 2,000 sign patterns tell no p below 0.0005
            raise LramError(f"--level is a share from 0.5 to 0.999, such as 0.95, not {level:g}")
        with still("reading and comparing the runs"):
            opened = load_runs(runs or ())
            made = _models if seeds_of else _checkpoints
            found = made(first, second, opened, seeds_of or (), seed, level, normaliser)
    if json:
        print_json({**found.plain, "normaliser": normaliser, "unscored": found.unscored})
    else:
        print("\n".join(map(one_line, [*found.lines, *found.notes])))
    gate.write(found, normaliser)
    return VERDICTS[found.word]


@dataclass(frozen=True)
class _Comparison:
    """What was found, for each that reads it.

    Attributes:
        word: The verdict's.
        plain: Its fields.
        lines: The same in sentences.
        notes: On references, beside them.
        unscored: Tasks without a normalised score, and why.
        cases: Makes the cases of a gate.
    """

    word: str
    plain: Mapping[str, Any]
    lines: Sequence[str]
    notes: Sequence[str]
    unscored: Mapping[str, str]
    cases: Callable[[], Sequence[GateCase]]


def _checkpoints(
    first: str,
    second: str,
    runs: Sequence[Run],
    seeds_of: Sequence[str],
    seed: int,
    level: float,
    normaliser: Normaliser,
) -> _Comparison:
    from lram.reports.verdict.gate import cases
    from lram.reports.verdict.judging import judge_pairs
    from lram.reports.verdict.parts import judge_parts
    from lram.reports.verdict.sentences import lines
    from lram.reports.verdict.sides import find_side

    sides = [replace(find_side(text, runs), normaliser=normaliser) for text in (first, second)]
    show_not_read({run.path: None for side in sides for run in side.runs})
    judged = judge_pairs(*sides, seed=seed, level=level)
    verdict = judged.verdict
    return _comparison(
        verdict,
        lines(verdict),
        [side.runs for side in sides],
        normaliser,
        lambda notes: cases(verdict, judge_parts(judged), notes),
    )


def _models(
    first: str,
    second: str,
    runs: Sequence[Run],
    seeds_of: Sequence[str],
    seed: int,
    level: float,
    normaliser: Normaliser,
) -> _Comparison:
    from lram.reports.evidence.collect import collect
    from lram.reports.seed_groups import read_seed_groups
    from lram.reports.verdict.model_cases import lines, model_cases
    from lram.reports.verdict.models import judge_models

    if not runs:
        raise LramError("--seeds-of names agents of runs, and no run is named; name them with --runs")
    labels = [agent.label for run in runs for agent in run.plan.agents]
    models = {model.name: model for model in read_seed_groups(seeds_of, labels)}
    for name in (first, second):
        if name not in models:
            raise LramError(
                f"{name!r} is no model of --seeds-of, which names {', '.join(models)}; add --seeds-of "
                f"'{name}=A,B,C' with the labels of its trainings"
            )
    if first == second:
        raise LramError(f"{first!r} is compared with itself; name two models")
    sides = (models[first], models[second])
    show_not_read({run.path: None for run in runs})
    verdict, parts = judge_models(collect(runs, normaliser), *sides, level)
    return _comparison(
        verdict,
        lines(verdict),
        [[run for run in runs if any(one.label in side.agents for one in run.plan.agents)] for side in sides],
        normaliser,
        lambda notes: model_cases(verdict, parts, notes),
    )


def _comparison(
    verdict: Verdict | ModelsVerdict,
    lines: Sequence[str],
    runs: Sequence[Sequence[Run]],
    normaliser: Normaliser,
    cases: Callable[[Sequence[str]], Sequence[GateCase]],
) -> _Comparison:
    """Return a verdict with what is to be known of its references; ``runs`` are those of each side."""
    unscored = _unscored([[one for run in side for one in run.plan.tasks] for side in runs], normaliser)
    notes = list(_references(normaliser, unscored))
    return _Comparison(
        verdict.word, msgspec.to_builtins(verdict), lines, notes, unscored, lambda: cases(notes)
    )


@dataclass(frozen=True)
class _Gate:
    """What a job of CI is given beside the exit code; nothing where no file is named."""

    first: str
    second: str
    level: float
    seed: int
    junit: Path | None
    summary: Path | None

    def write(self, found: _Comparison, normaliser: str) -> None:
        """Write the cases of a comparison."""
        if self.junit is None and self.summary is None:
            return
        about = {
            "first": found.plain["first"],
            "second": found.plain["second"],
            "level": f"{self.level:g}",
            "seed": str(self.seed),
            "normaliser": normaliser,
        }
        with still("comparing domains or tasks"):
            made = found.cases()
        self._write(made, about)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Write what refuses a comparison as its error, so that no earlier job's file is read."""
        try:
            yield
        except ROOTS as error:
            from lram.reports.verdict.gate import refused

            self._write(refused(self.first, self.second, str(error)), {})
            raise

    def _write(self, found: Sequence[GateCase], about: Mapping[str, str]) -> None:
        if self.junit is not None:
            from lram.reports.verdict.junit import junit_xml

            write_junit(self.junit, junit_xml(found, about))
        if self.summary is not None:
            from lram.reports.verdict.step_summary import step_summary

            append_whole(self.summary, step_summary(found))


def _unscored(sides: Sequence[Sequence[PlannedTask]], normaliser: Normaliser) -> dict[str, str]:
    """Return the tasks of both sides that have no normalised score, and why."""
    planned = [{one.task.id: one for one in side} for side in sides]
    rows = {
        task: normalised_by(normaliser, one.task, one.protocol)
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
