"""TFRecord files: records one after the other, each with its length and two checksums.

::

    length (8 bytes)  checksum of the length (4)  record (length bytes)  checksum of the record (4)

Little-endian. A checksum is the CRC-32C of RFC 3720, "masked": rotated by 15 bits and added to a constant.
Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord (TFRecords format details).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.durable import open_regular
from lram.agents.trajectories.readers.source import SourceError, short

LARGEST_RECORD = 2 << 30
"""Bytes of one episode that are read, at most."""

_HEAD, _TAIL = 12, 4
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits reversed
_MASK = 0xA282EAD8
_BLOCK = 1 << 20

Sums: TypeAlias = npt.NDArray[np.uint32]


def read_records(file: Path) -> Iterator[bytes | SourceError]:
    """Yield the records of a file; in place of one with a wrong checksum, the sentence about it.

    Raises:
        SourceError: The file is no TFRecord file, or is cut off: nothing after that can be read.
    """
    try:
        with open_regular(file) as content:
            left = os.fstat(content.fileno()).st_size
            number = 0
            while left:
                where = f"{file}, record {number},"
                head = content.read(_HEAD)
                if len(head) == _HEAD and masked(crc32c(head[:8])) != int.from_bytes(head[8:], "little"):
                    raise SourceError(_broken(file, number))
                size = int.from_bytes(head[:8], "little")
                left -= _HEAD + size + _TAIL
                if len(head) < _HEAD or left < 0:
                    raise SourceError(f"{where} is cut off: the file ends within it; fetch the file again")
                if size > LARGEST_RECORD:
                    raise SourceError(
                        f"{where} has {size} bytes, and at most {LARGEST_RECORD} are read; split its episode"
                    )
                record, tail = content.read(size), content.read(_TAIL)
                if masked(crc32c(record)) != int.from_bytes(tail, "little"):
                    yield SourceError(f"{where} has a wrong checksum: it is damaged; fetch the file again")
                else:
                    yield record
                number += 1
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({short(error)}); check who may read it") from error


def _broken(file: Path, number: int) -> str:
    if number:
        return (
            f"{file}, record {number}, has a wrong checksum of its length, so what follows cannot be read; "
            "fetch the file again"
        )
    return (
        f"{file} is no whole file of records (TFRecord, not compressed); fetch it again or write it without "
        "compression"
    )


def masked(checksum: int) -> int:
    """Return a checksum as the files have it."""
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of ``data``.

    Words of 8 bytes are summed each by itself from tables, then pairs of sums are joined, pairs of pairs and
    so on: the sum of A and B is that of A, moved on by the length of B, plus that of B (bit by bit). All
    steps are NumPy's; a core does of the order of 100 MB/s.
    """
    state = 0xFFFFFFFF
    for first in range(0, len(data), _BLOCK):
        block = np.frombuffer(data[first : first + _BLOCK], np.uint8)
        # What a state does to the bytes that follow is what it does, added, to the first four of them.
        begun = np.zeros(max(len(block), 4), np.uint8)
        begun[: len(block)] = block
        begun[:4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
        if len(block) < 4:
            return _short(state, data[first:]) ^ 0xFFFFFFFF
        state = _summed(begun)
    return state ^ 0xFFFFFFFF


def _summed(data: npt.NDArray[np.uint8]) -> int:
    """Return the checksum of ``data`` that begins at 0: zeros before it change nothing."""
    words = np.concatenate([np.zeros(-len(data) % 8, np.uint8), data]).view("<u2").reshape(-1, 4)
    sums: Sums = np.zeros(len(words), np.uint32)
    for place, table in enumerate(_word_tables()):
        sums ^= table.take(words[:, place])
    level = 0
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, np.uint32), sums])
        sums = _moved(sums[::2], level) ^ sums[1::2]
        level += 1
    return int(sums[0])


def _short(state: int, data: bytes) -> int:
    table = _byte_tables()[-1]
    for byte in data:
        state = state >> 8 ^ int(table[(state ^ byte) & 0xFF])
    return state


def _moved(sums: Sums, level: int) -> Sums:
    """Return sums as they are after ``2**level`` words of zeros."""
    low, high = _moving_tables(level)
    moved: Sums = low.take(sums & 0xFFFF) ^ high.take(sums >> np.uint32(16))
    return moved


@cache
def _byte_tables() -> tuple[Sums, ...]:
    """Return what a byte at each of the 8 places of a word adds to its sum, (256,) each."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    tables = [table]
    for _ in range(7):
        tables.append(tables[-1] >> np.uint32(8) ^ table[tables[-1] & 0xFF])
    return tuple(reversed(tables))


@cache
def _word_tables() -> tuple[Sums, ...]:
    """Return what two bytes at each of the 4 places of a word add to its sum, (65536,) each."""
    pairs, first = np.arange(1 << 16), _byte_tables()
    return tuple(first[place][pairs & 0xFF] ^ first[place + 1][pairs >> 8] for place in range(0, 8, 2))


@cache
def _moving_tables(level: int) -> tuple[Sums, Sums]:
    """Return what either half of a sum becomes after ``2**level`` words of zeros, (65536,) each."""
    halves = np.arange(1 << 16, dtype=np.uint32)
    sums = [halves, halves << np.uint32(16)]
    if level:
        low, high = (_moved(_moved(one, level - 1), level - 1) for one in sums)
        return low, high
    table = _byte_tables()[-1]
    for _ in range(8):
        sums = [one >> np.uint32(8) ^ table[one & 0xFF] for one in sums]
    return sums[0], sums[1]
