"""Small folders of each kind that reports read, and changes of single fields of them to hostile values.

Checksums are taken out of what is changed: whoever changes a file can write its checksum as well, and files
of earlier versions have none.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
_RAW = "\ue000raw "  # begins a text that is written into the JSON as it stands


def raw(text: str) -> str:
    """Return a value that is written as ``text``, be that JSON or not."""
    return f"{_RAW}{text}\ue001"


VALUES: tuple[Any, ...] = (
    None,
    0,
    1,
    -1,
    2,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    10**12,
    raw("1" + "0" * 30),
    raw("-1" + "0" * 30),
    0.5,
    1e308,
    -1e308,
    raw("1e308"),
    5e-324,
    raw("-0.0"),
    raw("1e400"),
    raw("NaN"),
    raw("Infinity"),
    raw("-Infinity"),
    True,
    False,
    "",
    " ",
    "nan",
    "1e400",
    "x" * 20_000,
    "{1:" + "-" * 300_000 + "1}",
    "{" + "[" * 5_000 + "}",
    "{'a': 9**9**9}",
    "\x1b]0;owned\x07\x00\x9b2J",
    raw('"\\ud800"'),
    "\u202eevil",
    "../../x",
    "/etc/passwd",
    "a/../../../../evil",
    "<script src=http://evil.example/x.js></script>",
    '"><img src=http://evil.example/p.png onerror=alert(1)>',
    "javascript:alert(1)",
    "![i](http://evil.example/p.png)",
    "=cmd|'/C calc'!A0",
    "$\\frac{$",
    "{{ 7 * 7 }}",
    "%s %d {0} {x}",
    "|",
    "scored",
    "errored",
    "ok",
    "2026-01-01T00:00:00Z",
    "toy/reach",
    (),
    {},
    [None],
    [[]],
    {"": None},
    [0] * 2_000,
    [1e308] * 4,
    raw("[" * 300 + "]" * 300),
    raw('{"a":' * 100_000 + "1" + "}" * 100_000),
    raw("[" * 100_000 + "]" * 100_000),
)


def _module(name: str) -> ModuleType:
    known = f"hostile_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]


def make_folders(folder: Path) -> dict[str, Path]:
    """Write a small folder of each kind into ``folder``; return them by kind."""
    synthetic = _module("conftest").Synthetic(folder)
    made = {"run": synthetic.study(episodes=2, per_domain=1, agents=4, name="run").path}
    trials = _module("test_parts").Trials(synthetic)
    made["parts"] = trials.write(trials.plan(episodes=2), name="parts").path
    latency = _module("test_latency_report")
    made["latency"] = latency.write(
        folder / "latency",
        {"x": latency.XLSTM, "t": latency.TRANSFORMER},
        repeats=2,
        decisions=6,
        contexts=(50, 200),
        batches=(1,),
    )
    extrapolation = _module("test_extrapolation_section")
    plan = extrapolation._plan(
        modes=("window", "carry"), contexts=(20, 40), tasks=extrapolation.TASKS, episodes=2, trajectories=1
    )
    made["extrapolation"] = extrapolation._scored(synthetic, folder / "extrapolation", plan, 200)
    made["embedding"] = _module("test_embedding_section").write_embeddings(folder / "embedding")
    made["study"] = _module("test_study").Folder(folder / "study", synthetic, seeds=(0, 1)).path
    made["precision"] = _module("test_precision_section").write(synthetic, folder / "precision")
    made["watch"] = _module("test_learning").write(
        synthetic, "watch", skill={100: 0.2, 200: 0.5}, confirmed=200, episodes=2
    )
    training = _module("test_training").Made
    made["training"] = training(updates=10, of_updates=10).write(folder / "training")
    made["unfinished"] = training(updates=10, of_updates=10, finished=False).write(folder / "unfinished")
    return made


def files_of(folder: Path) -> list[Path]:
    """Return the files whose fields can be changed."""
    kinds = (".json", ".jsonl", ".toml")
    found = sorted(file for file in folder.rglob("*") if file.suffix in kinds and file.is_file())
    return [file for file in found if len(file.read_bytes()) > 4]


def changed(content: str, suffix: str, draw: random.Random) -> tuple[str, str]:
    """Return ``content`` with one change, and what was changed in words."""
    if suffix == ".toml":
        lines = content.splitlines()
        settings = [place for place, line in enumerate(lines) if "=" in line]
        at = draw.choice(settings)
        name = lines[at].partition("=")[0]
        value = draw.choice(VALUES)
        lines[at] = f"{name}= {_text(value)}"
        return "\n".join(lines) + "\n", f"{name.strip()}: {_text(value)[:60]}"
    lines = content.splitlines() if suffix == ".jsonl" else [content]
    plain = [json.loads(line) for line in lines]
    for one in plain:
        for checksum in ("crc32", "checksum"):
            one.pop(checksum, None)
    at = draw.randrange(len(plain))
    spots = list(_spots(plain[at]))
    path = draw.choice(spots)
    holder = plain[at]
    for key in path[:-1]:
        holder = holder[key]
    value = _hostile(holder[path[-1]], draw)
    told = f"{at}:{'.'.join(map(str, path))}: {_text(value)[:60]}"
    kind = draw.random()
    if kind < 0.04:
        del holder[path[-1]]
        told += " removed"
    elif kind < 0.08 and isinstance(holder, dict):
        old = json.dumps(holder[path[-1]])
        holder[path[-1]] = raw(f"{old}, {json.dumps(path[-1])}: {_text(value)}")
        told += " twice"
    elif kind < 0.12 and isinstance(holder, dict):
        holder[_text(value)[:3_000]] = holder.pop(path[-1])
        told += " as key"
    else:
        holder[path[-1]] = value
    indent = None if suffix == ".jsonl" else 2
    texts = [_text(one, indent) for one in plain]
    return "\n".join(texts) + "\n", told


def _hostile(before: Any, draw: random.Random) -> Any:
    """Return a value, mostly of the type of the one before: others are refused by it."""
    if draw.random() < 0.25:
        return draw.choice(VALUES)
    if isinstance(before, bool):
        return not before
    if isinstance(before, int | float):
        numbers = [value for value in VALUES if isinstance(value, int | float)]
        return draw.choice([*numbers, *(raw(text) for text in ("1e308", "-0.0", "1e400", "NaN", "-5e-324"))])
    if isinstance(before, str):
        return draw.choice([value for value in VALUES if isinstance(value, str) and value[:1] != _RAW[:1]])
    if isinstance(before, list | tuple) and before:
        return draw.choice(
            [(), before[:1], before[1:], before * 2, before * 300, [None, *before], before[::-1]]
        )
    if isinstance(before, dict):
        return draw.choice([{}, dict(list(before.items())[:1]), dict.fromkeys(before)])
    return draw.choice(VALUES)


def _text(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub(
        f'"{_RAW}(.*?)\ue001"',
        lambda match: json.loads(f'"{match[1]}"'),
        text,
    )


def _spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all that can be replaced; of long lists the first and the last element."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from _spots(value[key], (*path, key))
    elif isinstance(value, list):
        for place in sorted({0, len(value) - 1}) if value else ():
            yield from _spots(value[place], (*path, place))


def try_one(
    folder: Path, kind: str, scratch: Path, draw: random.Random, look: Callable[[str, Path], None]
) -> str:
    """Copy ``folder`` into ``scratch``, change one field, ``look`` at it; return what was changed."""
    shutil.rmtree(scratch, ignore_errors=True)
    copy = scratch / "in" / folder.name
    shutil.copytree(folder, copy)
    file = draw.choice(files_of(copy))
    content, told = changed(file.read_text(), file.suffix, draw)
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    told = f"{file.relative_to(copy)} {told}"
    look(kind, copy)
    return told
