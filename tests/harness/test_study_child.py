"""What the process of a study's cell writes down of its stages."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lram.harness.studies import child
from lram.harness.studies.folder import CellFolder
from lram.harness.studies.records import CellEntry


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that work moves on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(child.time, "monotonic", lambda: clock.now)
    return clock


def test_a_stages_seconds_are_those_of_all_its_parts_and_are_there_if_its_end_was_interrupted(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    cell = CellFolder(tmp_path, CellEntry((), 0, "a cell", "key", "cell", {}))
    cell.path.mkdir(parents=True)

    def work(seconds: float, stop: bool) -> None:
        clock.now += seconds
        if stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child._timed(cell, "train", lambda: work(2.0, True))
    child._timed(cell, "train", lambda: work(3.0, False))
    with pytest.raises(KeyboardInterrupt):
        child._timed(cell, "eval", lambda: work(1.5, True))
    assert json.loads((cell.path / "seconds.json").read_text()) == {"train": 5.0, "eval": 1.5}
