"""Damage in an HDF5 file at which the library that reads it never ends.

Texts of any length lie in global heaps: a head of 16 bytes, then objects of an index, a size and their
bytes (HDF5 File Format Specification, III.E). The free space at the end is an object of index 0, whose size
counts its own head. The library walks over the objects by their sizes: where zeros were written over one, it
is free space of size 0, and the walk stays there for ever. It is the one way of not ending that damage at
random has found (``tests/benchmarks/fuzz.py``), so only this is looked for, in a pass over the file.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lram.agents.durable import open_regular

_MARK = b"GCOL"
_HEAD = struct.Struct("<4sB3xQ")  # mark, version, size of all of it
_OBJECT = struct.Struct("<HH4xQ")  # index, references, size
_BLOCK = 4 << 20
_LEAST = 4096


def endless_heap(path: str | Path) -> int | None:
    """Return where in the file ``path`` a heap begins that is never read to its end; None where none does.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start, rest = 0, b""
        while block := _next_block(file, start + len(rest)):
            if (here := file.tell() - len(block)) > start + len(rest):
                start, rest = here, b""  # after a hole, which is zeros
            content = rest + block
            place = content.find(_MARK)
            while place >= 0:
                if _is_endless(file, start + place, size):
                    return start + place
                place = content.find(_MARK, place + 1)
            rest = content[-len(_MARK) + 1 :]
            start += len(content) - len(rest)
    return None


def _next_block(file: BinaryIO, place: int) -> bytes:
    """Read from ``place``, or from where data comes next: holes take no time, however long they are."""
    with suppress(OSError):  # a file system without holes
        try:
            place = os.lseek(file.fileno(), place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return b""
            raise
    file.seek(place)
    return file.read(_BLOCK)


def _is_endless(file: BinaryIO, place: int, file_size: int) -> bool:
    head = os.pread(file.fileno(), _HEAD.size, place)
    if len(head) < _HEAD.size:
        return False
    _, version, size = _HEAD.unpack(head)
    if version != 1 or not _LEAST <= size <= file_size - place:
        return False  # the library refuses it
    at, end = place + _HEAD.size, place + size
    while at + _OBJECT.size <= end:
        index, _, held = _OBJECT.unpack(os.pread(file.fileno(), _OBJECT.size, at))
        if index == 0 and held == 0:
            return True
        at += held if index == 0 else _OBJECT.size + (held + 7) // 8 * 8
    return False
