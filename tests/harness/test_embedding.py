"""``lram embed``: what is read is what actions are read from; the folder and its section."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from lram.agents.api import AgentError, TaskSpec
from lram.agents.backbones.cells import GRUConfig
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.training.batches import Places, assemble
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.harness.cli import app
from lram.harness.embedding import states as reading
from lram.harness.embedding.folder import NUMBERS, read
from lram.harness.embedding.points import StatesWanted, draw
from lram.harness.embedding.states import principal_components, read_states
from lram.harness.errors import LramError
from lram.reports.sections.embedding.analysis import summarise
from lram.reports.sections.embedding.section import section

REACH = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 2, 1.0, 1.0)
PUSH = TaskSpec("metaworld/push", "metaworld", "vector", (5,), "continuous", 2, 1.0, 1.0)
GAME = TaskSpec("atari/game", "atari", "vector", (7,), "discrete", 6, 1.0, 1.0)


def _trajectory(task: TaskSpec, number: int, length: int = 9) -> Trajectory:
    rng = np.random.default_rng([number, len(task.id)])
    seen = rng.uniform(-1, 1, (length + 1, *task.observation_shape)).astype(np.float32)
    if task.action == "discrete":
        actions = np.full(length, 2)
    else:
        actions = np.full((length, task.action_size), 0.5, dtype=np.float32)
    rewards = rng.uniform(0, 1, length).astype(np.float32)
    return Trajectory(task, seen, actions, rewards, rewards, False, True, policy=f"p{number % 2}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "store"
    with StoreWriter(path) as writer:
        for task in (REACH, PUSH, GAME):
            for number in range(4):
                writer.append(_trajectory(task, number))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    config = ModelConfig(16, 1, GRUConfig(), state_width=8)
    save_checkpoint(path, build_model(config, 0), config, trained=True, card={})
    return path


def _lram(*arguments: object) -> object:
    return app([str(one) for one in arguments], exit_on_error=False, result_action="return_value")


# --- which states ---------------------------------------------------------------------------------------


def test_a_state_is_what_its_action_is_read_from(store: Path) -> None:
    """By the head: the logits of the state are those that forward gives at its timestep."""
    stores = [TrajectoryStore(store)]
    model = build_model(ModelConfig(16, 1, GRUConfig(), state_width=8), 0)
    drawn = draw(stores, StatesWanted(trajectories=1, states=4, state_width=8))
    found = torch.from_numpy(read_states(model, stores, drawn, context=5))
    expected = []
    for one in drawn:
        for timestep in one.timesteps:
            first = np.array([max(0, timestep - 4)])
            at = np.array([one.store]), np.array([one.number]), np.zeros(1, np.int64)
            places = Places(one.task.domain, *at, first, np.array([timestep + 1]))
            length = timestep + 1 - int(first[0])
            batch = assemble(stores, [one.task], places, length=length, state_width=8)
            with torch.no_grad():
                expected.append(model(batch.observations, batch.returns_to_go, batch.rewards).logits[0, -1])
    with torch.no_grad():
        torch.testing.assert_close(model.action_logits(found), torch.stack(expected), rtol=0, atol=1e-5)


def test_what_is_drawn_of_a_task_does_not_depend_on_the_others(store: Path) -> None:
    stores = [TrajectoryStore(store)]
    alone = draw(stores, StatesWanted(tasks=("*/push",), trajectories=2, states=3, seed=4))
    beside = draw(stores, StatesWanted(trajectories=2, states=3, seed=4))
    assert alone == [one for one in beside if one.task.id == "metaworld/push"]
    assert [len(one.timesteps) for one in beside] == [3] * 6
    assert alone != draw(stores, StatesWanted(tasks=("*/push",), trajectories=2, states=3, seed=5))
    assert {one.task.id for one in draw(stores, StatesWanted(tasks=("!atari/*",)))} == {REACH.id, PUSH.id}


def test_equal_trajectories_are_drawn_once_and_a_store_is_named_once(store: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "again") as writer:
        for number in (0, 1, 9):
            writer.append(_trajectory(PUSH, number))
    stores, said = [TrajectoryStore(path) for path in (store, tmp_path / "again")], []
    drawn = draw(stores, StatesWanted(tasks=("*/push",)), said.append)
    assert len(drawn) == 5
    assert said == ["lram: 2 trajectories equal to others that were drawn: left out"]
    with pytest.raises(
        LramError, match=r"--data names the same trajectories twice: .*; name each store once"
    ):
        draw([stores[0], *stores], StatesWanted())


def test_principal_components_keep_what_lies_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(30, 2)) * [3.0, 1.0]
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    found, shares = principal_components((plane @ axes + 5).astype(np.float32))
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert shares[0] > shares[1]
    for one, two in ((0, 7), (3, 21)):
        assert np.linalg.norm(found[one] - found[two]) == pytest.approx(
            np.linalg.norm(plane[one] - plane[two]), rel=1e-4
        )


# --- the command, its folder and its section ------------------------------------------------------------


def test_a_folder_is_made_once_and_reported(
    store: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["embed", f"trained={checkpoint}", "--data", store, "--no-umap", "--states", "3"]
    assert _lram(*said, "-o", tmp_path / "a") == 0
    printed = capsys.readouterr().out
    assert "2 domains" in printed
    assert "3 tasks" in printed
    assert "next: lram report" in printed
    assert _lram(*said, "-o", tmp_path / "b") == 0
    assert (tmp_path / "a" / NUMBERS).read_bytes() == (tmp_path / "b" / NUMBERS).read_bytes()
    with pytest.raises(LramError, match="is not empty"):
        _lram(*said, "-o", tmp_path / "a")

    made = section([tmp_path / "a"])
    points = list(csv.DictReader(io.StringIO(made.csv["embedding_points.csv"].decode())))
    assert len(points) == 12 * 3
    assert {row["domain"] for row in points} == {"atari", "metaworld"}
    assert points[0]["umap_1"] == ""
    rows = list(csv.DictReader(io.StringIO(made.csv["embedding_separation.csv"].decode())))
    first = summarise(read(tmp_path / "a")).models[0].separations[0]
    assert float(rows[0]["neighbours_low"]) == pytest.approx(first.neighbours.low)
    assert float(rows[0]["silhouette"]) == pytest.approx(first.silhouette.value)
    assert [drawing.name for drawing in made.drawings] == ["embedding-pca"]
    assert "embedding-no-umap" in {caveat.kind for caveat in made.caveats}
    both = section([tmp_path / "a", tmp_path / "b"])
    assert [row[0].text for row in both.printed[0].rows] == ["trained (1)"] * 2 + ["trained (2)"] * 2
    assert len({drawing.name for drawing in both.drawings}) == 2


def test_umap_is_used_where_it_is_there_and_missed_by_name(
    store: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "umap_version", lambda: "")
    said = ["embed", checkpoint, "--data", store, "--states", "2"]
    with pytest.raises(LramError, match="lram-bench\\[plots\\]"):
        _lram(*said, "--umap", "-o", tmp_path / "a")
    monkeypatch.setattr(reading, "umap_version", lambda: "0.5")
    monkeypatch.setattr(reading, "umap_projection", lambda states, seed: states[:, :2] + seed)
    assert _lram(*said, "--seed", "3", "-o", tmp_path / "b") == 0
    found = read(tmp_path / "b")
    np.testing.assert_array_equal(found.umap[0], found.hidden[0][:, :2] + 3)
    assert [drawing.name for drawing in section([tmp_path / "b"]).drawings] == [
        "embedding-pca",
        "embedding-umap",
    ]


def test_umap_itself_gives_the_same_picture_again() -> None:
    pytest.importorskip("umap")
    states = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    first, again = (reading.umap_projection(states, seed=2) for _ in range(2))
    assert first.shape == (40, 2)
    assert np.array_equal(first, again)


def test_a_damaged_folder_is_one_sentence(store: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert _lram("embed", checkpoint, "--data", store, "--no-umap", "--states", "1", "-o", folder) == 0
    assert len(read(folder).task) == 12
    content = bytearray((folder / NUMBERS).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / NUMBERS).write_bytes(content)
    with pytest.raises(LramError, match="its checksum is not the one"):
        read(folder)
    with pytest.raises(LramError, match="holds no embeddings"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["random"], "no action model whose states can be read"),
        (["transformer-1M", "--context", "600"], "give at most 533"),
        (["mamba-1M", "--states", "0"], "--states is 0"),
        (["mamba-1M", "--tasks", "toy/*"], "hold no trajectory of the tasks"),
        (["mamba-1M", "--tasks", "*/push", "--trajectories", "1"], "two trajectories or more"),
    ],
)
def test_what_cannot_be_embedded_is_one_sentence(
    store: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    with pytest.raises((LramError, AgentError), match=words):
        _lram("embed", *more, "--data", store, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()
