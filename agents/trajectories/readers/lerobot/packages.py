"""The packages that LeRobot's files need; imported when such a file is read or written, and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lram.agents.trajectories.readers.source import SourceError

INSTALL = "pip install 'lram-bench[lerobot]'"


def parquet() -> Any:
    """Return ``pyarrow.parquet``; SourceError where it is not installed."""
    return _needed("pyarrow.parquet", "parquet files of LeRobot data sets are read and written by pyarrow")


def pyarrow() -> Any:
    """Return ``pyarrow``; SourceError where it is not installed."""
    parquet()
    return import_module("pyarrow")


def av() -> Any:
    """Return PyAV; SourceError where it is not installed."""
    return _needed("av", "videos of LeRobot data sets are read and written by PyAV")


def _needed(module: str, why: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise SourceError(f"{why}, which cannot be imported ({error}); run: {INSTALL}") from error
