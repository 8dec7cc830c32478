"""The tables of extrapolations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lram.agents.acting.contexts import Context
from lram.envs.scores import Normaliser
from lram.harness.extrapolation.records import EquivalencePoint, ValidityRecord
from lram.reports import forms, text
from lram.reports.model import Aggregate, Estimate
from lram.reports.sections.extrapolation.curves import PositionCurve
from lram.reports.sections.extrapolation.model import Loss, Score, ScorePair
from lram.reports.sections.extrapolation.values import Values
from lram.reports.table import EMPTY, Column, Table, TableCell, hidden, normaliser_column, words

_NOT_FINITE = TableCell("not finite")


@dataclass(frozen=True, slots=True)
class ExtrapolationNumbers:
    """Everything that extrapolations say."""

    values: Values
    scores: Sequence[Score]
    pairs: Sequence[ScorePair]
    losses: Sequence[Loss]
    curves: Sequence[PositionCurve]
    level: float
    normaliser: Normaliser


def tables(found: ExtrapolationNumbers) -> list[Table[Any]]:
    """Return the tables that there is something for, in the order of the page."""
    made: list[Table[Any]] = [
        _losses(found.losses, found.level),
        _pairs(found.pairs, found),
        _scores(found),
        _score_records(found),
        _last_validity(found.values),
        validity(found.values),
        _positions(found.curves),
    ]
    return [table for table in made if table.rows]


def context_words(context: Context) -> str:
    """Return a context as tables have it, such as ``window of 50``."""
    if context.mode == "carry":
        return "carried"
    return (
        f"window of {context.timesteps}" if context.mode == "window" else f"fresh every {context.timesteps}"
    )


@dataclass(frozen=True, slots=True)
class _ByDomain:
    """An agent's scores with one context, in the order of the domains."""

    agent: str
    context: Context
    scores: list[Aggregate]


def _scores(found: ExtrapolationNumbers) -> Table[_ByDomain]:
    rows: dict[tuple[str, Context], _ByDomain] = {}
    for score in found.scores:
        key = score.agent, score.context
        rows.setdefault(key, _ByDomain(*key, [])).scores.append(score.score)
    trained = {agent.label: agent.trained for agent in found.values.agents}

    def of(place: int) -> Callable[[_ByDomain], Aggregate]:
        return lambda row: row.scores[place]

    def flag(row: _ByDomain) -> str:
        return "the trained length" if row.context.timesteps == trained[row.agent] else ""

    columns: list[Column[_ByDomain]] = [
        words("Model", "", lambda row: row.agent),
        Column("Context", "", lambda row: row.context, context_words, flag, numeric=False),
        *(
            Column(domain, "", of(place), forms.scores)
            for place, domain in enumerate(found.values.score_domains)
        ),
    ]
    caption = (
        f"Mean normalised score over each domain's tasks, with {found.level:.0%} intervals of the episode "
        "noise, by what the model saw of the episode when it decided."
    )
    return Table("extrapolation-scores", caption, columns, list(rows.values()))


def _score_records(found: ExtrapolationNumbers) -> Table[Score]:
    """Return one row an agent, context and domain, for programs."""
    trained = {agent.label: agent.trained for agent in found.values.agents}
    columns: list[Column[Score]] = [
        hidden("agent", lambda one: one.agent),
        hidden("trained_length", lambda one: trained[one.agent]),
        hidden("mode", lambda one: one.context.mode),
        hidden("context", lambda one: one.context.timesteps or None),
        hidden("domain", lambda one: one.domain),
        hidden("score", lambda one: one.score.estimate, forms.ENDS),
        hidden("tasks", lambda one: one.score.rests_on.tasks),
        hidden("of_tasks", lambda one: one.score.rests_on.of_tasks),
        hidden("episodes", lambda one: one.score.rests_on.episodes),
        normaliser_column(found.normaliser),
        hidden("score", lambda one: one.score.estimate, forms.METHOD),
    ]
    return Table("", "", columns, found.scores, "extrapolation_scores")


def _pairs(pairs: Sequence[ScorePair], found: ExtrapolationNumbers) -> Table[ScorePair]:
    level = found.level
    columns: list[Column[ScorePair]] = [
        words("Model", "agent", lambda pair: pair.agent),
        words("Domain", "domain", lambda pair: pair.domain),
        words("Context", "", lambda pair: pair.context, context_words),
        words("against", "", lambda pair: pair.base, context_words),
        hidden("context", lambda pair: pair.context.suffix[1:]),
        hidden("against", lambda pair: pair.base.suffix[1:]),
        Column(
            "Difference",
            "difference",
            lambda pair: pair.difference,
            _estimates(forms.three),
            lambda pair: _verdict(pair.difference, pair.p_holm, level),
            parts=forms.ENDS,
        ),
        hidden("p", lambda pair: pair.p),
        Column("p, Holm", "p_holm", lambda pair: pair.p_holm, forms.p_values),
        Column("Tasks", "tasks", lambda pair: pair.tasks),
        Column("Episode pairs", "episode_pairs", lambda pair: pair.episodes),
        normaliser_column(found.normaliser),
        hidden("difference", lambda pair: pair.difference, forms.METHOD),
    ]
    caption = (
        "Normalised score with a context beyond the trained length less that with a context of the trained "
        f"length, on the same initial states, with {level:.0%} intervals of the episode noise; sign-flip "
        "tests, corrected over this table. A state made fresh has on average half of its length to go by, a "
        "window always its whole. Domains whose episodes are no longer than the trained length are left out."
    )
    return Table("extrapolation-pairs", caption, columns, pairs, "extrapolation_pairs")


def _verdict(difference: Estimate | None, p: float | None, level: float) -> str:
    if difference is None or p is None or p >= 1 - level:
        return ""
    return "better" if difference.value > 0 else "worse"


def _losses(losses: Sequence[Loss], level: float) -> Table[Loss]:
    finite = forms.numbers(text.figures, empty=_NOT_FINITE)

    def harm(loss: Loss) -> str:
        interval = loss.length.interval if loss.length else None
        if loss.length is None or interval is None or interval.low <= 0 <= interval.high:
            return ""
        return "harm" if loss.length.value > 0 else "gain"

    def trajectories(loss: Loss) -> TableCell:
        return TableCell(
            str(loss.trajectories), f"of {text.count(loss.tasks, 'task')}", value=loss.trajectories
        )

    columns: list[Column[Loss]] = [
        words("Model", "agent", lambda loss: loss.agent),
        words("Domain", "domain", lambda loss: loss.domain),
        words("Measure", "measure", lambda loss: loss.measure),
        Column("Trained length T", "trained_length", lambda loss: loss.trained),
        Column("At T", "at", lambda loss: loss.at, finite),
        Column("Past T", "past", lambda loss: loss.past, finite),
        Column(
            "Past − at",
            "past_minus_at",
            lambda loss: loss.difference,
            _estimates(text.figures, _NOT_FINITE),
            parts=forms.ENDS,
        ),
        Column(
            "Past T: whole − within",
            "whole_minus_within",
            lambda loss: loss.length,
            _estimates(forms.decimals(4), _NOT_FINITE),
            harm,
            parts=forms.ENDS,
        ),
        hidden("tasks", lambda loss: loss.tasks),
        Column("Trajectories", "", lambda loss: loss, trajectories),
        hidden("trajectories", lambda loss: loss.trajectories),
        hidden("past_minus_at", lambda loss: loss.difference, forms.METHOD),
        hidden("whole_minus_within", lambda loss: loss.length, forms.METHOD),
    ]
    caption = (
        "Predictions on trajectories that, as far as is known, no model was trained on, read whole. At T: "
        "timesteps T/2 to T; past T: those beyond. Past − at also holds what another phase of the episode "
        "does. Whole − within: at the same timesteps past T, less what the model predicts with a context of "
        "T/2 to T timesteps; "
        f"this is the effect of the length alone, and above 0 the longer context does harm. {level:.0%} "
        "intervals over trajectories, not corrected for their number."
    )
    return Table("extrapolation-losses", caption, columns, losses, "extrapolation_losses")


def _estimates(
    form: Callable[[float], str], empty: TableCell = EMPTY
) -> Callable[[Estimate | None], TableCell]:
    """Return the form of estimates whose note stands below them where there is no interval."""

    def made(estimate: Estimate | None) -> TableCell:
        if estimate is None:
            return empty
        below = text.span(estimate, form) if estimate.interval is not None else estimate.note
        return TableCell(form(estimate.value), below, value=estimate.value)

    return made


@dataclass(frozen=True, slots=True)
class _Checked:
    """What step and forward of a model were at one length."""

    agent: str
    record: ValidityRecord
    point: EquivalencePoint


def _checked(values: Values) -> Iterator[_Checked]:
    for agent in values.agents:
        record = values.validity.get(agent.label)
        for point in record.points if record is not None else ():
            assert record is not None
            yield _Checked(agent.label, record, point)


def _last_validity(values: Values) -> Table[_Checked]:
    """Return the longest length of every model, for people."""

    def timesteps(row: _Checked) -> TableCell:
        compared = f"compared up to {row.record.compared}" if row.record.compared else ""
        return TableCell(str(row.point.timesteps), compared, value=row.point.timesteps)

    def differs(row: _Checked) -> str:
        value, limit = row.point.difference, row.record.limit
        return "more than allowed" if value is not None and limit is not None and value > limit else ""

    def allowed(record: ValidityRecord) -> TableCell:
        if record.limit is None:
            return _NOT_FINITE
        return TableCell(f"{record.limit:.1e}", f"of a scale of {record.scale:g}")

    columns: list[Column[_Checked]] = [
        words("Model", "", lambda row: row.agent),
        words("Step", "", lambda row: row.record.form, str),
        words("Read", "", lambda row: row.record.read, str),
        Column("Timesteps", "", lambda row: row, timesteps),
        Column(
            "Largest in state",
            "",
            lambda row: row.point.state,
            forms.numbers("{:g}".format, empty=_NOT_FINITE),
        ),
        Column(
            "Step − forward",
            "",
            lambda row: row.point.difference,
            forms.numbers("{:.1e}".format, empty=_NOT_FINITE),
            differs,
        ),
        Column("Allowed", "", lambda row: row.record, allowed),
    ]
    caption = (
        "Whether the numbers mean what they say at these lengths: one stream is read decision by decision, "
        "with the state carried, and as a whole. Largest in state: absolute, after the last timestep. "
        "Step − forward: greatest absolute difference of a hidden state at any timestep."
    )
    last = {row.agent: row for row in _checked(values)}
    return Table("extrapolation-validity", caption, columns, list(last.values()))


def validity(values: Values) -> Table[_Checked]:
    """Return one row an agent and length, for programs."""

    def allowed(row: _Checked) -> float | None:
        return None if row.record.limit is None else float(f"{row.record.limit:.6g}")

    columns: list[Column[_Checked]] = [
        hidden("agent", lambda row: row.agent),
        hidden("timesteps", lambda row: row.point.timesteps),
        hidden("greatest_difference", lambda row: row.point.difference),
        hidden("allowed", allowed),
        hidden("largest_in_state", lambda row: row.point.state),
        hidden("holds", lambda row: row.record.holds),
        hidden("read", lambda row: row.record.read),
        hidden("step", lambda row: row.record.form),
    ]
    return Table("", "", columns, list(_checked(values)), "extrapolation_validity")


def _positions(curves: Sequence[PositionCurve]) -> Table[tuple[PositionCurve, int]]:
    """Return one row an agent, domain, reading and bin of timesteps, for programs."""

    def finite(of: Callable[[PositionCurve], Any]) -> Callable[[tuple[PositionCurve, int]], float | None]:
        def value(row: tuple[PositionCurve, int]) -> float | None:
            found = float(of(row[0])[row[1]])
            return found if math.isfinite(found) else None

        return value

    columns: list[Column[tuple[PositionCurve, int]]] = [
        hidden("agent", lambda row: row[0].agent),
        hidden("domain", lambda row: row[0].domain),
        hidden("reading", lambda row: row[0].reading),
        hidden("first_timestep", lambda row: int(row[0].starts[row[1]]) + 1),
        hidden("last_timestep", lambda row: int(row[0].stops[row[1]])),
        hidden("loss", finite(lambda curve: curve.loss)),
        hidden("action_error", finite(lambda curve: curve.error)),
        hidden("top1", finite(lambda curve: curve.top1)),
        hidden("trajectories", lambda row: row[0].trajectories),
        hidden("trajectories_there", lambda row: int(row[0].lasting[row[1]])),
    ]
    rows = [(curve, place) for curve in curves for place in range(len(curve.starts))]
    return Table("", "", columns, rows, "extrapolation_positions")
