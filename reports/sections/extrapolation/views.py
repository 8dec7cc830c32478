"""The tables of extrapolations that people read, and those for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lram.agents.acting.contexts import Context
from lram.reports import text
from lram.reports.model import Estimate
from lram.reports.sections.extrapolation.curves import Curve
from lram.reports.sections.extrapolation.model import Loss, Score, ScorePair
from lram.reports.sections.extrapolation.values import Values
from lram.reports.tables import Row
from lram.reports.views import EMPTY, Cell, Table, aggregate_cell, columns, integer, with_legend

_NOT_FINITE = Cell("not finite")


def tables(
    values: Values, scores: Sequence[Score], pairs: Sequence[ScorePair], losses: Sequence[Loss], level: float
) -> list[Table]:
    """Return the tables that there is something for, in the order of the page."""
    found = [
        _losses(losses, level),
        _pairs(pairs, level),
        _scores(values, scores, level),
        _validity(values),
    ]
    return [table for table in found if table is not None]


def words(context: Context) -> str:
    """Return a context as tables have it, such as ``window of 50``."""
    if context.mode == "carry":
        return "carried"
    return (
        f"window of {context.timesteps}" if context.mode == "window" else f"fresh every {context.timesteps}"
    )


def _scores(values: Values, scores: Sequence[Score], level: float) -> Table | None:
    if not scores:
        return None
    domains = values.score_domains
    rows: dict[tuple[str, Context], list[Cell]] = {}
    for score in scores:
        row = rows.setdefault((score.agent, score.context), [])
        row.append(aggregate_cell(score.score))
    trained = {agent.label: agent.trained for agent in values.agents}
    listed = tuple(
        (
            Cell(agent),
            Cell(words(context), flag="the trained length" if context.timesteps == trained[agent] else ""),
            *cells,
        )
        for (agent, context), cells in rows.items()
    )
    caption = (
        f"Mean normalised score over each domain's tasks, with {level:.0%} intervals of the episode noise, "
        "by what the model saw of the episode when it decided."
    )
    return with_legend(
        Table("extrapolation-scores", caption, columns(["Model", "Context", *domains], words=2), listed)
    )


def _pairs(pairs: Sequence[ScorePair], level: float) -> Table | None:
    if not pairs:
        return None
    rows = tuple(
        (
            Cell(pair.agent),
            Cell(pair.domain),
            Cell(words(pair.context)),
            Cell(words(pair.base)),
            replace(_estimate(pair.difference), flag=_verdict(pair.difference, pair.p_holm, level)),
            Cell(text.p_value(pair.p_holm), value=pair.p_holm),
            integer(pair.tasks),
            integer(pair.episodes),
        )
        for pair in pairs
    )
    headings = ["Model", "Domain", "Context", "against", "Difference", "p, Holm", "Tasks", "Episode pairs"]
    caption = (
        "Normalised score with a context beyond the trained length less that with a context of the trained "
        f"length, on the same initial states, with {level:.0%} intervals of the episode noise; sign-flip "
        "tests, corrected over this table. A state made fresh has on average half of its length to go by, a "
        "window always its whole. Domains whose episodes are no longer than the trained length are left out."
    )
    return with_legend(Table("extrapolation-pairs", caption, columns(headings, words=4), rows))


def _verdict(difference: Estimate | None, p: float | None, level: float) -> str:
    if difference is None or p is None or p >= 1 - level:
        return ""
    return "better" if difference.value > 0 else "worse"


def _losses(losses: Sequence[Loss], level: float) -> Table | None:
    if not losses:
        return None
    rows = tuple(
        (
            Cell(loss.agent),
            Cell(loss.domain),
            Cell(loss.measure),
            integer(loss.trained),
            _finite(loss.at),
            _finite(loss.past),
            _estimate(loss.difference, text.figures, _NOT_FINITE),
            replace(_estimate(loss.length, _fine, _NOT_FINITE), flag=_harm(loss.length)),
            Cell(str(loss.trajectories), f"of {text.count(loss.tasks, 'task')}", value=loss.trajectories),
        )
        for loss in losses
    )
    headings = [
        "Model",
        "Domain",
        "Measure",
        "Trained length T",
        "At T",
        "Past T",
        "Past − at",
        "Past T: whole − within",
        "Trajectories",
    ]
    caption = (
        "Predictions on trajectories that, as far as is known, no model was trained on, read whole. At T: "
        "timesteps T/2 to T; past T: those beyond. Past − at also holds what another phase of the episode "
        "does. Whole − within: at the same timesteps past T, less what the model predicts with a context of "
        "T/2 to T timesteps; "
        f"this is the effect of the length alone, and above 0 the longer context does harm. {level:.0%} "
        "intervals over trajectories, not corrected for their number."
    )
    return with_legend(Table("extrapolation-losses", caption, columns(headings, words=3), rows))


def _finite(value: float | None) -> Cell:
    return _NOT_FINITE if value is None else Cell(text.figures(value), value=value)


def _harm(estimate: Estimate | None) -> str:
    if estimate is None or estimate.interval is None or estimate.interval.low <= 0 <= estimate.interval.high:
        return ""
    return "harm" if estimate.value > 0 else "gain"


def _validity(values: Values) -> Table | None:
    rows = []
    for agent in values.agents:
        record = values.validity.get(agent.label)
        if record is None or not record.points:
            continue
        last, limit = record.points[-1], record.limit
        compared = f"compared up to {record.compared}" if record.compared else ""
        rows.append(
            (
                Cell(agent.label),
                Cell(record.form),
                Cell(record.read),
                Cell(str(last.timesteps), compared, value=last.timesteps),
                _NOT_FINITE if last.state is None else Cell(f"{last.state:g}", value=last.state),
                _difference(last.difference, limit),
                _NOT_FINITE if limit is None else Cell(f"{limit:.1e}", f"of a scale of {record.scale:g}"),
            )
        )
    if not rows:
        return None
    headings = ["Model", "Step", "Read", "Timesteps", "Largest in state", "Step − forward", "Allowed"]
    caption = (
        "Whether the numbers mean what they say at these lengths: one stream is read decision by decision, "
        "with the state carried, and as a whole. Largest in state: absolute, after the last timestep. "
        "Step − forward: greatest absolute difference of a hidden state at any timestep."
    )
    return Table("extrapolation-validity", caption, columns(headings, words=3), tuple(rows))


def _difference(value: float | None, limit: float | None) -> Cell:
    if value is None:
        return _NOT_FINITE
    unlike = limit is not None and value > limit
    return Cell(f"{value:.1e}", value=value, flag="more than allowed" if unlike else "")


def _estimate(
    estimate: Estimate | None, form: Callable[[float], str] | None = None, empty: Cell = EMPTY
) -> Cell:
    if estimate is None:
        return empty
    form = form or (lambda value: text.number(value, 3))
    below = text.span(estimate, form) if estimate.interval is not None else estimate.note
    return Cell(form(estimate.value), below, value=estimate.value)


def _fine(value: float) -> str:
    return text.number(value, 4)


def score_rows(values: Values, scores: Sequence[Score]) -> Iterator[Row]:
    """Yield one row an agent, context and domain."""
    trained = {agent.label: agent.trained for agent in values.agents}
    for one in scores:
        interval = one.score.estimate.interval if one.score.estimate else None
        yield {
            "agent": one.agent,
            "trained_length": trained[one.agent],
            "mode": one.context.mode,
            "context": one.context.timesteps or None,
            "domain": one.domain,
            "score": one.score.estimate.value if one.score.estimate else None,
            "score_low": interval.low if interval else None,
            "score_high": interval.high if interval else None,
            "tasks": one.score.rests_on.tasks,
            "of_tasks": one.score.rests_on.of_tasks,
            "episodes": one.score.rests_on.episodes,
        }


def pair_rows(pairs: Sequence[ScorePair]) -> Iterator[Row]:
    """Yield one row a pair of contexts."""
    for pair in pairs:
        yield {
            "agent": pair.agent,
            "domain": pair.domain,
            "context": pair.context.suffix[1:],
            "against": pair.base.suffix[1:],
            **_columns("difference", pair.difference),
            "p": pair.p,
            "p_holm": pair.p_holm,
            "tasks": pair.tasks,
            "episode_pairs": pair.episodes,
        }


def loss_rows(losses: Sequence[Loss]) -> Iterator[Row]:
    """Yield one row an agent, domain and measure."""
    for loss in losses:
        yield {
            "agent": loss.agent,
            "domain": loss.domain,
            "measure": loss.measure,
            "trained_length": loss.trained,
            "at": loss.at,
            "past": loss.past,
            **_columns("past_minus_at", loss.difference),
            **_columns("whole_minus_within", loss.length),
            "tasks": loss.tasks,
            "trajectories": loss.trajectories,
        }


def curve_rows(curves: Sequence[Curve]) -> Iterator[Row]:
    """Yield one row an agent, domain, reading and bin of timesteps."""
    for curve in curves:
        for place in range(len(curve.starts)):
            yield {
                "agent": curve.agent,
                "domain": curve.domain,
                "reading": curve.reading,
                "first_timestep": int(curve.starts[place]) + 1,
                "last_timestep": int(curve.stops[place]),
                "loss": _number(curve.loss[place]),
                "action_error": _number(curve.error[place]),
                "top1": _number(curve.top1[place]),
                "trajectories": curve.trajectories,
                "trajectories_there": int(curve.lasting[place]),
            }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def validity_rows(values: Values) -> Iterator[Row]:
    """Yield one row an agent and length."""
    for agent in values.agents:
        record = values.validity.get(agent.label)
        for point in record.points if record is not None else ():
            assert record is not None
            yield {
                "agent": agent.label,
                "timesteps": point.timesteps,
                "greatest_difference": point.difference,
                "allowed": None if record.limit is None else float(f"{record.limit:.6g}"),
                "largest_in_state": point.state,
                "holds": record.holds,
                "read": record.read,
                "step": record.form,
            }


def _columns(name: str, estimate: Estimate | None) -> Row:
    interval = estimate.interval if estimate else None
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }
