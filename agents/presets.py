"""Named models: ``xlstm-16M``, ``xlstm[7:1]-16M``, ``mamba-1M``, ``transformer[full]-206M`` and so on.

Sizes are in ``data/presets.csv`` with their sources. A plain ``xlstm-`` is ``[1:0]``, mLSTM blocks
only, as the reference's own presets are. A ratio ``[m:s]`` places ceil(layers s / (m + s)) sLSTM
blocks at the first odd positions; this gives the positions of the reference's published commands
for [7:1] (``[1]`` of 8 blocks, ``[1, 3]`` of 12 and 16, ``[1, 3, 5]`` of 20), where the true ratio is
5:1 for 12 blocks and 17:3 for 20.

A Transformer's brackets name how it keeps the past (:class:`lram.agents.config.TransformerConfig`):
``[recompute]`` is the reference's default and that of a plain ``transformer-``, ``[full]`` keeps the keys
and values of up to 1600 tokens, ``[ring]`` those of the last 150, with rotary positions. The weights of
the first two fit each other. The plain ``transformer-1M`` is a ``[ring]``.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from functools import cache
from importlib import resources

from lram.agents.api import AgentError
from lram.agents.config import MambaConfig, ModelConfig, TransformerConfig, XLSTMConfig
from lram.agents.shown import shown

_NAME = re.compile(
    r"(?P<kind>[a-z]+)(\[((?P<mlstm>[0-9]{1,9}):(?P<slstm>[0-9]{1,9})|(?P<cache>[a-z]+))\])?-(?P<size>\w+)"
)

_TRANSFORMERS = {
    # The reference acts on the last 50 timesteps, the newest without its reward: 3 x 50 - 1 tokens.
    "recompute": TransformerConfig(positions="learned", window=149, cache="recompute"),
    "full": TransformerConfig(positions="learned", window=1600, cache="full"),
    "ring": TransformerConfig(positions="rotary", window=150, cache="ring"),
}


@cache
def _table() -> dict[tuple[str, str], dict[str, str]]:
    text = resources.files("lram.agents").joinpath("data/presets.csv").read_text(encoding="utf-8")
    return {(row["kind"], row["size"]): row for row in csv.DictReader(text.splitlines())}


def preset_names() -> tuple[str, ...]:
    """Return the presets that are listed; any other ratio of an xLSTM is understood too."""
    names = []
    for kind, size in _table():
        names += [f"{kind}-{size}"]
        if kind == "xlstm":
            names += [f"xlstm[7:1]-{size}", f"xlstm[1:0]-{size}"]
        if kind == "transformer":
            names += [f"transformer[{past}]-{size}" for past in _TRANSFORMERS]
    return tuple(names)


def is_preset(name: str) -> bool:
    """Return whether ``name`` is spelt as a preset whose kind and size are in the table."""
    match = _NAME.fullmatch(name)
    if match is None or (match["kind"], match["size"]) not in _table():
        return False
    if match["cache"] is not None:
        return match["kind"] == "transformer" and match["cache"] in _TRANSFORMERS
    return match["mlstm"] is None or match["kind"] == "xlstm"


def is_preset_like(name: str) -> bool:
    """Return whether ``name`` is spelt as a preset of a known kind, of whatever size."""
    match = _NAME.fullmatch(name)
    return match is not None and match["kind"] in {kind for kind, _ in _table()}


def parse_preset(name: str) -> ModelConfig:
    """Return the configuration that ``name`` stands for; AgentError tells kinds and sizes."""
    match = _NAME.fullmatch(name)
    if match is None or not is_preset(name):
        kinds, sizes = (dict.fromkeys(part) for part in zip(*_table(), strict=True))
        raise AgentError(
            f"there is no model preset {shown(name)!r}; it is a kind ({', '.join(kinds)}; with a ratio as in "
            f"xlstm[7:1], or a cache: {', '.join(f'transformer[{past}]' for past in _TRANSFORMERS)}) "
            f"and a size ({', '.join(sizes)}), such as xlstm[7:1]-16M"
        )
    row = _table()[match["kind"], match["size"]]
    width, layers = int(row["width"]), int(row["layers"])
    if match["kind"] == "mamba":
        return ModelConfig(width, layers, mamba=MambaConfig(), name=name)
    heads = int(row["heads"])
    if match["kind"] == "xlstm":
        at = slstm_positions(layers, int(match["mlstm"] or 1), int(match["slstm"] or 0))
        return ModelConfig(width, layers, xlstm=XLSTMConfig(heads=heads, slstm_at=at), name=name)
    # The small one is there for demonstrations: long episodes must be exact and fast.
    base = _TRANSFORMERS[match["cache"] or ("ring" if match["size"] == "1M" else "recompute")]
    return ModelConfig(width, layers, transformer=dataclasses.replace(base, heads=heads), name=name)


def slstm_positions(layers: int, mlstm: int, slstm: int) -> tuple[int, ...]:
    """Return where the sLSTM blocks of a ``[mlstm:slstm]`` stack go; AgentError if they do not fit."""
    if mlstm + slstm == 0:
        raise AgentError("an xLSTM ratio [0:0] has no blocks; write for instance [7:1] or [1:0]")
    count = math.ceil(layers * slstm / (mlstm + slstm))
    if count > layers // 2:
        raise AgentError(
            f"an xLSTM [{mlstm}:{slstm}] of {layers} blocks needs {count} sLSTM blocks, but only "
            f"{layers // 2} odd positions are there; name the positions in config.json (xlstm.slstm_at)"
        )
    return tuple(range(1, 2 * count, 2))
