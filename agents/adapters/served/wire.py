"""Values as msgpack, NumPy's arrays among them, as openpi's clients and servers write them; no pickle.

An array is a map of ``__ndarray__`` (True), ``data`` (its bytes in C order), ``dtype`` (as NumPy writes it,
such as ``<f4``) and ``shape``; a NumPy number one of ``__npgeneric__``, ``data`` and ``dtype``. openpi
writes these keys as bytes (openpi-client, ``msgpack_numpy.py``), vla-evaluation-harness as text
(``numpy_codec.py``); both are read. Only booleans, integers and floats of at most 8 bytes are written or
read: objects would be pickles.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from lram.agents.errors import AgentError

_KINDS = "biuf"
_LONGEST_DTYPE = 16  # characters
_MOST_DIMENSIONS = 16


class WireError(ValueError):
    """A message cannot be read or written; the text completes "the message ..."."""


def codec() -> Any:
    """Return the module ``msgpack``; AgentError where it is not installed."""
    try:
        import msgpack
    except ImportError as error:
        raise AgentError(
            "served policies need the packages msgpack and websockets, and msgpack is not installed; "
            "run: pip install 'lram-bench[serve]'"
        ) from error
    return msgpack


def pack(value: object, *, text_keys: bool = False) -> bytes:
    """Return ``value`` as msgpack.

    Args:
        value: Dictionaries, lists, texts, bytes, numbers, None, and arrays in any of these.
        text_keys: Whether the keys of an array are text instead of bytes.

    Raises:
        WireError: It holds something else.
    """
    try:
        packed: bytes = codec().packb(value, default=partial(_encoded, text_keys=text_keys))
    except WireError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"cannot be written as msgpack: {error}") from error
    return packed


def unpack(message: bytes) -> Any:
    """Return what ``message`` holds; arrays are new and writable.

    Raises:
        WireError: It is no msgpack, or an array in it is not what it says, or of a type that is refused.
    """
    msgpack = codec()
    try:
        return msgpack.unpackb(message, object_hook=_decoded)
    except WireError:
        raise
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise WireError("is no msgpack") from error


def _encoded(value: object, text_keys: bool) -> dict[Any, Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise WireError(f"holds a {type(value).__name__}, which msgpack cannot write")
    _allowed(value.dtype)
    fields: dict[str, Any] = {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str}
    fields["shape"] = list(value.shape)
    if isinstance(value, np.generic):
        fields = {"__npgeneric__": True, "data": value.item(), "dtype": value.dtype.str}
    return fields if text_keys else {key.encode(): one for key, one in fields.items()}


def _decoded(fields: dict[Any, Any]) -> Any:
    for mark, decode in (("__ndarray__", _array), ("__npgeneric__", _number)):
        if mark in fields or mark.encode() in fields:
            named = {_text(key): value for key, value in fields.items()}
            try:
                return decode(named)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                if isinstance(error, WireError):
                    raise
                raise WireError("holds an array whose description is wrong") from error
    return fields


def _text(key: object) -> object:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _allowed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise WireError(f"holds values of the type {dtype}; only booleans, integers and floats are taken")
    return dtype


def _dtype(name: object) -> np.dtype[Any]:
    text = _text(name)
    if not isinstance(text, str) or len(text) > _LONGEST_DTYPE:
        raise WireError("holds an array whose type is no name of one")
    try:
        return _allowed(np.dtype(text))
    except (TypeError, SyntaxError) as error:
        raise WireError("holds an array whose type is no name of one") from error


def _array(fields: dict[object, Any]) -> Any:
    dtype, shape, data = _dtype(fields["dtype"]), fields["shape"], fields["data"]
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not whole or len(shape) > _MOST_DIMENSIONS or not isinstance(data, bytes):
        raise WireError("holds an array whose description is wrong")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError(
            f"holds an array of shape {tuple(shape)[:8]} with {len(data)} bytes, which do not fit"
        )
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _number(fields: dict[object, Any]) -> Any:
    data = fields["data"]
    if not isinstance(data, bool | int | float):
        raise WireError("holds a number that is none")
    return _dtype(fields["dtype"]).type(data)
