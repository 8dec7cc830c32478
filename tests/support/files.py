"""Files of ours, changed by a test as somebody would who signs what he writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.checksums import sign_file, sign_line

_LINE_MEMBER = re.compile(rb',"crc32":"[0-9a-f]{8}"(?=}$)')


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let ``change`` have its way with a JSON file, and sign it anew."""
    plain = msgspec.json.decode(file.read_bytes())
    plain.pop("checksum", None)
    change(plain)
    write(file, plain)


def write(file: Path, plain: object) -> None:
    """Write a JSON file, signed."""
    file.write_bytes(sign_file(msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"))


def replace_text(file: Path, before: str, after: str) -> None:
    """Replace a text wherever it is in a JSON file, and sign it anew; it must be there."""
    plain = msgspec.json.decode(file.read_bytes())
    plain.pop("checksum", None)
    text = msgspec.json.encode(plain).decode()
    assert re.search(before, text), f"{file} has no {before}"
    write(file, msgspec.json.decode(re.sub(before, after, text)))


def signed(line: bytes) -> bytes:
    """Return a line of JSON, with or without an older checksum, signed; without a newline."""
    return sign_line(_LINE_MEMBER.sub(b"", line.rstrip(b"\n")))


def without_checksum(content: bytes) -> bytes:
    """Return the content of a file or of a segment as a version wrote it that knew no checksums."""
    plain = re.sub(rb',\n  "checksum": "sha256:[0-9a-f]{64}"(?=\n}\n\Z)', b"", content)
    return re.sub(rb',"crc32":"[0-9a-f]{8}"(?=}(\n|\Z))', b"", plain)
