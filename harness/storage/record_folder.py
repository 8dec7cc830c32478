"""What a run, a sweep, an extrapolation and a study on disk share: a plan, and one writer beside it.

:class:`RecordFolder` reads such a folder, :class:`RecordWriter` is its one writer; both stand on the segments
of :mod:`lram.harness.storage.segments`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

from lram.agents.durable import Lock
from lram.agents.places import placed
from lram.harness.errors import LramError
from lram.harness.storage.json_files import check_layout, files_in, read_json, read_signed
from lram.harness.storage.records import Provenance
from lram.harness.storage.segments import FolderKind, Once, SegmentWriter, read_records, without_checksums
from lram.harness.trust import NO_FILES, remember

PlanT = TypeVar("PlanT")
RecordT = TypeVar("RecordT")
WriterT = TypeVar("WriterT", bound="RecordWriter")

PROVENANCE = "provenance"
"""Folder of one file a session, which says where the session's segments were made."""


class RecordFolder(Generic[PlanT]):
    """A folder with a plan, for reading.

    Attributes:
        path: The folder.
        plan: What is to be there.
    """

    plan_file: ClassVar[str]
    """Name of the plan, the file by which the folder is known."""
    lacks_plan: ClassVar[str]
    """What is said of a ``{path}`` without one."""
    segments: ClassVar[Sequence[str]] = ()
    """Folders of segments."""

    def __init__(
        self, path: str | Path, kind: type[PlanT], schema: int, check: Callable[[Path, PlanT], None]
    ) -> None:
        """Read the plan in ``path``.

        Args:
            path: The folder.
            kind: What the plan is.
            schema: Its layout.
            check: Raises LramError for a plan that cannot be.

        Raises:
            LramError: There is none, or it is damaged or of another layout.
        """
        self.path = placed(path)
        file = self.path / self.plan_file
        if not file.is_file():
            raise LramError(self.lacks_plan.format(path=self.path))
        self.plan, self._signed = read_signed(file, kind)
        found: Any = self.plan
        check_layout(file, found.schema, schema)
        check(file, self.plan)

    def provenance(self) -> list[Provenance]:
        """Return where each session was made, oldest first."""
        return list(self.sessions().values())

    def sessions(self) -> dict[str, Provenance]:
        """Return where each session was made, by its number; without those of which nothing is known."""
        return {file.stem: read_json(file, Provenance) for file in files_in(self.path / PROVENANCE, "*.json")}

    def without_checksums(self) -> list[str]:
        """Return which of plan and segments carry no checksum, as those of earlier versions do not:
        a change to them would not be noticed.
        """
        files = [file for name in self.segments for file in without_checksums(self.path / name)]
        plan = [] if self._signed else [self.plan_file]
        return [*plan, *(f"{file.parent.name}/{file.name}" for file in files)]

    def _planned(
        self,
        part: str,
        kind: type[RecordT],
        planned: Sequence[Any],
        key: Callable[[RecordT], Any],
        check: Callable[[Path, RecordT], None],
    ) -> list[RecordT]:
        """Return the records of ``part`` in the order of ``planned``; LramError for one that it has not."""
        once = Once(set(planned), key)
        latest = {key(record): record for record, _ in read_records(self.path / part, kind, once)}
        for record in latest.values():
            check(self.path / part, record)
        return [latest[one] for one in planned if one in latest]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class RecordWriter:
    """The one writer of a folder: holds its lock and appends to segments of its own."""

    kind: ClassVar[FolderKind]
    folder_type: ClassVar[type[RecordFolder[Any]]]

    def __init__(self, folder: Any, held: Lock | None = None) -> None:
        """Lock ``folder``, unless its lock is ``held``; LramError when another process holds it."""
        self._segments = SegmentWriter(folder.path, self.kind.rooms, self._resume(folder), held)

    @classmethod
    def check_vacant(cls, path: str | Path) -> None:
        """Raise LramError when a new folder cannot go into ``path`` because something is there."""
        cls.kind.check_vacant(Path(path))

    @classmethod
    def _begin(
        cls: type[WriterT],
        path: str | Path,
        plan: Any,
        interpreters: Mapping[str, str],
        inputs: Callable[[], None] = lambda: None,
        files: Mapping[str, str] = NO_FILES,
    ) -> WriterT:
        """Make a new folder in ``path`` (absent, empty, or left so by a killed beginning) and lock it."""
        held = cls.kind.begin(Path(path), plan, inputs)
        try:
            specs = [agent.spec for agent in plan.agents]
            remember(Path(path) / cls.kind.plan_file, specs, interpreters, files)
            return cls(cls.folder_type(path), held)  # type: ignore[call-arg]
        except BaseException:
            held.close()
            raise

    def write_provenance(self, provenance: Provenance) -> None:
        """Write where this session is made (again, when more became known)."""
        self._segments.write(PROVENANCE, provenance)

    def close(self) -> None:
        """Close the segments and free the lock."""
        self._segments.close()

    def __enter__(self: WriterT) -> WriterT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _resume(self, folder: Any) -> str:
        """Return the command that continues ``folder``."""
        return self.kind.continuing(folder.path)
