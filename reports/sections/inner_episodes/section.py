"""The section "score by episode within the context": do agents get better from one inner episode to the next?

It is there where an evaluation's episodes are trials of several inner episodes (Dark-Room), of which the
agent remembers the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lram.harness.storage.run_folder import Run
from lram.reports import text
from lram.reports.evidence.collect import gathered
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Caveat
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.inner_episodes.figures import parts_figure
from lram.reports.sections.inner_episodes.model import (
    LEVEL,
    InnerEpisodeCurve,
    PartsResult,
    estimate_parts,
)
from lram.reports.sections.inner_episodes.tables import tables
from lram.reports.statistics import fewest_pairs

KEY = "parts"
"""In ``summary.json`` it is older than the folder's name."""

TITLE = "Score by episode within the context"


def section(runs: Sequence[Run] | Evidence, settings: SectionSettings | None = None) -> Section | None:
    """Return the section on the inner episodes of ``runs``; None where no record has any.

    Args:
        runs: Evaluations, or what was collected from them.
        settings: Seed of the resampling, and models to compare.

    Raises:
        LramError: The runs do not go together, or one is damaged.
    """
    settings = settings or SectionSettings()
    evidence = gathered(runs)
    result = estimate_parts(evidence, settings.seed, settings.pairs)
    if result is None:
        return None
    return Section(
        key=KEY,
        title=TITLE,
        lead=_lead(result),
        tables=tables(result, evidence),
        drawings=(parts_figure(result),),
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
    better = []
    for name in dict.fromkeys(curve.name for curve in improving):
        where = [_group_words(result, curve.group) for curve in improving if curve.name == name]
        played = sum(curve.name == name for curve in result.curves)
        better.append(f"{name} (everywhere)" if len(where) == played > 1 else f"{name} ({', '.join(where)})")
    found = (
        f"The last inner episode earned more than the first (p < 0.05, corrected) for: {'; '.join(better)}."
        if better
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
    failed = (
        (
            Caveat(
                "parts-failed",
                "In these pairs one model failed trials through its own errors. The trials that are left "
                "would flatter it, so the pairs are not compared.",
                result.not_compared,
            ),
        )
        if result.not_compared
        else ()
    )
    lacking = [curve for curve in result.curves if curve.trials < curve.of_trials]
    if not lacking:
        return failed
    listed = ", ".join(
        f"{c.name} {c.trials} of {c.of_trials} ({_group_words(result, c.group)})" for c in lacking
    )
    words = f"Curves by inner episode rest on fewer trials than were planned: {listed}."
    return (Caveat("parts", words), *failed)


def _gains_shown(curve: InnerEpisodeCurve, level: float) -> bool:
    p = curve.gain_p_holm
    return p is not None and p < 1 - level and curve.gain.value > 0


SPEC = SectionSpec(KEY, "", section)
