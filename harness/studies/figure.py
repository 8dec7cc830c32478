"""How a study's result is drawn beside its effects: measures against an axis, a line a level of another.

::

    [figure]
    x = "weights"                             # "weights" (of the model), or the name of an axis
    lines = "backbone"                        # the name of an axis; left out: one line
    measures = ["perplexity", "score"]        # a panel each; see FigureMeasure
    log = true                                # a logarithmic x axis

It decides no number of a cell, so a study that gets another figure keeps its cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from lram.harness.errors import LramError

WEIGHTS = "weights"
"""What stands for the number of a model's weights as the x axis."""

FigureMeasure: TypeAlias = Literal["score", "score_by_domain", "perplexity", "validation_loss", "decision_ms"]
"""What a panel shows; a perplexity is the exponential of the validation loss, which is in nats."""


@dataclass(frozen=True, slots=True)
class StudyFigure:
    """The axes of a figure.

    Attributes:
        x: ``weights``, or the name of an axis: numbers where all its levels are named by numbers, and
            otherwise places in the order of the file.
        measures: A panel each; scores by domain are a panel for each domain.
        lines: The name of another axis, of which each level is a line; empty: one line. Against weights,
            levels such as ``Mamba, 16M`` and ``Mamba, 48M`` are one line: what stands before the comma.
        log: Whether the x axis is logarithmic.
    """

    x: Annotated[str, Meta(min_length=1)]
    measures: Annotated[tuple[FigureMeasure, ...], Meta(min_length=1)] = ("score",)
    lines: str = ""
    log: bool = False

    def line_of(self, level: str) -> str:
        """Return the line that a level of the axis of the lines is on."""
        return level.partition(", ")[0] if self.x == WEIGHTS else level

    def check(self, axes: Sequence[str]) -> None:
        """Raise LramError where it names an axis that a study with ``axes`` does not have."""
        for field, name in (("x", self.x), ("lines", self.lines)):
            also = [WEIGHTS] if field == "x" else [""]
            if name not in (*axes, *also):
                raise LramError(
                    f"figure.{field} is {name!r}, which is no axis of the study; it has {', '.join(axes)}"
                )
        if self.lines == self.x:
            raise LramError(f"figure.x and figure.lines are both {self.x!r}; leave out figure.lines")
        if len(set(self.measures)) < len(self.measures):
            raise LramError("figure.measures names a measure twice; give each once")


def number_of(level: str) -> float | None:
    """Return the number that a level is named by, such as ``1e-3`` or ``50``; None where it is a word."""
    try:
        return float(level.replace(",", ""))
    except ValueError:
        return None
