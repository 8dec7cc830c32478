"""Rows of a data set's parquet files, an episode at a time and a batch at a time.

A converter may have put all episodes of a file into one row group, which can only be read from its start. So
a file is read on from where the episode before ended, and begun anew only to go back or to another row group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lram.agents.trajectories.hdf5 import DAMAGE, LARGEST_READ
from lram.agents.trajectories.readers.lerobot.description import Feature
from lram.agents.trajectories.readers.lerobot.packages import parquet
from lram.agents.trajectories.readers.source import Array, SourceError, short

BATCH = 512


class ParquetRows:
    """The rows of one parquet file.

    Args:
        file: Its path.
        columns: What is read of it.

    Raises:
        SourceError: It is none, or lacks a column.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self.file = file
        self._columns = list(columns)
        if not file.is_file():
            raise SourceError(f"{file} is missing; fetch it again or leave its episodes out (--skip-bad)")
        pq = parquet()
        try:
            self._table = pq.ParquetFile(str(file))
            held = self._table.schema_arrow.names
            about = self._table.metadata
            sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        except DAMAGE as error:
            raise self._damaged(error) from error
        missing = [name for name in self._columns if name not in held]
        if missing:
            self.close()
            raise SourceError(
                f"{file} has no column {missing[0]!r}, which meta/info.json names; fetch the data set again"
            )
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._at = 0  # row of the file with which the batch begins
        self._group = -1

    @property
    def count(self) -> int:
        """Rows in the file."""
        return int(self._starts[-1])

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def batches(self, start: int, stop: int) -> Iterator[Any]:
        """Yield rows ``start`` .. ``stop - 1``, in pyarrow's batches; SourceError for a damaged file."""
        group = int(np.searchsorted(self._starts, start, "right")) - 1
        if self._batch is None or start < self._at or group > self._group:
            self._begin(group)
        while start < stop:
            ends = self._at + len(self._batch)
            if start >= ends:
                self._next(ends)
                continue
            taken = self._batch.slice(start - self._at, min(stop, ends) - start)
            start += len(taken)
            yield taken

    def _begin(self, group: int) -> None:
        groups = list(range(group, len(self._starts) - 1))
        try:
            self._batches = self._table.iter_batches(
                BATCH, row_groups=groups, columns=self._columns, use_threads=False
            )
        except DAMAGE as error:
            raise self._damaged(error) from error
        self._next(int(self._starts[group]))

    def _next(self, at: int) -> None:
        try:
            self._batch = next(self._batches)
        except StopIteration:
            raise SourceError(f"{self.file} ends at row {at}; fetch it again") from None
        except DAMAGE as error:
            raise self._damaged(error) from error
        self._at = at
        self._group = int(np.searchsorted(self._starts, at, "right")) - 1

    def _damaged(self, error: BaseException) -> SourceError:
        return SourceError(
            f"{self.file} is no whole parquet file ({short(error)}); fetch it again or leave its episodes out"
        )


def numbers(batch: Any, feature: Feature, where: str) -> Array:
    """Return a column of numbers as (rows,) or (rows, size); SourceError where it is not as it was described.

    Args:
        batch: Rows, as pyarrow's batch.
        feature: What the metadata say of the column.
        where: Names the episode.
    """
    column = batch.column(batch.schema.get_field_index(feature.key))
    size = feature.shape[0]
    name = f"{where} has a column {feature.key!r}"
    values = column
    if hasattr(column, "flatten") and hasattr(column.type, "value_type"):
        values = column.flatten()
        if column.null_count or len(values) != len(column) * size:
            raise SourceError(f"{name} of other lengths than {size}, which its metadata tell; fetch it again")
    elif size != 1:
        raise SourceError(f"{name} of single numbers, by its metadata vectors of {size}; fetch it again")
    if values.null_count:
        raise SourceError(f"{name} with empty places; fill them or leave it out")
    found = np.asarray(values.to_numpy(zero_copy_only=False))
    if found.dtype.kind not in "biuf":
        raise SourceError(f"{name} of type {column.type}, which are no numbers; leave it out")
    if found.nbytes > LARGEST_READ:
        raise SourceError(f"{name} of more than {LARGEST_READ} bytes; leave it out")
    return found.reshape(len(column), size) if values is not column else found
