"""Counts of the code itself, a room a row: sizes of modules and functions, circles, names that stand twice.

::

    python tests/benchmarks/house.py
    python tests/benchmarks/house.py --folders agents envs

Needs Python alone and runs no module: files are read as text. A function's lines are those from its ``def``
to its end; methods and nested functions count, and so do their docstrings. Circles are groups of modules that
import each other: first by what runs when a module is imported, then with imports in functions and for types
too. ``lint-imports`` holds some of them to none; this counts all.
"""

from __future__ import annotations

import argparse
import ast
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("envs", "agents", "harness", "reports")
BACKBONES = "lram.agents.backbones"


@dataclass(frozen=True, slots=True)
class Module:
    """A file of code.

    Attributes:
        name: As it is imported.
        file: Relative to the root.
        lines: Of the file.
        functions: Lines of each function.
        classes: Names of the classes at its top.
        imports: Modules that importing it imports.
        later: Those that functions of it import, or that it names for types only.
    """

    name: str
    file: Path
    lines: int
    functions: tuple[int, ...]
    classes: tuple[str, ...]
    imports: frozenset[str]
    later: frozenset[str]


@dataclass(slots=True)
class _Search:
    """State of the search for circles (Tarjan 1972)."""

    order: dict[str, int] = field(default_factory=dict)
    lowest: dict[str, int] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    found: list[list[str]] = field(default_factory=list)


def read_modules(root: Path = ROOT) -> list[Module]:
    """Return the modules of all rooms below ``root``."""
    files = {}
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            files[".".join(("lram", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    return [_read(name, file, root, files.keys()) for name, file in files.items()]


def _read(name: str, file: Path, root: Path, known: Sequence[str] | set[str]) -> Module:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    now, later = set(), set()
    for statement, runs in _imports(tree):
        (now if runs else later).update(_targets(statement, package, known))
    functions = tuple(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    classes = tuple(node.name for node in tree.body if isinstance(node, ast.ClassDef))
    lines, here = len(text.splitlines()), {name}
    now, later = now - here, later - now - here
    return Module(name, file.relative_to(root), lines, functions, classes, frozenset(now), frozenset(later))


def _imports(node: ast.AST, runs: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the import statements below ``node``, and whether they run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, runs
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for one in child.body:
                yield from _imports(ast.Module([one], []), False)
            for one in child.orelse:
                yield from _imports(ast.Module([one], []), runs)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, runs and not inside)


def _targets(
    statement: ast.Import | ast.ImportFrom, package: str, known: Sequence[str] | set[str]
) -> Iterator[str]:
    """Yield the modules of the rooms that a statement imports."""
    if isinstance(statement, ast.Import):
        named = [(one.name, "") for one in statement.names]
    else:
        above = package.split(".")
        base = above[: len(above) - statement.level + 1] if statement.level else []
        origin = ".".join([*base, *([statement.module] if statement.module else [])])
        named = [(origin, one.name) for one in statement.names]
    for origin, name in named:
        if f"{origin}.{name}" in known:
            yield f"{origin}.{name}"
        elif origin in known:
            yield origin


def circles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, each sorted."""
    search = _Search()
    for name in graph:
        if name not in search.order:
            _visit(name, graph, search)
    return [sorted(group) for group in search.found if len(group) > 1]


def _visit(name: str, graph: dict[str, frozenset[str]], search: _Search) -> None:
    search.order[name] = search.lowest[name] = len(search.order)
    search.stack.append(name)
    for target in sorted(graph[name]):
        if target not in search.order:
            _visit(target, graph, search)
            search.lowest[name] = min(search.lowest[name], search.lowest[target])
        elif target in search.stack:
            search.lowest[name] = min(search.lowest[name], search.order[target])
    if search.lowest[name] == search.order[name]:
        first = search.stack.index(name)
        search.found.append(search.stack[first:])
        del search.stack[first:]


def graphs(modules: Sequence[Module]) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """Return what imports what among ``modules``: when they are imported, and at any time."""
    names = {module.name for module in modules}
    now = {module.name: module.imports & names for module in modules}
    return now, {module.name: now[module.name] | (module.later & names) for module in modules}


def twice(modules: Sequence[Module]) -> dict[str, list[str]]:
    """Return the modules of each class name that stands in more than one; names of a module's own are not."""
    found: dict[str, list[str]] = {}
    for module in modules:
        for name in module.classes:
            if not name.startswith("_"):
                found.setdefault(name, []).append(module.name)
    return {name: places for name, places in sorted(found.items()) if len(places) > 1}


def importers(modules: Sequence[Module], kind: str) -> list[str]:
    """Return the modules outside a backbone's own folder that import anything of it."""
    home = f"{BACKBONES}.{kind}"

    def within(name: str) -> bool:
        return name == home or name.startswith(f"{home}.")

    return [
        module.file.as_posix()
        for module in modules
        if not within(module.name) and any(map(within, module.imports | module.later))
    ]


def spread(numbers: Sequence[int]) -> str:
    """Return median and 90th percentile (the smallest number that 90% do not exceed)."""
    if not numbers:
        return "-"
    ordered = sorted(numbers)
    return f"{statistics.median(ordered):g} / {ordered[math.ceil(0.9 * len(ordered)) - 1]}"


def row(name: str, modules: Sequence[Module]) -> tuple[str, ...]:
    """Return the counts of some modules."""
    now, ever = map(circles, graphs(modules))
    functions = [lines for module in modules for lines in module.functions]
    longest = max(modules, key=lambda module: module.lines)
    return (
        name,
        f"{sum(module.lines for module in modules):,}",
        str(len(modules)),
        spread([module.lines for module in modules]),
        spread(functions),
        f"{longest.file.relative_to(longest.file.parts[0])} {longest.lines}",
        str(max(functions, default=0)),
        f"{len(now)}, {len(ever)}",
        str(len(twice(modules))),
    )


HEADER = (
    *("room", "lines", "modules", "module lines, median / p90", "function lines, median / p90"),
    *("longest module", "longest function", "circles at import, ever", "class names twice"),
)


def main() -> None:
    """Print the table, then the circles and names that it counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folders", nargs="*", default=[], metavar="ROOM", help="a row a folder of these, too"
    )
    asked = parser.parse_args()
    modules = read_modules()
    rooms = {room: [one for one in modules if one.file.parts[0] == room] for room in ROOMS}
    rows = [HEADER, *(row(room, held) for room, held in rooms.items()), row("all", modules)]
    for room in asked.folders:
        inner = dict.fromkeys("/".join(one.file.parts[:2]) for one in rooms[room] if len(one.file.parts) > 2)
        for folder in inner:
            held = [one for one in rooms[room] if one.file.is_relative_to(folder)]
            rows.append(row(folder, held))
    widths = [max(len(one[column]) for one in rows) for column in range(len(HEADER))]
    for one in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)).rstrip())
    for when, graph in zip(("at import", "ever"), graphs(modules), strict=True):
        for group in circles(graph):
            print(f"\ncircle {when}: {', '.join(group)}")
    for name, places in twice(modules).items():
        print(f"\n{name} stands in {', '.join(places)}")
    print("\nmodules that import of a backbone, outside its own folder:")
    for folder in sorted((ROOT / "agents" / "backbones").iterdir()):
        if (folder / "__init__.py").is_file() and folder.name != "kernels":
            print(f"  {folder.name}: {', '.join(importers(modules, folder.name)) or 'none'}")


if __name__ == "__main__":
    main()
