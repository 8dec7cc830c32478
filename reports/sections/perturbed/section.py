"""The section "what agents did not see": scores with perturbed observations, beside those without.

It is there where runs under a protocol that perturbs another, such as ``dmcontrol=positions`` or
``dmcontrol=delay-4``, are reported; together with runs of the unperturbed protocol it compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from lram.harness.storage.run_folder import Run
from lram.reports import forms, text
from lram.reports.evidence.collect import gathered
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Caveat
from lram.reports.samples import Resampling
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.perturbed.model import Perturbed, PerturbedResult, estimate_perturbed
from lram.reports.table import Column, Table, hidden, words

KEY = "perturbed"
TITLE = "What agents did not see"
LEVEL, RESAMPLES = 0.95, 2000


def section(runs: Sequence[Run] | Evidence, settings: SectionSettings | None = None) -> Section | None:
    """Return the section on perturbed observations; None where no run perturbs them.

    Args:
        runs: Evaluations, or what was collected from them (:mod:`lram.reports.evidence.perturbed`).
        settings: Seed of the sign flips, and whose references scores have.

    Raises:
        LramError: The runs do not go together, or one is damaged.
    """
    settings = settings or SectionSettings()
    evidence = gathered(runs, settings.normaliser)
    result = estimate_perturbed(evidence, Resampling(settings.seed, RESAMPLES, LEVEL))
    if result is None:
        return None
    return Section(
        key=KEY,
        title=TITLE,
        lead=_lead(result),
        tables=[_table(result)] if result.rows else [],
        summary=msgspec.to_builtins(result),
        caveats=[*(Caveat("perturbed-alone", line) for line in _alone(result)), *_failed(result)],
        methods=_METHODS if result.rows else (),
    )


_METHODS = (
    (
        "Perturbed observations",
        "Protocols that perturb what agents see keep seeds, dynamics and rewards, so episodes pair up with "
        "those of "
        "the unperturbed protocol. The difference is perturbed minus unperturbed, in the mean of domain "
        "means over "
        "the tasks and episodes that both have, tested by sign flips of the pairs and corrected (Holm) for "
        "all rows. "
        "All other sections of the report are about the unperturbed runs only.",
    ),
)


def _lead(result: PerturbedResult) -> tuple[str, ...]:
    if not result.rows:
        return tuple(_alone(result))
    scores = [
        f"{row.name} under {row.protocol}: {forms.two(row.score)} instead of {forms.two(row.without or 0.0)}"
        for row in result.rows
        if row.score is not None
    ]
    return (
        "The same episodes with parts of the observations hidden, late or lost, and without: what is not "
        "seen has to "
        "be remembered or inferred. All else in this report is about the unperturbed runs.",
        f"Mean normalised score: {'; '.join(scores)}." if scores else _without_scores(result),
        *_alone(result),
    )


def _without_scores(result: PerturbedResult) -> str:
    if any(row.difference.reason for row in result.rows):
        return "No agent's scores under both protocols compare: episodes failed by its own errors."
    return "No episode was scored under both protocols: play the same agents, tasks and --seed under both."


def _alone(result: PerturbedResult) -> list[str]:
    return [
        f"The tasks under {protocol} stand without their unperturbed arm, so their scores do not say what "
        f"the "
        f"perturbation costs; play the same with --protocol {base.partition('@')[0].replace(':', '=')} and "
        "report both runs together."
        for protocol, base in result.alone
    ]


def _failed(result: PerturbedResult) -> Iterator[Caveat]:
    """Yield which rows are not compared because of the agent's own failures."""
    failed = tuple(f"{row.name}: {row.difference.reason}" for row in result.rows if row.difference.reason)
    if failed:
        yield Caveat(
            "perturbed-failed",
            "These agents failed by their own errors under one of the two protocols, and no least return is "
            "known that such episodes could count with: what the perturbation costs them is not comparable.",
            failed,
        )


def _table(result: PerturbedResult) -> Table[Perturbed]:
    columns: list[Column[Perturbed]] = [
        hidden("agent", lambda row: row.agent),
        words("Agent", "", lambda row: row.name),
        words("Protocol", "protocol", lambda row: row.protocol),
        words("against", "base", lambda row: row.base),
        Column("Tasks", "tasks", lambda row: row.tasks, flag=_fewer),
        hidden("of_tasks", lambda row: row.of_tasks),
        Column("Episodes", "episodes", lambda row: row.difference.episodes),
        Column("Without", "without", lambda row: row.without, forms.numbers(forms.three)),
        Column("With", "score", lambda row: row.score, forms.numbers(forms.three)),
        Column(
            "Difference",
            "difference",
            lambda row: row.difference.difference,
            forms.estimates(forms.three),
            flag=_not_compared,
            parts=forms.ENDS,
        ),
        Column("p", "p", lambda row: row.difference.p, forms.p_values),
        Column("p, Holm", "p_holm", lambda row: row.difference.p_holm, forms.p_values),
    ]
    caption = (
        "Normalised scores with and without the perturbation, on the tasks and episodes that both have, and "
        "their "
        f"difference with its {result.level:.0%} interval by sign flips of the pairs."
    )
    return Table("perturbed-scores", caption, columns, result.rows, "perturbed_scores")


def _not_compared(row: Perturbed) -> str:
    return "not comparable" if row.difference.reason else ""


def _fewer(row: Perturbed) -> str:
    return f"of {text.count(row.of_tasks, 'task')}" if row.tasks < row.of_tasks else ""


SPEC = SectionSpec(KEY, "", section)
