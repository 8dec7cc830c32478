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


def test_export_and_import_give_the_same_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra lerobot)")
    first, out, second = (tmp_path / name for name in ("first", "out", "second"))
    lram(capsys, "data", "import", DATA / "pusht", "-o", first, *OWN, "--action-bounds", "stats")
    code, output = lram(
        capsys, "data", "export", first, "-o", out, "--to", "lerobot", "--fps", "10", "--limit", "2"
    )
    assert code == 0
    assert output.splitlines()[-1] == f"{out}: 2 episodes, 21 steps, as lerobot"
    assert json.loads((out / "meta/info.json").read_text())["fps"] == 10
    lram(capsys, "data", "import", out, "-o", second)
    one, other = TrajectoryStore(first), TrajectoryStore(second)
    assert other.tasks == one.tasks
    assert other.trajectory_digests(range(2)) == one.trajectory_digests(range(2))
    # What is in the store already is known by where it came from.
    code, output = lram(capsys, "data", "import", out, "-o", first, "--json")
    assert (json.loads(output)["episodes"], json.loads(output)["already_there"]) == (0, 2)


def test_export_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra lerobot)")
    store = tmp_path / "store"
    lram(capsys, "data", "import", DATA / "pusht", "-o", store, *OWN, "--action-bounds", "stats")
    for arguments, why in (
        (("--tasks", "lab/push"), "has no task 'lab/push'; it has lab/pusht"),
        (("--fps", "0"), "--fps 0 is no rate"),
        (("--limit", "0"), "--limit must be 1 or more"),
        (("--quality", "60"), "--quality 60"),
    ):
        with pytest.raises(LramError, match=why):
            lram(capsys, "data", "export", store, "-o", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(LramError, match=r"lies within the store .*; name a folder outside of it"):
        lram(capsys, "data", "export", store, "-o", store / "out")
    assert not (store / "out").exists()
