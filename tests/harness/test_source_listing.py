"""What lies in a data set's folder and is not imported is named and counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lram.agents.trajectories import TrajectoryStore
from lram.harness.cli import app
from lram.harness.errors import LramError

OWN = ("--task", "mine/task", "--reward-scale", "1")


def task_folder(folder: Path, episodes: int) -> Path:
    """Write a task's folder as the reference implementation does."""
    folder.mkdir(parents=True)
    for number in range(episodes):
        rng = np.random.default_rng(number)
        with h5py.File(folder / f"{number}.hdf5", "w") as file:
            file["states"] = rng.normal(size=(4, 3)).astype(np.float32)
            file["actions"] = rng.uniform(-1, 1, size=(4, 2)).astype(np.float32)
            file["rewards"] = np.ones(4, np.float32)
            file["dones"] = True
    (folder / "episode_lengths.json").write_text(json.dumps({str(n): 4 for n in range(episodes)}))
    return folder


def lram(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return code or 0, capsys.readouterr().out


def closing(output: str) -> str:
    return output.strip().splitlines()[-1]


def test_the_last_line_tells_what_was_imported_left_out_and_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    task_folder(source / "deep/er/a", 3)
    elsewhere = task_folder(tmp_path / "elsewhere", 2)
    (source / "linked").symlink_to(elsewhere)
    (source / "deep/er/a/._0.hdf5").write_bytes(b"macOS")
    (source / ".hidden").mkdir()
    (source / ".hidden/0.hdf5").write_bytes(b"")
    for name in ("README.txt", "1.HDF5", "2.hdf5.part", "3.h5", "4.tar"):
        (source / name).write_bytes(b"")
    code, output = lram(capsys, "data", "import", source, "-o", store, *OWN, "--limit", 1)
    assert code == 0
    assert closing(output) == (
        f"store: {store}: 1 episode imported, 2 beyond --limit, not looked at: 1 links to folders, which are "
        "not followed (linked); 2 hidden files and folders (.hidden, deep/er/a/._0.hdf5); 5 files with other "
        "endings (1.HDF5, 2.hdf5.part, 3.h5 and 2 more)"
    )
    _, output = lram(capsys, "data", "import", source, "-o", store, *OWN, "--json")
    facts = json.loads(output)
    assert (facts["episodes"], facts["already_there"]) == (2, 1)
    assert facts["not_looked_at"]["links to folders, which are not followed"] == ["linked"]
    assert len(facts["not_looked_at"]["files with other endings"]) == 5


def test_a_clean_source_has_nothing_more_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = task_folder(tmp_path / "source", 2)
    _, output = lram(capsys, "data", "import", source, "-o", tmp_path / "store", *OWN)
    assert closing(output) == f"store: {tmp_path / 'store'}: 2 episodes imported"
    _, output = lram(capsys, "data", "import", tmp_path / "store", "-o", tmp_path / "copy")
    assert closing(output) == f"store: {tmp_path / 'copy'}: 2 episodes imported"


def test_a_source_below_a_hidden_folder_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = task_folder(tmp_path / ".minari/datasets", 2)
    assert lram(capsys, "data", "import", source, "-o", tmp_path / "store", *OWN)[0] == 0
    assert len(TrajectoryStore(tmp_path / "store")) == 2
    moved = tmp_path / "store"
    code, _ = lram(capsys, "data", "import", moved, "-o", tmp_path / ".copies/one")
    assert code == 0


def test_tasks_that_were_not_asked_for_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    task_folder(source, 2)
    lram(capsys, "data", "import", source, "-o", store, *OWN)
    with pytest.raises(
        LramError, match=r"gave no episode \(0 episodes imported, 2 of tasks that were not asked"
    ):
        lram(capsys, "data", "import", store, "-o", tmp_path / "copy", "--tasks", "toy/reach")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Lets nobody list a folder: tests may run as root, whom no permission stops."""
    scandir = os.scandir

    def close(folder: Path) -> None:
        def refusing(path: object = ".") -> object:
            if Path(os.fspath(path)) == folder:  # type: ignore[call-overload]
                raise PermissionError(13, "Permission denied", str(folder))
            return scandir(path)  # type: ignore[call-overload]

        monkeypatch.setattr(os, "scandir", refusing)

    return close


def test_a_folder_that_cannot_be_listed_stops_an_import_or_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], closed: Callable[[Path], None]
) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    task_folder(source / "a", 2)
    closed(task_folder(source / "b", 2))
    with pytest.raises(
        LramError, match=r"has 1 folders that cannot be listed \(b\); let this user read them"
    ):
        lram(capsys, "data", "import", source, "-o", store, *OWN)
    assert not store.exists()
    code, output = lram(capsys, "data", "import", source, "-o", store, *OWN, "--skip-bad")
    assert code == 1
    assert "2 episodes imported, 1 part that cannot be read left out" in closing(output)


@pytest.mark.parametrize(
    ("option", "value"), [("--reward-scale", "inf"), ("--reward-scale", "nan"), ("--target-return", "nan")]
)
def test_a_task_of_ones_own_has_finite_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    source = task_folder(tmp_path / "source", 1)
    own = ("--task", "mine/task", *(f"--{n}={v}" for n, v in {"reward-scale": 1, option[2:]: value}.items()))
    with pytest.raises(LramError, match=f"{option} is {value}; give a finite number"):
        lram(capsys, "data", "import", source, "-o", tmp_path / "store", *own)
