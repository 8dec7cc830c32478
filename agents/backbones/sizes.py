"""Sizes of the presets, a table with the source of every row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

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


MATCHED = ("1M", "16M", "48M", "110M", "206M")
"""The sizes of kinds that are matched with xLSTM's."""


def sizes_like_xlstm(blocks: float, **options: Sequence[Any]) -> tuple[Size, ...]:
    """Return sizes of xLSTM's widths, and of about its parameters.

    Args:
        blocks: Blocks for one of an xLSTM: 1 where a block is a mixer alone, as an mLSTM's is; 0.5 where it
            has a feed-forward part, too, so that it has about twice the weights.
        options: By field, what each of ``MATCHED`` sets so that its parameters are within 3 % of xLSTM's.
    """
    source = "ours: the width of xlstm, {} of its blocks, and within 3 % of its parameters"
    share = {1: "as many", 0.5: "half"}[blocks]
    of_xlstm = {size.name: size for size in table_sizes("xlstm")}
    return tuple(
        Size(
            name,
            of_xlstm[name].width,
            round(of_xlstm[name].layers * blocks),
            {field: values[place] for field, values in options.items()},
            source.format(share),
        )
        for place, name in enumerate(MATCHED)
    )
