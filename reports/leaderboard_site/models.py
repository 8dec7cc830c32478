"""Models of a leaderboard over their trainings: what stands above the single entries of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.reports.drawing import Drawing, inline_svg
from lram.reports.evidence.evidence import Evidence
from lram.reports.leaderboard_site.groups import BoardGroup
from lram.reports.model import Caveat
from lram.reports.section import SectionSettings
from lram.reports.sections.training_seeds.section import section
from lram.reports.seed_groups import SeedGroup, read_seed_groups
from lram.reports.table import PrintedTable


@dataclass(frozen=True, slots=True)
class ModelsShown:
    """The models of one table of the page.

    Attributes:
        headline: Which is shown to be better.
        tables: Means over trainings, and differences between models.
        csv: The same for programs, by file name.
        figure: With its drawing; None where no model has a score.
        caveats: What to know of them.
        methods: (term, sentence).
    """

    headline: str
    tables: tuple[PrintedTable, ...]
    csv: Mapping[str, bytes]
    figure: tuple[Drawing, Markup] | None
    caveats: tuple[Caveat, ...]
    methods: tuple[tuple[str, str], ...]


def place_models(texts: Sequence[str], boards: Sequence[BoardGroup]) -> list[tuple[SeedGroup, ...]]:
    """Return the models that ``texts`` name (:func:`read_seed_groups`), by table of the page.

    Raises:
        LramError: A text names no entry, or entries that do not stand in one table.
    """
    models = read_seed_groups(texts, [label for board in boards for label in board.entries])
    found = [tuple(one for one in models if set(one.agents) <= set(board.entries)) for board in boards]
    for model in models:
        if not any(model in placed for placed in found):
            where = "; ".join(
                f"table {number} has {', '.join(mine)}"
                for number, board in enumerate(boards, start=1)
                if (mine := [label for label in model.agents if label in board.entries])
            )
            raise LramError(
                f"--seeds-of {model.name!r} names entries of several tables, which do not compare ({where}); "
                "name trainings that played the same tasks at one rate of the world"
            )
    return found


def show_models(
    number: int, evidence: Evidence, models: Sequence[SeedGroup], normaliser: Normaliser
) -> ModelsShown | None:
    """Return what table ``number`` of the page says of ``models``; None without any."""
    made = section(evidence, SectionSettings(normaliser=normaliser, seed_groups=models))
    if made is None:
        return None
    drawings = [replace(drawing, name=f"{drawing.name}-{number}") for drawing in made.drawings]
    return ModelsShown(
        made.headline or " ".join(made.lead),
        tuple(replace(table, id=f"{table.id}-{number}") for table in made.printed),
        {name.replace(".csv", f"-{number}.csv"): file for name, file in made.csv.items()},
        (drawings[0], Markup(inline_svg(drawings[0]))) if drawings else None,
        tuple(made.caveats),
        tuple(made.methods),
    )
