"""What tells one lram-bench from another: nodes with other code than the driver's are not used."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_ROOMS = ("lram.envs", "lram.agents", "lram.harness")
_KINDS = {".py", ".csv", ".json", ".toml"}


@cache
def source_digest() -> str:
    """Return a SHA-256 over the code and tables that decide records, in hex."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        spec = find_spec(room)
        places = sorted((spec.submodule_search_locations or ()) if spec is not None else ())
        for place in places:
            files = [file for file in Path(place).rglob("*") if file.suffix in _KINDS and file.is_file()]
            for file in sorted(files):
                name = f"{room} {file.relative_to(place)}".encode()
                digest.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
