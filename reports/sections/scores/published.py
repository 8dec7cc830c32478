"""Published numbers in the figures and tables of scores: lines of domain means, and columns of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lram.reports import forms, text
from lram.reports.drawing import INK, short
from lram.reports.literature import Literature, PublishedMean, PublishedScore
from lram.reports.literature.forms import published_number
from lram.reports.model import TaskResult
from lram.reports.table import EMPTY, Column, TableCell

_DASHES = ((7.0, 1.5, 1.0, 1.5), (7.0, 1.5, 1.0, 1.5, 1.0, 1.5), (1.0, 1.0))
"""One pattern a system; none is that of the references' lines."""


def draw_means(axes: Axes, means: Sequence[PublishedMean], systems: Sequence[str]) -> None:
    """Draw a line across the rows of a panel at each published mean, and keep it in view.

    A line that rests on fewer tasks than the panel is thin.
    """
    for mean in means:
        dashes = _DASHES[systems.index(mean.system) % len(_DASHES)]
        width = 1.3 if mean.complete else 0.7
        axes.axvline(
            mean.score, color=INK, linewidth=width, linestyle=(0, dashes), zorder=1, label=f"_{mean.system}"
        )
        left, right = axes.get_xlim()
        margin = 0.04 * (max(right, mean.score) - min(left, mean.score))
        axes.set_xlim(min(left, mean.score - margin), max(right, mean.score + margin))


def name_systems(figure: Figure, systems: Sequence[str]) -> None:
    """Name the lines of published systems above the panels."""
    lines = [
        Line2D([], [], color=INK, linewidth=1.3, linestyle=(0, _DASHES[place % len(_DASHES)]))
        for place in range(len(systems))
    ]
    named = [f"{short(system)}, published" for system in systems]
    if named:
        figure.set_figheight(figure.get_figheight() + 0.22 * -(-len(named) // 2))
        figure.legend(lines, named, loc="outside upper left", ncols=2, handlelength=4)


def words_of(means: Sequence[PublishedMean], *, late: bool = False) -> str:
    """Return the sentences of a caption on the lines; empty where there are none.

    ``late`` is whether the figure has agents for which the world did not wait, too.
    """
    if not means:
        return ""
    sources = "; ".join(f"{mean.system} in {mean.domain}, {_reach(mean)}" for mean in means)
    thin = (
        " A thin line rests on fewer tasks than the points, so it does not compare with them; the section on "
        "published numbers has means over the same tasks."
        if not all(mean.complete for mean in means)
        else ""
    )
    apart = " They do not compare with agents for which the world did not wait." if late else ""
    return f" Lines across the rows: mean of published scores of the panel's tasks ({sources}).{thin}{apart}"


def _reach(mean: PublishedMean) -> str:
    number = len(mean.tasks)
    if mean.complete:
        return f"all {text.count(number, 'task')}" if number > 1 else "its one task"
    lacking = [task.partition("/")[2] for task in mean.lacking]
    return f"{number} of {number + len(lacking)} tasks, without {text.names_up_to(lacking)}"


def task_columns(found: Literature, domain: str) -> list[Column[TaskResult]]:
    """Return two columns for people a published system: its return and its score on each task of ``domain``.

    Programs read ``literature_tasks.csv``.
    """
    columns: list[Column[TaskResult]] = []
    for system in found.systems(domain):
        of = _finder(found.of(system, domain))
        if any(one.cell.metric == "return" for one in found.of(system, domain).values()):
            columns.append(Column(f"{system}, return (published)", "", of, _return))
        columns.append(Column(f"{system}, score (published)", "", of, _score))
    return columns


def _finder(known: dict[str, PublishedScore]) -> Callable[[TaskResult], PublishedScore | None]:
    return lambda result: known.get(result.task)


def _return(one: PublishedScore | None) -> TableCell:
    return EMPTY if one is None or one.cell.metric != "return" else published_number(one.cell)


def _score(one: PublishedScore | None) -> TableCell:
    return EMPTY if one is None or one.score is None else TableCell(forms.two(one.score), value=one.score)
