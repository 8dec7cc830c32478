"""Files of a copy as the driver is to have them: with its paths, and signed as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from lram.agents.checkpoints.description import CONFIG_FILE, WEIGHTS_FILE
from lram.agents.checksums import ChecksumError, sign_file, unsigned_file
from lram.agents.sums import SUMS_FILE, read_sums, render_sums
from lram.agents.training.folder import RECIPE_FILE, signed_recipe, unsigned_recipe

TEXTS = (".json", ".toml", ".txt")


def holds_paths(name: str) -> bool:
    """Return whether a file of a cell may hold paths of this node, or checksums of such files."""
    return Path(name).suffix in TEXTS or Path(name).name == SUMS_FILE


def renamed_text(text: str, names: Mapping[str, str]) -> str:
    """Return ``text`` with the driver's paths in the place of this node's, as TOML and JSON write them."""
    for here, there in names.items():
        text = text.replace(here, json.dumps(there, ensure_ascii=False)[1:-1])
    return text


def renamed(file: Path, names: Mapping[str, str]) -> bytes:
    """Return the content of ``file`` with the driver's paths, and its checksum made anew where it has one.

    A file whose checksum is wrong comes as it is, so that the driver finds it damaged.
    """
    content = file.read_bytes()
    if file.name == SUMS_FILE:
        sums = read_sums(file.parent, (CONFIG_FILE, WEIGHTS_FILE))
        assert sums is not None
        config = file.parent / CONFIG_FILE
        if hashlib.sha256(config.read_bytes()).hexdigest() != sums[CONFIG_FILE]:
            return content
        return render_sums({**sums, CONFIG_FILE: hashlib.sha256(renamed(config, names)).hexdigest()})
    try:
        if file.name == RECIPE_FILE and (text := unsigned_recipe(content)) is not None:
            return signed_recipe(renamed_text(text, names))
        plain = unsigned_file(content) if file.suffix == ".json" else None
    except ChecksumError:
        return content
    if plain is not None:
        return sign_file(_renamed(plain, names))
    return _renamed(content, names)


def _renamed(content: bytes, names: Mapping[str, str]) -> bytes:
    text = content.decode("utf-8", "surrogateescape")
    return renamed_text(text, names).encode("utf-8", "surrogateescape")
