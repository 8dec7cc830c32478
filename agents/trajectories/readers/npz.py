"""Arrays from .npz files of others: no pickles, and no array larger than the file can hold."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from lram.agents.durable import open_regular
from lram.agents.trajectories.hdf5 import LARGEST_READ
from lram.agents.trajectories.readers.source import Array, SourceError

_DEFLATE = 1032  # how many bytes a byte of deflate can stand for, at most
_HEADER = 1 << 12
_FORMAT: Any = np.lib.format  # without types


def arrays_of_npz(file: Path, needed: Sequence[str], *others: str) -> dict[str, Array]:
    """Return the arrays ``needed``, and of ``others`` those that are there.

    Raises:
        SourceError: One is missing, or holds pickled objects.
        ValueError: One is declared larger than what is stored. Also what zipfile and NumPy raise.
    """
    try:
        with open_regular(file) as handle, zipfile.ZipFile(handle) as archive:
            members = {info.filename: info for info in archive.infolist()}
            for key in needed:
                if f"{key}.npy" not in members:
                    raise SourceError(f"{file} has no array {key!r}; fix it or leave it out")
            found = {}
            for key in (*needed, *others):
                if info := members.get(f"{key}.npy"):
                    found[key] = _array(archive, info, key)
            return found
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    except NotImplementedError as error:  # another compression, or a password
        raise ValueError(str(error)) from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> Array:
    if info.file_size > min(LARGEST_READ + _HEADER, info.compress_size * _DEFLATE + _HEADER):
        raise ValueError(f"{key} declares {info.file_size} bytes in {info.compress_size} bytes of storage")
    with archive.open(info) as member:
        _check_header(member, info.file_size, key)
    with archive.open(info) as member:
        return np.asarray(_FORMAT.read_array(member, allow_pickle=False))


def _check_header(member: IO[bytes], size: int, key: str) -> None:
    version = _FORMAT.read_magic(member)
    if version == (1, 0):
        shape, _, kind = _FORMAT.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, kind = _FORMAT.read_array_header_2_0(member)
    else:
        raise ValueError(f"{key} is of the .npy version {version}")
    if kind.hasobject:
        raise ValueError("it holds pickled objects")
    # Also negative numbers, and numbers that overflow, are none of a size.
    if any(one < 0 for one in shape) or prod(shape) * kind.itemsize > size:
        raise ValueError(f"{key} declares the shape {str(shape)[:60]} in {size} bytes")
