"""Studies: one base recipe, axes of changes to it, seeds, data and tasks, as one TOML file.

::

    name = "actions in context"
    question = "Does it help to see one's own past actions?"
    seeds = [0, 1, 2]
    recipe = "base.toml"                      # or a section [recipe] with a recipe's fields

    [[axes]]
    name = "actions"
    [[axes.levels]]                           # the first level is the base that the others are held against
    name = "off"
    [[axes.levels]]
    name = "on"
    changes = {"model.actions_in_context" = true}

    [data]
    stores = ["data/metaworld"]               # and, or:
    collect = [{agents = ["scripted"], tasks = ["metaworld/reach-v3"], episodes = 20}]

    [evaluation]
    tasks = ["metaworld/reach-v3"]
    episodes = 10

    [figure]                                  # see lram.harness.studies.figure
    x = "actions"

    [[prediction]]                            # what is expected, written before the first cell is made
    level = "on"
    measure = "score"
    says = "worse"
    because = "a model that sees its last action may copy it"

The cells are the full product of the axes' levels, once for every seed. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from msgspec import Meta

from lram.agents.seed import LARGEST_SEED
from lram.agents.training.recipe import flat, recipe_to_dict
from lram.agents.training.recipe_text import names_warmup, read_recipe
from lram.harness.errors import LramError
from lram.harness.strict_toml import converted, read_toml
from lram.harness.studies.figure import StudyFigure

Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0, le=LARGEST_SEED)]
Text = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Level:
    """One choice: a name, and what it changes in the base recipe, by dotted names of a recipe's fields."""

    name: Text
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Axis:
    """A question of design and its possible answers; the first level is the base."""

    name: Text
    levels: Annotated[tuple[Level, ...], Meta(min_length=2)]


@dataclass(frozen=True, slots=True)
class Collect:
    """Trajectories that the study collects itself, as ``lram collect`` does."""

    agents: Annotated[tuple[str, ...], Meta(min_length=1)]
    tasks: Annotated[tuple[str, ...], Meta(min_length=1)]
    episodes: Count = 10
    seed: CountOrZero = 0
    protocols: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on: stores that exist (relative to the study's file), and what is collected."""

    stores: tuple[str, ...] = ()
    collect: tuple[Collect, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What every trained model plays."""

    tasks: Annotated[tuple[str, ...], Meta(min_length=1)]
    episodes: Count = 10
    seed: CountOrZero = 0
    protocols: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """How a decision of every cell is timed.

    Attributes:
        contexts: Timesteps that were read before the decisions that are timed.
        batch: Lanes that decide at once.
        decisions: So many are timed at each context.
    """

    contexts: Annotated[tuple[Count, ...], Meta(min_length=1)] = (50,)
    batch: Annotated[tuple[Count, ...], Meta(min_length=1)] = (1,)
    decisions: Count = 200


MeasureKey: TypeAlias = Literal[
    "score",
    "score_trained",
    "score_beyond",
    "validation_loss",
    "repeated_predictions",
    "repeated_in_play",
    "decision_ms",
]
MEASURE_KEYS: tuple[MeasureKey, ...] = get_args(MeasureKey)
"""What is measured of every cell and can be predicted; scores also for tasks up to the largest value of
a dial that was trained on, and beyond it (:class:`lram.envs.task.Dial`)."""

CHANCE = "chance"
"""What a score can be held against beside another level: 0, what random play earns."""

_SCORES = ("score", "score_trained", "score_beyond")
_DIRECTED = (*_SCORES, "validation_loss", "decision_ms")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a prediction: how a level compares in one measure.

    Attributes:
        level: Name of a level.
        measure: One of :data:`MEASURE_KEYS`.
        says: ``better`` or ``worse`` (where one is), ``higher`` or ``lower``, or ``equal``.
        against: The level of the same axis that it is compared with, or ``chance`` (scores only); empty: the
            base.
        within: How far from each other what is called equal may be, in the measure's unit; of times, as the
            logarithm of their ratio.
        because: Why it is expected.
    """

    level: Text
    measure: MeasureKey
    says: Literal["better", "worse", "higher", "lower", "equal"]
    against: str = ""
    within: Annotated[float, Meta(gt=0)] = 0.1
    because: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """A study as its file tells it, the recipe's file read in and the stores' folders absolute."""

    name: Text
    question: str
    seeds: Annotated[tuple[CountOrZero, ...], Meta(min_length=1)]
    recipe: Mapping[str, Any]
    axes: Annotated[tuple[Axis, ...], Meta(min_length=1)]
    data: Data
    evaluation: Evaluation
    timing: Timing = field(default_factory=Timing)
    prediction: tuple[Statement, ...] = ()
    figure: StudyFigure | None = None

    def check(self) -> None:
        """Raise LramError for what no single field can tell."""
        check_distinct("axis", [axis.name for axis in self.axes])
        for axis in self.axes:
            check_distinct(f"level of the axis {axis.name!r}", [level.name for level in axis.levels])
        check_distinct("seed", self.seeds)
        if not self.data.stores and not self.data.collect:
            raise LramError(f"the study {self.name!r} has no data; give data.stores or data.collect")
        for name in self.recipe.keys() & {"seed", "name"}:
            raise LramError(f"the study {self.name!r} sets recipe.{name}, which every cell has of its own")
        touched = [name for axis in self.axes for level in axis.levels for name in level.changes]
        for name in touched:
            if name in ("seed", "name", "data.stores", "device"):
                raise LramError(
                    f"a level changes {name}, which is no choice of design here; set it for the whole study"
                )
        for statement in self.prediction:
            self._check_statement(statement)
        if self.figure is not None:
            self.figure.check([axis.name for axis in self.axes])

    def axis_of(self, statement: Statement) -> int:
        """Return the place of the axis that has the statement's level; LramError where none or two have."""
        found = [
            place
            for place, axis in enumerate(self.axes)
            if statement.level in [level.name for level in axis.levels]
        ]
        if len(found) != 1:
            how = "no axis has" if not found else "several axes have"
            levels = ", ".join(level.name for axis in self.axes for level in axis.levels)
            raise LramError(
                f"a prediction is about the level {statement.level!r}, which {how}; the levels are {levels}"
            )
        return found[0]

    def against(self, statement: Statement) -> str:
        """Return what the statement's level is held against: a level, or ``chance``."""
        return statement.against or self.axes[self.axis_of(statement)].levels[0].name

    def _check_statement(self, statement: Statement) -> None:
        axis = self.axes[self.axis_of(statement)]
        against, levels = self.against(statement), [level.name for level in axis.levels]
        if against == CHANCE and CHANCE not in levels:
            if statement.measure not in _SCORES:
                raise LramError(
                    f"a prediction holds {statement.measure} of {statement.level} against chance, which only "
                    "scores have; name a level"
                )
        elif against not in levels or against == statement.level:
            raise LramError(
                f"a prediction holds {statement.level} against {against!r}; name another level of "
                f"{axis.name}: {', '.join(levels)}"
            )
        if statement.says in ("better", "worse") and statement.measure not in _DIRECTED:
            raise LramError(
                f"a prediction calls {statement.level} {statement.says} in {statement.measure}, of which "
                "neither way is better; say higher or lower"
            )


def shipped_studies() -> dict[str, Path]:
    """Return the study files that come with the package, by name."""
    folder = Path(str(resources.files("lram.harness.studies"))) / "shipped"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def read_study(source: str | Path) -> Study:
    """Read a study from a TOML file, or one that comes with the package by its name.

    Raises:
        LramError: One sentence that says what is wrong, and where.
    """
    file = Path(source)
    if not file.is_file():
        shipped = shipped_studies()
        if str(source) not in shipped:
            raise LramError(
                f"there is no study {source}; give a TOML file or the name of an included one: "
                f"{', '.join(shipped)}"
            )
        file = shipped[str(source)]
    plain = read_toml(file, "a study")
    return study_of(plain, str(file), file.resolve().parent)


def study_of(plain: Mapping[str, Any], where: str, folder: Path) -> Study:
    """Return the study of plain values.

    Args:
        plain: As TOML has them.
        where: What to call their source in messages.
        folder: What paths in them are relative to.

    Raises:
        LramError: One sentence that says what is wrong, and where.
    """
    made = {"name": "", "question": "", "recipe": {}, **plain}
    if isinstance(made["recipe"], str):
        made["recipe"] = _recipe_of(folder / made["recipe"])
    if isinstance(made.get("axes"), list):
        made["axes"] = [_flat_axis(axis) for axis in made["axes"]]
    study = converted(made, Study, where)
    for statement, given in zip(study.prediction, made.get("prediction", ()), strict=True):
        if "within" in given and statement.says != "equal":
            raise LramError(
                f"{where}: a prediction calls {statement.level} {statement.says} within "
                f"{statement.within:g}, and only what is called equal has a margin; take within out, "
                "or say equal"
            )
    stores = tuple(str((folder / Path(path).expanduser()).resolve()) for path in study.data.stores)
    study = replace(study, data=replace(study.data, stores=stores))
    study.check()
    return study


def _recipe_of(file: Path) -> dict[str, Any]:
    """Return a recipe's file as plain values, without what every cell has of its own."""
    plain = recipe_to_dict(read_recipe(file))
    del plain["name"], plain["seed"]
    if not names_warmup(file):
        del plain["optimizer"]["warmup_updates"]  # so that it follows from each cell's updates
    return plain


def _flat_axis(axis: Any) -> Any:
    if not isinstance(axis, Mapping) or not isinstance(axis.get("levels"), list):
        return axis  # msgspec says what is wrong with it
    levels = [
        # TOML gives a.b = 1 without quotes as nested tables.
        {**level, "changes": flat(level["changes"])}
        if isinstance(level, Mapping) and isinstance(level.get("changes"), Mapping)
        else level
        for level in axis["levels"]
    ]
    return {**axis, "levels": levels}


def check_distinct(what: str, names: Sequence[object]) -> None:
    """Raise LramError where one of ``names`` is there twice."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise LramError(f"the {what} {name!r} is there twice; give each once")
