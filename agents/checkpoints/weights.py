"""Weights in safetensors, read once from first to last byte: names and shapes first, then numbers.

A file may come from anybody, so nothing of it is believed before it was looked at: the header is bounded,
tensors must fill the file without gaps and overlaps, and nothing is allocated before the reader of the
names and shapes has asked for the numbers. What is loaded and what is hashed are the same bytes.
The format: https://github.com/huggingface/safetensors (a length of 8 bytes, a header in JSON, numbers).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard

import msgspec
import torch
from safetensors import SafetensorError
from torch import Tensor

from lram.agents.durable import open_regular
from lram.agents.shown import shown

LARGEST_HEADER = 16 << 20
"""Bytes; enough for over 100,000 tensors."""

_BLOCK = 1 << 20
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class WeightsError(ValueError):
    """The file is no sound safetensors file of floating-point numbers; the message is a clause."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the file: its type, its shape, and how many bytes it has."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    bytes: int


@contextmanager
def os_errors() -> Iterator[None]:
    """Let safetensors' errors of writing be OSError, as everybody else's."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


class WeightsFile:
    """An open file of weights; a context manager.

    Attributes:
        entries: By name, in the order in which the numbers are in the file.

    Raises:
        WeightsError: It is damaged, or holds other things than floating-point numbers.
        OSError: It cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_regular(path)
        try:
            self._hash = hashlib.sha256()
            self._left = os.fstat(self._file.fileno()).st_size
            self.entries: Mapping[str, Entry] = self._header()
        except BaseException:
            self._file.close()
            raise

    def read_into(self, targets: Mapping[str, Tensor]) -> None:
        """Give each of ``targets`` (on the CPU, of the same names and shapes) its numbers.

        Values of another type are converted. Afterwards :attr:`digest` is that of the file.
        """
        for name, entry in self.entries.items():
            target = targets[name]
            # Straight into the place where it is fitting: no second copy of the weights.
            fits = target.dtype == entry.dtype and target.is_contiguous()
            tensor = target if fits else torch.empty(entry.shape, dtype=entry.dtype)
            if entry.bytes:
                self._fill(tensor.detach().view(-1).view(torch.uint8).numpy().data)
            if not fits:
                target.copy_(tensor)

    def read(self) -> dict[str, Tensor]:
        """Return all tensors, on the CPU, as they are in the file."""
        tensors = {name: torch.empty(one.shape, dtype=one.dtype) for name, one in self.entries.items()}
        self.read_into(tensors)
        return tensors

    @property
    def digest(self) -> str:
        """SHA-256 of what was read so far, as hexadecimal digits."""
        return self._hash.hexdigest()

    def _header(self) -> dict[str, Entry]:
        size = int.from_bytes(self._take(8), "little")
        if size > min(LARGEST_HEADER, self._left):
            raise WeightsError(f"its header would have {size} bytes, and {self._left} are there")
        try:
            plain = msgspec.json.decode(self._take(size))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WeightsError(f"its header is not JSON: {error}") from None
        if not isinstance(plain, dict):
            raise WeightsError("its header is no object")
        plain.pop("__metadata__", None)
        placed = [(*_offsets(name, header), name, header) for name, header in plain.items()]
        # A tensor without numbers begins where it ends, and so before the one that begins there.
        placed.sort(key=lambda one: one[:2])
        entries: dict[str, Entry] = {}
        end = 0
        for start, stop, name, header in placed:
            if start != end:
                raise WeightsError(f"{shown(name)} does not begin where the tensor before it ends")
            entries[name] = _entry(name, header, stop - start)
            end = stop
        if end != self._left:
            raise WeightsError(f"its tensors have {end} bytes, and {self._left} are there")
        return entries

    def _take(self, size: int) -> bytes:
        if size > self._left:
            raise WeightsError("it ends within its header")
        content = bytearray(size)
        self._fill(memoryview(content))
        return bytes(content)

    def _fill(self, target: memoryview) -> None:
        """Read so many bytes, hashing each block while the processor still has it at hand."""
        for first in range(0, len(target), _BLOCK):
            block = target[first : first + _BLOCK]
            done = 0
            while done < len(block):
                count = self._file.readinto(block[done:])  # type: ignore[attr-defined]
                if not count:
                    raise WeightsError("it became shorter while it was read")
                done += count
            self._hash.update(block)
        self._left -= len(target)

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _offsets(name: str, header: Any) -> tuple[int, int]:
    offsets = header.get("data_offsets") if isinstance(header, dict) else None
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise WeightsError(f"{shown(name)} has no place in the file")
    return offsets[0], offsets[1]


def _entry(name: str, header: dict[str, Any], size: int) -> Entry:
    dtype, shape = header.get("dtype"), header.get("shape")
    if not isinstance(dtype, str) or dtype not in FLOATS:
        raise WeightsError(
            f"{shown(name)} is of the type {shown(str(dtype))}, whose values are no finite numbers, or which "
            f"is not known here (known: {', '.join(FLOATS)})"
        )
    if not _counts(shape) or len(shape) > 8:
        raise WeightsError(f"{shown(name)} has no shape")
    kind = FLOATS[dtype]
    if math.prod(shape) * kind.itemsize != size:
        raise WeightsError(f"{shown(name)} has {size} bytes, which is not what its shape needs")
    return Entry(kind, tuple(shape), size)


def _counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 62 for one in value)
