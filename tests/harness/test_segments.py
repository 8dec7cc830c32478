"""Folders that one process at a time adds records to: what counts, and what is refused."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lram.agents.api import AgentError
from lram.agents.checksums import sign_line
from lram.agents.durable import Lock
from lram.agents.training import folder as training_folder
from lram.agents.trajectories.layout import rebuild_advice
from lram.agents.trajectories.writer import check_writable
from lram.harness.errors import LramError
from lram.harness.storage import segments
from lram.harness.storage.json_files import check_layout, read_json
from lram.harness.storage.links import open_log
from lram.harness.storage.segments import FolderKind, SegmentWriter, read_records, without_checksums


def numbers(folder: Path) -> list[int]:
    return [one["n"] for one, _ in read_records(folder / "part", dict[str, int | str])]


def line(value: int) -> bytes:
    return sign_line(b'{"n":%d}' % value) + b"\n"


def test_a_session_writes_segments_of_its_own_number_with_its_first_record(tmp_path: Path) -> None:
    for value in (1, 2):
        writer = SegmentWriter(tmp_path, ("part",), "go on")
        assert writer.number == value
        assert len(list(tmp_path.glob("part/*"))) == value - 1
        writer.append("part", {"n": value})
        writer.close()
    assert numbers(tmp_path) == [1, 2]
    assert [file.name for file in sorted(tmp_path.glob("part/*"))] == ["0001.jsonl", "0002.jsonl"]


def test_a_torn_last_line_does_not_count_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    writer.append("part", {"n": 7})
    writer.close()
    segment = tmp_path / "part" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes() + line(12)[:-1])
    assert numbers(tmp_path) == [7]
    segment.write_bytes(line(7) + b"\xff\n" + line(8))
    with pytest.raises(LramError, match=r"0001\.jsonl, line 2 is damaged"):
        numbers(tmp_path)


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    with pytest.raises(LramError, match="in use by another process"):
        SegmentWriter(tmp_path, ("part",), "go on")
    writer.close()
    SegmentWriter(tmp_path, ("part",), "go on").close()


KIND = FolderKind("plan.json", "a thing", "lram go-on", ("part",), ("inputs.npz",))


def test_what_a_desktop_lays_into_a_folder_does_not_fill_it(tmp_path: Path) -> None:
    for name in (".DS_Store", "._run.json"):
        (tmp_path / name).touch()
    KIND.check_vacant(tmp_path)
    training_folder.check_vacant(tmp_path)
    check_writable(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(LramError, match="not an empty folder"):
        KIND.check_vacant(tmp_path)


def test_what_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    KIND.check_vacant(tmp_path)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(LramError, match="not an empty folder"):
        KIND.check_vacant(tmp_path)
    (tmp_path / "plan.json").touch()
    with pytest.raises(LramError, match=f"continue with: lram go-on {tmp_path}$"):
        KIND.check_vacant(tmp_path)


def test_the_command_that_continues_a_folder_is_quoted_as_a_shell_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "my run; rm x"
    folder.mkdir()
    (folder / "plan.json").touch()
    with pytest.raises(LramError) as error:
        KIND.check_vacant(folder)
    said = str(error.value).partition("continue with: ")[2]
    assert shlex.split(said) == ["lram", "go-on", str(folder)]
    assert shlex.split(rebuild_advice(folder).partition(": ")[2]) == ["lram", "data", "rebuild", str(folder)]
    with pytest.raises(AgentError, match=f"'lram train RECIPE -o '{folder}'' starts one"):
        training_folder.recipe_of(folder)


def test_what_a_killed_beginning_left_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for name in ("lock", ".plan.json.4711.lram-new", ".inputs.npz.4711.lram-new", "inputs.npz"):
        (tmp_path / name).touch()
    KIND.begin(tmp_path, {"seed": 1}).close()
    assert read_json(tmp_path / "plan.json", dict[str, int | str])["seed"] == 1


@pytest.mark.parametrize("name", ["lock", ".plan.json.bak", "part", "other", "plan.json.1"])
def test_what_only_looks_like_a_beginning_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(LramError, match="not an empty folder"):
        KIND.begin(tmp_path, {"seed": 1})
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_of_two_processes_that_begin_in_one_folder_one_is_refused(tmp_path: Path) -> None:
    with KIND.begin(tmp_path, {"seed": 1}), pytest.raises(LramError, match="holds a thing already"):
        KIND.begin(tmp_path, {"seed": 2})
    (tmp_path / "plan.json").unlink()
    with Lock(tmp_path / "lock"), pytest.raises(LramError, match="in use"):
        KIND.begin(tmp_path, {"seed": 2})


def test_lines_of_earlier_versions_are_read_and_told_from_those_with_checksums(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    old, new = (tmp_path / "part" / name for name in ("0001.jsonl", "0002.jsonl"))
    old.write_bytes(b'{"n":1}\n{"n":2}\n')
    new.write_bytes(line(3))
    assert numbers(tmp_path) == [1, 2, 3]
    assert without_checksums(tmp_path / "part") == [old]
    new.write_bytes(line(3) + b'{"n":4}\n')  # its checksum was lost
    with pytest.raises(LramError, match=r"0002\.jsonl, line 2 is damaged \(it and the lines before it"):
        numbers(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"n":1e999}', b'{"n":' + b"9" * 5000 + b"}"])
def test_hostile_lines_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "0001.jsonl").write_bytes(content + b"\n")
    with pytest.raises(LramError, match=r"0001\.jsonl, line 1 is damaged"):
        numbers(tmp_path)


def test_a_named_pipe_is_no_segment(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    os.mkfifo(tmp_path / "part" / "0001.jsonl")
    with pytest.raises(LramError, match="not a regular file"):
        numbers(tmp_path)


def test_a_folder_that_is_moved_while_it_is_written_to_gets_nothing_at_its_old_place(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    writer = SegmentWriter(tmp_path / "run", ("part", "logs"), "go on")
    writer.append("part", {"n": 1})
    (tmp_path / "run").rename(tmp_path / "moved")
    writer.append("part", {"n": 2})  # its file moved along
    with pytest.raises(LramError, match="was moved or replaced"):
        writer.write("part", {"n": 3})
    (tmp_path / "run").mkdir()  # somebody else's
    for refused in (lambda: writer.folder("logs"), lambda: writer.append("logs", {"n": 4})):
        with pytest.raises(LramError, match="was moved or replaced"):
            refused()
    writer.close()
    assert numbers(tmp_path / "moved") == [1, 2]
    assert not any((tmp_path / "run").iterdir())


def test_a_record_of_which_the_disk_took_a_part_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    writer.append("part", {"n": 1})
    whole = (tmp_path / "part" / "0001.jsonl").read_bytes()

    class Full(io.FileIO):
        def write(self, content: bytes) -> int:  # type: ignore[override]
            return super().write(content[:5])

    writer._files["part"].close()
    writer._files["part"] = Full(tmp_path / "part" / "0001.jsonl", "a")
    with pytest.raises(LramError, match="took part of a record only; make room, then 'go on'"):
        writer.append("part", {"n": 2})
    assert (tmp_path / "part" / "0001.jsonl").read_bytes() == whole
    writer.close()


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
        writer.append("part", {"n": value})
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
    writer.append("part", {"n": 10})
    assert clock.synced == 3
    writer.append("part", {"n": 11})
    writer.close()
    assert clock.synced == 4


def test_a_process_that_is_killed_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys; from lram.harness.storage.segments import SegmentWriter\n"
        "writer = SegmentWriter(pathlib.Path(sys.argv[1]), ('part',), 'go on')\n"
        "for value in range(100):\n"
        "    writer.append('part', {'n': value})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    assert numbers(tmp_path) == list(range(100))


def test_a_disk_that_fails_at_the_end_is_told_and_the_folder_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    writer.append("part", {"n": 1})
    writer.append("part", {"n": 2})

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
    whole = b"".join(map(line, (1, 23, 456789012345, 6)))
    (tmp_path / "part" / "0001.jsonl").write_bytes(whole + line(78)[:-1])
    (tmp_path / "part" / "0002.jsonl").write_bytes(line(9))
    assert numbers(tmp_path) == [1, 23, 456789012345, 6, 9]
    (tmp_path / "part" / "0002.jsonl").write_bytes(line(9) + line(1) + b"1 2\n" + line(3))
    with pytest.raises(LramError, match=r"0002\.jsonl, line 3 is damaged"):
        numbers(tmp_path)


def test_a_user_s_file_with_the_name_of_an_input_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "inputs.npz").write_text("mine")
    with pytest.raises(LramError, match="not an empty folder"):
        KIND.begin(tmp_path, {"a": 1}, lambda: (tmp_path / "inputs.npz").write_text("ours") and None)
    assert (tmp_path / "inputs.npz").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["inputs.npz"]


@pytest.mark.parametrize("name", ["part", "lock"])
def test_a_link_in_place_of_what_is_written_is_refused(name: str, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / name).symlink_to(outside if name == "part" else outside / "made")
    with pytest.raises(LramError, match=f"{name} is a link"):
        SegmentWriter(folder, ("part",), "go on")
    assert not list(outside.iterdir())


def test_a_file_with_an_odd_number_for_a_name_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for name in ("²", "٣", "x"):
        (tmp_path / "part" / name).touch()
    writer = SegmentWriter(tmp_path, ("part",), "go on")
    assert writer.number == 1
    writer.close()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_log_is_appended_to_no_other_file(kind: str, tmp_path: Path) -> None:
    log, other = tmp_path / "log.txt", tmp_path / "other"
    other.write_text("theirs")
    {"link": lambda: log.symlink_to(other), "pipe": lambda: os.mkfifo(log), "folder": log.mkdir}[kind]()
    with pytest.raises(LramError, match=r"log\.txt is (a link|no regular file)"):
        open_log(log)
    assert other.read_text() == "theirs"


def test_a_folder_whose_name_is_too_long_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="cannot be made: File name too long; give another folder"):
        FolderKind("run.json", "a run", "lram resume").check_vacant(tmp_path / ("x" * 300))
