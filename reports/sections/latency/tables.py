"""The tables of latencies, for people: times, crossovers, control rates, fairness, audits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lram.harness.latency.records import OK
from lram.reports import text
from lram.reports.readiness import LEVEL, SHARE, decisions_needed, processes_like_these
from lram.reports.sections.latency.analysis import ENOUGH, FEWEST, RATES
from lram.reports.sections.latency.model import Clock, Fit, Middle, Result
from lram.reports.views import EMPTY, Cell, Table, columns, integer

_KEY = "latency"


def curves(result: Result) -> Table:
    """Return the times and the memory of every agent, batch and context."""
    headings = ["Agent", "Lanes", "Context", "Decisions", "Agent step, ms", "p90", "p99", "Model step, ms"]
    headings += ["Loop, ms", "State or cache", "Peak memory"]
    rows = []
    for spot in result.spots:
        flag = "" if spot.outcome == OK else spot.outcome
        if spot.audit == "failed":
            flag = "faster on inputs that it has seen"
        name = Cell(result.subjects[spot.subject].name, flag=flag)
        head = (name, integer(spot.batch), integer(spot.context))
        if spot.agent is None:
            rows.append((*head, *[EMPTY] * 8))
            continue
        rows.append(
            (
                *head,
                Cell(str(spot.agent.decisions), f"{spot.agent.processes} proc.", value=spot.agent.decisions),
                _median(spot.agent),
                _figure(spot.agent.p90),
                _figure(spot.agent.p99),
                _median(spot.model),
                _median(spot.loop),
                _bytes(spot.state_bytes),
                _bytes(spot.peak_bytes),
            )
        )
    caption = (
        "Time of one decision of all lanes: median over processes of the process medians, and its interval; "
        f"p90 and p99 of all decisions together, told from {ENOUGH[0.9]} and {ENOUGH[0.99]} decisions on. "
        "State or cache: what all lanes keep between decisions. Peak memory: of the whole process, "
        "libraries, weights and inputs included."
    )
    return Table(f"{_KEY}-curves", caption, columns(headings), tuple(rows))


def crossovers(result: Result) -> Table | None:
    """Return where one agent becomes faster than another; None where there are no two to compare."""
    shown = [one for one in result.crossings if one.kinds_differ] or list(result.crossings)
    if not shown:
        return None
    headings = ["First", "Second", "Lanes", "First faster from", "Interval", "First faster at"]
    headings += ["Second faster at", "Cannot tell at"]
    rows = tuple(
        (
            Cell(result.subjects[one.first].name),
            Cell(result.subjects[one.second].name),
            integer(one.batch),
            Cell(one.text, value=None if one.at is None else one.at.context),
            Cell(one.interval_text),
            _contexts(one.first_faster),
            _contexts(one.second_faster),
            _contexts(one.unclear),
        )
        for one in shown
    )
    caption = (
        "The context from which on the first agent's step takes less time than the second's, up to the "
        "longest measured; times between two contexts are taken to lie on a line. The first is the one "
        "whose time grows less. 'Faster at': contexts at which the interval of the ratio leaves out 1; "
        f"with fewer than {FEWEST} processes neither these nor the crossover can be told."
    )
    if len(shown) < len(result.crossings):
        caption += (
            f" Pairs of a Transformer with another agent; latency_crossovers.csv has all "
            f"{len(result.crossings)}."
        )
    return Table(f"{_KEY}-crossovers", caption, columns(headings, words=2), rows)


def rates(result: Result) -> Table | None:
    """Return which control rates each agent holds; None where nothing was measured."""
    if not result.fits:
        return None
    headings = ["Agent", "Lanes", *(f"{hz} Hz ({1000 / hz:g} ms)" for hz in RATES)]
    by_row: dict[tuple[int, int], list[Fit]] = {}
    for fit in result.fits:
        by_row.setdefault((fit.subject, fit.batch), []).append(fit)
    processes = {(s.subject, s.batch, s.context): s.agent.processes for s in result.spots if s.agent}
    planned = Counter((spot.subject, spot.batch) for spot in result.spots)
    rows = tuple(
        (
            Cell(result.subjects[subject].name),
            integer(batch),
            *(_fit(fit, planned[subject, batch]) for fit in fits),
        )
        for (subject, batch), fits in by_row.items()
    )
    caption = (
        "Contexts at which 99 of 100 decisions are ready within the period of a control rate: where the "
        f"exact one-sided {LEVEL:.0%} bound of the share of late ones is at most {1 - SHARE:.0%}; late: "
        f"where even the lower bound is above it. That takes {decisions_needed()} decisions without a late "
        "one, more with any; otherwise it cannot be told. Late decisions that come together in some "
        "processes count for fewer. The bounds are for processes like those measured"
    )
    fewest = min(processes.values(), default=0)
    if fewest:
        caption += (
            f" (where all {fewest} are in time, {processes_like_these(fewest):.0%} and more of all processes "
            f"are, with {LEVEL:.0%} confidence)"
        )
    caption += (
        ", and not corrected for the number of contexts and rates. A context where nothing was measured is "
        "not listed. The simulator's own time, sensors and actuators come on top."
    )
    return Table(f"{_KEY}-rates", caption, columns(headings, words=len(headings)), rows)


def fairness(result: Result) -> Table:
    """Return what every agent reads and how it is computed."""
    headings = ["Agent", "Parameters", "Weights", "Tokens a decision", "Passes", "Precision", "Keeps"]
    headings += ["Attention", "Step"]
    rows = []
    for one in result.subjects:
        facts = one.facts
        tokens = Cell(facts.get("tokens", text.NONE))
        if facts.get("cache") == "recompute":
            tokens = Cell(facts["tokens"], "and the window anew")
        weights = "untrained" if one.trained is False else "trained" if one.trained else text.NONE
        rows.append(
            (
                Cell(one.name, one.spec if one.spec != one.label else ""),
                Cell(text.parameters(one.parameters), value=one.parameters),
                Cell(weights, one.digest[:12]),
                tokens,
                Cell(facts.get("passes", text.NONE)),
                Cell(facts.get("precision", text.NONE)),
                Cell(facts.get("past", "not known: a black box")),
                Cell(facts.get("attention", text.NONE)),
                Cell(facts.get("step", text.NONE)),
            )
        )
    caption = (
        "What a decision is made of, for each lane. A full cache and a ring attend to every key and value "
        "that they keep; a window that is read anew passes all of its tokens through all layers at every "
        "decision, as the reference implementation does by default."
    )
    return Table(f"{_KEY}-fairness", caption, columns(headings, words=len(headings)), tuple(rows))


def audits(result: Result) -> Table:
    """Return what speaks for or against the times: stability, equal actions, repeated inputs, load."""
    headings = ["Agent", "Lanes", "Processes warm", "Largest / smallest median", "Repeated / distinct inputs"]
    headings += ["Contexts with that audit", "Same first actions", "Others' load, cores"]
    rows = []
    for place, one in enumerate(result.subjects):
        for batch in result.batches:
            mine = [s for s in result.spots if (s.subject, s.batch) == (place, batch) and s.agent]
            if not mine:
                continue
            clocks = [spot.agent for spot in mine if spot.agent]
            processes, spread = sum(c.processes for c in clocks), max(c.spread for c in clocks)
            audited = [spot for spot in mine if spot.repeated]
            repeated = min((s.repeated for s in audited if s.repeated), key=lambda m: m.value, default=None)
            marked = sum(spot.audit == "failed" for spot in mine)
            agree = [spot.agree for spot in mine if spot.agree is not None]
            loads = [spot.other_cores for spot in mine if spot.other_cores is not None]
            rows.append(
                (
                    Cell(one.name),
                    integer(batch),
                    Cell(f"{sum(spot.warm for spot in mine)} of {processes}"),
                    Cell(text.number(spread, 2), value=spread),
                    _ratio(repeated, f"{marked} of {len(mine)} contexts marked" if marked else ""),
                    Cell(f"{len(audited)} of {len(mine)}", value=len(audited)),
                    Cell(text.NONE if not agree else "yes" if all(agree) else "no"),
                    Cell(text.number(max(loads), 2), value=max(loads)) if loads else EMPTY,
                )
            )
    caption = (
        "Processes warm: of all contexts' processes, those whose last three warm-up decisions were within a "
        "tenth of each other. Largest / smallest median: of the processes at one context, the worst context. "
        "Repeated inputs: decisions on one and the same observation against others on new ones, made in "
        "turns, at the context where the ratio is least; 1 is no difference. A context at which an agent "
        "decides faster on what it has seen is marked, and enters no crossover, no control rate and no "
        "figure of times. Same first actions: all processes gave the same first actions at every "
        "context. Load: cores that other processes kept busy, at the worst context."
    )
    return Table(f"{_KEY}-audits", caption, columns(headings), tuple(rows))


def _median(clock: Clock | None) -> Cell:
    if clock is None:
        return EMPTY
    return Cell(text.figures(clock.median.value), _span(clock.median), value=clock.median.value)


def _span(middle: Middle) -> str:
    if middle.low is None or middle.high is None:
        return "no interval"
    return f"[{text.figures(middle.low)}, {text.figures(middle.high)}]"


def _ratio(middle: Middle | None, flag: str) -> Cell:
    if middle is None:
        return EMPTY
    span = "" if middle.low is None or middle.high is None else f"[{middle.low:.2f}, {middle.high:.2f}]"
    return Cell(text.number(middle.value, 2), span, flag, middle.value)


def _figure(value: float | None) -> Cell:
    return EMPTY if value is None else Cell(text.figures(value), value=value)


def _bytes(value: int) -> Cell:
    return Cell(size(value), value=value)


def size(value: int) -> str:
    """Return a number of bytes in the largest unit that it has one of."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= length:
            return f"{value / length:.{0 if value >= 100 * length else 1}f} {unit}"
    return f"{value} B"


def _contexts(contexts: Sequence[int]) -> Cell:
    return Cell(", ".join(map(str, contexts)) or text.NONE)


def _fit(fit: Fit, planned: int) -> Cell:
    if len(fit.fits) == planned:
        return Cell("all", value=max(fit.fits))
    unknown = "cannot tell at " if fit.fits or fit.misses else "at "  # the cell itself says the rest
    parts = [("late at ", fit.misses), (unknown, fit.unknown)] if fit.fits or fit.unknown else []
    small = "; ".join(words + ", ".join(map(str, contexts)) for words, contexts in parts if contexts)
    return Cell(
        ", ".join(map(str, fit.fits)) or ("cannot tell" if fit.unknown else "none"),
        small,
        value=max(fit.fits, default=0),
    )
