"""docs/how-to/memory.md: its recipe trains on what its first command collects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lram.harness.cli import app
from lram.harness.storage.run_folder import Run

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "memory.md").read_text(encoding="utf-8")
COMMANDS = [line.removeprefix("    lram ") for line in PAGE.splitlines() if line.startswith("    lram ")]


def lram(command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        app(command.split())
    assert not stop.value.code


@pytest.mark.slow
def test_the_pages_recipe_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    Path("parity.toml").write_text(recipe)
    collect, train, evaluate = COMMANDS[:3]
    lram(collect.replace("-n 500", "-n 3") + " -q -w 1")
    lram(train + " --set optimizer.updates=2 --set optimizer.warmup_updates=1 -q")
    lram(evaluate.replace("-n 30", "-n 1") + " -q -w 1")
    scored = [one for one in Run(tmp_path / "runs" / "dials").records() if one.status == "scored"]
    assert len(scored) == 3 * 4
