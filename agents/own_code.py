"""The code behind an agent that a user wrote: which files it is, and what they hold.

An agent named ``module:factory`` is its source: change it, and it is another agent under the same name. So
is a model whose backbone is ``module:SPEC``, whatever its weights. What is reported here is found without
importing anything: the module's file, and those of the user's own modules that it imports, wherever in them
an import stands, or that it names in a text ``module:name``, as a ``BackboneSpec`` may. Installed packages
that it imports are recorded by their versions elsewhere; what it reads besides (weights, tables) is its own
to account for, in ``AgentInfo.digest``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lram.agents.api import AgentError
from lram.agents.backbones.registry import points as backbone_points
from lram.agents.checkpoints.description import read_description
from lram.agents.installed import entry_points
from lram.agents.own_modules import split_code
from lram.agents.spec import parse_agent
from lram.agents.sums import files_digest as files_digest  # for agents of users

GROUP = "lram.agents"
"""Entry points of agents."""

_MOST_FILES = 5000
# By digest, name and how it is read: parsing takes nearly all of the time, and one command asks often.
_IMPORTED: dict[tuple[str, str, bool, bool], tuple[str, ...]] = {}


def named_module(spec: str) -> str:
    """Return the module that building ``spec`` would import because ``spec`` names it; empty where none."""
    return parse_agent(spec).module


def code_of(spec: str) -> dict[str, str]:
    """Return :func:`source_digests` of the user's code behind an agent; empty where all is the package's own.

    It is the code of the module that ``spec`` names, itself or as an entry point's name, or that of the
    backbone of the checkpoint or the preset that it names.
    """
    return _source(*_code_behind(spec)).digests


def is_code_beside(spec: str, code: Mapping[str, str]) -> bool:
    """Return whether ``code``, noted of an agent that runs other code, is that of the working directory.

    Earlier versions looked there first for modules that are not imported from there: those of entry points.
    """
    module, here = _code_behind(spec)
    return bool(module) and not here and not changed(code, _source(module, here=True).digests)


def preset_code(name: str) -> dict[str, str]:
    """Return :func:`source_digests` of the backbone that a preset begins with; see :func:`model_code`."""
    return _source(_preset_module(name)).digests


def checkpoint_code(folder: str | Path) -> dict[str, str]:
    """Return :func:`model_code` of the model in a checkpoint's folder; empty where it is none.

    Loading a checkpoint reports what is wrong with it, not this.
    """
    return _source(_checkpoint_module(folder)).digests


def model_code(model: Mapping[str, Any]) -> dict[str, str]:
    """Return :func:`source_digests` of a model's backbone that is not the package's own.

    Args:
        model: Its configuration, as plain values. Code that it names is looked for where it would be imported
            from: not in the working directory.
    """
    return _source(_model_module(model)).digests


def source_digests(module: str) -> dict[str, str]:
    """Return SHA-256 by module name of ``module`` and of the user's modules that it imports or names.

    A module is the user's own when it lies in the folder that ``module`` was found in; where that is the
    folder of installed packages, when it is of the same package. Empty where ``module`` has no source file.
    """
    return _source(module, here=True).digests


def check_loaded(spec: str) -> None:
    """Raise AgentError where an agent runs another module than the one that :func:`code_of` reads."""
    _check_loaded(_source(*_code_behind(spec)), f"agent {spec}")


def check_loaded_model(model: Mapping[str, Any]) -> None:
    """Raise AgentError where a backbone runs another module than the one that :func:`model_code` reads."""
    _check_loaded(_source(_model_module(model)), f"the backbone {model.get('backbone')}")


def check_loaded_file(file: Path) -> None:
    """Raise AgentError where a module beside ``file`` was loaded from elsewhere by its name."""
    beside = _digests(file.parent, file.stem, within="")
    _check_loaded(_Source(file.parent, {n: d for n, d in beside.items() if n != file.stem}), str(file))


class _Source(NamedTuple):
    """The user's modules behind something: the folder that their names begin in, and digests by name."""

    root: Path
    digests: dict[str, str]


def _source(module: str, here: bool = False) -> _Source:
    """Return the source of a module, found as the import finds it.

    Args:
        module: Its name.
        here: The working directory is searched, and before all others where it is not among them.
    """
    top = module.partition(".")[0]
    first = str(Path.cwd()) if here else ""
    places = [first, *sys.path] if here and first not in sys.path else sys.path
    found = importlib.machinery.PathFinder.find_spec(top, places) if top else None
    if found is None:
        return _Source(Path(), {})
    locations = list(found.submodule_search_locations or ()) or [found.origin or ""]
    root = Path(locations[0]).parent
    installed = root.name in ("site-packages", "dist-packages")
    return _Source(root, _digests(root, module, within=top if installed else "", texts=True))


def _code_behind(spec: str) -> tuple[str, bool]:
    """Return the user's module behind an agent, and whether the working directory is searched for it."""
    if module := named_module(spec):
        return module, True
    parsed = parse_agent(spec)
    for point in entry_points(group=GROUP):
        if point.name in (parsed.base, parsed.called):
            return point.value.partition(":")[0].strip(), False
    if folder := parsed.folder:
        return _checkpoint_module(folder), False
    return _preset_module(parsed.base), False


def _preset_module(name: str) -> str:
    return "" if ":" in name else _backbone_module(re.split(r"[\[-]", name, maxsplit=1)[0])


def _backbone_module(name: str) -> str:
    """Return the module of ``module:SPEC``, or of a kind that is an entry point; of others nothing."""
    for point in backbone_points() if ":" not in name else ():
        if point.name == name:
            name = point.value
    module, colon, _ = name.partition(":")
    # The name may come from a stranger's file, and only modules are looked for: every one that Python would
    # import, which are more than an agent can be named by.
    is_module = all(part.isidentifier() for part in module.strip().split("."))
    return module.strip() if colon and is_module else ""


def _checkpoint_module(folder: str | Path) -> str:
    try:
        model = read_description(Path(folder)).model
    except AgentError:
        return ""
    return _model_module(model) if isinstance(model, dict) else ""


def _model_module(model: Mapping[str, Any]) -> str:
    named = model.get("backbone")
    if isinstance(named, str) and named:
        return _backbone_module(named)
    kinds = [point.name for point in backbone_points() if model.get(point.name) is not None]
    return _backbone_module(kinds[0]) if kinds else ""


def _check_loaded(source: _Source, what: str) -> None:
    """Raise AgentError where one of the modules was loaded from another file of the user's."""
    for name in source.digests:
        file = _file_of(source.root, name)
        loaded = getattr(sys.modules.get(name), "__file__", None)
        # One that is installed, or Python's own, is meant where a file beside is called like it.
        if file is None or not loaded or not loaded.endswith(".py") or _is_installed(Path(loaded)):
            continue
        if os.path.realpath(loaded) != os.path.realpath(file) and not _holds(loaded, source.digests[name]):
            raise AgentError(
                f"{what} would run the module {name} from {loaded} and not from {file}: the first that is "
                "imported by a name serves all of a process; give one of the two files another name"
            )


def _holds(file: str, digest: str) -> bool:
    """Return whether ``file`` is a copy of what has that digest."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _is_installed(file: Path) -> bool:
    own = Path(sysconfig.get_path("stdlib"))
    return own in file.parents or not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def file_digests(file: Path) -> dict[str, str]:
    """Return SHA-256 by module name of a Python file and of the modules beside it that it imports."""
    return _digests(file.parent, file.stem, within="")


def _digests(root: Path, module: str, *, within: str, texts: bool = False) -> dict[str, str]:
    """Return digests of ``module`` and what it imports of ``root``, of one package where it is given.

    ``texts``: and what it names as ``module:name``.
    """
    digests: dict[str, str] = {}
    waiting = [module]
    while waiting and len(digests) < _MOST_FILES:
        name = waiting.pop()
        if name in digests or (within and name.partition(".")[0] != within):
            continue
        file = _file_of(root, name)
        if file is None:
            continue
        content = file.read_bytes()
        digests[name] = hashlib.sha256(content).hexdigest()
        key = (digests[name], name, file.name == "__init__.py", texts)
        if key not in _IMPORTED:
            _IMPORTED[key] = tuple(dict.fromkeys(_imported(content, *key[1:])))
        waiting += _IMPORTED[key]
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return dict(sorted(digests.items()))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the modules whose source is another one now, or is gone."""
    return [name for name, digest in before.items() if now.get(name) != digest]


def _file_of(root: Path, name: str) -> Path | None:
    base = root.joinpath(*name.split("."))
    for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):  # as Python looks for them
        if file.is_file():
            return file
    return None


def _imported(content: bytes, name: str, is_package: bool, texts: bool) -> Iterator[str]:
    """Yield the names of the modules that a source may import; none where it is no Python.

    ``texts``: also of those that its texts name as ``module:name``.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        elif texts and isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, _ = split_code(node.value)
            if module:
                yield module
