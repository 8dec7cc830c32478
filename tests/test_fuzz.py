"""Damaged files of every format: read, or refused in one sentence that names them; nothing else.

``tests/benchmarks/fuzz.py`` does the same ten thousand times.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.fuzz import runner
from support.fuzz.formats import FORMATS, Format
from support.fuzz.runner import FAULTS, make_samples, run

ROUNDS = 4
SEED = 20


@pytest.mark.slow
@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_what_is_damaged_is_read_or_refused_in_one_sentence(one: Format, tmp_path: Path) -> None:
    sample = make_samples(tmp_path, (one,))[one.name]
    trials = list(run(one, sample, tmp_path / "read", SEED, range(ROUNDS)))
    assert len(trials) == ROUNDS
    faults = [f"{trial.outcome}: {trial.damage}\n{trial.told}" for trial in trials if trial.outcome in FAULTS]
    assert not faults, "\n\n".join(faults)


def test_a_reader_that_raises_crashes_or_hangs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LIMIT_S", 0.3)
    for number, (read, outcome) in enumerate(
        {
            lambda *_: 1 // 0: "traceback",
            lambda *_: os._exit(3): "crash",
            lambda *_: time.sleep(60): "hang",
            lambda _, reading: reading.sentences.append("no file is named"): "no sentence",
            lambda _, reading: reading.lost.append("an episode"): "others lost",
        }.items()
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_text("content")
        bad = Format("bad", lambda _: None, read)
        (trial,) = run(bad, folder, tmp_path / "read", 0, range(1))
        assert trial.outcome == outcome
