"""``lram data import`` and ``lram data export`` with LeRobot data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lram.agents.trajectories import TrajectoryStore
from lram.harness.cli import app
from lram.harness.errors import LramError

DATA = Path(__file__).parents[1] / "data" / "lerobot"
OWN = ("--task", "lab/pusht", "--reward-scale", "1")


def lram(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command line in this process; bad input raises as it does before it becomes a sentence."""
    code = app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return code or 0, capsys.readouterr().out


def test_import_takes_the_choices_of_a_lerobot_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra lerobot)")
    store = tmp_path / "store"
    how = ("--observation", "observation.image", "--action-bounds", "stats", "--json")
    code, output = lram(capsys, "data", "import", DATA / "pusht", "-o", store, *OWN, *how)
    told = json.loads(output)
    assert (code, told["episodes"], told["not_looked_at"]) == (0, 3, {})
    assert told["notes"]["episodes have images of 96 x 96, made 64 x 64 by the mean over areas"] == 3
    (addition,) = TrajectoryStore(store).card["additions"]
    assert addition["format"] == "lerobot"
    assert addition["options"] == {"action_bounds": "stats", "observation": ["observation.image"]}
    code, output = lram(capsys, "data", "import", DATA / "pusht", "-o", store, *OWN, *how)
    assert json.loads(output)["already_there"] == 3


@pytest.mark.parametrize(
    "option", [("--observation", "x"), ("--reward-at-end",), ("--action-bounds", "stats")], ids=lambda o: o[0]
)
def test_options_of_lerobot_are_refused_for_other_sources(option: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    arguments = [
        "data",
        "import",
        str(tmp_path / "source"),
        "-o",
        str(tmp_path / "store"),
        "--format",
        "minari",
    ]
    with pytest.raises(LramError, match=r"is for data of the layout .*lerobot, and this source is minari"):
        app([*arguments, *option], exit_on_error=False, result_action="return_value")
