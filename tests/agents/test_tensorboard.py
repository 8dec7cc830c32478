"""TensorBoard's own thread of writing: what it meets is told in a sentence, never as a traceback."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lram.agents.training.sinks import Trackers


def test_a_disk_that_refuses_curves_is_a_sentence_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    before = threading.excepthook
    trackers = Trackers(["tensorboard"], tmp_path, {}, 0)
    trackers.write({"kind": "train", "update": 1, "loss": 1.0})
    file = next((tmp_path / "tensorboard").glob("events*"))
    worker = trackers._open["tensorboard"]._writer.file_writer.event_writer._async_writer._worker  # type: ignore[attr-defined]

    def refuse(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    worker._record_writer.write = refuse
    trackers.write({"kind": "train", "update": 2, "loss": 1.0})
    worker.join(10)
    trackers.write({"kind": "train", "update": 3, "loss": 1.0})
    trackers.close()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("the tracker tensorboard failed") == 1
    assert "No space left" in said
    assert file.stat().st_size
    assert threading.excepthook == before


def test_other_threads_are_told_of_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    trackers = Trackers(["tensorboard"], tmp_path, {}, 0)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    trackers.close()
    assert len(told) == 1
