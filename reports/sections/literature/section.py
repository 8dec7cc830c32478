"""The section "published numbers": what others reached on the report's tasks, where it compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from lram.harness.storage.run_folder import Run
from lram.reports import text
from lram.reports.evidence.collect import gathered
from lram.reports.evidence.evidence import Evidence
from lram.reports.literature import Literature
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.literature.model import literature_of, shared_means
from lram.reports.sections.literature.tables import tables

KEY = "literature"
TITLE = "Published numbers"


def section(runs: Sequence[Run] | Evidence, settings: SectionSettings | None = None) -> Section | None:
    """Return the section on what is published of the tasks of ``runs``; None where nothing is.

    Args:
        runs: Evaluations, or what was collected from them.
        settings: Whose references scores have; evidence has its own already.

    Raises:
        LramError: The runs do not go together, or one is damaged.
    """
    evidence = gathered(runs, (settings or SectionSettings()).normaliser)
    found = literature_of(evidence)
    if not found:
        return None
    means = shared_means(evidence, found)
    return Section(
        key=KEY,
        title=TITLE,
        lead=_lead(found),
        tables=tables(found, means, evidence.normaliser),
        summary={
            "normaliser": evidence.normaliser,
            "means": msgspec.to_builtins(means),
            "tasks": msgspec.to_builtins(found.scores),
            "not_shown": msgspec.to_builtins(found.unmatched),
        },
        methods=_METHODS,
    )


_METHODS = (
    (
        "Published numbers",
        "A published number stands beside a report's own only where its protocol gives the same law of "
        "returns as the one that the task was played under and, if it is a score, where its normaliser is "
        "the report's. Published raw returns are normalised with the report's references. The simulator's "
        "version may differ. The numbers are copied from the sources' files; their ranges over training runs "
        "are no intervals of this report, and no difference from them is tested. 'lram literature' lists all "
        "that come with the package, with sources.",
    ),
)


def _lead(found: Literature) -> tuple[str, ...]:
    domains = list(dict.fromkeys(task.id.partition("/")[0] for task in found.tasks))
    shown = [
        f"{system} in {domain} ({_reach(found, system, domain)})"
        for domain in domains
        for system in found.systems(domain)
    ]
    if shown:
        first = (
            f"Under the protocol of this report's tasks there are published numbers of {text.names(shown)}. "
            "They were not measured here; what they rest on stands in the tables."
        )
    else:
        first = "No published number of this report's tasks that comes with the package has their protocol."
    left = [
        f"{system} ({domain}, {text.count(number, 'task')})" for system, domain, number in _left_out(found)
    ]
    if not left:
        return (first,)
    return (first, f"Left out, for the reasons that the last table gives: {text.names(left)}.")


def _left_out(found: Literature) -> Iterator[tuple[str, str, int]]:
    """Yield systems with the number of tasks of a domain of which no number of theirs agrees."""
    others: dict[tuple[str, str], set[str]] = {}
    for one in found.unmatched:
        others.setdefault((one.system, one.domain), set()).update(one.tasks)
    for (system, domain), tasks in others.items():
        if lacking := tasks - set(found.of(system, domain)):
            yield system, domain, len(lacking)


def _reach(found: Literature, system: str, domain: str) -> str:
    inside = sum(task.id.partition("/")[0] == domain for task in found.tasks)
    return f"{len(found.of(system, domain))} of {text.count(inside, 'task')}"


SPEC = SectionSpec(KEY, "", section)
