"""The section "score against the dial": what models can remember and track, and where they fail.

It is there where an evaluation has tasks that differ in one number (:class:`lram.envs.task.Dial`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lram.harness.storage.run_folder import Run
from lram.reports import text
from lram.reports.evidence.collect import gathered
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import Caveat
from lram.reports.samples import Resampling
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.dials.failing import HALF
from lram.reports.sections.dials.model import DialCurve, DialsResult, estimate_dials
from lram.reports.sections.dials.tables import BEYOND, tables

KEY = "dials"
TITLE = "Score against the dial"
LEVEL = 0.95
_NAMED = 12  # agents that the lead tells of for each family


def section(runs: Sequence[Run] | Evidence, settings: SectionSettings | None = None) -> Section | None:
    """Return the section on the dials of ``runs``; None where no family of tasks has two values.

    Args:
        runs: Evaluations, or what was collected from them.
        settings: Whose references scores have; evidence has its own already.

    Raises:
        LramError: The runs do not go together, or one is damaged.
    """
    settings = settings or SectionSettings()
    evidence = gathered(runs, settings.normaliser)
    result = estimate_dials(evidence, Resampling(settings.seed, 0, LEVEL))
    if result is None:
        return None
    if not result.curves:
        return Section(
            KEY, TITLE, _lead(result), caveats=_caveats(result), summary=msgspec.to_builtins(result)
        )
    from lram.reports.sections.dials.figures import dial_figures  # loads matplotlib

    return Section(
        key=KEY,
        title=TITLE,
        lead=_lead(result),
        tables=tables(result),
        drawings=dial_figures(result),
        summary=msgspec.to_builtins(result),
        caveats=_caveats(result),
        methods=_METHODS,
    )


_METHODS = (
    (
        "Score against the dial",
        "A family is the tasks of a domain that differ in one number, the dial. The score at a value is the "
        "mean "
        "normalised score of its episodes (0: chance, 1: the best), its interval Wilson's where every "
        "episode has "
        "the least or the greatest score there is, and Student's, corrected for skewness, elsewhere. The "
        "noise "
        "between training runs is in none of it.",
    ),
    (
        "Fails at",
        f"The smallest value measured at which the mean score is below {HALF:g}. Its interval begins at the "
        "smallest value that is not shown to be held (the lower bound of its mean, one-sided at half of the "
        "error, "
        f"is below {HALF:g}) and ends at the smallest that is shown to fail (the upper bound, at half of "
        f"the error "
        "divided by the number of values less one, is below it). By the union bound it holds the point as "
        "often as "
        "it says, however scores go up and down between the values. Where the range of returns is known, "
        "both bounds come from a test by betting (Waudby-Smith and Ramdas 2024), which holds for every law "
        "on that range and any number of episodes; elsewhere they are Student's. The point is one of the "
        "values measured: more values between them tell it more finely.",
    ),
)


def _lead(result: DialsResult) -> tuple[str, ...]:
    if not result.curves:
        return (_unknown(result),)
    first = (
        f"{text.count(len(result.families), 'family', 'families')} of tasks in which one number is the "
        f"difficulty: "
        f"{text.names_up_to([f'{one.family} ({one.unit})' for one in result.families])}. Each score is held "
        "against chance (0) and the best possible (1), both known beforehand. Where it is not shown at which "
        "value an agent fails first, the values between which it does stand in parentheses "
        f"({result.level:.0%} certainty over episodes)."
    )
    sentences = [line for index in range(len(result.families)) if (line := _family(result, index))]
    return (first, *sentences)


def _family(result: DialsResult, index: int) -> str:
    curves = [curve for curve in result.curves if curve.family == index]
    parts = [f"{curve.name} {_where(curve)}" for curve in curves[:_NAMED]]
    more = f"; {len(curves) - _NAMED} more in the table" if len(curves) > _NAMED else ""
    return f"{result.families[index].family}: {'; '.join(parts)}{more}." if parts else ""


def _where(curve: DialCurve) -> str:
    """Return where an agent fails, as a fact where one value alone is left, and in doubt elsewhere."""
    point, smallest, largest = curve.failing, curve.points[0].dial, curve.largest
    shown = point.low == point.high
    again = "" if point.again is None else f", with a mean of {HALF:g} or more again at {point.again}"
    if not shown and point.low == smallest and point.high is None:
        seen = (
            f"no mean is below {HALF:g}" if point.at is None else f"mean below {HALF:g} first at {point.at}"
        )
        return f"cannot tell ({seen}{again})"
    ends = (f"{BEYOND} {largest}" if end is None else str(end) for end in (point.low, point.high))
    between = "" if shown else f" ({' to '.join(ends)})"
    if point.at is None:
        holds = "holds" if shown else "seems to hold"
        return f"{holds} up to the largest value, {largest}{between}"
    if point.held is None:
        fails = "fails" if shown else "seems to fail"
        return f"{fails} already at the smallest value, {point.at}{between}{again}"
    holds, fails = ("holds", "fails") if shown else ("seems to hold", "to fail")
    return f"{holds} up to {point.held} and {fails} at {point.at}{between}{again}"


def _unknown(result: DialsResult) -> str:
    domains = text.names(result.unknown)
    return (
        f"Whether the tasks of {domains} have a dial is not known here, for the domain is not installed; "
        f"install "
        "it and report again to draw scores against it."
    )


def _caveats(result: DialsResult) -> tuple[Caveat, ...]:
    found = [Caveat("dials-unknown", _unknown(result))] if result.unknown else []
    lacking = [
        f"{curve.name} on {point.task}: {point.episodes} of {point.of_episodes}"
        for curve in result.curves
        for point in curve.points
        if point.episodes < point.of_episodes
    ]
    if lacking:
        found.append(
            Caveat(
                "dials-episodes",
                "Points of curves against the dial rest on fewer episodes than planned.",
                tuple(lacking),
            )
        )
    gaps = [
        f"{curve.name} on {result.families[curve.family].family}"
        for curve in result.curves
        if len(curve.points) < len(result.families[curve.family].dials)
    ]
    if gaps:
        found.append(
            Caveat(
                "dials-gaps",
                "Curves against the dial lack values that were planned (not played, or without a usable "
                "score): "
                "where such an agent fails is estimated from the others.",
                tuple(gaps),
            )
        )
    return tuple(found)


SPEC = SectionSpec(KEY, "", section)
