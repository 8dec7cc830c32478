"""A report is there whole or not at all, and what killed ones left goes with the next."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lram.agents.durable import Lock
from lram.harness.errors import LramError
from lram.reports.writing import place as module
from lram.reports.writing.export import _check_place
from lram.reports.writing.place import recover, replace_report

CONTENTS = {"index.html": b"new", "tables/a.csv": b"1"}


class Deadly(Mapping[str, bytes]):
    """Contents of which the second file kills who writes it."""

    def __getitem__(self, name: str) -> bytes:
        if name != "index.html":
            os.kill(os.getpid(), signal.SIGKILL)
        return b"half"

    def __iter__(self) -> Iterator[str]:
        return iter(CONTENTS)

    def __len__(self) -> int:
        return len(CONTENTS)


def killed(place: Path, contents: Mapping[str, bytes]) -> None:
    """Write a report in a process that is killed on the way."""
    child = os.fork()
    if child == 0:
        try:
            replace_report(place, contents)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_a_killed_report_left_goes_with_the_next_one(tmp_path):
    place = tmp_path / "report"
    replace_report(place, {"index.html": b"old"})
    killed(place, Deadly())
    assert len(names(tmp_path)) == 2
    assert (place / "index.html").read_bytes() == b"old"
    recover(place)
    replace_report(place, CONTENTS)
    assert names(tmp_path) == ["report"]
    assert (place / "tables/a.csv").read_bytes() == b"1"
    assert (place / "index.html").read_bytes() == b"new"


def test_a_report_that_a_killed_process_took_away_comes_back(tmp_path, monkeypatch):
    place = tmp_path / "report"
    replace_report(place, {"index.html": b"old"})
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "new":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        killed(place, CONTENTS)
    assert not place.exists()
    recover(place)
    assert names(tmp_path) == ["report"]
    assert (place / "index.html").read_bytes() == b"old"


def test_a_report_at_work_and_what_is_not_ours_are_not_touched(tmp_path):
    place = tmp_path / "report"
    strange = {
        ".report.1.lram-report": {"new/x": b"a user's", "lock": b"another mark"},
        ".report.2.lram-report": {"new/x": b"x", "lock": module._MARK, "mine.txt": b"a user's"},
        ".report.3.lram-report": {"new/x": b"x"},
        ".reports.4.lram-report": {"new/x": b"x", "lock": module._MARK},
        ".report.5.new": {"x": b"x"},
        ".report.x.lram-report": {"lock": module._MARK},
    }
    for folder, files in strange.items():
        for name, content in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(content)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/lock").write_bytes(module._MARK)
    (tmp_path / ".report.6.lram-report").symlink_to("elsewhere")
    at_work = tmp_path / ".report.7.lram-report"
    (at_work / "new").mkdir(parents=True)
    (at_work / "lock").write_bytes(module._MARK)
    before = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with Lock(at_work / "lock"):
        recover(place)
        assert {
            file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
        } == before
    recover(place)
    assert not at_work.exists()
    assert len(names(tmp_path)) == len(strange) + 2


def test_a_disk_that_refuses_leaves_the_earlier_report_and_no_scratch(tmp_path, monkeypatch):
    place = tmp_path / "report"
    replace_report(place, {"index.html": b"old"})
    monkeypatch.setattr(Path, "write_bytes", _full(Path.write_bytes))
    with pytest.raises(OSError, match="no space"):
        replace_report(place, CONTENTS)
    assert names(tmp_path) == ["report"]
    assert (place / "index.html").read_bytes() == b"old"


def _full(real):
    def write(self: Path, content: bytes) -> int:
        if self.name == "a.csv":
            raise OSError(28, "no space")
        return real(self, content)

    return write


def test_a_long_name_has_room_for_its_scratch(tmp_path):
    place = tmp_path / ("n" * 255)
    replace_report(place, CONTENTS)
    assert names(tmp_path) == ["n" * 255]


def test_what_was_killed_before_its_mark_goes_too(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for pid, content in ((child, None), (os.getpid(), b""), (os.getppid(), b"")):
        folder = tmp_path / f".report.{pid}.lram-report"
        folder.mkdir()
        if content is not None:
            (folder / "lock").write_bytes(content)
    recover(tmp_path / "report")
    assert names(tmp_path) == [f".report.{os.getppid()}.lram-report"]  # a process that lives may be at work


def test_a_file_that_is_put_into_the_report_meanwhile_is_not_removed(tmp_path):
    place = tmp_path / "report"
    replace_report(place, {"index.html": b"old", "summary.json": b"{}"})
    (place / "notes.txt").write_bytes(b"mine")
    with pytest.raises(LramError, match=r"/report is not empty and not a report \(it holds notes.txt\)"):
        replace_report(place, CONTENTS, lambda former: _check_place(former, place))
    assert names(tmp_path) == ["report"]
    assert names(place) == ["index.html", "notes.txt", "summary.json"]
