"""The figure of training seeds: a row a model, a panel a domain, its trainings beside their mean."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lram.reports.drawing import SCORE_LABEL, WIDTH, Drawing, look, point, reference_lines, short, style_of
from lram.reports.sections.training_seeds.model import ALL, SeedMean, SeedsResult

_COLUMNS = 3


def draw(result: SeedsResult) -> Drawing | None:
    """Return the models' normalised scores; None where no model has one."""
    scores = [mean for mean in result.means if mean.measure == "score" and mean.mean is not None]
    domains = list(dict.fromkeys(mean.domain for mean in scores))
    if not domains:
        return None
    with look():
        return _drawn(result, scores, domains)


def _drawn(result: SeedsResult, scores: list[SeedMean], domains: list[str]) -> Drawing:
    names = [group.name for group in result.groups]
    across = min(_COLUMNS, len(domains))
    down = math.ceil(len(domains) / across)
    figure = Figure(figsize=(WIDTH, 0.4 + down * (0.7 + 0.32 * len(names))), layout="constrained")
    panels = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    for axes, domain in zip(panels, domains, strict=False):
        _panel(axes, [mean for mean in scores if mean.domain == domain], names)
        axes.set_title(domain if domain != ALL else "all domains")
    for axes in panels[len(domains) :]:
        axes.set_axis_off()
    panels[0].set_yticks(range(len(names)), [short(name, 24) for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(SCORE_LABEL, fontsize=8.5)
    caption = (
        f"Each model's mean over its trainings with its {result.level:.0%} t interval over them; small marks "
        "are the single trainings. Dotted line at 0: the random reference; dashed line at 1: the reference."
    )
    return Drawing("seeds-scores", "Scores of models over their trainings", caption, figure)


def _panel(axes: Axes, means: list[SeedMean], names: list[str]) -> None:
    for mean in means:
        place = names.index(mean.group)
        colour, _ = style_of(place)
        values = [value for _, value in mean.trainings]
        axes.plot(values, [place + 0.28] * len(values), "|", color=colour, markersize=4, markeredgewidth=0.9)
        if mean.mean is not None:
            point(axes, mean.mean, place, place)
    reference_lines(axes)
