"""``index.html``: the report as one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from lram.harness.storage.run_folder import Run
from lram.reports import bounds
from lram.reports.answer import Answer
from lram.reports.drawing import Drawing, inline_svg
from lram.reports.evidence.trainings import Training
from lram.reports.model import Summary
from lram.reports.rendering import words
from lram.reports.rendering.templates import environment
from lram.reports.section import Section
from lram.reports.sections.scores.parts import evaluation_tables
from lram.reports.sections.training.tables import tables as training_tables

_OPEN_TASKS = 60
"""Up to so many tasks their tables stand open; beyond, the reader opens them."""


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
    rendered = (
        environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            title=words.title(summary, sections),
            lead=words.lead(summary, sections),
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
    )
    return rendered.encode()


def _drawn(drawings: Sequence[Drawing]) -> list[tuple[Drawing, Markup]]:
    # The drawings are ours; what labels they hold, matplotlib has escaped.
    return [(drawing, Markup(inline_svg(drawing))) for drawing in drawings]
