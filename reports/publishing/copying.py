"""A copy of a run, clean, that every reader of runs takes for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.checksums import sign_file, sign_line, unsigned_file, verify_line
from lram.agents.durable import open_regular, read_regular
from lram.agents.sums import file_sum
from lram.harness.errors import LramError
from lram.harness.storage.json_files import DAMAGE, clause, encode, files_in
from lram.harness.storage.record_folder import PROVENANCE
from lram.harness.storage.records import EpisodeRecord
from lram.harness.storage.run_folder import PLAN_FILE, Run
from lram.reports.publishing.cleaning import Cleaner

_CRC = "crc32"


@dataclass(frozen=True, slots=True)
class CleanedFile:
    """A file of a publication that is not, byte for byte, the one that was recorded.

    Attributes:
        file: Its path in the publication.
        recorded_sha256: SHA-256 of the file that was recorded, by which its owner can show it.
        changes: Places by what was taken out of them.
    """

    file: str
    recorded_sha256: str
    changes: dict[str, int]


def learn(run: Run, cleaner: Cleaner) -> None:
    """Let ``cleaner`` know the names that are anywhere in ``run``, so that all files get the same texts.

    Raises:
        LramError: A file is damaged; it is named.
    """
    for file in (run.path / PLAN_FILE, *files_in(run.path / PROVENANCE, "*.json")):
        cleaner.learn(_decoded(file, read_regular(file)))
    for segment in files_in(run.path / "records", "*.jsonl"):
        for line in _lines(segment):
            if cleaner.concerns(line):
                cleaner.learn(_decoded(segment, line))


def copy_run(run: Run, target: Path, name: str, cleaner: Cleaner) -> list[CleanedFile]:
    """Copy plan, records and provenance of ``run`` into the new folder ``target``; return what was changed.

    A file with nothing to clean keeps its bytes (a torn last line, which nobody reads, stays behind). One
    that is changed gets new checksums where it had some. Logs of workers are not copied.

    Args:
        run: The run.
        target: Where.
        name: What ``target`` is called in what is returned.
        cleaner: Knows the names (:func:`learn`).

    Raises:
        LramError: A file is damaged; it is named.
        OSError: The copy cannot be written.
    """
    (target / "records").mkdir(parents=True)
    (target / PROVENANCE).mkdir()
    changed: list[CleanedFile] = []

    def copied(file: Path, copy: Callable[[Path, Path, Cleaner], str]) -> None:
        place = file.relative_to(run.path)
        cleaner.counts.clear()
        recorded = copy(file, target / place, cleaner)
        if cleaner.counts:
            changed.append(
                CleanedFile(f"{name}/{place.as_posix()}", recorded, dict(sorted(cleaner.counts.items())))
            )

    copied(run.path / PLAN_FILE, _copy_json)
    for file in files_in(run.path / PROVENANCE, "*.json"):
        copied(file, _copy_json)
    for segment in files_in(run.path / "records", "*.jsonl"):
        copied(segment, _copy_segment)
    return changed


def _copy_json(file: Path, target: Path, cleaner: Cleaner) -> str:
    content = read_regular(file)
    try:
        bare = unsigned_file(content)
    except DAMAGE as error:
        raise _damaged(file, error) from error
    clean = cleaner.value(_decoded(file, content if bare is None else bare))
    if not cleaner.counts:
        target.write_bytes(content)
    else:
        made = encode(clean)
        target.write_bytes(made if bare is None else sign_file(made))
    return sha256(content).hexdigest()


def _copy_segment(file: Path, target: Path, cleaner: Cleaner) -> str:
    with target.open("wb") as copy:
        for number, line in enumerate(_lines(file), start=1):
            try:
                signed = verify_line(line)
            except DAMAGE as error:
                raise _damaged(file, error, number) from error
            if cleaner.concerns(line):
                before = cleaner.counts.total()
                plain = _decoded(file, line)
                if signed:
                    del plain[_CRC]
                clean = cleaner.value(_with_fault_noted(plain))
                if cleaner.counts.total() > before:
                    line = msgspec.json.encode(clean)
                    line = sign_line(line) if signed else line
            copy.write(line + b"\n")
    return file_sum(file)


def _with_fault_noted(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose fault is in a field: its message, that may tell it by a label, is cleaned."""
    failure = plain.get("failure") or {}
    if failure.get("kind") != "quarantine" or failure.get("by_agent") is not None:
        return plain
    fault = msgspec.convert(plain, EpisodeRecord).failed_by_agent
    return {**plain, "failure": {**failure, "by_agent": fault}}


def _lines(segment: Path) -> Iterator[bytes]:
    """Yield the lines that have their newline, without it."""
    try:
        with open_regular(segment) as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except OSError as error:
        raise LramError(f"{segment} cannot be read: {error.strerror}") from error


def _decoded(file: Path, content: bytes) -> Any:
    try:
        found = msgspec.json.decode(content)
    except DAMAGE as error:
        raise _damaged(file, error) from error
    if not isinstance(found, dict):
        raise LramError(f"{file} holds what is no JSON object; put it back from a copy")
    return found


def _damaged(file: Path, error: Exception, number: int = 0) -> LramError:
    line = f", line {number}" if number else ""
    return LramError(f"{file}{line} is damaged ({clause(error)}); put it back from a copy, then publish")
