"""What running an item means: the files that it needs, and its commands one after the other."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from lram.agents.training.recipe_text import render_key, render_value
from lram.agents.training.settings import apply_settings, setting_names
from lram.harness.errors import LramError
from lram.harness.paper.items import FullScale, PaperItem, Scale, shared_full
from lram.harness.strict_toml import read_toml
from lram.harness.studies.study import Study, shipped_studies, study_of
from lram.harness.training import task_patterns

STUDY_TEXT, RECIPE_TEXT = "study.toml", "recipe.toml"

STUDY_STEPS = ("ablate {out}/study.toml -o {out}/study", "report {out}/study -o {out}/report")


@dataclass(frozen=True, slots=True)
class PaperChoices:
    """What the user has an item run with.

    Attributes:
        scale: Two cores and minutes, or the paper's sizes.
        data: Trajectory stores, in place of what the item collects.
        tasks: What is played, in place of the item's tasks.
        models: In place of the item's models.
        settings: ``section.field=value`` of the recipe.
        seeds, episodes: Of a study, in place of the item's.
        cluster: Options that the commands which know clusters are given, such as ``--backend ray``.
        jobs: Cells of a study at the same time.
        reuse: Folders of other items or studies, whose trajectories and trainings are copied.
    """

    scale: Scale = "laptop"
    data: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    episodes: int | None = None
    cluster: tuple[str, ...] = ()
    jobs: int | None = None
    reuse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """What is run.

    Attributes:
        item: The paper's item.
        files: By name in the folder, the text of what the commands read.
        steps: The commands' words, without ``lram``.
        study: The study among them, where there is one.
    """

    item: PaperItem
    files: Mapping[str, str]
    steps: tuple[tuple[str, ...], ...]
    study: Study | None


def plan_item(item: PaperItem, folder: Path, choices: PaperChoices) -> PaperPlan:
    """Return what running ``item`` into ``folder`` means.

    Raises:
        LramError: It cannot be run, or an option has no meaning for it.
    """
    how = item.at(choices.scale)
    steps = how.steps or STUDY_STEPS
    text = " ".join(steps)
    study = _study(item, how, folder, choices) if f"{{out}}/{STUDY_TEXT}" in text else None
    recipe = _recipe(how.recipe, folder, choices) if f"{{out}}/{RECIPE_TEXT}" in text else None
    _check_meaning(choices, text, study=study is not None, recipe=recipe is not None, item=item)
    models = choices.models or how.models
    if "{models}" in text and not models:
        raise LramError(
            f"{item.key} at --scale {choices.scale} takes trained models; name checkpoints with --model"
        )
    if "{data:" in text and not choices.data:
        raise LramError(
            f"{item.key} at --scale {choices.scale} reads trajectories; name their stores with --data"
        )
    values = {
        "out": [str(folder)],
        "models": list(models),
        "tasks": [",".join(choices.tasks)] if choices.tasks else [],
        "data": list(choices.data),
    }
    made = tuple(_filled(step, values, choices) for step in steps)
    files: dict[str, str] = {}
    parsed = None
    if study is not None:
        parsed = study_of(study, f"the study of {item.key}", folder)
        files[STUDY_TEXT] = toml_text(study)
    if recipe is not None:
        files[RECIPE_TEXT] = toml_text(recipe)
    return PaperPlan(item, files, made, parsed)


def trainings(item: PaperItem) -> int:
    """Return how many models an item trains at the paper's scale."""
    plan = plan_item(item, Path(item.key), PaperChoices("full", data=("stores",)))
    cells = prod(len(axis.levels) for axis in plan.study.axes) * len(plan.study.seeds) if plan.study else 0
    return cells + sum(step[0] == "train" for step in plan.steps)


def _check_meaning(choices: PaperChoices, text: str, *, study: bool, recipe: bool, item: PaperItem) -> None:
    for option, given, means in (
        ("--data", choices.data, study or recipe or "{data:" in text),
        ("--tasks", choices.tasks, study or "{tasks" in text),
        ("--model", choices.models, "{models}" in text),
        ("--set", choices.settings, study or recipe),
        ("--seeds", choices.seeds, study),
        ("--episodes", choices.episodes is not None, study),
        ("--jobs", choices.jobs is not None, study),
        ("--backend", choices.cluster, study),
        ("--reuse", choices.reuse, study),
    ):
        if given and not means:
            raise LramError(
                f"{option} has no meaning for {item.key} at --scale {choices.scale}; leave it out"
            )


def _study(item: PaperItem, how: Any, folder: Path, choices: PaperChoices) -> dict[str, Any]:
    """Return the study's plain values: those that ship, this scale's own, and what was chosen."""
    plain: dict[str, Any] = {}
    if item.study:
        plain = read_toml(shipped_studies()[item.study], "a study")
    if isinstance(how, FullScale):
        plain = {**plain, "data": {}, "prediction": [], **shared_full()}
    plain = merged(plain, how.study)
    if choices.data:
        plain["data"] = {"stores": list(choices.data)}
    elif isinstance(how, FullScale) and not plain["data"]:
        raise LramError(
            f"{item.key} at --scale full learns from the paper's data; name its stores with --data, or "
            "another scale ('lram data import' makes stores)"
        )
    if choices.tasks:
        plain["evaluation"] = {**plain.get("evaluation", {}), "tasks": list(choices.tasks)}
    if choices.episodes is not None:
        plain["evaluation"] = {**plain.get("evaluation", {}), "episodes": choices.episodes}
    if choices.seeds:
        plain["seeds"] = list(choices.seeds)
    plain["recipe"] = _set(plain.get("recipe", {}), choices.settings)
    filled: dict[str, Any] = json.loads(json.dumps(plain).replace("{out}", _escaped(folder)))
    return filled


def _recipe(recipe: Mapping[str, Any], folder: Path, choices: PaperChoices) -> dict[str, Any]:
    plain = merged({}, recipe)
    if choices.data:
        plain["data"] = {**plain.get("data", {}), "stores": list(choices.data)}
    plain = _set(plain, choices.settings)
    filled: dict[str, Any] = json.loads(json.dumps(plain).replace("{out}", _escaped(folder)))
    return filled


def _set(recipe: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a recipe with the settings, and its selections of tasks as ids, which recipes know alone."""
    plain = apply_settings(json.loads(json.dumps(recipe)), settings)
    names = setting_names(settings)
    if "optimizer.updates" in names and "optimizer.warmup_updates" not in names:
        plain["optimizer"].pop("warmup_updates", None)  # so that it follows from the updates
    if tasks := plain.get("data", {}).get("tasks"):
        plain["data"]["tasks"] = list(task_patterns(tasks))
    return plain


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``over``: tables are merged, all else is replaced."""
    found = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found


def _filled(step: str, values: Mapping[str, Sequence[str]], choices: PaperChoices) -> tuple[str, ...]:
    """Return a step's words: ``{models}`` becomes a word each, ``{data:-d}`` an option each, and
    ``{tasks:usual}`` those that were chosen, or the usual ones.
    """
    words: list[str] = []
    for word in shlex.split(step):
        each = re.fullmatch(r"\{data:(-\w)\}", word)
        usual = re.fullmatch(r"\{tasks:(.*)\}", word)
        if word == "{models}":
            words += values["models"]
        elif each:
            words += [part for store in values["data"] for part in (each[1], store)]
        elif usual:
            words += values["tasks"] or [usual[1]]
        else:
            words.append(word.replace("{out}", values["out"][0]))
    if words[0] == "ablate":
        words += ["--jobs", str(choices.jobs)] if choices.jobs is not None else []
        words += choices.cluster
        words += [part for other in choices.reuse for part in ("--reuse", other)]
    return tuple(words)


def _escaped(folder: Path) -> str:
    return json.dumps(str(folder))[1:-1]


def toml_text(plain: Mapping[str, Any], path: str = "") -> str:
    """Return plain values as TOML: values, then tables, then lists of tables; changes on one line."""
    lines, tables, arrays = [], [], []
    for name, value in plain.items():
        full = f"{path}{render_key(name)}"
        if isinstance(value, Mapping) and name != "changes":
            tables.append(f"\n[{full}]\n{toml_text(value, f'{full}.')}")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            arrays += [f"\n[[{full}]]\n{toml_text(one, f'{full}.')}" for one in value]
        else:
            lines.append(f"{render_key(name)} = {render_value(value)}\n")
    return "".join([*lines, *tables, *arrays])
