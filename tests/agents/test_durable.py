from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import time
from pathlib import Path

import pytest
from support.faults import KINDS, Faults

from lram.agents.durable import (
    InUseError,
    Lock,
    NoLocksError,
    is_scratch_of,
    read_regular,
    scratch_of,
    write_durably,
)


def test_what_was_written_is_there_whole_and_nothing_else(tmp_path):
    write_durably(tmp_path / "a.json", b"one")
    write_durably(tmp_path / "a.json", b"two")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert read_regular(tmp_path / "a.json") == b"two"


def test_a_file_is_replaced_whole_or_not_at_all_whichever_operation_fails(tmp_path):
    """Killed or refused at each of them in a fork; nothing is left beside it but by who was killed."""
    folder, notes = tmp_path / "kept", tmp_path / "operations"
    folder.mkdir()
    file, old, new = folder / "a.json", b"old" * 100, b"new" * 200

    def replaced(kind: str, at: int) -> tuple[int, int]:
        for left in folder.iterdir():
            left.unlink()
        file.write_bytes(old)
        notes.write_text("")
        child = os.fork()
        if child == 0:
            code = 70
            try:
                Faults(str(folder), kind, at, notes).install()
                write_durably(file, new)
                code = 0
            except OSError:
                code = 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, len(notes.read_text().splitlines())

    code, operations = replaced("kill", -1)
    assert (code, file.read_bytes()) == (0, new)
    assert [word.split()[1] for word in notes.read_text().splitlines()] == [
        "os.remove",  # of a killed process that had this number
        "open",
        "write",
        "fsync",
        "os.rename",
        "fsync",  # of the folder
    ]
    for kind in KINDS:
        for at in range(1, operations):
            code, _ = replaced(kind, at)
            assert code == (-signal.SIGKILL if kind == "kill" else 1)
            assert file.read_bytes() == (old if at < operations - 1 else new)
            others = [one.name for one in folder.iterdir() if one != file]
            assert all(is_scratch_of(name, "a.json") for name in others) if kind == "kill" else not others


def test_a_scratch_file_is_known_by_its_name(tmp_path):
    assert is_scratch_of(scratch_of(tmp_path / "run.json").name, "run.json")
    assert not is_scratch_of(".run.json.bak", "run.json")


def test_a_named_pipe_a_folder_and_a_file_beyond_the_bound_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"12345")
    for name, words in (("pipe", "not a regular file"), (".", "not a regular file"), ("long", "more than 4")):
        with pytest.raises(OSError, match=words):
            read_regular(tmp_path / name, 4)
    assert read_regular(tmp_path / "long", 5) == b"12345"


def test_a_lock_is_held_once_and_freed_once(tmp_path):
    with Lock(tmp_path / "lock") as held:
        with pytest.raises(InUseError, match="in use"):
            Lock(tmp_path / "lock")
        held.close()
        Lock(tmp_path / "lock").close()


def test_a_fork_does_not_hold_the_lock_of_a_process_that_was_killed(tmp_path):
    told, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        Lock(tmp_path / "lock")
        child = os.fork()
        if child == 0:
            os.write(tell, os.getpid().to_bytes(4, "little"))
            time.sleep(60)
        time.sleep(60)
        os._exit(0)
    child = int.from_bytes(os.read(told, 4), "little")
    try:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        Lock(tmp_path / "lock").close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(told)
        os.close(tell)


def test_a_file_with_the_name_of_a_backup_is_no_scratch_file_and_stays(tmp_path):
    for name in (".run.json.20240101", ".run.json.1", f".run.json.{os.getpid()}", ".run.json..lram-new"):
        assert not is_scratch_of(name, "run.json")
        (tmp_path / name).write_text("mine")
    write_durably(tmp_path / "run.json", b"one")
    assert all(file.read_text() == "mine" for file in tmp_path.glob(".run.json*"))


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    scratch_of(tmp_path / "a.json").symlink_to(tmp_path / "theirs")
    write_durably(tmp_path / "a.json", b"one")
    assert (tmp_path / "theirs").read_text() == "theirs"
    (tmp_path / "lock").symlink_to(tmp_path / "nothing-there")
    with pytest.raises(OSError, match="lock in it is a link"):
        Lock(tmp_path / "lock")
    assert not (tmp_path / "nothing-there").exists()


def test_of_a_file_of_holes_that_is_too_long_nothing_is_read(tmp_path, monkeypatch):
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1 << 40)
    reads = []

    class Watched(io.FileIO):
        def read(self, size=-1):
            reads.append(size)
            return super().read(size)

    monkeypatch.setattr("lram.agents.durable.open_regular", Watched)
    with pytest.raises(OSError, match="more than 1000 bytes"):
        read_regular(tmp_path / "holes", 1000)
    assert not reads
    (tmp_path / "short").write_bytes(b"1")
    assert read_regular(tmp_path / "short", 1000) == b"1"
    assert reads


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(NoLocksError, match="has no locks") as caught:
        Lock(tmp_path / "lock")
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path / "lock")
