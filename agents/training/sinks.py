"""Where metrics go: ``metrics.jsonl`` always, TensorBoard where it is installed, trackers of one's own.

A line is a JSON object with ``kind`` (``train`` or ``validation``) and ``update``. What depends on the
machine's speed is in its field ``time``, so that all else is the same for the same recipe.

A tracker of one's own is an entry point of the group ``lram.trackers``: a callable that is given the
run's folder, the recipe as a dictionary and the update that training goes on after, and returns an
object with ``write(line)`` and ``close()``. ``saving.trackers`` in the recipe names it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import read_regular

GROUP = "lram.trackers"
METRICS_FILE = "metrics.jsonl"


class Sink(Protocol):
    """What metrics are written to."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Take a line."""
        ...

    def close(self) -> None:
        """No more lines come."""
        ...


class JsonLines:
    """``metrics.jsonl``: cut back to an update, then appended to."""

    def __init__(self, path: Path, update: int) -> None:
        """Keep the lines up to ``update`` (0: none); a torn last line goes."""
        kept = [line for line in read_metrics(path) if line["update"] <= update] if update else []
        path.write_bytes(b"".join(_encoded(line) for line in kept))
        self._file = path.open("ab")

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`Sink`."""
        self._file.write(_encoded(line))
        self._file.flush()

    def sync(self) -> None:
        """Have all lines on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """See :class:`Sink`."""
        self._file.close()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(line) + b"\n"


_LONGEST = 4 << 30  # bytes of metrics: a million updates, each with its line


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's ``metrics.jsonl``; a torn last line is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    content = read_regular(path, _LONGEST)
    whole = content[: content.rfind(b"\n") + 1]
    try:
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in whole.splitlines()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        why = "a line is nested too deeply" if isinstance(error, RecursionError) else error
        raise AgentError(f"{path} is damaged ({why}); restore it or start a new run") from None


class TensorBoard:
    """Event files under ``tensorboard/``, a curve a number."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any], update: int) -> None:
        """Hide what an earlier process wrote after ``update``."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(folder / "tensorboard"), purge_step=update + 1 if update else None
        )

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`Sink`."""
        numbers = {name: value for name, value in line.items() if name not in ("kind", "update")}
        for name, value in _numbers(numbers, line["kind"]):
            self._writer.add_scalar(name, value, line["update"])

    def close(self) -> None:
        """See :class:`Sink`."""
        self._writer.close()


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", float(value)


class Trackers:
    """Other sinks; one that fails is given up with a word, and training goes on."""

    def __init__(self, names: Sequence[str], folder: Path, recipe: Mapping[str, Any], update: int) -> None:
        """Open the named ones; AgentError for one that is not known or cannot be opened."""
        self._open: dict[str, Sink] = {}
        for name in names:
            sink = _open(name, folder, recipe, update)
            if sink is not None:
                self._open[name] = sink

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`Sink`."""
        for name, sink in list(self._open.items()):
            try:
                sink.write(line)
            except Exception as error:
                del self._open[name]
                print(f"lram: the tracker {name} failed and is given up: {error}", file=sys.stderr)

    def close(self) -> None:
        """See :class:`Sink`."""
        for name, sink in self._open.items():
            try:
                sink.close()
            except Exception as error:
                print(f"lram: the tracker {name} failed at its end: {error}", file=sys.stderr)


def _open(name: str, folder: Path, recipe: Mapping[str, Any], update: int) -> Sink | None:
    if name == "tensorboard":
        try:
            return TensorBoard(folder, recipe, update)
        except ImportError:  # an extra; metrics.jsonl has it all
            return None
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        known = ", ".join(["tensorboard", *sorted(points)])
        raise AgentError(f"saving.trackers names {name!r}, which is not installed; known: {known}")
    try:
        sink: Sink = points[name].load()(folder, recipe, update)
    except Exception as error:
        raise AgentError(f"the tracker {name} cannot be opened ({error}); mend or leave it out") from error
    return sink
