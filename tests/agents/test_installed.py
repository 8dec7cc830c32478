"""What is installed is looked up once, and again as soon as something came or went."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from lram.agents.installed import entry_points, version

GROUP = "lram.tests.installed"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def install(site: Path, name: str, number: str = "1.0") -> Path:
    folder = site / f"{name}-{number}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {name}:make\n")
    return folder


def names() -> list[str]:
    return [point.name for point in entry_points(GROUP)]


def test_what_comes_and_goes_while_a_process_runs_is_noticed(site: Path) -> None:
    assert names() == []
    with pytest.raises(PackageNotFoundError):
        version("guest")
    first = install(site, "guest")
    assert names() == ["guest"]
    assert version("guest") == "1.0"
    shutil.rmtree(first)
    install(site, "guest", "2.0")
    install(site, "other")
    assert sorted(names()) == ["guest", "other"]
    assert version("guest") == "2.0"


def test_another_path_is_another_answer(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "guest")
    assert names() == ["guest"]
    monkeypatch.setattr("sys.path", ["", str(tmp_path / "nothing")])
    monkeypatch.chdir(tmp_path)
    assert names() == []
    monkeypatch.chdir(site)  # which the empty entry stands for
    assert names() == ["guest"]


def test_nothing_is_looked_through_twice(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            asked.append((given, named))
            return function(*given, **named)

        return call

    install(site, "guest")
    monkeypatch.setattr(metadata, "entry_points", counted(metadata.entry_points))
    monkeypatch.setattr(metadata, "version", counted(metadata.version))
    for _ in range(3):
        assert names() == ["guest"]
        assert version("guest") == "1.0"
    assert len(asked) == 2


def test_a_working_directory_that_was_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.syspath_prepend("")
    gone.rmdir()
    assert version("numpy")
    monkeypatch.chdir(tmp_path)
