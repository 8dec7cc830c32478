"""How numbers read."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence

from lram.agents.shown import few
from lram.envs.scores import Normaliser
from lram.harness.words import count as count
from lram.reports.model import ALL_EQUAL, BORROWED, FEW, UNSIMULATED, Doubt, Estimate

NONE = "–"

MARKS: dict[Doubt, str] = {FEW: "†", BORROWED: "‡", UNSIMULATED: "§"}
"""The sign of each doubt, behind the interval."""

_LEGEND: dict[Doubt, str] = {
    FEW: (
        "Few episodes: holds for returns near a normal law; of skewed returns such intervals held the truth "
        "in 83 to 99 of 100 simulated evaluations, and in far fewer where a rare event, not seen, decides."
    ),
    BORROWED: (
        "Borrowed noise: a task with one episode, or with equal ones and much weight, is taken to be as "
        "noisy as its neighbours."
    ),
    UNSIMULATED: (
        "Not simulated: a bootstrap interval of a metric for which its coverage is not known. For the least "
        "of 50 tasks' means such intervals held the truth in 58 to 92 of 100 simulated evaluations."
    ),
}


def number(value: float, digits: int) -> str:
    """Return ``value`` with ``digits`` decimals and a true minus sign; no minus before zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def figures(value: float) -> str:
    """Return ``value`` at four significant digits, with an exponent from a million on and below 0.0001."""
    scientific = f"{value:.3e}"
    exponent = int(scientific.partition("e")[2] or 0)
    if value and not -4 <= exponent < 6:
        return scientific.replace("-", "−")
    return number(value, max(0, 3 - exponent))


def percent(share: float, digits: int = 0) -> str:
    """Return a share as per cent with ``digits`` decimals; with more where these would say 0 or 100 of a
    share that is neither, such as 199 of 200.
    """
    for more in range(_MORE_DIGITS):
        shown = number(100 * share, digits + more)
        if share in (0.0, 1.0) or float(shown.replace("−", "-")) not in (0.0, 100.0):
            return shown
    return number(100 * share, digits)  # next to 0 or 1 by rounding alone


_MORE_DIGITS = 6


def p_value(p: float | None) -> str:
    """Return a p-value as papers print it."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else number(p, 3)


def span(estimate: Estimate, form: Callable[[float], str]) -> str:
    """Return the interval in brackets, its ends written by ``form``, or why there is none.

    A sign behind it stands for each doubt; :func:`legend` explains them.
    """
    if estimate.interval is None:
        return ALL_EQUAL if estimate.note == ALL_EQUAL else "no interval"
    signs = "".join(MARKS[doubt] for doubt in estimate.interval.doubts)
    return f"[{form(estimate.interval.low)}, {form(estimate.interval.high)}]{signs}"


def legend(cells: Iterable[str]) -> str:
    """Return a sentence for each sign of doubt in ``cells``, with a space before it; empty without any."""
    found = list(cells)
    return "".join(
        f" {sign} {_LEGEND[doubt]}" for doubt, sign in MARKS.items() if any(sign in cell for cell in found)
    )


def names(items: Iterable[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    listed = list(items)
    if not listed:
        return "none"
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def names_up_to(items: Sequence[str], limit: int = 12) -> str:
    """Return ``a, b and c`` or, beyond ``limit`` items, ``a, b and 7 more``."""
    return names(items) if len(items) <= limit else listing(items, limit)


SCALE = "on a scale from random play (0) to the reference (1)"
"""What a normalised score is, behind the first one of a page."""


def shown_better(beaten: Sequence[str], unclear: Sequence[str]) -> str:
    """Return the end of a sentence on the first of several: whom it is shown to be better than, and whom not.

    One of the two sequences has a name.
    """
    if not unclear:
        only = beaten[0] if len(beaten) == 1 else f"each of the {len(beaten)} others"
        return f", and is shown to be better than {only}"
    if not beaten:
        only = unclear[0] if len(unclear) == 1 else f"any of the {len(unclear)} others"
        return f", but is not shown to be better than {only}"
    return f"; it is shown to be better than {names_up_to(beaten, 3)}, but not than {names_up_to(unclear, 3)}"


def parameters(value: int | None) -> str:
    """Return a number of weights as ``16.0M``."""
    return NONE if value is None else f"{value / 1e6:.1f}M" if value >= 1e5 else str(value)


def duration(seconds: float) -> str:
    """Return a time in the unit that it has two or more of."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{number(seconds / length, 1)} {unit}"
    return f"{number(seconds, 1)} s"


def score_words(normaliser: Normaliser) -> str:
    """Return the sentence to add where scores are shown; empty for the paper's references, the usual ones."""
    if normaliser == "paper":
        return ""
    return f" Scores by {normaliser}: 0 is random play as measured here, 1 the source's reference."


def listing(items: Sequence[str], limit: int = 12) -> str:
    """Return ``a, b`` or, beyond ``limit`` items, ``a, b and 7 more``."""
    return few(items, limit)


def reason_without(task: str, reason: str) -> str:
    """Return why an agent cannot play ``task`` without the task's name, so that equal reasons group."""
    general = reason.replace(f" for {task}", "").replace(task, "the task")
    return general.removeprefix("there is ")


def shortened(message: str, limit: int = 300) -> str:
    """Return a message on one line, its middle left out beyond ``limit`` characters."""
    line = " ".join(message.split())
    half = limit // 2
    return line if len(line) <= limit else f"{line[:half]} … {line[-half:]}"


_PARSED = 10_000
"""Characters of a setting that is read as Python's notation; longer ones are printed as they are."""


def setting(value: str) -> str:
    """Return a setting of a run's provenance; one that is a mapping in Python's notation as pairs."""
    try:
        found = ast.literal_eval(value) if value.startswith("{") and len(value) <= _PARSED else value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
    if not isinstance(found, dict):
        return value
    return ", ".join(f"{name} {entry}" for name, entry in found.items()) or "none"
