"""Recipes as TOML: read with every error as one sentence, changed by ``--set``, written out in full."""

from __future__ import annotations

import difflib
import json
import math
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import read_regular
from lram.agents.model.config import config_to_dict
from lram.agents.shown import shown
from lram.agents.training.layers import before, with_present_name
from lram.agents.training.recipe import (
    MODEL_SECTION,
    ModelSection,
    OptimizerSection,
    Recipe,
    choices,
    flat,
    known_fields,
    model_config,
    recipe_to_dict,
)
from lram.agents.training.settings import apply_settings, setting_names

WARMUP_PART = 50
"""One update in so many is warm-up where no recipe says: 667 of 33,333 by default."""

BASE = "base"
"""What a recipe calls the recipe that it starts from."""

MOST_BASES = 16
"""Recipes below one, each the base of the one above."""

LARGEST_RECIPE = 1 << 20
"""Bytes of the largest file that is read as a recipe."""

_WRITTEN_OUT = {"stores", "tasks", "policies", "top_fraction", "validation_share", "seed"}
"""Of ``[data]``: a recipe with all of these was written out by a training, or by ``--print-recipe``. One of
earlier versions tells no ``validation_unit``, and its split is to stay what it was."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read_recipe(
    path: str | Path | None, settings: Sequence[str] = (), *, written_out: bool = False
) -> Recipe:
    """Read a recipe; what it does not name has the value of its base, or else the default.

    ``base = "other.toml"`` at the top names another recipe, by its path from the folder of the one that names
    it. Sections of the two are put together, and a field that the recipe names takes the place of the base's
    as a whole. The base may have a base. A backbone that the recipe or a setting names takes the place of
    the base's backbone or preset; of a preset, width and number of blocks stay.

    Args:
        path: A TOML file; None: the defaults alone.
        settings: ``section.field=value`` each, over what the file says
            (:mod:`lram.agents.training.settings`).
        written_out: It was written out by a training: it has every field and no base.

    Raises:
        AgentError: One sentence that names the field, what is wrong with it and what it may be; or a base
            that is not there, or that leads back to the recipe.
    """
    plain: dict[str, Any] = {}
    if path is not None:
        plain = _read_file(Path(path)) if written_out else _read_based(Path(path))
    plain = apply_settings(plain, settings)
    return recipe_from_dict(plain, str(path) if path is not None else "the recipe")


def recipe_from_dict(plain: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Return the recipe of plain values; AgentError as in :func:`read_recipe`.

    Where ``optimizer.updates`` is named, ``optimizer.warmup_updates`` is not, and its default would leave no
    update after the warm-up, the warm-up is a fiftieth of the updates, as it is of the default recipe.
    """
    _refuse_unknown(plain, (), where)
    for name, value in flat(plain).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise AgentError(f"{where}: {name} is {value}, which is no finite number; fix the value")
    nested = with_present_name(plain, written_out=is_written_out(plain))
    if isinstance(nested.get("model"), Mapping):
        model = nested["model"]
        nested["model"] = {name: model[name] for name in model if name in MODEL_SECTION}
        # The backbone defines the names of these, whose code may be the user's own.
        nested["model"]["overrides"] = {name: model[name] for name in model if name not in MODEL_SECTION}
    data = nested.get("data")
    if isinstance(data, Mapping) and is_written_out(nested) and "validation_unit" not in data:
        nested["data"] = {**data, "validation_unit": "episode"}
    optimizer = nested.get("optimizer")
    if isinstance(optimizer, Mapping) and "warmup_updates" not in optimizer:
        updates = optimizer.get("updates")
        if isinstance(updates, int) and updates <= OptimizerSection().warmup_updates:
            nested["optimizer"] = {**optimizer, "warmup_updates": max(0, updates) // WARMUP_PART}
    try:
        return msgspec.convert(nested, Recipe)
    except (msgspec.ValidationError, OverflowError) as error:
        text, _, place = str(error).partition(" - at `$.")
        field = place.rstrip("`").replace("[...]", "") or "it"
        text = text[:1].lower() + text[1:].replace("`", "")
        if text.startswith("invalid enum value"):
            text += f", not one of {', '.join(choices(field))}"
        raise AgentError(f"{where}: {shown(field)} does not fit: {shown(text, 300)}; fix the value") from None


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return the recipe with ``section.field=value`` settings; AgentError as in :func:`read_recipe`.

    The recipe's warm-up is taken to follow from its updates: where settings name so few that none is left
    after it, and no warm-up, it is a fiftieth of those.
    """
    plain = apply_settings(recipe_to_dict(recipe), settings)
    optimizer, named = plain["optimizer"], setting_names(settings)
    updates = optimizer.get("updates")
    follows = "optimizer.updates" in named and "optimizer.warmup_updates" not in named
    if follows and isinstance(updates, int) and updates <= optimizer["warmup_updates"]:
        optimizer["warmup_updates"] = max(0, updates) // WARMUP_PART
    return recipe_from_dict(plain)


def recipe_of_card(card: Mapping[str, Any], whose: str) -> Recipe | None:
    """Return the recipe that the card of the checkpoint ``whose`` tells; None where it tells none.

    Raises:
        AgentError: It is no recipe that this version reads.
    """
    recorded = card.get("recipe")
    return recipe_from_dict(recorded, f"the card of {whose}") if isinstance(recorded, Mapping) else None


def names_warmup(path: str | Path) -> bool:
    """Return whether a recipe's file, or its base, says ``optimizer.warmup_updates`` itself."""
    optimizer = _read_based(Path(path)).get("optimizer")
    return isinstance(optimizer, Mapping) and "warmup_updates" in optimizer


def render_recipe(recipe: Recipe, *, expand: bool = False) -> str:
    """Return the recipe as TOML, every field with its value; read back, it is the same recipe.

    Args:
        recipe: The recipe.
        expand: Add in comments what the preset stands for, and the options of a backbone that is named; a
            line without its ``#`` sets the field.

    Raises:
        AgentError: ``expand``, and there is no such preset, or the overrides do not fit it.
    """
    plain = recipe_to_dict(recipe)
    preset: Mapping[str, Any] = {}
    named = recipe.model.preset or recipe.model.overrides.get("backbone")
    if expand and named and not recipe.model.init_from:
        resolved = ModelSection(overrides=config_to_dict(model_config(recipe.model)))
        preset = recipe_to_dict(Recipe(model=resolved))["model"]
    blocks = [
        "".join(f"{name} = {render_value(plain[name])}\n" for name in plain if not _is_table(plain[name]))
    ]
    for name, section in plain.items():
        if isinstance(section, Mapping):
            blocks += _blocks(name, section, preset if name == "model" else {})
    return "\n".join(blocks)


def _blocks(name: str, section: Mapping[str, Any], preset: Mapping[str, Any]) -> list[str]:
    # The model's sections are tables of their own; short dictionaries stand on one line.
    nested = {key for key, value in section.items() if name.startswith("model") and _is_table(value)}
    lines = [
        f"{render_key(key)} = {render_value(value)}\n" for key, value in section.items() if key not in nested
    ]
    unset = {key: value for key, value in preset.items() if key not in section}
    if unset and name == "model":
        lines.append(
            "# The rest is as the preset or the backbone has it; remove the # of a line to set the field.\n"
        )
    lines += [f"# {key} = {render_value(value)}\n" for key, value in flat(unset).items()]
    blocks = [f"[{name}]\n" + "".join(lines)]
    for key in sorted(nested):
        inner = preset.get(key)
        blocks += _blocks(f"{name}.{key}", section[key], inner if isinstance(inner, Mapping) else {})
    return blocks


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def render_key(name: str) -> str:
    """Return a key as TOML writes it, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else render_value(name)


def render_value(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if text.isprintable() else "".join(map(_printable, text))
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{render_key(name)} = {render_value(inner)}" for name, inner in value.items())
            + "}"
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(render_value, value)) + "]"
    return repr(value)


def _printable(letter: str) -> str:
    """Return a letter as it is, or as the escape of TOML where a terminal would not show it."""
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path, LARGEST_RECIPE).decode("utf-8")
    except FileNotFoundError:
        raise AgentError(
            f"there is no recipe {path}; 'lram train --print-recipe > {shlex.quote(str(path))}' writes one "
            "to start from"
        ) from None
    except UnicodeDecodeError:
        raise AgentError(f"{path} is no text in UTF-8, so it is no recipe; give a TOML file") from None
    except OSError as error:
        raise AgentError(f"{path} cannot be read ({error.strerror}); give a TOML file") from None
    try:
        plain = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, and brackets without end
        raise AgentError(f"{path} is not TOML: {shown(str(error), 200)}; fix that place") from None
    # Now, while it is known which file has the name: over it comes what other files and settings say.
    return with_present_name(plain, written_out=is_written_out(plain))


def is_written_out(plain: Mapping[str, Any]) -> bool:
    """Return whether a training, or ``--print-recipe``, wrote out these plain values of a recipe."""
    data = plain.get("data")
    return isinstance(data, Mapping) and data.keys() >= _WRITTEN_OUT


def _read_based(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the plain values of a recipe's file over those of its base; ``above`` is based on it."""
    plain = _read_file(path)
    if BASE not in plain:
        return plain
    named = plain.pop(BASE)
    if not isinstance(named, str) or not named.isprintable() or not named:
        raise AgentError(
            f'{path}: {BASE} is {shown(str(named), 80)!r}, which names no recipe; write {BASE} = "other.toml"'
        )
    _refuse_unknown(plain, (), str(path), based=True)
    chain, file = (*above, path), path.parent / named
    try:
        there, places = file.exists(), [one.resolve() for one in (file, *chain)]
    except (OSError, RuntimeError):  # too long for a name, or links in a circle
        there, places = False, []
    if not there:
        raise AgentError(f"{path}: there is no recipe {file}, which it names as its {BASE}; fix the path")
    if places[0] in places[1:]:
        circle = " -> ".join(one.name for one in (*chain, file))
        raise AgentError(f"{path}: its {BASE} leads back to it ({circle}); take one of them away")
    if len(chain) > MOST_BASES:
        raise AgentError(
            f"{path}: more than {MOST_BASES} recipes are based on one another; join some of them"
        )
    return _over(before(_read_based(file, chain), plain), plain)


def _over(base: Mapping[str, Any], plain: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of ``base`` with those of ``plain`` over them, section by section."""
    made = dict(base)
    for name, value in plain.items():
        below = base.get(name)
        # A field that is a dictionary, such as sampling.domain_weights, is one value; the model's own tables
        # are the options of a backbone.
        if path in ((), ("model",)) and isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _over(below, value, (*path, name))
        made[name] = value
    return made


def _refuse_unknown(
    plain: Mapping[str, Any], path: tuple[str, ...], where: str, *, based: bool = False
) -> None:
    """Raise AgentError for a field that no recipe has: msgspec drops those of dataclasses in silence.

    Of a recipe that is based on another, the options of a backbone are left for when both are one: the base
    may name the backbone, whose code may be the user's own.
    """
    known = known_fields(path)
    if path == ("model",) and ":" in str(plain.get("backbone", "")):
        known = None
    if known is None:
        return
    for name, value in plain.items():
        if based and path == ("model",) and isinstance(value, Mapping):
            continue
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            elsewhere = [".".join((*at, name)) for at in _SECTIONS if name in (known_fields(at) or ())]
            if elsewhere:
                hint = f"did you mean {elsewhere[0]}?"
            elif close:
                hint = f"did you mean {'.'.join((*path, close[0]))}?"
            else:
                hint = f"known: {', '.join(known)}"
            field = shown(".".join((*path, name)))
            raise AgentError(f"{where} has a field {field} that is not known; {hint}")
        if isinstance(value, Mapping):
            _refuse_unknown(value, (*path, name), where, based=based)


_SECTIONS: tuple[tuple[str, ...], ...] = (
    (),
    *((name,) for name in ("model", "data", "sampling", "optimizer", "validation", "saving")),
)
