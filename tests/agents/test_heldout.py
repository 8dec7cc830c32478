"""What is validated on is not trained on: splits by trajectory, in however many copies and stores it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.training.heldout import all_trajectories, recorded_facts, split_facts, trained_trajectories
from lram.agents.training.recipe import recipe_digest, recipe_to_dict
from lram.agents.training.recipe_text import read_recipe, recipe_from_dict, render_recipe
from lram.agents.training.run import start
from lram.agents.training.selection import Selection, digests_of, select
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.agents.trajectories import layout as store_layout
from lram.agents.trajectories.digests import Packed, pack, trajectory_digest
from lram.agents.trajectories.index import decode_line, encode_line
from lram.agents.trajectories.rebuilding import rebuild
from lram.agents.trajectories.verification import verified

REACH = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 4, 100.0, 200.0)
PUSH = replace(REACH, id="metaworld/push")
HALF = Selection(validation_share=0.5)
BY_EPISODE = replace(HALF, unit="episode")

MakeStore = Callable[..., TrajectoryStore]


def played(task: TaskSpec, start: int, seed: int) -> Trajectory:
    """What a deterministic agent does from ``start``; the simulator's ``seed`` leaves no trace in it."""
    rng = np.random.default_rng(start)
    length = 12
    rewards = rng.uniform(0, 1, length)
    return Trajectory(
        task=task,
        observations=rng.normal(size=(length + 1, 5)).astype(np.float32),
        actions=rng.uniform(-1, 1, (length, 4)).astype(np.float32),
        rewards=rewards,
        signals=rewards.astype(np.float32),
        terminated=False,
        truncated=True,
        seed=seed,
        policy="walker",
        origin=f"runs/0001|walker|{task.id}|{seed}",
    )


@pytest.fixture
def make(tmp_path: Path) -> MakeStore:
    def make(name: str, starts: Sequence[int], task: TaskSpec = REACH, seed: int = 0) -> TrajectoryStore:
        with StoreWriter(tmp_path / name) as writer:
            for number, start in enumerate(starts):
                writer.append(played(task, start, seed + number))
        return TrajectoryStore(tmp_path / name)

    return make


def sides(stores: Sequence[TrajectoryStore], selection: Selection) -> tuple[set[str], set[str]]:
    """Digests of what is trained and validated on."""
    found = []
    for split in ("train", "valid"):
        chosen = select(stores, selection, split, state_width=8).domains.values()  # type: ignore[arg-type]
        found.append({d for one in chosen for d in digests_of(stores, one.stores, one.numbers)})
    return found[0], found[1]


def without_digests(store: TrajectoryStore) -> TrajectoryStore:
    """The store as an earlier version wrote it."""
    file = store.path / store_layout.INDEX_FILE
    lines = [decode_line(line)[0] for line in file.read_bytes().splitlines()]
    file.write_bytes(b"".join(encode_line(replace(line, digests=[])) for line in lines))
    return TrajectoryStore(store.path)


def test_no_copy_of_a_validation_trajectory_is_trained_on_in_any_store(make: MakeStore) -> None:
    stores = [make("one", [0, 1, 2, 0, 1, 2, 3]), make("two", [3, 2, 1, 0, 4], seed=90)]
    trained, held_out = sides(stores, HALF)
    assert not trained & held_out
    assert len(trained | held_out) == 5
    assert len(held_out) == 2, "half of the five different ones, rounded"
    facts = split_facts(stores, HALF, state_width=8)
    assert facts is not None
    assert (facts.different, facts.validation, facts.validation_in_training) == (3, 2, 0)


def test_a_split_by_episode_puts_copies_on_both_sides_and_that_is_counted(make: MakeStore) -> None:
    store = make("one", [0, 1] * 10)
    trained, held_out = sides([store], BY_EPISODE)
    assert trained & held_out
    facts = split_facts([store], BY_EPISODE, state_width=8)
    assert facts is not None
    assert facts.validation_in_training == facts.validation == 10
    assert facts.words().startswith("10 of 10 validation trajectories are also training trajectories")


@pytest.mark.parametrize("share", [0.025, 0.3, 0.8])
def test_without_copies_both_splits_are_the_same(make: MakeStore, share: float) -> None:
    store = make("one", range(11))
    by_trajectory, by_episode = (
        select([store], Selection(validation_share=share, unit=unit), "valid", state_width=8)
        for unit in ("trajectory", "episode")
    )
    numbers = [list(found.domains["metaworld"].numbers) for found in (by_trajectory, by_episode)]
    assert numbers[0] == numbers[1]


def test_a_task_with_one_trajectory_only_holds_none_out(make: MakeStore) -> None:
    store = make("one", [5] * 6)
    assert len(select([store], HALF, "train", state_width=8).domains["metaworld"].numbers) == 6
    with pytest.raises(AgentError, match="no task has two or more different ones"):
        select([store], HALF, "valid", state_width=8)


def test_a_digest_is_of_what_a_model_reads(make: MakeStore) -> None:
    one = played(REACH, 0, seed=1)
    digest = trajectory_digest(one)
    assert digest == trajectory_digest(replace(played(REACH, 0, seed=2), policy="other"))
    assert digest == trajectory_digest(replace(one, observations=one.observations[:-1]))
    for other in (
        replace(one, task=PUSH),
        replace(one, actions=one.actions + np.float32(1e-6)),
        replace(one, signals=one.signals * np.float32(0.5)),
        replace(one, observations=np.roll(one.observations, 1)),
    ):
        assert trajectory_digest(other) != digest
    assert make("one", [0]).trajectory_digests([0]) == [digest]


def test_stores_of_earlier_versions_split_alike_and_a_rebuild_notes_the_digests(make: MakeStore) -> None:
    store = make("one", [0, 1, 0, 2, 1])
    before, digest = sides([store], HALF), store.digest
    old = without_digests(store)
    assert old.without_digests == 5
    assert sides([old], HALF) == before
    assert split_facts([old], BY_EPISODE, state_width=8) is None, "nothing is read for a count alone"
    rebuild(store.path)
    new = TrajectoryStore(store.path)
    assert new.without_digests == 0
    assert new.digest == digest
    assert new.trajectory_digests(range(5)) == store.trajectory_digests(range(5))


def test_verify_counts_copies_and_finds_a_wrong_digest(make: MakeStore) -> None:
    store = make("one", [0, 1, 0, 2, 1])
    found = verified(store.path)
    assert found.repeats == ["metaworld/reach: 5 episodes are 3 different trajectories"]
    assert not found.bad
    file = store.path / store_layout.INDEX_FILE
    line = decode_line(file.read_bytes().splitlines()[0])[0]
    file.write_bytes(encode_line(replace(line, digests=["0" * 16, *line.digests[1:]])))
    assert "has the digest" in verified(store.path).bad[0]
    file.write_bytes(encode_line(replace(line, digests=line.digests[1:])))
    with pytest.raises(AgentError, match="columns differ in length"):
        TrajectoryStore(store.path)


def test_packed_digests_name_what_they_were_made_of_and_nothing_else() -> None:
    digests = [f"{number:016x}" for number in range(1 << 20, 1 << 40, 1 << 34)]
    packed = Packed(pack(digests))
    assert len(packed) == len({digest[:12] for digest in digests})
    assert all(digest in packed for digest in digests)
    assert "f" * 16 not in packed
    with pytest.raises(ValueError, match="no list of digests"):
        Packed("AAAA")


TINY = [
    "model.preset=xlstm[1:0]-1M",
    "model.width=64",
    "model.layers=1",
    "model.xlstm={heads=4, slstm_at=[]}",
    "model.state_width=8",
    "optimizer.updates=2",
    "optimizer.warmup_updates=1",
    "saving.trackers=[]",
    "sampling.context=4",
    "sampling.sequences=2",
    "data.validation_share=0.3",
    "validation.windows=2",
]


@pytest.mark.slow
def test_a_checkpoint_knows_its_training_trajectories(make: MakeStore, tmp_path: Path) -> None:
    stores = [make("one", [0, 1, 2, 0, 1, 2]), make("two", [2, 1, 3], seed=50)]
    recipe = read_recipe(None, [f"data.stores={[str(one.path) for one in stores]}", *TINY])
    start(recipe, tmp_path / "run")
    card = load_checkpoint(tmp_path / "run" / "checkpoint")[1].card
    facts, packed = recorded_facts(card), trained_trajectories(card)
    assert card["data"]["trajectories"]["unit"] == "trajectory"
    assert facts is not None
    assert packed is not None
    assert (facts.different, facts.validation, facts.validation_in_training) == (3, 1, 0)
    every = {d for store in stores for d in store.trajectory_digests(range(len(store)))}
    assert sum(digest in packed for digest in every) == 3


@pytest.mark.slow
def test_a_fine_tuning_tells_what_the_trainings_before_were_trained_on(
    make: MakeStore, tmp_path: Path
) -> None:
    """Also of the one before the last, whose checkpoint is not there any more when the last is resumed."""
    first, second, third = make("one", [0, 1, 2, 3]), make("two", [4, 5, 6], seed=9), make("three", [7, 8])
    whole = [f"data.stores={first.path}", "data.validation_share=0", "data.target_returns=data"]
    start(read_recipe(None, [*whole, *TINY[:-2], "validation.windows=0"]), tmp_path / "first")
    more = ["data.target_returns=data", *(one for one in TINY if not one.startswith("model."))]

    def tuned(name: str, stores: Sequence[TrajectoryStore], init: str) -> Mapping[str, Any]:
        places = f"data.stores={[str(one.path) for one in stores]}"
        recipe = read_recipe(None, [places, f"model.init_from={tmp_path / init / 'checkpoint'}", *more])
        start(recipe, tmp_path / name)
        return load_checkpoint(tmp_path / name / "checkpoint")[1].card

    facts = recorded_facts(tuned("second", [second], "first"))
    assert facts is not None
    assert (facts.validation_in_training, facts.validation_in_earlier, facts.earlier_complete) == (0, 0, True)
    assert "before" not in facts.words()
    card = tuned("third", [third, first], "second")
    facts, packed = recorded_facts(card), trained_trajectories(card)
    assert facts is not None
    assert packed is not None
    assert facts.validation_in_training == 0
    assert facts.validation_in_earlier >= 1, "of the store that the first was trained on as a whole"
    assert f"{facts.validation_in_earlier} were trained on before, by the checkpoint" in facts.words()
    assert all(digest in packed for digest in first.trajectory_digests(range(len(first))))
    assert sum(digest in packed for digest in second.trajectory_digests(range(len(second)))) == 2
    assert all_trajectories(card)[1]
    unknown = recorded_facts({**card, "data": {"trajectories": {**asdict(facts), "earlier_complete": None}}})
    assert unknown is not None
    assert not unknown.earlier_complete


def test_recipes_that_were_written_out_before_keep_their_split_and_their_digest() -> None:
    recipe = read_recipe(None, ["data.stores=s", *TINY])
    assert recipe.data.validation_unit == "trajectory"
    plain = recipe_to_dict(recipe)
    del plain["data"]["validation_unit"]
    old = recipe_from_dict(plain)
    assert old.data.validation_unit == "episode"
    assert recipe_digest(old) != recipe_digest(recipe)
    assert recipe_from_dict(recipe_to_dict(old)) == old
    assert 'validation_unit = "episode"' in render_recipe(old)
