"""Which backbones there are: those of the package, entry points, and modules that a user names.

Imports no torch, and nothing from outside before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.agents.api import AgentError
from lram.agents.backbones import (
    cells,
    gated_deltanet,
    gla,
    griffin,
    hgrn2,
    mamba,
    mamba2,
    minimal,
    rwkv7,
    stack,
    transformer,
    xlstm,
)
from lram.agents.backbones.spec import BackboneSpec, ModelShape, RenamedPreset
from lram.agents.own_errors import own_code
from lram.agents.own_modules import note_found
from lram.agents.shown import shown

if TYPE_CHECKING:
    from lram.agents.backbones.contract import Backbone

GROUP = "lram.backbones"
"""Entry points of backbones: the kind's name, and ``module:SPEC``."""

BUILT_IN: tuple[BackboneSpec, ...] = (
    xlstm.SPEC,
    mamba.SPEC,
    transformer.SPEC,
    cells.GRU,
    cells.LSTM,
    gated_deltanet.SPEC,
    gla.SPEC,
    hgrn2.SPEC,
    minimal.MINGRU,
    minimal.MINLSTM,
    rwkv7.SPEC,
    griffin.GRIFFIN,
    griffin.RGLRU,
    mamba2.SPEC,
    stack.SPEC,
)
"""The kinds that come with the package."""

RESERVED = frozenset(
    {
        *(
            "width",
            "layers",
            "backbone",
            "state_width",
            "decode",
            "name",
            "preset",
            "init_from",
            "state_init",
        ),
        *("actions_in_context", "returns_in_context", "rewards_in_context", "overrides"),
    }
)
"""Names that a model's configuration, or a recipe's section of it, has for other things."""


class MissingBackboneError(AgentError):
    """The code of a backbone from outside is not here."""


def built_in(kind: str) -> BackboneSpec | None:
    """Return the package's own backbone of that kind."""
    return next((spec for spec in BUILT_IN if spec.kind == kind), None)


def kinds() -> tuple[str, ...]:
    """Return the kinds that can be named: the package's own, then those of entry points."""
    return (*(spec.kind for spec in BUILT_IN), *(point.name for point in points()))


@cache
def points() -> tuple[EntryPoint, ...]:
    """Return the entry points, but for those that call themselves as a kind of the package."""
    taken = {spec.kind for spec in BUILT_IN}
    found = {point.name: point for point in entry_points(group=GROUP) if point.name not in taken}
    return tuple(found[name] for name in sorted(found))


def renamed_presets() -> dict[str, RenamedPreset]:
    """Return the presets of the package whose names mean other models than in earlier versions, by name."""
    return {one.name: one for spec in BUILT_IN for one in spec.renamed}


def find_spec(name: str) -> BackboneSpec:
    """Return the backbone of a kind (``gru``), of an entry point, or of code (``my_module:SPEC``).

    The name may come from a stranger's file, so code is imported from where Python finds it, and from nowhere
    else: not from the working directory (:func:`lram.agents.own_modules.search_working_directory` is for
    names that a user gives), nor from beside the file.

    Raises:
        AgentError: There is none, or its code cannot be imported; one sentence.
    """
    if (spec := built_in(name)) is not None:
        return spec
    for point in points():
        if point.name == name:
            spec = _load(point.value, f"the entry point {name}")
            if spec.kind != name:
                raise AgentError(
                    f"the entry point {name} of the group {GROUP} leads to a backbone of the kind "
                    f"{spec.kind}; both must have one name"
                )
            return spec
    if ":" not in name:
        raise AgentError(
            f"there is no backbone {shown(name)!r}; give one of {', '.join(kinds())}, or module:SPEC for "
            "your own code"
        )
    return _load(name, f"the backbone {shown(name)}")


def spec_of(options: Any) -> BackboneSpec:
    """Return the backbone that ``options`` are of; AgentError where nothing is known of their class."""
    kind = type(options)
    spec = _by_options().get(kind) or _FOREIGN.get(kind)
    if spec is None:
        beside = [one for _, one in _specs_beside(kind) if one.options is kind]
        if not beside:
            raise AgentError(
                f"{kind.__name__} are no options of a backbone; give those of a BackboneSpec that stands in "
                "the same module"
            )
        spec = beside[0]
        for one in reversed(beside):
            register(one)
    return spec


def is_from_outside(spec: BackboneSpec) -> bool:
    """Return whether a backbone is another package's or the user's own."""
    return built_in(spec.kind) is not spec


def spec_of_class(backbone: Backbone) -> BackboneSpec | None:
    """Return the backbone whose class is exactly that of ``backbone``; None for wrappers and subclasses."""
    name = f"{type(backbone).__module__}:{type(backbone).__qualname__}"
    return next((spec for spec in (*BUILT_IN, *_FOREIGN.values()) if _class_name(spec) == name), None)


def register(spec: BackboneSpec) -> BackboneSpec:
    """Let ``spec`` be known in this process, and return it.

    It takes the place of an earlier one of its kind: a module is loaded again, a notebook's cell run again.

    Raises:
        AgentError: Its kind's name is taken, or its options are another backbone's: by these, a model's
            configuration knows which it is.
    """
    if spec.kind in RESERVED or built_in(spec.kind) not in (None, spec):
        raise AgentError(
            f"a backbone cannot be of the kind {spec.kind}: the name means something else in a model's "
            "configuration; choose another one"
        )
    if built_in(spec.kind) is None:
        other = _by_options().get(spec.options) or _FOREIGN.get(spec.options, spec)
        if other.kind != spec.kind:
            raise AgentError(
                f"two backbones, of the kinds {other.kind} and {spec.kind}, have the options "
                f"{spec.options.__name__}; give the second a dataclass of its own, such as a subclass"
            )
        _FOREIGN[spec.options] = spec
    return spec


def home_of(spec: BackboneSpec) -> str:
    """Return where the code of a backbone from outside is, as ``module:NAME``; empty for the package's own.

    Raises:
        AgentError: It stands in no module under any name, so that a checkpoint could not name it.
    """
    if not is_from_outside(spec):
        return ""
    for name, one in _specs_beside(spec.options):
        if one is spec:
            return f"{spec.options.__module__}:{name}"
    raise AgentError(
        f"the backbone {spec.kind} has no name in {spec.options.__module__}, the module of its options; "
        "write SPEC = BackboneSpec(...) there"
    )


def build_backbone(model: ModelShape) -> Backbone:
    """Return the backbone that ``model`` names, with uninitialised or default weights.

    Raises:
        AgentError: It is of another package or the user's own, and its code raises, or makes no backbone.
    """
    spec = spec_of(model.backbone)
    if not is_from_outside(spec):
        return _build(spec, model)
    with own_code(f"the backbone {spec.kind} cannot be made", "fix its code, or the model's fields"):
        made = _build(spec, model)
    if not callable(getattr(made, "step", None)):
        raise AgentError(
            f"the backbone {spec.kind} cannot be made: its build returned a {type(made).__name__}; let it "
            "return a lram.agents.backbones.contract.Backbone"
        )
    return made


def _build(spec: BackboneSpec, model: ModelShape) -> Backbone:
    build = spec.build
    if isinstance(build, str):
        module, _, name = build.partition(":")
        build = getattr(importlib.import_module(module), name)
    made: Backbone = build(model)
    return made


_FOREIGN: dict[type, BackboneSpec] = {}


@cache
def _by_options() -> dict[type, BackboneSpec]:
    return {spec.options: spec for spec in BUILT_IN}


def _specs_beside(options: type) -> list[tuple[str, BackboneSpec]]:
    """Return the specifications in the module of a class, with their names."""
    module = sys.modules.get(options.__module__)
    there = vars(module).items() if module is not None else ()
    return [(name, value) for name, value in there if isinstance(value, BackboneSpec)]


def _class_name(spec: BackboneSpec) -> str:
    if isinstance(spec.build, str):
        return spec.build
    return f"{spec.build.__module__}:{getattr(spec.build, '__qualname__', '')}"


def _load(home: str, what: str) -> BackboneSpec:
    module_name, _, name = (part.strip() for part in home.partition(":"))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module that exits must not take the command with it
        cause = f"{type(error).__name__}: {shown(str(error), 300)}"
        raise MissingBackboneError(
            f"{what}: its code {shown(home)} cannot be imported ({cause}); install the package that has it, "
            "or put its folder on PYTHONPATH"
        ) from error
    if file := getattr(module, "__file__", None):
        inner = module_name.count(".") + (Path(file).stem == "__init__")
        note_found(Path(file).absolute().parents[inner])
    spec = vars(module).get(name)
    if not isinstance(spec, BackboneSpec):
        raise AgentError(
            f"{what}: {shown(module_name)} has no BackboneSpec called {shown(name)}; check the name"
        )
    return register(spec)
