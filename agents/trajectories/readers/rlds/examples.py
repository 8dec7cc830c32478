"""``tf.train.Example``, the message in each record: lists of bytes, floats or whole numbers by name.

::

    message Example  { Features features = 1; }
    message Features { map<string, Feature> feature = 1; }
    message Feature  { oneof kind { BytesList bytes_list = 1; FloatList float_list = 2;
                                    Int64List int64_list = 3; } }

Each list has one repeated field 1. Nothing is decoded before it is asked for, so that what nobody wants
(words, other cameras) costs nothing. The encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Kind: TypeAlias = Literal["bytes", "floats", "integers"]

_KINDS: dict[int, Kind] = {1: "bytes", 2: "floats", 3: "integers"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class ExampleError(ValueError):
    """The record is no such message; the text is a clause."""


@dataclass(frozen=True, slots=True)
class FeatureList:
    """A list of one kind, not decoded yet.

    Attributes:
        kind: What is in the list.
        message: The list's own message.
    """

    kind: Kind
    message: memoryview

    def bytes_list(self) -> list[memoryview]:
        """Return a list of byte strings."""
        return [value for value in _repeated(self.message) if isinstance(value, memoryview)]

    def numbers(self) -> npt.NDArray[np.float32] | npt.NDArray[np.int64]:
        """Return a list of floats or whole numbers as (n,)."""
        if self.kind == "floats":
            packed = b"".join(bytes(one) for one in _repeated(self.message) if not isinstance(one, int))
            if len(packed) % 4:
                raise ExampleError("has a list of floats that ends within one")
            return np.frombuffer(packed, "<f4")
        parts = list(_repeated(self.message))
        single = [one for one in parts if isinstance(one, int)]
        packed = b"".join(one for one in parts if isinstance(one, memoryview))
        found = np.array(single, np.uint64).view(np.int64)
        return np.concatenate([found, varints(packed)]) if packed or not single else found


def parse_example(record: bytes) -> dict[str, FeatureList]:
    """Return the lists of a record by name; ExampleError where it is no such message."""
    found: dict[str, FeatureList] = {}
    for features in _messages(memoryview(record), 1):
        for entry in _messages(features, 1):
            name, value = b"", memoryview(b"")
            for number, part in _fields(entry):
                if number == 1 and isinstance(part, memoryview):
                    name = bytes(part)
                elif number == 2 and isinstance(part, memoryview):
                    value = part
            for number, part in _fields(value):
                if number in _KINDS and isinstance(part, memoryview):
                    found[name.decode("utf-8", "replace")] = FeatureList(_KINDS[number], part)
    if not found:
        raise ExampleError("holds no tf.train.Example")
    return found


def varints(packed: bytes) -> npt.NDArray[np.int64]:
    """Return whole numbers that stand one after the other, 7 bits a byte, the lowest first."""
    data = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(data < 128)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        raise ExampleError("has a list of whole numbers that ends within one")
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > _LONGEST_VARINT:
        raise ExampleError("has a whole number of more than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for place in range(longest):
        there = lengths > place
        bits = (data[starts[there] + place] & 0x7F).astype(np.uint64)
        values[there] |= bits << np.uint64(7 * place)
    return values.view(np.int64)


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _repeated(data: memoryview) -> Iterator[Any]:
    for number, value in _fields(data):
        if number == 1:
            yield value


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | bytes | int]]:
    """Yield number and value of each field: bytes as a view, 4 or 8 fixed bytes as they are, else an int."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ExampleError("is no message of tf.train.Example")
        if size > len(data) - place:
            raise ExampleError("has a field that ends after its message")
        part = data[place : place + size]
        yield number, part if wire == _BYTES else bytes(part)
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if place >= len(data):
            raise ExampleError("ends within a number")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise ExampleError("has a number of more than 64 bits")
