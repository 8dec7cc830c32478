"""The part of the reference that is made from the code, so that it cannot go stale.

Commands and their options, the backbones and what they keep, the fields of records, the keys of
``summary.json``, the columns of CSV files, the keys of recipes and studies, and the rooms of the code.
``tox run -e docs`` puts these pages into the site; ``python docs/site/generate.py FOLDER`` writes them as
Markdown. What a report writes is read from a report that is made here, from small folders of every kind, as
the tests make them.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import importlib.util
import inspect
import io
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from cyclopts import App

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "reports", "agents", "envs")

RECORDS = {
    "A run": "lram.harness.storage.records",
    "A sweep of latencies": "lram.harness.latency.records",
    "An extrapolation": "lram.harness.extrapolation.records",
    "A study": "lram.harness.studies.records",
    "A study of precisions": "lram.harness.studies.precision.records",
    "A watch": "lram.harness.watching.records",
    "A benchmark of steps": "lram.harness.bench.record",
}
"""Modules whose dataclasses are what is written, by what they are records of."""

SUMMARY = "lram.reports.model:Summary"
RECIPE = "lram.agents.training.recipe:Recipe"
STUDY = "lram.harness.studies.study:Study"
PRECISION = "lram.harness.studies.precision.study:PrecisionStudy"
EVALUATION = "lram.harness.evaluation_files.content:EvaluationFile"
"""The dataclasses that a summary, a recipe, studies and an evaluation are read from and written by."""


def pages() -> dict[str, str]:
    """Return the generated pages as Markdown, by their place in the site."""
    return {
        "reference/commands.md": commands(),
        "reference/records.md": records(),
        "reference/backbones.md": backbones(),
        "reference/recipes.md": recipes(),
        "reference/report-files.md": report_files(),
        **rooms(),
    }


# Commands


def commands() -> str:
    """Return every command with its options, as ``--help`` tells them."""
    from lram.harness.cli import app

    text = ["# Commands", _made_from("the command line's own help"), "", "[TOC]", ""]
    for path, command in walk(app):
        told = command.generate_docs(output_format="markdown", heading_level=2)
        name = " ".join(("lram", *path))
        told = re.sub(r"\A#+ .*$", f"## `{name}`", told, count=1, flags=re.MULTILINE)
        usage = rf"(?<=```console\n){re.escape(path[-1])}(?= |\n)"
        text.append(re.sub(usage, lambda _, name=name: name, told, count=1))  # type: ignore[misc]
    return "\n".join(text)


def walk(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Yield every command that does something, by its words."""
    for name in app:
        if name.startswith("-"):
            continue
        inner = app[name]
        if any(not one.startswith("-") for one in inner):
            yield from walk(inner, (*path, name))
        else:
            yield (*path, name), inner


# Records, recipes and studies


def records() -> str:
    """Return every field of every record."""
    text = [
        "# Records",
        _made_from("the dataclasses that records are written by"),
        "Records are JSON: an object has its class's fields, a tuple is an array. A field with a default "
        "may be missing in records of earlier versions.",
        "",
    ]
    told: set[type] = set()
    shared: list[type] = []
    for title, name in RECORDS.items():
        module = importlib.import_module(name)
        own = [one for one in vars(module).values() if _is_record(one) and one.__module__ == name]
        told.update(own)
        text += [f"## {title}", "", _plain(inspect.getdoc(module) or ""), ""]
        text += [_class(one, heading=3) for one in own]
        shared += [one for root in own for one in _reached(root)]
    text += ["## What several of them hold", ""]
    text += [_class(one, heading=3) for one in dict.fromkeys(shared) if one not in told]
    return "\n".join(text)


def recipes() -> str:
    """Return every key of recipes, studies and evaluation files."""
    text = [
        "# Recipes, studies and evaluation files",
        _made_from("the dataclasses that recipes, studies and evaluation files are read into"),
        "A recipe is a TOML file ([training](../how-to/training.md)), and so is a study "
        "([ablations](../how-to/ablations.md)) and an evaluation ([evaluations](../how-to/evaluations.md)). "
        "A key of a recipe's section is set as `--set section.key=value`.",
        "",
        "## Recipe",
        "",
        _keys(_found(RECIPE)),
        "## Study",
        "",
        _keys(_found(STUDY)),
        "## Precision study",
        "",
        _keys(_found(PRECISION)),
        "## Evaluation file",
        "",
        _keys(_found(EVALUATION)),
    ]
    return "\n".join(text)


def backbones() -> str:
    """Return every kind of backbone: its formulas, options, and sizes with what they keep."""
    from lram.agents.backbones import COMPILED_PARTS
    from lram.agents.backbones.registry import BUILT_IN

    text = [
        "# Backbones",
        _made_from("the specifications and docstrings of the backbones"),
        "A size is named `KIND-SIZE`, as `xlstm-16M`; brackets choose a variant. Parameters are those of the "
        "backbone, without encoders and heads. What a lane keeps is after 50 timesteps of three tokens; a "
        "recurrent state does not grow.",
        "",
    ]
    for spec in BUILT_IN:
        options = sys.modules[spec.options.__module__]
        text += [f"## `{spec.kind}`", "", _plain(inspect.getdoc(options) or ""), ""]
        if spec.fused == COMPILED_PARTS and isinstance(spec.build, str):
            module = importlib.import_module(spec.build.partition(":")[0])
            text += ["```text", _plain(inspect.getdoc(module) or ""), "```", ""]
        text += [*_rows(spec.options), "", *_sizes(spec), ""]
    return "\n".join(text)


def _sizes(spec: Any) -> list[str]:
    """Return a table of a kind's sizes."""
    import torch

    from lram.agents.backbones.registry import build_backbone
    from lram.agents.model.presets import parse_preset

    lines = ["| preset | width | blocks | parameters | a lane keeps, MB |", "|---|---|---|---|---|"]
    for size in spec.sizes:
        preset = f"{spec.kind}-{size.name}"
        with torch.device("meta"):
            backbone = build_backbone(parse_preset(preset))
            kept = backbone.bytes_after(1, 150) / 1e6
        weights = sum(parameter.numel() for parameter in backbone.parameters())
        lines.append(f"| `{preset}` | {size.width} | {size.layers} | {weights:,} | {kept:.3f} |")
    return lines if spec.sizes else []


def _keys(root: type, prefix: str = "") -> str:
    """Return a table of ``root``'s keys, then one for each of its sections."""
    hints = get_type_hints(root, include_extras=True)
    sections = {
        field.name: inner
        for field in fields(root)
        if (inner := next(iter(_classes(hints[field.name])), None)) is not None
    }
    rows = _rows(root, skip=() if prefix else tuple(sections))
    text = [f"### `[{prefix}]`" if prefix else "### At the top", "", _plain(_summary_of(root)), "", *rows, ""]
    for name, inner in sections.items():
        if inner is not root and inner.__module__ == root.__module__:
            text.append(_keys(inner, f"{prefix}.{name}" if prefix else name))
        else:
            text += [f"`{name}` has the keys of a [recipe](#recipe).", ""]
    return "\n".join(text)


def _class(one: type, heading: int) -> str:
    """Return what a class is, and a table of its fields."""
    return "\n".join([f"{'#' * heading} {one.__name__}", "", _plain(_summary_of(one)), "", *_rows(one), ""])


def _rows(one: type, skip: tuple[str, ...] = ()) -> list[str]:
    told = _attributes(one)
    hints = get_type_hints(one, include_extras=True)
    lines = ["| field | type | default | what it is |", "|---|---|---|---|"]
    for field in fields(one):
        if field.name in skip:
            continue
        found = [
            getattr(note, "description", None) for note in getattr(hints[field.name], "__metadata__", ())
        ]
        text = next((description for description in found if description), told.get(field.name, ""))
        kind = _kind(field.type, hints[field.name])
        lines.append(f"| `{field.name}` | {_code(kind)} | {_default(field)} | {_cell(_plain(text))} |")
    return lines


def _kind(annotation: Any, hint: Any) -> str:
    """Return the type of a field as its class writes it, or, where it has bounds, what those are."""
    notes = getattr(hint, "__metadata__", None)
    if notes is None:
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        return " ".join(text.split())
    inner = hint.__origin__
    text = inner.__name__ if inspect.isclass(inner) and not get_args(inner) else str(inner)
    text = re.sub(r"(typing|collections\.abc)\.", "", text)
    if "Annotated" in text:  # bounds of what a collection holds
        text = str(annotation).removeprefix("Annotated[").split(", Meta(")[0].strip()
    bounds = [
        f"{sign} {value:g}"
        for note in notes
        for name, sign in _BOUNDS.items()
        if (value := getattr(note, name, None)) is not None
    ]
    return ", ".join([text, *dict.fromkeys(bounds)])


_BOUNDS = {"gt": ">", "ge": "at least", "lt": "<", "le": "at most", "min_length": "length at least"}


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not MISSING:
        return _code(json.dumps(field.default) if isinstance(field.default, str) else repr(field.default))
    if field.default_factory is not MISSING:
        made = field.default_factory()
        return "" if is_dataclass(made) else _code(repr(made))
    return "must be there"


def _attributes(one: type) -> dict[str, str]:
    """Return what the docstring of a class, and of those it inherits from, says of each field."""
    told: dict[str, str] = {}
    for base in reversed(one.__mro__):
        section = re.search(
            r"^Attributes:\n((?:    .*\n?|\n)*)", inspect.cleandoc(base.__doc__ or ""), re.MULTILINE
        )
        for names, meaning in re.findall(
            r"^    ([a-z_][\w, ]*): (.*(?:\n     +.*)*)", section[1] if section else "", re.MULTILINE
        ):
            told |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return told


def _summary_of(one: type) -> str:
    """Return the docstring of a class without its list of attributes; empty where Python made it."""
    text = inspect.cleandoc(one.__doc__ or "").partition("\nAttributes:")[0]
    return "" if text.startswith(f"{one.__name__}(") else text.strip()


def _is_record(one: Any) -> bool:
    return inspect.isclass(one) and is_dataclass(one)


def _classes(hint: Any) -> Iterator[type]:
    """Yield the dataclasses in an annotation."""
    if _is_record(hint):
        yield hint
    for inner in get_args(hint):
        yield from _classes(inner)


def _reached(root: type, seen: set[type] | None = None) -> list[type]:
    """Return the dataclasses that ``root``'s fields hold, and those in them, without ``root``."""
    seen = {root} if seen is None else seen
    found: list[type] = []
    for hint in get_type_hints(root).values():
        for one in _classes(hint):
            if one not in seen:
                seen.add(one)
                found += [one, *_reached(one, seen)]
    return found


def _found(place: str) -> type:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


# Files of a report


def report_files(sample: tuple[Any, dict[str, list[str]]] | None = None) -> str:
    """Return the keys of ``summary.json`` and the columns of every CSV file, of a sample report."""
    root = _found(SUMMARY)
    summary, tables = sample or sample_report()
    text = [
        "# Files of a report",
        _made_from("the dataclasses of summaries, and from a report that is made for this page"),
        "## `summary.json`",
        "",
        *(_class(one, heading=3) for one in (root, *_reached(root))),
        "### Keys of a report with every section",
        "",
        "As that report has them; `[]` is any entry of an array, `*` any label, task or number as a key.",
        "",
        "```text",
        *sorted(_paths(summary)),
        "```",
        "",
        "## CSV files",
        "",
        "In `tables/`; a file is there where its section has rows.",
        "",
    ]
    for name, columns in tables.items():
        text += [f"### `{name}`", "", ", ".join(f"`{column}`" for column in columns), ""]
    return "\n".join(text)


def sample_report() -> tuple[Any, dict[str, list[str]]]:
    """Make a report with every section; return its summary and the columns of its CSV files, by name."""
    from lram.reports import load_trainings, write_report
    from lram.reports.sections.registry import load_folders

    with tempfile.TemporaryDirectory() as scratch:
        made = _sample_folders().make_folders(Path(scratch))
        trainings = [str(made.pop(kind)) for kind in ("training", "unfinished")]
        runs, others = load_folders(list(made.values()))
        from support.undrawn import undrawn  # of the tests, which are on the path now

        with undrawn():  # nobody looks at the figures
            index = write_report(
                runs, Path(scratch) / "report", trainings=load_trainings(trainings[:1]), others=others
            )
        summary = json.loads((index.parent / "summary.json").read_text(encoding="utf-8"))
        tables = {
            file.name: next(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))), [])
            for file in sorted((index.parent / "tables").glob("*.csv"))
        }
    return summary, tables


def _sample_folders() -> ModuleType:
    """Return the module of the tests that writes a small folder of every kind."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    name = "sample_folders"
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "reports" / "hostile_fields.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _paths(value: Any, prefix: str = "") -> set[str]:
    """Return every path of keys to a value that is no object."""
    if isinstance(value, Mapping) and value:
        named = all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in value)
        return set().union(
            *(_paths(inner, f"{prefix}.{key if named else '*'}".lstrip(".")) for key, inner in value.items())
        )
    if isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        return set().union(*(_paths(one, f"{prefix}[]") for one in value))
    return {prefix + ("[]" if isinstance(value, list) else "")}


# The rooms of the code


def rooms() -> dict[str, str]:
    """Return a page for each folder of code; mkdocstrings fills it from the docstrings of its modules."""
    made = {}
    for room in ROOMS:
        for folder in sorted({file.parent for file in (ROOT / room).rglob("*.py")}):
            package = ".".join(("lram", *folder.relative_to(ROOT).parts))
            modules = [
                f"{package}.{file.stem}" if file.stem != "__init__" else package
                for file in sorted(folder.glob("*.py"))
                if file.stem != "__main__"
            ]
            text = [f"# `{package}`", "", *(f"::: {module}" for module in modules), ""]
            made[f"reference/code/{package}.md"] = "\n\n".join(text)
    links = [f"* [`{Path(place).stem}`]({Path(place).name})" for place in made]
    text = ["# Classes and functions", _made_from("the docstrings of the code"), *links, ""]
    return {"reference/code/index.md": "\n".join(text), **made}


# Text


def _made_from(what: str) -> str:
    return f"\nMade from {what} when the site is built.\n"


def _plain(text: str) -> str:
    """Return docstring text as Markdown: names of code without the roles of reStructuredText."""
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"::\s*$", ":", text, flags=re.MULTILINE).replace("``", "`")


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for place, content in pages().items():
        target = Path(sys.argv[1]) / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
