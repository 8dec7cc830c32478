"""What a worker imports runs on Python 3.9: no newer syntax, keyword, module or name is in it.

The tests run on a newer Python, and one of 3.9 is not at hand everywhere, so the sources are read.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lram.envs
from lram.envs.availability import OLDEST_PYTHON
from lram.envs.registry import _ADAPTERS

(ROOM,) = (Path(folder) for folder in lram.envs.__path__)
BEGINNINGS = (
    "lram.envs.workers.worker",
    *_ADAPTERS.values(),
    # What a domain of another package is written with.
    "lram.envs.simulator",
    "lram.envs.conformance",
)

KEYWORDS = {
    "dataclass": {"slots", "kw_only", "match_args", "weakref_slot"},
    "field": {"kw_only"},
    "zip": {"strict"},
    "map": {"strict"},
    "entry_points": {"group"},
    "bisect": {"key"},
    "bisect_left": {"key"},
    "bisect_right": {"key"},
    "insort": {"key"},
    "hardlink_to": {"target"},
    "NamedTemporaryFile": {"delete_on_close"},
    "TemporaryDirectory": {"ignore_cleanup_errors", "delete"},
    "rmtree": {"onexc"},
    "ArgumentParser": {"suggest_on_error", "color"},
}
"""Keywords that came after 3.9, by the function that takes them."""

NAMES = {
    "asyncio": {"TaskGroup", "timeout", "Runner", "Barrier"},
    "collections.abc": {"Buffer"},
    "contextlib": {"aclosing", "chdir"},
    "dataclasses": {"KW_ONLY"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "verify", "member", "nonmember", "ReprEnum", "FlagBoundary"},
    "hashlib": {"file_digest"},
    "importlib.metadata": {"packages_distributions"},
    "importlib.resources": {"abc"},
    "inspect": {"get_annotations", "getmembers_static"},
    "itertools": {"pairwise", "batched"},
    "math": {"cbrt", "exp2", "sumprod", "fma"},
    "operator": {"call"},
    "os": {"EFD_CLOEXEC", "eventfd", "splice", "process_cpu_count", "unshare", "setns"},
    "statistics": {"correlation", "covariance", "linear_regression", "kde"},
    "sys": {"orig_argv", "stdlib_module_names", "exception", "activate_stack_trampoline"},
    "threading": {"getprofile", "gettrace", "setprofile_all_threads"},
    "tomllib": {"load", "loads"},
    "types": {"NoneType", "UnionType", "EllipsisType", "NotImplementedType", "get_original_bases"},
    "typing": {
        *("Concatenate", "LiteralString", "Never", "NotRequired", "ParamSpec", "ParamSpecArgs", "Required"),
        *("Self", "TypeAlias", "TypeGuard", "TypeVarTuple", "Unpack", "assert_never", "assert_type"),
        *("clear_overloads", "dataclass_transform", "is_typeddict", "override", "reveal_type", "TypeIs"),
    },
}
"""Names of the standard library that came after 3.9, by module."""

BUILTINS = {"aiter", "anext", "EncodingWarning", "ExceptionGroup", "BaseExceptionGroup"}
METHODS = {"bit_count", "add_note", "is_junction", "hardlink_to"}
TYPES = {name for name in dir(builtins) if isinstance(getattr(builtins, name), type)} | {"None"}


def imported(name: str) -> dict[str, ast.Module]:
    """Return by name the module, and those of the room that are imported wherever in it."""
    found: dict[str, ast.Module] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found or (file := file_of(name)) is None:
            continue
        found[name] = ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=OLDEST_PYTHON)
        waiting.append(name.rpartition(".")[0])  # the packages that it lies in
        for node in ast.walk(found[name]):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, name
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def file_of(name: str) -> Path | None:
    if name != "lram.envs" and not name.startswith("lram.envs."):
        return None
    base = ROOM.joinpath(*name.split(".")[2:])
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


def newer(tree: ast.Module) -> Iterator[str]:
    """Yield what in a module came after Python 3.9, with its line."""
    postponed = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    annotations = set(map(id, annotation_nodes(tree))) if postponed else set()
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).startswith("sys.version_info >=")
        for inside in node.body
        for inner in ast.walk(inside)
    }
    places = {alias.asname or alias.name: alias.name for alias in module_aliases(tree)}
    for node in ast.walk(tree):
        if id(node) in annotations or id(node) in guarded:
            continue
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            yield from (f"{line}: import {a.name}" for a in node.names if late_module(a.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            if late_module(node.module):
                yield f"{line}: from {node.module}"
            late = NAMES.get(node.module, set())
            yield from (f"{line}: {node.module}.{a.name}" for a in node.names if a.name in late)
        elif isinstance(node, ast.Attribute):
            module = places.get(ast.unparse(node.value), "")
            if node.attr in NAMES.get(module, set()) or node.attr in METHODS:
                yield f"{line}: {ast.unparse(node)}"
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield f"{line}: {node.id}"
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            late = KEYWORDS.get(called, set())
            yield from (f"{line}: {called}({k.arg}=...)" for k in node.keywords if k.arg in late)
            if called in ("isinstance", "issubclass") and any(map(is_union, node.args[1:])):
                yield f"{line}: {ast.unparse(node)}"
            if called == "get_type_hints":
                yield f"{line}: get_type_hints reads annotations, which may be unions"
        elif is_union(node) and any(is_type(side) for side in (node.left, node.right)):  # type: ignore[attr-defined]
            yield f"{line}: {ast.unparse(node)}"


def annotation_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of annotations, which nothing evaluates where they are postponed."""
    for node in ast.walk(tree):
        for part in ("annotation", "returns"):
            if (annotation := getattr(node, part, None)) is not None:
                yield from ast.walk(annotation)


def module_aliases(tree: ast.Module) -> Iterator[ast.alias]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from node.names


def late_module(name: str) -> bool:
    return name.partition(".")[0] in {"tomllib"}


def is_union(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)


def is_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return is_type(node.value)
    return isinstance(node, ast.Name) and node.id in TYPES


@pytest.mark.parametrize("name", BEGINNINGS)
def test_what_a_worker_imports_runs_on_the_oldest_python(name: str) -> None:
    modules = imported(name)
    assert name in modules
    wrong = [f"{module}:{what}" for module, tree in modules.items() for what in newer(tree)]
    assert wrong == []


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_worker_starts_with_the_standard_library_numpy_and_this_room(name: str) -> None:
    for module, tree in imported(name).items():
        for node in tree.body:  # a simulator is imported inside functions
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for one in names:
                first = one.partition(".")[0]
                assert one.startswith("lram.envs") or first in {"numpy", *sys.stdlib_module_names}, module


def test_the_worker_s_modules_are_found() -> None:
    found = imported("lram.envs.workers.worker").keys()
    assert {"lram.envs", "lram.envs.workers.wire", "lram.envs.registry", "lram.envs.announced"} <= found
    assert "lram.envs.domains.robosuite.versions" in imported("lram.envs.domains.mimicgen")
    assert "lram.envs.workers.pool" not in found


@pytest.mark.parametrize(
    "source",
    [
        "@dataclass(frozen=True, slots=True)\nclass A: ...",
        "@dataclasses.dataclass(kw_only=True)\nclass A: ...",
        "list(zip(a, b, strict=True))",
        "isinstance(a, int | str)",
        "Either = int | None",
        "Either = Optional[int] | list[str]",
        "def f(a: int | None): ...",
        "from itertools import pairwise",
        "import itertools as it\nit.pairwise(a)",
        "from typing import TypeAlias",
        "import tomllib",
        "entry_points(group='a')",
        "(5).bit_count()",
        "raise ExceptionGroup('a', [])",
        "get_type_hints(A)",
    ],
)
def test_a_newer_feature_is_found(source: str) -> None:
    assert list(newer(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\ndef f(a: int | None) -> str | None: ...\nx: int | str = 5",
        "flags = wire.SUCCESS | wire.HAS_SUCCESS",
        "found = {} | {'a': 1}",
        "if sys.version_info >= (3, 10):\n    entry_points(group='a')",
        "Either = Union[int, None]",
    ],
)
def test_what_the_oldest_python_has_is_not(source: str) -> None:
    assert list(newer(ast.parse(source))) == []


def test_newer_syntax_is_refused() -> None:
    assert sys.version_info > OLDEST_PYTHON
    for source in ("match a:\n    case 1: ...", "try: ...\nexcept* ValueError: ..."):
        with pytest.raises(SyntaxError):
            ast.parse(source, feature_version=OLDEST_PYTHON)
