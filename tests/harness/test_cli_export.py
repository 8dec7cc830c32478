"""``lram export``: from a name to a folder, with the commands of docs/how-to/exporting.md."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from lram.agents.backbones.cells import GRUConfig
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.harness.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")


def _lram(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for name in ("MPLBACKEND", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "argv", ["lram", *map(str, arguments)])
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ended.value.code


def test_a_checkpoint_is_exported_and_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(16, 1, GRUConfig())
    save_checkpoint(tmp_path / "tiny", build_model(config, 0), config, trained=False, card={})
    out = tmp_path / "out"
    asked = ("export", tmp_path / "tiny", "--to", "torch-export", "--task", "metaworld/reach-v3", "-o", out)
    assert _lram(monkeypatch, *asked) == 0
    said = capsys.readouterr().out
    assert "200 decisions of 5 made-up episodes, every action equal" in said
    assert re.search(r"a decision, one lane and thread, in ms: .* as exported, .* here", said)
    assert (out / "policy.pt2").is_file()


@pytest.mark.parametrize(
    ("name", "task", "sentence"),
    [
        ("random", "metaworld/reach-v3", "random is no action model"),
        ("small-mamba", "metaworld", "an export is for one task"),
    ],
)
def test_what_is_no_model_or_no_task_costs_one_sentence(
    name: str,
    task: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("export", name, "--to", "torch-export", "--task", task, "-o", tmp_path / "out")
    assert _lram(monkeypatch, *asked) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_page_names_the_options_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/exporting.md").read_text(encoding="utf-8")
    assert _lram(monkeypatch, "export", "--help") == 0
    shown = capsys.readouterr().out
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)):
        assert option in shown, option
