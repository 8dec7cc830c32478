"""Where metrics go: ``metrics.jsonl`` always, TensorBoard where it is installed, trackers of one's own.

A line is a JSON object with ``kind`` (``train`` or ``validation``) and ``update``. What depends on the
machine's speed is in its field ``time``, so that all else is the same for the same recipe. It ends with the
checksum of itself, ``crc32``, which is verified whenever lines are read; earlier versions wrote none.

A tracker of one's own is an entry point of the group ``lram.trackers``: a callable that is given the
run's folder, the recipe as a dictionary and the update that training continues after, and returns an
object with ``write(line)`` and ``close()``. ``saving.trackers`` in the recipe names it. Evaluations give the
same callable the evaluation as a dictionary, and write lines of other kinds (:mod:`lram.harness.tracking`).
:data:`BUILT_IN` has those that come with the package; nothing is imported unless it is named.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lram.agents.api import AgentError
from lram.agents.checksums import ChecksumError, sign_line, verify_line
from lram.agents.durable import read_regular, write_durably
from lram.agents.shown import shown

GROUP = "lram.trackers"
BUILT_IN: Mapping[str, tuple[str, str]] = {
    "tensorboard": ("lram.agents.training.sinks:TensorBoard", "tensorboard"),
    "wandb": ("lram.agents.training.trackers.wandb:WandbTracker", "wandb"),
    "mlflow": ("lram.agents.training.trackers.mlflow:MlflowTracker", "mlflow"),
    "trackio": ("lram.agents.training.trackers.wandb:TrackioTracker", "trackio"),
}
"""Trackers that come with the package, by name: where each is, and the package that it needs."""
EXTRAS: Mapping[str, str] = {"tensorboard": "train", "wandb": "wandb", "mlflow": "mlflow"}
"""Extras of lram-bench that bring such packages."""
METRICS_FILE = "metrics.jsonl"
LARGEST_METRICS = 4 << 30
"""Bytes; a line has some hundred to some thousand."""


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

    def __init__(self, path: Path, update: int, last: Collection[tuple[str, int]] = ()) -> None:
        """Keep the lines up to ``update`` (0: none), as they are; a torn last line goes.

        Args:
            path: The file.
            update: See above.
            last: Kind and update of the lines of which no other of their kind is kept: where they are there,
                a damaged line after them would be cut away, and does no harm.

        Attributes:
            kept: These lines.
            damaged: Number of the damaged line, from 1, from which on nothing was read; 0: there is none.

        Raises:
            AgentError: A line that may be one to keep is damaged.
            OSError: The file cannot be written.
        """
        found: list[tuple[bytes, dict[str, Any]]] = []
        self.damaged, number = 0, 0
        try:
            for number, pair in enumerate(_read_lines(path) if update else (), 1):  # noqa: B007
                if pair[1]["update"] <= update:
                    found.append(pair)
        except AgentError:
            if not last or not set(last) <= {(line["kind"], line["update"]) for _, line in found}:
                raise
            self.damaged = number + 1
        self.kept = [line for _, line in found]
        write_durably(path, b"".join(text + b"\n" for text, _ in found))
        # Without a buffer: one that a full disk refused would be written again at the end.
        self._file = path.open("ab", buffering=0)

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`Sink`."""
        text = memoryview(sign_line(msgspec.json.encode(line)) + b"\n")
        while text:
            text = text[self._file.write(text) :]

    def sync(self) -> None:
        """Have all lines on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """See :class:`Sink`."""
        self._file.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's ``metrics.jsonl``, verified; a torn last line is left out.

    Raises:
        AgentError: A line is not what its checksum says, or no line of metrics; lines of earlier versions
            carry no checksum, and are read.
    """
    return [line for _, line in _read_lines(Path(path))]


def _read_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield each line's text, and what it says without its checksum; AgentError for a damaged one."""
    try:
        content = read_regular(path, LARGEST_METRICS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AgentError(f"{path} cannot be read ({error.strerror}); restore it") from None
    any_signed = False
    for number, text in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        try:
            signed = verify_line(text)
            line = msgspec.json.decode(text, type=dict[str, Any])
        except (ChecksumError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _damaged(path, number, str(error)) from None
        update = line.get("update")
        if not isinstance(line.get("kind"), str) or type(update) is not int or update < 0:
            raise _damaged(path, number, "it has no kind or no update")
        if signed:
            del line["crc32"]
        elif any_signed or any(isinstance(line[name], str) for name in line if name != "kind"):
            raise _damaged(path, number, "its checksum is missing")
        any_signed = any_signed or signed
        yield text, line


def _damaged(path: Path, number: int, why: str) -> AgentError:
    return AgentError(
        f"{path} is damaged at line {number} ({shown(why, 200)}); restore the file, remove that line, or "
        "start a new run"
    )


class TensorBoard:
    """Event files under ``tensorboard/``, a curve a number."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any], update: int) -> None:
        """Hide what an earlier process wrote after ``update``."""
        from torch.utils.tensorboard import SummaryWriter

        self._failure: BaseException | None = None
        # Its thread's failures would be printed as tracebacks; they are this tracker's to tell.
        self._previous_hook = threading.excepthook
        threading.excepthook = self._failed
        self._writer: Any = SummaryWriter(
            str(folder / "tensorboard"), purge_step=update + 1 if update else None
        )

    def _failed(self, failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__module__.startswith("tensorboard."):
            self._failure = failed.exc_value
            self._restore_hook()  # that thread has ended
        else:
            self._previous_hook(failed)

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`Sink`."""
        self._check()
        for name, value in numbers_of(line):
            self._writer.add_scalar(name, value, line["update"])

    def close(self) -> None:
        """See :class:`Sink`."""
        try:
            self._writer.close()
        finally:
            self._restore_hook()
        self._check()

    def _restore_hook(self) -> None:
        if threading.excepthook == self._failed:
            threading.excepthook = self._previous_hook

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def numbers_of(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a line with their names, such as ``train/loss``."""
    numbers = {name: value for name, value in line.items() if name not in ("kind", "update")}
    return _numbers(numbers, line["kind"])


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", float(value)


class Trackers:
    """Other sinks; one that fails is given up with a word, and training continues.

    A package may do anything, also end the process; only the user's interruption is not taken for a failure.
    """

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
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                del self._open[name]
                print(f"lram: the tracker {name} failed and is given up: {cause_of(error)}", file=sys.stderr)

    def close(self) -> None:
        """See :class:`Sink`."""
        for name, sink in self._open.items():
            try:
                sink.close()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                print(f"lram: the tracker {name} failed at its end: {cause_of(error)}", file=sys.stderr)


def known_trackers() -> list[str]:
    """Return the names of the trackers that can be named, also of those whose package is not installed."""
    return [*BUILT_IN, *sorted({point.name for point in entry_points(group=GROUP)} - BUILT_IN.keys())]


def is_announced(name: str) -> bool:
    """Return whether another package announces the tracker ``name``: it comes before ours of that name."""
    return name != "tensorboard" and any(point.name == name for point in entry_points(group=GROUP))


def open_tracker(name: str, folder: Path, settings: Mapping[str, Any], update: int) -> Sink:
    """Return the tracker ``name``, which must be known; raises whatever its package raises."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if not is_announced(name):
        module, _, attribute = BUILT_IN[name][0].partition(":")
        return getattr(import_module(module), attribute)(folder, settings, update)  # type: ignore[no-any-return]
    return points[name].load()(folder, settings, update)  # type: ignore[no-any-return]


def _open(name: str, folder: Path, recipe: Mapping[str, Any], update: int) -> Sink | None:
    if name not in (known := known_trackers()):
        raise AgentError(
            f"saving.trackers names {shown(name)!r}, which is not installed; known: {', '.join(known)}"
        )
    try:
        return open_tracker(name, folder, recipe, update)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if name == "tensorboard" and isinstance(error, ImportError):  # an extra; metrics.jsonl has it all
            return None
        raise AgentError(
            f"the tracker {name} cannot be opened ({cause_of(error)}); fix it, or leave it out of "
            "saving.trackers"
        ) from error


def cause_of(error: BaseException) -> str:
    """Return what an error says, with its type, on one line."""
    return shown(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 300)
