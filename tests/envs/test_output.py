"""What workers print, in files of bounded size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lram.envs.workers.output import HEAD, TAIL, OutputFile, OutputFiles


def printed(path: Path, pieces: list[bytes]) -> OutputFile:
    output = OutputFile(path)
    for piece in pieces:
        os.write(output.writing, piece)
        output.drain()
        assert path.stat().st_size <= HEAD + 2 * TAIL
    return output


def test_what_is_short_is_kept_as_it_is(tmp_path: Path) -> None:
    output = printed(tmp_path / "log", [b"one\n", b"\xff\0two\n"])
    output.close()
    assert (tmp_path / "log").read_bytes() == b"one\n\xff\0two\n"


def test_of_what_is_long_the_beginning_and_the_end_are_kept_and_the_middle_is_said_to_be_dropped(
    tmp_path: Path,
) -> None:
    pieces = [b"%015d\n" % number * 2048 for number in range(300)]  # 32 KiB each, 9.4 MiB
    output = printed(tmp_path / "log", pieces)
    output.close()
    content, whole = (tmp_path / "log").read_bytes(), b"".join(pieces)
    assert content.startswith(whole[:HEAD])
    assert content.endswith(whole[-TAIL:])
    note = content[HEAD:-TAIL].decode()
    assert "are not kept here" in note
    assert len(content) < HEAD + TAIL + 200


def test_a_reader_sees_what_was_printed_before_the_end(tmp_path: Path) -> None:
    output = printed(tmp_path / "log", [b"x" * (1 << 15)] * 100 + [b"\nlast words\n"])
    assert (tmp_path / "log").read_bytes().endswith(b"\nlast words\n")
    output.close()


def test_the_end_is_known_when_no_process_can_write_any_more(tmp_path: Path) -> None:
    output = printed(tmp_path / "log", [b"words"])
    copy = os.dup(output.writing)
    output.started()
    output.drain()
    assert not output.ended
    os.close(copy)
    output.drain()
    assert output.ended
    output.close()


def test_what_a_dead_process_has_left_in_the_pipe_is_kept(tmp_path: Path) -> None:
    output = printed(tmp_path / "log", [])
    os.write(output.writing, b"its last words")
    output.close()
    assert (tmp_path / "log").read_bytes() == b"its last words"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "log").symlink_to("mine")
    with pytest.raises(OSError, match="symbolic links"):
        OutputFile(tmp_path / "log")
    assert (tmp_path / "mine").read_text() == "precious"


def test_of_very_many_files_the_first_and_the_last_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.log").touch()
    outputs = OutputFiles(tmp_path, first=2, last=3)
    for _ in range(8):
        outputs.close(outputs.make("toy"))
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["mine.log", *(f"worker-00{number}-toy.log" for number in (1, 2, 6, 7, 8))]
