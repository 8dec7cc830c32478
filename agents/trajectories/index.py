"""The index of a store: read whole, checked line by line, and held against what lies among the parts."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import msgspec

from lram.agents.api import AgentError
from lram.agents.checksums import ChecksumError, sign_file, sign_line, verify_file, verify_line
from lram.agents.durable import LARGEST_JSON
from lram.agents.shown import command
from lram.agents.trajectories.layout import (
    INDEX_FILE,
    PART_PATH,
    PENDING_FILE,
    PartLine,
    rebuild_advice,
)
from lram.agents.trajectories.listing import Listing, check_plain_file, list_parts, read_inside
from lram.agents.trajectories.trajectory import LONGEST, fault_of_task

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_LOOKS = 5  # a writer can commit between looking at the index and looking at the parts


class Index(NamedTuple):
    """What the index of a store says.

    Attributes:
        lines: The committed parts, oldest first.
        whole: Bytes that they take; behind them may be a line that is being written.
        unsigned: How many lines carry no checksum: those of stores that earlier versions wrote.
        listing: What lies among the parts.
        pending: The commit that is under way, or was interrupted.
    """

    lines: list[PartLine]
    whole: int
    unsigned: int
    listing: Listing
    pending: Pending | None


class Pending(msgspec.Struct, frozen=True):
    """A commit that has begun: the parts that it writes, and the bytes of the index before it."""

    parts: tuple[str, ...]
    index_bytes: int


def read_index(path: Path) -> Index:
    """Return the index of the store in ``path``, which may be written to at the same time.

    Raises:
        AgentError: A line is damaged or cut off, a part lies there that the index does not name, or
            something in the store is a link.
    """
    before: tuple[int, str] | None = None
    for _ in range(_LOOKS):
        content = read_inside(path, INDEX_FILE)
        index = _index(path, content, list_parts(path), read_pending(path))
        found = len(content), _fault(path, index, len(content))
        if not found[1]:
            break
        if found == before:
            raise AgentError(found[1])
        before = found
    return index


def _index(path: Path, content: bytes, listing: Listing, pending: Pending | None) -> Index:
    lines, whole, unsigned = parse_index(path, content)
    return Index(lines, whole, unsigned, listing, pending)


def parse_index(path: Path, content: bytes) -> tuple[list[PartLine], int, int]:
    """Return the parts of an index, the bytes of its whole lines, and how many of them have no checksum."""
    whole = content.rfind(b"\n") + 1
    lines, unsigned = [], 0
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], start=1):
        try:
            part, signed = decode_line(line)
        except ValueError as error:
            raise AgentError(
                f"{path / INDEX_FILE}, line {number} is damaged ({error}); {rebuild_advice(path)}"
            ) from error
        unsigned += not signed
        lines.append(part)
    names = {line.part for line in lines}
    if len(names) < len(lines):
        raise AgentError(f"{path / INDEX_FILE} is damaged: it names a part twice; {rebuild_advice(path)}")
    return lines, whole, unsigned


_DECODER = msgspec.json.Decoder(PartLine)


def decode_line(line: bytes) -> tuple[PartLine, bool]:
    """Return what a line of an index says, and whether it carries a checksum; ValueError with a clause."""
    try:
        signed = verify_line(line)
        part = _DECODER.decode(line)
    except ChecksumError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    wrong = _fault_of_line(part)
    if wrong:
        raise ValueError(wrong)
    return part, signed


def encode_line(line: PartLine) -> bytes:
    """Return the line of an index, with its checksum and its newline."""
    return sign_line(msgspec.json.encode(line)) + b"\n"


def _fault_of_line(line: PartLine) -> str:
    columns: Sequence[Sequence[object]] = (
        line.lengths,
        line.returns,
        line.signal_returns,
        line.success_any,
        line.success_last,
        line.terminated,
        line.truncated,
        line.seeds,
        line.policies,
        line.origins,
    )
    if len({len(column) for column in columns}) > 1:
        return "its columns differ in length"
    if line.digests and len(line.digests) != len(line.lengths):
        return "its columns differ in length"
    if not all(map(_DIGEST.fullmatch, line.digests)):
        return "a digest of a trajectory is none"
    if not PART_PATH.fullmatch(line.part):
        return f"{line.part!r} is no name of a part"
    if not _SHA256.fullmatch(line.sha256) or line.bytes < 1:
        return "its part has no checksum, or no size"
    if wrong := fault_of_task(line.task):
        return f"its task {wrong}"
    if not line.lengths or min(line.lengths) < 1 or max(line.lengths) > LONGEST:
        return "its lengths are none of episodes"
    if not all(map(isfinite, line.returns)) or not all(map(isfinite, line.signal_returns)):
        return "a return is not finite"
    for place, starts in line.contexts.items():
        if not 0 <= place < len(line.lengths) or not starts or starts[0] != 0:
            return "its contexts are none of its episodes"
        rising = all(one < other for one, other in pairwise(starts))
        if not rising or starts[-1] >= line.lengths[place]:
            return "its contexts are none of its episodes"
    return ""


def _fault(path: Path, index: Index, size: int) -> str:
    """Return what is wrong with the index as a whole, as a sentence; empty when nothing is."""
    file, pending = path / INDEX_FILE, index.pending
    if pending and size < pending.index_bytes:
        return (
            f"{file} has {size} bytes, and had {pending.index_bytes} when a commit began: it was cut; "
            f"{rebuild_advice(path)}"
        )
    if index.whole < size and not (pending and pending.index_bytes <= index.whole):
        return f"{file} ends within a line; {rebuild_advice(path)}"
    named = {line.part for line in index.lines}
    unnamed = sorted(index.listing.parts.keys() - named - set(pending.parts if pending else ()))
    if unnamed:
        others = f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else ""
        return (
            f"{path} holds the part {unnamed[0]}{others}, which its index does not name; 'lram data rebuild "
            f"{path}' makes the index anew from all parts, or move away what is not the store's"
        )
    return ""


def check_parts(path: Path, lines: Collection[PartLine], sizes: Mapping[str, os.stat_result]) -> None:
    """Raise AgentError for the first part that the index names and that is not there in its size."""
    for line in lines:
        wrong = fault_of_size(path, line, sizes)
        if wrong:
            raise AgentError(wrong)


def fault_of_size(path: Path, line: PartLine, sizes: Mapping[str, os.stat_result]) -> str:
    """Return what is wrong with the file of a part as it is listed, as a sentence; empty when nothing is."""
    found = sizes.get(line.part)
    again = command("data", "rebuild", path)
    advice = f"put the file back from a copy of the store, or continue without it: {again}"
    if found is None:
        return f"{path} misses its part {line.part}; {advice}"
    if found.st_size != line.bytes:
        file, size = path / line.part, found.st_size
        return f"{file} is damaged: it has {size} bytes, the index has {line.bytes}; {advice}"
    return ""


def read_pending(path: Path) -> Pending | None:
    """Return the commit that is under way or was interrupted; None without one, or where that is damaged.

    Damaged, it explains nothing, so that what it would explain is refused.
    """
    check_plain_file(path, PENDING_FILE)
    if not (path / PENDING_FILE).exists():
        return None
    try:
        content = read_inside(path, PENDING_FILE, LARGEST_JSON)
        return msgspec.json.decode(content, type=Pending) if verify_file(content) else None
    except (AgentError, ChecksumError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_pending(pending: Pending) -> bytes:
    """Return the content of ``pending.json``."""
    return sign_file(msgspec.json.format(msgspec.json.encode(pending), indent=2) + b"\n")
