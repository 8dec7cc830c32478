"""Paths that a caller gives stay the same place whatever foreign code does to the working directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lram.agents.places import placed


def test_a_place_is_from_the_root_and_keeps_its_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far")
    monkeypatch.chdir(tmp_path)
    place = placed("link/../run")
    assert place.is_absolute()
    assert os.fspath(place) == f"{tmp_path}/link/../run"
    assert placed(tmp_path / "run") == tmp_path / "run"


def test_where_the_working_directory_is_gone_the_systems_refusal_is_left_to_the_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert placed("run") == Path("run")
