"""``index.html``: the report as one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lram.harness.storage.run_folder import Run
from lram.harness.words import visible
from lram.reports import bounds, text, views, words
from lram.reports.drawing import Drawing, inline_svg
from lram.reports.model import Summary
from lram.reports.sections.registry import Chapter
from lram.reports.sections.scores import groups
from lram.reports.sections.training import views as training_views
from lram.reports.sections.training.folder import Training

_OPEN_TASKS = 60
"""Up to so many tasks their tables stand open; beyond, the reader opens them."""


def page(
    summary: Summary,
    drawings: Sequence[Drawing],
    runs: Sequence[Run],
    trainings: Sequence[Training] = (),
    training_drawings: Sequence[Drawing] = (),
    chapters: Sequence[Chapter] = (),
) -> bytes:
    """Return the page.

    Only its section ``measured``, the speeds of trainings, and the caveats on how models were computed and
    which simulators played depend on the machine.
    """
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["setting"] = text.setting
    environment.filters["listing"] = text.listing
    environment.filters["shown"] = bounds.shown
    environment.globals["most_items"] = bounds.ITEMS
    rendered = environment.get_template("page.html.j2").render(
        summary=summary,
        title=words.title(summary, chapters),
        lead=words.lead(summary),
        headline=views.headline(summary),
        success=views.success(summary),
        errors=views.errors(summary),
        omissions=views.omissions(summary),
        # The drawings are ours; what labels they hold, matplotlib has escaped.
        figures=[(drawing, Markup(inline_svg(drawing))) for drawing in drawings],
        training=training_views.tables(summary, trainings),
        training_figures=[(drawing, Markup(inline_svg(drawing))) for drawing in training_drawings],
        domains=views.domains(summary),
        groups=groups.tables(summary),
        matrix=views.matrix(summary),
        tasks=bounds.shown_together(views.tasks(summary)),
        open_tasks=len(summary.tasks) <= _OPEN_TASKS,
        comparisons=views.comparisons(summary),
        methods=words.methods(summary, chapters),
        chapters=[
            (chapter, [(drawing, Markup(inline_svg(drawing))) for drawing in chapter.drawings])
            for chapter in chapters
        ],
        protocols=words.protocols(summary),
        agents=views.agents(summary),
        runs=[(run.path.resolve().name, run.provenance()) for run in runs],
    )
    return rendered.encode()


def _shown(value: object) -> object:
    """Return what the page prints for ``value``: text with nothing hidden in it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template(name: str) -> str:
    return files("lram.reports").joinpath("templates", name).read_text(encoding="utf-8")
