"""``lram data info`` and ``verify`` count trajectories that are there more than once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import TaskSpec
from lram.agents.trajectories import StoreWriter, Trajectory
from lram.agents.trajectories.index import decode_line, encode_line
from lram.agents.trajectories.layout import INDEX_FILE
from lram.harness.cli.data.info import info
from lram.harness.cli.data.verify import verify

GAME = TaskSpec("atari/freeway", "atari", "image", (3, 64, 64), "discrete", 18, 30.0, 1.0)


def game(start: int, seed: int) -> Trajectory:
    """What a deterministic player does in a game that has a few starts and forgets the rest of its seed."""
    rng = np.random.default_rng(start)
    rewards = rng.integers(0, 2, 6).astype(np.float64)
    return Trajectory(
        task=GAME,
        observations=rng.integers(0, 256, (7, 3, 64, 64), dtype=np.uint8),
        actions=rng.integers(0, 18, 6),
        rewards=rewards,
        signals=rewards.astype(np.float32),
        terminated=True,
        truncated=False,
        seed=seed,
        policy="scripted",
    )


def store(folder: Path, starts: Sequence[int], first_seed: int = 0) -> Path:
    with StoreWriter(folder) as writer:
        for number, start in enumerate(starts):
            writer.append(game(start, first_seed + number))
    return folder


def test_copies_within_a_store_and_in_another_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = store(tmp_path / "one", [0, 1, 0, 0, 2])
    two = store(tmp_path / "two", [2, 2, 7], first_seed=50)
    info([one, two], quick=True, json=True)
    first, second = json.loads(capsys.readouterr().out)
    assert first["repeats"] == [{"task": "atari/freeway", "episodes": 5, "different": 3}]
    assert second["repeats"] == [{"task": "atari/freeway", "episodes": 3, "different": 2}]
    assert first["shared"] == {str(two): 1}
    assert second["shared"] == {str(one): 2}
    info([one, two], quick=True)
    shown = capsys.readouterr().out
    assert "2 of 5 episodes repeat the trajectory of another, step by step" in shown
    assert f"2 of 3 episodes are also in {one}" in shown
    assert verify([one]) == 0
    assert "repeated: atari/freeway: 5 episodes are 3 different trajectories" in capsys.readouterr().out


def test_verify_takes_several_stores_and_counts_what_they_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = store(tmp_path / "one", [0, 1, 0, 0, 2])
    two = store(tmp_path / "two", [2, 2, 7], first_seed=50)
    three = store(tmp_path / "three", [8])
    assert verify([one, two, three]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"1 of 5 episodes are also in {two}" in lines
    assert f"2 of 3 episodes are also in {one}" in lines
    assert not [line for line in lines if line.endswith(f"also in {three}")]
    assert sum(line.endswith("all good") for line in lines) == 3
    verify([one, two], json=True)
    assert [found["shared"] for found in json.loads(capsys.readouterr().out)] == [
        {str(two): 1},
        {str(one): 2},
    ]
    verify([one], json=True)
    assert json.loads(capsys.readouterr().out)["shared"] == {}
    (part,) = two.glob("parts/**/*.hdf5")
    part.write_bytes(part.read_bytes()[:-1])
    assert verify([one, two, three]) == 1


def test_an_index_without_digests_is_read_for_them_unless_it_is_to_be_quick(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = store(tmp_path / "one", [0, 1, 0])
    file = one / INDEX_FILE
    lines = [decode_line(line)[0] for line in file.read_bytes().splitlines()]
    file.write_bytes(b"".join(encode_line(replace(line, digests=[])) for line in lines))
    info([one], quick=True)
    assert "repeated trajectories were not looked for" in capsys.readouterr().out
    info([one])
    assert "1 of 3 episodes repeat the trajectory of another" in capsys.readouterr().out
