"""Studies of precisions: the same checkpoints in several precisions, as one TOML file.

::

    name = "precision"
    question = "What do weights in fewer bytes cost, and what do they save?"
    checkpoints = ["small-mamba", "mine=runs/x/checkpoint"]     # any action models
    precisions = ["float32", "bfloat16-weights", "int8"]        # the first is held against by the others

    [evaluation]
    tasks = ["metaworld/reach-v3"]
    episodes = 20

Nothing is trained: a precision is an option of acting, so all of them share the checkpoint. This module
imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from lram.agents.compute import Precision
from lram.harness.errors import LramError
from lram.harness.strict_toml import converted, read_toml
from lram.harness.studies.study import (
    Count,
    Evaluation,
    Study,
    Text,
    Timing,
    check_distinct,
    shipped_studies,
    study_of,
)


@dataclass(frozen=True, slots=True)
class AgreementPlay:
    """On what the actions of the precisions are compared.

    Attributes:
        episodes: Of each task, played by the checkpoint in the first precision. Every precision is shown what
            that one saw, and has taken the actions that it took, so that trajectories do not part.
    """

    episodes: Count = 2


@dataclass(frozen=True, slots=True)
class PrecisionStudy:
    """A study as its file tells it.

    Attributes:
        checkpoints: Action models, each as ``lram eval`` names agents, perhaps with a label.
        precisions: The first one is what the others are held against.
    """

    name: Text
    question: str
    checkpoints: Annotated[tuple[Text, ...], Meta(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=2)]
    evaluation: Evaluation
    agreement: AgreementPlay = field(default_factory=AgreementPlay)
    timing: Timing = field(default_factory=lambda: Timing(batch=(1, 16)))

    def check(self) -> None:
        """Raise LramError for what no single field can tell."""
        check_distinct("precision", self.precisions)

    def of(self, checkpoints: Sequence[str]) -> PrecisionStudy:
        """Return the study of other checkpoints; of its own where none are given."""
        if not checkpoints:
            return self
        other = replace(self, checkpoints=tuple(checkpoints))
        other.check()
        return other


def shipped_precision_studies() -> dict[str, Path]:
    """Return the studies of precisions that come with the package, by name."""
    folder = Path(str(resources.files("lram.harness.studies.precision"))) / "shipped"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def read_any_study(source: str | Path) -> Study | PrecisionStudy:
    """Read a study of either kind from a TOML file, or one that comes with the package by its name.

    A file with ``precisions`` is a study of them.

    Raises:
        LramError: One sentence that says what is wrong, and where.
    """
    file = Path(source)
    if not file.is_file():
        shipped = shipped_studies() | shipped_precision_studies()
        if str(source) not in shipped:
            raise LramError(
                f"there is no study {source}; give a TOML file or the name of an included one: "
                f"{', '.join(sorted(shipped))}"
            )
        file = shipped[str(source)]
    plain = read_toml(file, "a study")
    if "precisions" not in plain:
        return study_of(plain, str(file), file.resolve().parent)
    study = converted({"name": "", "question": "", **plain}, PrecisionStudy, str(file))
    study.check()
    return study
