"""Folders that one process at a time adds records to: what counts, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lram.harness import segments
from lram.harness.errors import LramError
from lram.harness.segments import SegmentWriter, check_empty, check_layout, read_records


def numbers(folder: Path) -> list[int]:
    return [value for value, _ in read_records(folder / "part", int)]


def test_a_session_writes_segments_of_its_own_number_with_its_first_record(tmp_path: Path) -> None:
    for value in (1, 2):
        writer = SegmentWriter(tmp_path, ("part",), "go on")
        assert writer.number == value
        assert len(list(tmp_path.glob("part/*"))) == value - 1
        writer.append("part", value)
        writer.close()
    assert numbers(tmp_path) == [1, 2]
    assert [file.name for file in sorted(tmp_path.glob("part/*"))] == ["0001.jsonl", "0002.jsonl"]


def test_a_torn_last_line_does_not_count_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    writer.append("part", 7)
    writer.close()
    segment = tmp_path / "part" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes() + b"12")
    assert numbers(tmp_path) == [7]
    segment.write_bytes(b"7\n\xff\n8\n")
    with pytest.raises(LramError, match=r"0001\.jsonl, line 2 is damaged"):
        numbers(tmp_path)


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    with pytest.raises(LramError, match="in use by another process"):
        SegmentWriter(tmp_path, ("part",), "go on")
    writer.close()
    SegmentWriter(tmp_path, ("part",), "go on").close()


def test_what_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    check_empty(tmp_path, "plan.json", "a thing", "lram go-on")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(LramError, match="not an empty folder"):
        check_empty(tmp_path, "plan.json", "a thing", "lram go-on")
    (tmp_path / "plan.json").touch()
    with pytest.raises(LramError, match=r"'lram go-on .*' goes on with it"):
        check_empty(tmp_path, "plan.json", "a thing", "lram go-on")


def test_another_layout_is_refused(tmp_path: Path) -> None:
    check_layout(tmp_path / "plan.json", 1, 1)
    with pytest.raises(LramError, match="has layout 2, this version reads 1"):
        check_layout(tmp_path / "plan.json", 2, 1)


class Clock:
    """Stands for the time and for the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.synced = 1000.0, 0
        monkeypatch.setattr(segments.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(segments.os, "fdatasync", self._sync)

    def _sync(self, file: int) -> None:
        self.synced += 1


def test_a_record_is_in_its_file_at_once_and_a_burst_is_put_on_disk_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    for value in range(10):
        writer.append("part", value)
        assert numbers(tmp_path) == list(range(value + 1))
    assert clock.synced == 1  # with the first; nobody was to know of the others
    writer.heartbeat()
    assert clock.synced == 1
    clock.now += segments.SYNC_S
    writer.heartbeat()
    assert clock.synced == 2
    clock.now += segments.SYNC_S
    writer.heartbeat()
    assert clock.synced == 2  # nothing new
    writer.append("part", 10)
    assert clock.synced == 3
    writer.append("part", 11)
    writer.close()
    assert clock.synced == 4


def test_a_process_that_is_killed_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys; from lram.harness.segments import SegmentWriter\n"
        "writer = SegmentWriter(pathlib.Path(sys.argv[1]), ('part',), 'go on')\n"
        "for value in range(100):\n"
        "    writer.append('part', value)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    assert numbers(tmp_path) == list(range(100))


def test_a_disk_that_fails_at_the_end_is_told_and_the_folder_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    writer.append("part", 1)
    writer.append("part", 2)

    def fails(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "fdatasync", fails)
        with pytest.raises(LramError, match="No space left on device; make room, then 'go on"):
            writer.close()
    SegmentWriter(tmp_path, ("part",), "go on").close()


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_lines_longer_and_shorter_than_what_is_read_at_once_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(segments, "_BLOCK", block)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "0001.jsonl").write_bytes(b"1\n23\n456789012345\n6\n78")
    (tmp_path / "part" / "0002.jsonl").write_bytes(b"9\n")
    assert numbers(tmp_path) == [1, 23, 456789012345, 6, 9]
    (tmp_path / "part" / "0002.jsonl").write_bytes(b"9\n1\n1 2\n3\n")
    with pytest.raises(LramError, match=r"0002\.jsonl, line 3 is damaged"):
        numbers(tmp_path)
