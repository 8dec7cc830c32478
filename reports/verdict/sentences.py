"""A verdict in sentences, as the command line, JUnit files and summaries of CI print it."""

from __future__ import annotations

from lram.harness.words import count
from lram.reports import text
from lram.reports.model import Estimate
from lram.reports.verdict.judging import Verdict


def three(value: float) -> str:
    """Return a difference of scores as verdicts have it."""
    return text.number(value, 3)


def equals(p: float | None) -> str:
    """Return a p-value behind ``p``: ``= 0.012`` or ``< 0.001``."""
    shown = text.p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def interval(found: Estimate, level: float) -> str:
    """Return the interval of a difference, or why it has none."""
    if found.interval is None:
        return f"no interval: {found.note}"
    return f"{100 * level:.3g}% interval {text.span(found, three)}"


def scores_more(first: str, second: str, difference: float) -> str:
    """Return who scores how much more or less than whom."""
    return f"{first} scores {three(abs(difference))} {'more' if difference >= 0 else 'less'} than {second}"


def lines(verdict: Verdict) -> list[str]:
    """Return a verdict in sentences."""
    found = verdict.difference
    if found is None:
        sentences = [f"not comparable: {verdict.reason}"]
    else:
        sentences = [
            f"{verdict.word}: {scores_more(verdict.first, verdict.second, found.value)} "
            f"({three(found.value)}, {interval(found, verdict.level)}, p {equals(verdict.p)})",
            f"rests on {count(verdict.tasks, 'task')} of {text.names(verdict.domains)}, "
            f"{count(verdict.episodes, 'pair')} of episodes that began alike",
        ]
        sentences += [*_scope(verdict), *_reach(verdict)]
    return [*sentences, *(f"note: {note}" for note in verdict.notes)]


def _scope(verdict: Verdict) -> list[str]:
    """Return what kind of outcomes a verdict is about."""
    if verdict.word not in ("better", "worse") or verdict.unseen_rate is None:
        return []
    return [
        "as far as outcomes were seen: one that comes in fewer than "
        f"{text.percent(verdict.unseen_rate)} of 100 episodes of a task may not be among them"
    ]


def _reach(verdict: Verdict) -> list[str]:
    """Return what the evidence could show, and what it would take to show more."""
    found = verdict.difference
    if found is not None and found.value == 0 and verdict.p == 1 and found.interval is None:
        return ["all pairs of episodes ended alike", *filter(None, [verdict.not_detectable])]
    if verdict.detectable is None:
        return [verdict.not_detectable]
    per_task = verdict.episodes / verdict.tasks
    sentences = [
        f"with {per_task:.3g} episodes a task, true differences of {verdict.detectable:.3f} and more are "
        "shown four times in five, if the noise is what was seen"
    ]
    needed = verdict.episodes_needed
    if verdict.word == "no difference shown" and needed is not None and needed > per_task:
        sentences.append(
            f"were the true difference the one seen, about {count(needed, 'episode')} a task would show it "
            "as often"
        )
    return sentences
