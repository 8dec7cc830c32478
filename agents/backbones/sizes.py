"""Sizes of the presets, a table with the source of every row."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from lram.agents.backbones.spec import Size


@cache
def _table() -> dict[str, tuple[Size, ...]]:
    text = resources.files("lram.agents").joinpath("data/presets.csv").read_text(encoding="utf-8")
    sizes: dict[str, tuple[Size, ...]] = {}
    for row in csv.DictReader(text.splitlines()):
        options = {"heads": int(row["heads"])} if row["heads"] else {}
        size = Size(row["size"], int(row["width"]), int(row["layers"]), options, row["source"])
        sizes[row["kind"]] = (*sizes.get(row["kind"], ()), size)
    return sizes


def table_sizes(kind: str) -> tuple[Size, ...]:
    """Return the sizes of a kind in the package's table."""
    return _table()[kind]
