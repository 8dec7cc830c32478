"""``index.html``: the report as one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lram.harness.storage.run_folder import Run
from lram.harness.words import visible
from lram.reports import bounds, text
from lram.reports.answer import Answer
from lram.reports.drawing import Drawing, inline_svg
from lram.reports.evidence.trainings import Training
from lram.reports.model import Summary
from lram.reports.rendering import words
from lram.reports.section import Section
from lram.reports.sections.scores.parts import evaluation_tables
from lram.reports.sections.training.tables import tables as training_tables

_OPEN_TASKS = 60
"""Up to so many tasks their tables stand open; beyond, the reader opens them."""

_LONG = 25
"""A table with more rows scrolls by itself, below headings that stay."""


def page(
    summary: Summary,
    drawings: Sequence[Drawing],
    runs: Sequence[Run],
    trainings: Sequence[Training] = (),
    training_drawings: Sequence[Drawing] = (),
    sections: Sequence[Section] = (),
    first: Answer | None = None,
) -> bytes:
    """Return the page; ``first`` is what it begins with.

    Only its part ``measured``, the speeds of trainings, and the caveats on how models were computed and
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
    environment.globals["long_rows"] = _LONG
    rendered = environment.get_template("page.html.j2").render(
        summary=summary,
        title=words.title(summary, sections),
        lead=words.lead(summary),
        answer=first,
        answer_figures=_drawn([first.drawing] if first and first.drawing else ()),
        scores=(scores := evaluation_tables(summary)),
        figures=_drawn(drawings),
        training=[table.printed for table in training_tables(summary, trainings) if table.id],
        training_figures=_drawn(training_drawings),
        tasks=bounds.shown_together(scores.tasks),
        open_tasks=len(summary.tasks) <= _OPEN_TASKS,
        methods=words.methods(summary, sections),
        sections=[(section, _drawn(section.drawings)) for section in sections],
        protocols=words.protocols(summary),
        runs=[(run.path.resolve().name, run.provenance()) for run in runs],
    )
    return rendered.encode()


def _drawn(drawings: Sequence[Drawing]) -> list[tuple[Drawing, Markup]]:
    # The drawings are ours; what labels they hold, matplotlib has escaped.
    return [(drawing, Markup(inline_svg(drawing))) for drawing in drawings]


def _shown(value: object) -> object:
    """Return what the page prints for ``value``: text with nothing hidden in it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template(name: str) -> str:
    return files("lram.reports").joinpath("templates", name).read_text(encoding="utf-8")
