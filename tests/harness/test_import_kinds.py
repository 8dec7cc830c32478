"""What acts in imported data of one's own: told, or asked for where the numbers may mean two things."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError
from lram.agents.trajectories import TrajectoryStore
from lram.harness.cli import app
from lram.harness.errors import LramError

STEPS = 12
INDEX = np.arange(STEPS) % 3
ACTIONS: dict[str, Any] = {
    "whole floats": INDEX.astype(np.float32),
    "a column": (INDEX % 2).astype(np.float64)[:, None],
    "one-hot floats": np.eye(3, dtype=np.float32)[INDEX],
    "one-hot integers": np.eye(3, dtype=np.int64)[INDEX],
    "one-hot, always the same": np.eye(3, dtype=np.float32)[np.full(STEPS, 2)],
}


def write(folder: Path, actions: Any) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.savez(
        folder / "0.npz",
        states=rng.standard_normal((STEPS, 6)).astype(np.float32),
        actions=actions,
        rewards=rng.random(STEPS),
        dones=np.arange(STEPS) == STEPS - 1,
    )
    (folder / "episode_lengths.json").write_text(json.dumps({"0": STEPS}))
    return folder


def imported(source: Path, *options: str) -> TrajectoryStore:
    store = source.parent / "store"
    words = [
        "data",
        "import",
        str(source),
        "-o",
        str(store),
        "--task",
        "lab/x",
        "--reward-scale",
        "1",
        *options,
    ]
    with pytest.raises(SystemExit) as stopped:
        app(words, exit_on_error=False, print_error=False)
    assert stopped.value.code == 0
    return TrajectoryStore(store)


@pytest.mark.parametrize("kind", ACTIONS)
def test_what_may_be_an_index_is_asked_for(kind: str, tmp_path: Path) -> None:
    source = write(tmp_path / "raw", ACTIONS[kind])
    words = r"rows of zeros with a single 1" if "one-hot" in kind else r"whole numbers from 0 to [12]"
    sentence = (
        rf"lab/x are {words}, so they may be an index or numbers; add --discrete-actions NUMBER or --cont"
    )
    with pytest.raises((AgentError, LramError), match=sentence):
        imported(source)
    store = imported(source, "--discrete-actions", "3")
    assert (store.tasks["lab/x"].action, store.tasks["lab/x"].action_size) == ("discrete", 3)
    wanted = {"a column": INDEX % 2, "one-hot, always the same": np.full(STEPS, 2)}.get(kind, INDEX)
    assert store.trajectory(0).actions.tolist() == wanted.tolist()


def test_numbers_are_numbers_where_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "raw", ACTIONS["one-hot integers"])
    assert imported(source, "--continuous-actions").tasks["lab/x"].action == "continuous"
    assert "lab/x: a vector of 6 observed, 3 numbers a decision" in capsys.readouterr().out


def test_what_is_plain_is_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    for place, actions in enumerate(
        (rng.uniform(-1, 1, STEPS), np.zeros(STEPS), rng.integers(-1, 2, STEPS) * 1.0)
    ):
        (tmp_path / str(place)).mkdir()
        source = write(tmp_path / str(place) / "raw", actions)
        assert imported(source).tasks["lab/x"].action == "continuous"
        assert "lab/x: a vector of 6 observed, 1 number a decision" in capsys.readouterr().out


def test_both_answers_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "raw", ACTIONS["a column"])
    with pytest.raises(LramError, match="give --discrete-actions or --continuous-actions"):
        imported(source, "--discrete-actions", "3", "--continuous-actions")
