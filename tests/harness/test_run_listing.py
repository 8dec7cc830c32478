"""What lies among a run's records and is not read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from lram.harness.storage.listing import not_read, show_not_read


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for part, file in (("records", "0001.jsonl"), ("provenance", "0001.json")):
        (tmp_path / "run" / part).mkdir(parents=True)
        (tmp_path / "run" / part / file).write_text("{}")
    return tmp_path / "run"


def test_a_run_as_it_was_written_has_nothing_to_say(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_not_read([run, run.parent / "absent"])
    assert capsys.readouterr() == ("", "")


def test_copies_links_folders_and_hidden_files_are_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("0002.jsonl.bak", "._0001.jsonl", "0003.JSONL"):
        (run / "records" / name).write_text("{}")
    (run / "records/old").mkdir()
    (run / "provenance/0002.txt").write_text("")
    assert not_read(run) == [
        "records/._0001.jsonl",
        "records/0002.jsonl.bak",
        "records/0003.JSONL",
        "records/old",
        "provenance/0002.txt",
    ]
    show_not_read([run])
    said = capsys.readouterr().err
    assert said.startswith(
        f"lram: {run} holds what is not read (records/._0001.jsonl, records/0002.jsonl.bak, "
    )
    assert "and 2 more); of records only files .jsonl count" in said
    assert said.count("\n") == 1
