"""HDF5 files of others: what they name elsewhere is refused, what they declare is bounded before it is read.

An HDF5 file can name other files as its storage, lead to them by links, be put together from them, ask for a
filter that is loaded as a library, and declare arrays of any size. Every group, array and attribute that is
read goes through this module; it opens nothing but the file itself.
"""

from __future__ import annotations

import re
import stat
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lram.agents.trajectories.global_heaps import endless_heap

LARGEST_READ = 2 << 30
"""Bytes of an array that are read at once: an hour of Atari's images takes 0.7 GB."""

LARGEST_ATTRIBUTE = 64 << 20

_SMALL = 1 << 20  # bytes of an array that may be declared without being stored
_DEFLATE = 1032  # how many bytes a byte of deflate can stand for, at most
_DEEP = 8
_ELEMENT = re.compile(r"_index_[0-9]+")
_SHOWN = 60
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}

DAMAGE: type[Exception] = Exception
"""What h5py, NumPy, zipfile and zlib raise for files that are damaged or made to confuse: no list of it held.

Nothing but the reading of one file stands between ``try`` and ``except DAMAGE``, so that whatever is raised
becomes the sentence on that file, and the next file is read."""


_OTHER = object()  # what lies there is neither a group nor an array


class Hdf5Error(ValueError):
    """Something in an HDF5 file is missing or is not read; the message is a clause that names it."""


def open_file(path: str | Path, *, known: bool = False) -> Any:
    """Open the HDF5 file ``path`` for reading; one of ``DAMAGE`` where it is none.

    Args:
        path: The file.
        known: Its checksum was compared with that of the writer, so that it need not be looked through for
            damage that HDF5 cannot bear.
    """
    import h5py

    # A named pipe would be waited for without end.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError("it is not a regular file")
    if not known and h5py.is_hdf5(path) and (place := endless_heap(path)) is not None:
        raise OSError(f"the texts at byte {place} are damaged, so that HDF5 would never end to read them")
    # Nothing is locked: that fails on some network file systems.
    return h5py.File(path, "r", locking=False)


def member(group: Any, name: str) -> Any:
    """Return the group or array ``name`` (a path of names) in ``group``; None where there is none.

    Raises:
        Hdf5Error: The way there is a link, or leads through something that is no group.
    """
    import h5py

    found = group
    for one in name.split("/"):
        if not isinstance(found, h5py.Group):
            return None
        here, key = found.id, one.encode("utf-8", "surrogateescape")
        links = here.links
        if not links.exists(key):
            return None
        if links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise Hdf5Error(f"{shown(name)} is a link to another place, which is not followed")
        opened = h5py.h5o.open(here, key)
        # As Group's own look-up does, in half the time.
        if isinstance(opened, h5py.h5g.GroupID):
            found = h5py.Group(opened)
        elif isinstance(opened, h5py.h5d.DatasetID):
            found = h5py.Dataset(opened, readonly=True)
        else:
            return _OTHER
    return found


def names_in(group: Any) -> list[str]:
    """Return the names in ``group``, sorted; bytes that are no text are kept as half characters."""
    return sorted(
        name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name for name in group
    )


def group_in(group: Any, name: str) -> Any:
    """Return the group ``name`` in ``group``; Hdf5Error where there is none."""
    import h5py

    found = member(group, name)
    if not isinstance(found, h5py.Group):
        raise Hdf5Error(f"there is no group {shown(name)}")
    return found


def array_in(group: Any, name: str) -> Any:
    """Return the array ``name`` in ``group``, unread; Hdf5Error where it is none that can be read."""
    import h5py

    found = member(group, name)
    if not isinstance(found, h5py.Dataset):
        raise Hdf5Error(f"there is no data set {shown(name)}")
    check_array(found, shown(name))
    return found


def check_array(array: Any, name: str) -> None:
    """Raise Hdf5Error for an array that lies elsewhere, holds no numbers, or is larger than its storage."""
    import h5py

    plist = array.id.get_create_plist()
    layout = plist.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        raise Hdf5Error(f"{name} is a virtual data set, made of other files")
    if plist.get_external_count():
        raise Hdf5Error(f"{name} is stored in another file")
    kind = array.dtype
    if kind.kind not in "biuf" or kind.hasobject:
        raise Hdf5Error(f"{name} has values of type {kind}, which are no plain numbers")
    if array.shape is None:
        raise Hdf5Error(f"{name} is empty, without a shape")
    for number in range(plist.get_nfilters()):
        code = plist.get_filter(number)[0]
        if code not in _FILTERS:
            raise Hdf5Error(f"{name} needs the filter {code}, which is no part of HDF5; store it with gzip")
    declared = prod(array.shape) * kind.itemsize
    if declared > _SMALL:
        stored = min(array.id.get_storage_size(), _bytes_of(array.file))
        if declared > stored * (_DEFLATE if layout == h5py.h5d.CHUNKED else 1) + _SMALL:
            raise Hdf5Error(f"{name} declares {declared} bytes in {stored} bytes of storage")
    if layout == h5py.h5d.CHUNKED:
        chunk = prod(plist.get_chunk()) * kind.itemsize
        if chunk > _SMALL and chunk > min(LARGEST_READ, _bytes_of(array.file) * _DEFLATE + _SMALL):
            raise Hdf5Error(f"{name} has chunks of {chunk} bytes")


def _bytes_of(file: Any) -> int:
    return int(file.id.get_filesize())


def read(array: Any, rows: slice | None = None) -> npt.NDArray[Any]:
    """Return the values of an array that was checked, or some of its rows; Hdf5Error for too many."""
    shape = array.shape
    count = prod(shape) if rows is None else len(range(*rows.indices(shape[0]))) * prod(shape[1:])
    size = count * array.dtype.itemsize
    if size > LARGEST_READ:
        raise Hdf5Error(
            f"{shown(array.name or 'an array')} has {size} bytes, and at most {LARGEST_READ} are read at once"
        )
    return np.asarray(array[()] if rows is None else array[rows])


def read_array(group: Any, name: str, rows: slice | None = None) -> npt.NDArray[Any]:
    """Return the values of the array ``name``; Hdf5Error where it is none that can be read."""
    return read(array_in(group, name), rows)


def columns_in(group: Any, depth: int = _DEEP) -> list[tuple[str, Any]]:
    """Return the arrays in ``group`` and its groups by name, unread; in the order of sorted names.

    The elements of a tuple, which Minari calls ``_index_0``, ``_index_1``, are in the tuple's order.

    Raises:
        Hdf5Error: One cannot be read, or groups lie in each other deeper than ``depth``.
    """
    found = []
    names = names_in(group)
    if all(_ELEMENT.fullmatch(name) for name in names):
        names = sorted(names, key=lambda name: (len(name), name))
    for name in names:
        held = member(group, name)
        if hasattr(held, "keys"):
            if not depth:
                raise Hdf5Error(f"{shown(name)} lies deeper than {_DEEP} groups")
            found += [(f"{name}/{inner}", array) for inner, array in columns_in(held, depth - 1)]
        else:
            found.append((name, array_in(group, name)))
        if len(found) > 1 << 12:
            raise Hdf5Error("it has more than 4096 data sets")
    return found


def attribute(held: Any, name: str, otherwise: Any = None) -> Any:
    """Return the attribute ``name`` of a group, ``otherwise`` where there is none.

    Raises:
        Hdf5Error: It is too large, or neither a text nor numbers.
    """
    import h5py

    key = name.encode("utf-8", "surrogateescape")
    if not h5py.h5a.exists(held.id, key):
        return otherwise
    found = h5py.h5a.open(held.id, key)
    kind, count = found.get_type().get_class(), found.get_space().get_simple_extent_npoints()
    texts = kind == h5py.h5t.STRING
    if not texts and kind not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM):
        raise Hdf5Error(f"the attribute {shown(name)} is neither a text nor numbers")
    # Each text of an array may be the same large one.
    if (texts and count > 1) or found.get_storage_size() > LARGEST_ATTRIBUTE:
        raise Hdf5Error(f"the attribute {shown(name)} is too large")
    return held.attrs[name]


def text_of(held: Any, name: str) -> str:
    """Return the attribute ``name`` as text, empty where there is none; Hdf5Error where it is no text."""
    value = attribute(held, name, "")
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise Hdf5Error(f"the attribute {shown(name)} is no text")
    return value


def shown(name: str) -> str:
    """Return a name from a file as it can be printed."""
    return printable(name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "...")


def printable(text: str) -> str:
    """Return ``text`` on one line, without what a terminal would act upon or could not show."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
