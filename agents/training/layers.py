"""Layers of a recipe: what a base says of the model, and what is said over it later.

Later are a recipe over its base, the changes of a study's level, and ``--set``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lram.agents.backbones.registry import kinds, points, renamed_presets
from lram.agents.model.presets import parse_preset, preset_kind


def with_present_name(plain: Mapping[str, Any], *, written_out: bool = False) -> dict[str, Any]:
    """Return a recipe's plain values whose preset has the name that it has today.

    Args:
        plain: The values; what is wrong with them stays as it is.
        written_out: A training wrote them out. Written out today, a name has its brackets; so one without
            them is of an earlier version, and means the model that it named there.
    """
    model = plain.get("model")
    renamed = renamed_presets().get(str(model.get("preset"))) if isinstance(model, Mapping) else None
    if renamed is None or not isinstance(model, Mapping):
        return dict(plain)
    return {**plain, "model": {**model, "preset": renamed.meant if written_out else renamed.means}}


def before(plain: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's plain values without what the backbone or preset of ``later`` takes the place of.

    Of a backbone, these are one of another kind with its options, or a preset of one, whose width and number
    of blocks stay. Of a preset, they are a backbone of another kind with its options, width and number of
    blocks, which the preset has itself. What ``later`` names itself is not put in.

    Raises:
        AgentError: The preset whose sizes stay is none.
    """
    model, changes = plain.get("model"), later.get("model")
    if not isinstance(model, Mapping) or not isinstance(changes, Mapping):
        return dict(plain)
    named = changes.get("backbone")
    earlier, preset = (str(model.get(name) or "") for name in ("backbone", "preset"))
    replaced = earlier and not preset and not model.get("init_from")
    if replaced and "preset" in changes and "backbone" not in changes:
        kind = preset_kind(str(changes["preset"]))
        return dict(plain) if kind in ("", _kind(earlier)) else {**plain, "model": _unsized(model)}
    if not isinstance(named, str) or not named or "preset" in changes or model.get("init_from"):
        return dict(plain)
    kind = _kind(named)
    if kind in ({preset_kind(preset)} if preset else {_kind(earlier)} if earlier else set()):
        return dict(plain)
    # Of own code that stands under no entry point only its import tells the kind, so its options are known
    # by what they are not. A backbone of one's own may have those that are there without one.
    own = _is_own(earlier) and not _is_own(kind)
    left = {
        name: value
        for name, value in model.items()
        if not isinstance(value, Mapping) or name == kind or (name not in kinds() and not own)
    }
    if preset:
        del left["preset"]
        config = parse_preset(preset)
        left = {"width": config.width, "layers": config.layers, **left}
    return {**plain, "model": left}


def _unsized(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's fields but for its backbone, the options of it, its width and its number of blocks."""
    gone = ("backbone", "width", "layers")
    return {
        name: value for name, value in model.items() if name not in gone and not isinstance(value, Mapping)
    }


def _kind(backbone: str) -> str:
    """Return the kind of a backbone as it is named; the name itself where only its code tells it."""
    return next((point.name for point in points() if point.value == backbone), backbone)


def _is_own(name: str) -> bool:
    return ":" in name
