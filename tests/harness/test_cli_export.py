"""``lram export``: from a name to a folder, with the commands of docs/how-to/exporting.md."""

from __future__ import annotations

import json
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
from lram.harness.evaluation import Machine, evaluate

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


@pytest.mark.slow
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


def _trained(folder: Path, *tasks: str) -> Path:
    config = ModelConfig(16, 1, GRUConfig())
    card = {"data": {"tasks": dict.fromkeys(tasks, 1)}} if tasks else {}
    save_checkpoint(folder, build_model(config, 0), config, trained=True, card=card)
    return folder


def test_the_task_is_what_the_card_names_where_one_graph_fits_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = _trained(tmp_path / "alike", "metaworld/reach-v3", "metaworld/door-open-v3")
    asked = ("export", named, "--to", "torch-export", "--no-time", "-o", tmp_path / "out")
    assert _lram(monkeypatch, *asked) == 0
    assert "for metaworld/door-open-v3, which its card names as trained on" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "model.json").read_text(encoding="utf-8"))
    assert told["task"]["id"] == "metaworld/door-open-v3"


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ((), "does not tell what it was trained on.*--task metaworld/reach-v3"),
        (("toy/reach", "toy/steps"), r"2 tasks that differ .*\(toy/reach, toy/steps\).*--task toy/reach"),
    ],
)
def test_a_model_of_no_known_or_of_several_kinds_of_tasks_asks_for_one(
    tasks: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = _trained(tmp_path / "it", *tasks)
    assert _lram(monkeypatch, "export", named, "--to", "torch-export", "-o", tmp_path / "out") == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_exported_policy_plays_as_its_model_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the agent of the page, episodes of a simulator from the same starts are equal to the last bit."""
    page = (Path(__file__).parents[2] / "docs/how-to/exporting.md").read_text(encoding="utf-8")
    [agent] = re.findall(r"^```python\n(# exported_agent.py\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "exported_agent.py").write_text(agent)
    config = ModelConfig(16, 1, GRUConfig())
    save_checkpoint(tmp_path / "tiny", build_model(config, 0), config, trained=False, card={})
    asked = ("export", "tiny", "--to", "torch-export", "--task", "toy/reach", "-o", "exported", "--no-time")
    assert _lram(monkeypatch, *asked) == 0
    both = {"ours": "tiny", "exported": "exported_agent:Exported('exported')"}
    run = evaluate(both, "toy/reach", "run", episodes=3, machine=Machine(lanes=4, workers=1))
    played = {(record.agent, record.episode): record.trajectory for record in run.records()}
    assert len(played) == 6
    for episode in range(3):
        assert played["ours", episode] == played["exported", episode]


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
