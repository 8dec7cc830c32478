"""Cells: one combination of levels with one seed, and the key that its content has.

A cell's key is a hash of everything that decides its numbers: the recipe after the changes, with its
seed; the digests of the stores; the evaluation with its protocols; the timing; versions of what
computes; and :data:`CONTENT`. Whose initial states the evaluation has (:data:`OWN_STARTS`) is part of it,
too, and so is the source of the user's own backbone and of domains from his files. Fields that are as usual
are left out, so that a field which a later version adds makes no other cells. So a study that is changed
finds the cells that it still has, and what reads the cells afterwards may change without any of them being
made again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.metadata import version
from itertools import chain, product
from types import MappingProxyType
from typing import Any

import msgspec

from lram.agents.own_code import checkpoint_code, model_code, preset_code
from lram.agents.training.layers import before, with_present_name
from lram.agents.training.recipe import EARLIER_DEFAULTS, FREE, ModelSection, Recipe, flat, recipe_to_dict
from lram.agents.training.recipe_text import is_written_out, recipe_from_dict
from lram.harness.storage.seeds import evaluation_seed
from lram.harness.studies.study import Evaluation, Study, Timing

CONTENT = 1
"""Raised when training (also by another default of a recipe), evaluation, the copycat measure or timing
give other numbers for the same study."""

OWN_STARTS = "of the training seed"
"""Stands in the key of a cell whose evaluation seed follows from its training seed. Cells of
studies that were begun by versions which evaluated every training seed on the study's one seed have
nothing there."""

_COMPUTING = ("torch", "numpy")
NO_CODE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of a study.

    Attributes:
        levels: Name of the level of each axis, in the order of the axes.
        seed: Of the training.
        recipe: What is trained.
        key: SHA-256 of the content, in hex.
        evaluation_seed: Run seed of its evaluation; None: the study's, which all its cells share.
        code: See :class:`lram.harness.studies.records.CellEntry`.
        unnoted: The user's own source is behind its numbers, and the version that made it did not note it.
    """

    levels: tuple[str, ...]
    seed: int
    recipe: Recipe
    key: str
    evaluation_seed: int | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    unnoted: bool = False

    @property
    def title(self) -> str:
        """For people, and the label of its model in its evaluation: ``on, seed 0``."""
        return f"{', '.join(self.levels)}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        plain = "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", level).strip("-.") for level in self.levels)
        return f"{plain or 'cell'}-seed{self.seed}-{self.key[:8]}"


def cells_of(
    study: Study,
    digests: Mapping[str, str],
    protocols: Sequence[str],
    *,
    own_starts: bool = True,
    domain_code: Mapping[str, str] = NO_CODE,
    made: Collection[str] = (),
) -> list[Cell]:
    """Return the cells of ``study``, all levels of one seed before the next seed.

    Args:
        study: The study.
        digests: Digest of each store by its folder, all of which every cell is trained on.
        protocols: Ids of the protocols of the evaluation's tasks, such as ``metaworld:lram@1``.
        own_starts: Each training seed is evaluated on initial states of its own (the levels of a seed share
            them); False: all on those of the study's seed, as studies of earlier versions are.
        domain_code: Source of the evaluation's domains from files (:func:`lram.harness.domain_files.noted`).
        made: Names of the folders of cells that are there. A cell that an earlier version made of the user's
            own code, which it did not note, keeps its key.

    Raises:
        AgentError: The recipe after some level's changes is none, or cannot be trained.
    """
    found = []
    codes: dict[Hashable, dict[str, str]] = {}  # files are read once a backbone, not once a cell
    shared: dict[str, Any] = {
        "content": CONTENT,
        "data": list(digests.values()),
        "evaluation": _changed_fields(study.evaluation),
        "protocols": sorted(protocols),
        "timing": _changed_fields(study.timing),
        "versions": {name: version(name) for name in _COMPUTING},
    }
    if own_starts:
        shared["starts"] = OWN_STARTS
    usual = flat(recipe_to_dict(Recipe())) | EARLIER_DEFAULTS
    for seed in study.seeds:
        starts = evaluation_seed(study.evaluation.seed, seed) if own_starts else None
        for levels in product(*(axis.levels for axis in study.axes)):
            changes = [level.changes for level in levels]
            names = tuple(level.name for level in levels)
            recipe = _recipe(study, changes, seed, list(digests), f"{study.name}, {', '.join(names)}")
            recipe.check()
            cell = Cell(names, seed, recipe, _key(recipe, usual, shared), starts)
            if code := {**_backbone_code(recipe.model, codes), **domain_code}:
                earlier, key = cell.folder, _key(recipe, usual, {**shared, "code": code})
                cell = replace(cell, key=key, code=code)
                if earlier in made and cell.folder not in made:
                    cell = Cell(names, seed, recipe, _key(recipe, usual, shared), starts, unnoted=True)
            found.append(cell)
    return found


def _backbone_code(section: ModelSection, known: dict[Hashable, dict[str, str]]) -> dict[str, str]:
    """Return SHA-256 by module of the user's own source of the model's backbone.

    Args:
        section: The model.
        known: What was found before, by all that tells the backbone; what is found is put in.
    """
    model = section.overrides
    named = frozenset(name for name, value in model.items() if value is not None)
    which = (str(model.get("backbone")), named, section.preset, section.init_from)
    if which not in known:
        known[which] = _read_code(section)
    return known[which]


def _read_code(section: ModelSection) -> dict[str, str]:
    model = section.overrides
    code = model_code(model)
    if not code and section.preset:
        code = preset_code(section.preset)
    if not code and section.init_from and not model.get("backbone"):
        code = checkpoint_code(section.init_from)
    return {f"module {name}": digest for name, digest in code.items()}


def _recipe(
    study: Study, changes: Sequence[Mapping[str, Any]], seed: int, stores: Sequence[str], where: str
) -> Recipe:
    plain: dict[str, Any] = msgspec.to_builtins(study.recipe)
    plain.setdefault("data", {})["stores"] = list(stores)
    named: dict[str, Any] = {}
    for name, value in chain.from_iterable(change.items() for change in changes):
        _put(named, name.split("."), value)
    plain = before(with_present_name(plain, written_out=is_written_out(plain)), named)
    for name, value in chain.from_iterable(change.items() for change in changes):
        _put(plain, name.split("."), value)
    model = named.get("model")
    if isinstance(model, Mapping) and "preset" in model:  # a level says what it means today
        plain = with_present_name(plain)
    plain["data"] = {**plain["data"], "stores": list(stores)}
    plain["seed"] = seed
    plain["name"] = where
    return recipe_from_dict(plain, where)


def _put(plain: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        inner = plain.get(name)
        plain[name] = dict(inner) if isinstance(inner, Mapping) else {}
        plain = plain[name]
    plain[path[-1]] = value


def _key(recipe: Recipe, usual: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """Return the digest of what decides a cell's result: what its recipe has unusual, and what all share."""
    own = {
        name: value
        for name, value in flat(recipe_to_dict(recipe)).items()
        if name not in FREE and value != usual.get(name)
    }
    return hashlib.sha256(msgspec.json.encode({**shared, "recipe": own}, order="sorted")).hexdigest()


def _changed_fields(section: Evaluation | Timing) -> dict[str, Any]:
    """Return the fields that are not as usual."""
    found = {}
    for one in fields(section):
        usual = one.default_factory() if one.default_factory is not MISSING else one.default
        if (value := getattr(section, one.name)) != usual:
            found[one.name] = value
    return found
