"""Who is better, in sentences that say no more than the tests do."""

from __future__ import annotations

from collections.abc import Sequence

from lram.reports import text
from lram.reports.answer.ranking import RankedAgent
from lram.reports.comparison.worlds import waiting, worlds
from lram.reports.model import Estimate, Summary

_NAMED = 3


def verdict(summary: Summary, ranking: Sequence[RankedAgent]) -> str:
    """Return what the scores say; empty where there is no agent."""
    if not ranking:
        return ""
    ranks = [one for one in ranking if one.rank is not None]
    entered = [one for one in ranks if one.agent.realtime_hz == ranks[0].agent.realtime_hz]
    apart = ranks[len(entered) :]
    others = [one.agent.name for one in ranking if one.rank is None]
    if not entered:
        return f"No score compares yet: {_reason(summary)}."
    first = entered[0]
    scale = text.SCALE
    assert first.estimate is not None
    score = _score(first.estimate)
    top = [one for one in entered if one.estimate and one.estimate.value == first.estimate.value]
    if len(entered) == 1:
        said = f"{first.agent.name} scores {score} {scale}"
    elif len(top) > 1:
        if any(one.estimate != first.estimate for one in top):  # equal means of unequal noise
            score = text.number(first.estimate.value, 2)
        named = text.names_up_to([one.agent.name for one in top], _NAMED)
        said = f"{named} have the highest score, {score} {scale}{_all_against(top, entered)}"
    else:
        said = f"{first.agent.name} has the highest score, {score} {scale}{_against(first, entered)}"
    if others:
        has = "has" if len(others) == 1 else "have"
        said += f". {text.names_up_to(others, _NAMED)} {has} no score on some of the tasks and no rank"
    if apart:
        said += f". {_apart(apart)}"
    return f"{said}."


def _apart(others: Sequence[RankedAgent]) -> str:
    """Return that ``others`` acted in worlds of other rates than the first agents."""
    rates = sorted({one.agent.realtime_hz for one in others})
    where = f"a world {waiting(rates[0])}" if len(rates) == 1 else worlds(rates)
    names = text.names_up_to([one.agent.name for one in others], _NAMED)
    return f"{names} acted in {where}, and {'is' if len(others) == 1 else 'are'} ranked apart"


def _score(estimate: Estimate) -> str:
    shown = text.number(estimate.value, 2)
    return (
        f"{shown} {text.span(estimate, lambda value: text.number(value, 2))}" if estimate.interval else shown
    )


def _against(first: RankedAgent, entered: Sequence[RankedAgent]) -> str:
    """Return against whom that is shown."""
    name = {one.agent.label: one.agent.name for one in entered}
    return text.shown_better([name[label] for label in first.beats], [name[label] for label in first.open])


def _all_against(top: Sequence[RankedAgent], entered: Sequence[RankedAgent]) -> str:
    """Return against whom it is shown of each of ``top``, whose scores are equal."""
    others = [one.agent for one in entered if one not in top]
    beaten = [other.name for other in others if all(other.label in one.beats for one in top)]
    unclear = [other.name for other in others if other.name not in beaten]
    if not others:
        return "; none of them is shown to be better than another"
    if not unclear:
        return f"; each of them is shown to be better than {text.names_up_to(beaten, _NAMED)}"
    if not beaten:
        return f"; not each of them is shown to be better than {text.names_up_to(unclear, _NAMED)}"
    return (
        f"; each of them is shown to be better than {text.names_up_to(beaten, _NAMED)}, but not than "
        f"{text.names_up_to(unclear, _NAMED)}"
    )


def _reason(summary: Summary) -> str:
    if not any(agent.scored for agent in summary.agents):
        return "no episode has been scored"
    if all(task.audit for task in summary.tasks):
        return "no task has a usable score reference; the tables have the returns"
    return "every agent lacks scores on some of the planned tasks; the tables have what there is"
