"""The code behind an agent that a user wrote: which files it is, and what they hold.

An agent named ``module:factory`` is its source: change it, and it is another agent under the same name. So
is a model whose backbone is ``module:SPEC``, whatever its weights. What is reported here is found without
importing anything: the module's file, and those of the user's own modules that it imports, wherever in them
an import stands. Installed packages that it imports are recorded by their versions elsewhere; what it reads
besides (weights, tables) is its own to account for, in ``AgentInfo.digest``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.backbones.registry import points as backbone_points
from lram.agents.durable import read_regular
from lram.agents.installed import entry_points
from lram.agents.spec import parse_agent
from lram.agents.sums import files_digest as files_digest  # for agents of users

GROUP = "lram.agents"
"""Entry points of agents."""

_MOST_FILES = 5000
_CONFIG_FILE = "config.json"  # as lram.agents.checkpoints.folder has it, which imports torch
_LARGEST_CONFIG = 64 << 20


def named_module(spec: str) -> str:
    """Return the module that building ``spec`` would import because ``spec`` names it; empty where none."""
    return parse_agent(spec).module


def code_of(spec: str) -> dict[str, str]:
    """Return :func:`source_digests` of the user's code behind an agent; empty where all is the package's own.

    It is the code of the module that ``spec`` names, itself or as an entry point's name, or that of the
    backbone of the checkpoint or the preset that it names.
    """
    if module := named_module(spec):
        return source_digests(module)
    parsed = parse_agent(spec)
    for point in entry_points(group=GROUP):
        if point.name in (parsed.base, parsed.called):
            return source_digests(point.value.partition(":")[0].strip())
    if folder := parsed.folder:
        return checkpoint_code(folder)
    return preset_code(parsed.base)


def preset_code(name: str) -> dict[str, str]:
    """Return :func:`backbone_code` of the kind that a preset's name begins with."""
    return backbone_code(re.split(r"[\[-]", name, maxsplit=1)[0]) if ":" not in name else {}


def backbone_code(name: str) -> dict[str, str]:
    """Return :func:`source_digests` of the module of a backbone that is not the package's own.

    Args:
        name: ``module:SPEC``, or a kind; of kinds those of entry points have such code.
    """
    for point in backbone_points() if ":" not in name else ():
        if point.name == name:
            name = point.value
    module, colon, _ = name.partition(":")
    # The name may come from a stranger's file, and only modules are looked for.
    is_module = all(part.isidentifier() for part in module.strip().split("."))
    return source_digests(module.strip()) if colon and is_module else {}


def checkpoint_code(folder: str | Path) -> dict[str, str]:
    """Return :func:`backbone_code` of the model in a checkpoint's folder; empty where it is none.

    What is wrong with a checkpoint is told by loading it, not here.
    """
    try:
        content = read_regular(Path(folder) / _CONFIG_FILE, _LARGEST_CONFIG)
        raw = msgspec.json.decode(content, type=dict[str, msgspec.Raw])  # the card may be large
        model = msgspec.json.decode(raw.get("model", msgspec.Raw(b"{}")), type=dict[str, Any])
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return {}
    return model_code(model)


def model_code(model: Mapping[str, Any]) -> dict[str, str]:
    """Return :func:`backbone_code` of a model's configuration, given as plain values."""
    named = model.get("backbone")
    if isinstance(named, str) and named:
        return backbone_code(named)
    kinds = [point.name for point in backbone_points() if model.get(point.name) is not None]
    return backbone_code(kinds[0]) if kinds else {}


def source_digests(module: str) -> dict[str, str]:
    """Return SHA-256 by module name of ``module`` and of the user's modules that it imports.

    A module is the user's own when it lies in the folder that ``module`` was found in; where that is the
    folder of installed packages, when it is of the same package. Empty where ``module`` has no source file.
    """
    top = module.partition(".")[0]
    found = importlib.machinery.PathFinder.find_spec(top, [str(Path.cwd()), *sys.path])
    if found is None:
        return {}
    locations = list(found.submodule_search_locations or ()) or [found.origin or ""]
    root = Path(locations[0]).parent
    return _digests(root, module, within=top if root.name in ("site-packages", "dist-packages") else "")


def file_digests(file: Path) -> dict[str, str]:
    """Return SHA-256 by module name of a Python file and of the modules beside it that it imports."""
    return _digests(file.parent, file.stem, within="")


def _digests(root: Path, module: str, *, within: str) -> dict[str, str]:
    """Return digests of ``module`` and what it imports of ``root``, of one package where it is given."""
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
        is_package = file.name == "__init__.py"
        waiting += _imported(content, name, is_package)
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


def _imported(content: bytes, name: str, is_package: bool) -> Iterator[str]:
    """Yield the names of the modules that a source may import; none where it is no Python."""
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
