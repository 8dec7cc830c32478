"""Folders that one process at a time adds records to: what counts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

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
