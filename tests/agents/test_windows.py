"""Windows: every transition is reached, nothing depends on order, workers or restarts, padding is unseen."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.api import AgentError, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import action_loss, build_model
from lram.agents.model.tokens import action_to_classes
from lram.agents.training.batches import Batch
from lram.agents.training.loading import Loader
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.sampling import domain_cycle
from lram.agents.training.selection import Selection
from lram.agents.training.sources import open_data
from lram.agents.training.windows import Sampling, Windows, evaluation_windows
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore, returns_to_go

REACH = TaskSpec("metaworld/reach", "metaworld", "vector", (5,), "continuous", 4, 100.0, 200.0)
PUSH = replace(REACH, id="metaworld/push", reward_scale=50.0)
RUN = TaskSpec("dmcontrol/run", "dmcontrol", "vector", (9,), "continuous", 6, 100.0, 10.0)
GAME = TaskSpec("atari/game", "atari", "image", (3, 64, 64), "discrete", 18, 100.0, 20.0)
ALL = Selection(validation_share=0.0)

MakeStore = Callable[..., TrajectoryStore]


def episode(
    task: TaskSpec, length: int, *, mark: int = 0, contexts: tuple[int, ...] = (0,), policy: str = "expert"
) -> Trajectory:
    """Its observations hold ``mark`` and the timestep; its return is about ``mark`` x ``length``."""
    rng = np.random.default_rng([mark, length])
    if task.observation == "image":
        seen: Any = rng.integers(0, 256, (length + 1, 3, 64, 64), dtype=np.uint8)
        seen[:, 0, 0, 0], seen[:, 0, 0, 1] = mark, np.arange(length + 1)
    else:
        seen = rng.normal(size=(length + 1, *task.observation_shape)).astype(np.float32)
        seen[:, 0], seen[:, 1] = mark, np.arange(length + 1)
    actions: Any = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
    if task.action == "discrete":
        actions = rng.integers(0, task.action_size, length)
    rewards = (mark + rng.uniform(-0.1, 0.1, length)).astype(np.float32)
    return Trajectory(
        task=task,
        observations=seen,
        actions=actions,
        rewards=rewards,
        signals=np.clip(rewards, -1, 1),
        terminated=False,
        truncated=True,
        context_starts=contexts,
        policy=policy,
    )


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    def make(*episodes: Trajectory, name: str = "store") -> TrajectoryStore:
        with StoreWriter(tmp_path / name) as writer:
            for one in episodes:
                writer.append(one)
        return TrajectoryStore(tmp_path / name)

    return make


@pytest.fixture
def mixed(make_store: MakeStore) -> TrajectoryStore:
    """Three domains, of which one shows images."""
    return make_store(
        *(episode(REACH, 30 + 7 * mark, mark=mark) for mark in range(6)),
        *(episode(PUSH, 12, mark=10 + mark) for mark in range(4)),
        *(episode(RUN, 25, mark=20 + mark) for mark in range(3)),
        *(episode(GAME, 20, mark=30 + mark, contexts=(0, 7)) for mark in range(2)),
    )


def same(one: Batch, other: Batch) -> bool:
    return one.domain == other.domain and all(
        torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Batch)[1:]
    )


def marks(windows: Windows | Sequence[Batch], batches: int) -> set[int]:
    """Return which episodes the windows of some batches are of."""
    found: set[int] = set()
    for item in range(batches):
        seen = windows[item].observations
        found |= {int(mark) for mark in (seen[:, 0, 0, 0, 0] if seen.dim() == 5 else seen[:, 0, 0])}
    return found


SMALL = Sampling(context=10, sequences=4)


def test_a_micro_batch_is_the_same_in_any_order_and_after_any_restart(mixed: TrajectoryStore) -> None:
    windows = Windows([mixed], ALL, SMALL, seed=3)
    first = [windows[item] for item in range(12)]
    again = Windows([TrajectoryStore(mixed.path)], ALL, SMALL, seed=3)
    for item in reversed(range(12)):
        assert same(again[item], first[item])
    assert same(pickle.loads(pickle.dumps(windows))[7], first[7])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_micro_batch_is_the_same_with_any_number_of_workers(mixed: TrajectoryStore, workers: int) -> None:
    windows = Windows([mixed], ALL, SMALL, seed=3)
    expected = [windows[item] for item in range(2, 11)]  # files are open in this process before the fork
    with Loader(windows, 2, 11, workers=workers) as loader:
        given = list(loader)
        assert loader.batches == 9
        assert loader.waited > 0
    assert all(same(one, other) for one, other in zip(given, expected, strict=True))


def test_seeds_splits_and_numbers_give_other_batches(mixed: TrajectoryStore) -> None:
    selection = Selection(validation_share=0.5)
    windows = [
        Windows([mixed], selection, SMALL, seed=0),
        Windows([mixed], selection, SMALL, seed=1),
        Windows([mixed], selection, SMALL, seed=0, split="valid"),
    ]
    batches = [one[item] for one in windows for item in (0, 3)]
    assert {batch.domain for batch in batches} == {"metaworld"}
    for place, batch in enumerate(batches):
        assert not any(same(batch, other) for other in batches[:place])


def test_ranks_read_consecutive_parts_of_one_larger_micro_batch(mixed: TrajectoryStore) -> None:
    ranks = [Windows([mixed], ALL, SMALL, seed=5, rank=rank) for rank in range(4)]
    whole = Windows([mixed], ALL, replace(SMALL, sequences=16), seed=5)
    for item in range(6):
        parts = [windows[item] for windows in ranks]
        for field in fields(Batch)[1:]:
            joined = torch.cat([getattr(part, field.name) for part in parts])
            assert torch.equal(joined, getattr(whole[item], field.name))


def test_a_batch_holds_what_the_trajectories_hold(mixed: TrajectoryStore) -> None:
    windows = Windows([mixed], ALL, SMALL, seed=0)
    lengths = set()
    for item in range(24):
        batch, places = windows[item], windows.places(item)
        for row in range(4):
            task = windows.tasks[batch.tasks[row]]
            one = mixed.trajectory(int(places.numbers[row]))
            assert one.task == task
            start, steps = int(batch.starts[row]), int(batch.lengths[row])
            lengths.add(steps)
            here, there = slice(start, start + steps), slice(steps, None)
            expected = torch.from_numpy(one.observations[here])
            if task.observation == "image":
                assert torch.equal(batch.observations[row, :steps], expected)
            else:
                width = task.observation_shape[0]
                assert torch.equal(batch.observations[row, :steps, :width], expected)
                assert not batch.observations[row, :, width:].any()
            to_go = returns_to_go(one.signals, one.context_starts)[here] / np.float32(task.reward_scale)
            assert np.array_equal(batch.returns_to_go[row, :steps], to_go)
            assert np.array_equal(
                batch.rewards[row, :steps], one.signals[here] / np.float32(task.reward_scale)
            )
            if task.action == "discrete":
                assert batch.classes.shape == (4, 10, 1)
                assert np.array_equal(batch.classes[row, :steps, 0], one.actions[here])
                assert batch.mask[row, :steps].all()
            else:
                size = task.action_size
                assert np.array_equal(batch.classes[row, :steps, :size], action_to_classes(one.actions[here]))
                assert (batch.classes[row, :, size:] == action_to_classes(0.0)).all()
                assert batch.mask[row, :steps, :size].all()
                assert not batch.mask[row, :, size:].any()
            for padded in (batch.observations, batch.returns_to_go, batch.rewards, batch.mask):
                assert not padded[row, there].any()
    assert len(lengths) > 3
    assert batch.observations.dtype == torch.uint8
    assert batch.timesteps == int(batch.lengths.sum())


def test_every_transition_is_drawn_equally_often_and_no_context_is_crossed(make_store: MakeStore) -> None:
    episodes = [
        episode(REACH, 40, contexts=(0, 15, 16, 33)),
        episode(REACH, 7, mark=1),
        episode(PUSH, 1, mark=2),
        episode(PUSH, 52, mark=3),
    ]
    store = make_store(*episodes)
    windows = Windows([store], ALL, Sampling(context=10, sequences=100), seed=0)
    drawn: Counter[tuple[int, int]] = Counter()
    for item in range(200):
        places = windows.places(item)
        for number, start, stop in zip(places.numbers, places.starts, places.stops, strict=True):
            summary = store.episodes[number]
            drawn[int(number), int(stop) - 1] += 1
            began = max(context for context in summary.context_starts if context < stop)
            assert start == max(began, stop - 10)
    possible = {(one.number, step) for one in store.episodes for step in range(one.length)}
    assert drawn.keys() == possible
    expected = 20_000 / len(possible)
    statistic = sum((count - expected) ** 2 / expected for count in drawn.values())
    freedom = len(possible) - 1
    assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5


def test_windows_at_the_beginning_of_a_context_can_be_filled_up(make_store: MakeStore) -> None:
    store = make_store(
        episode(REACH, 30), episode(REACH, 25, mark=1, contexts=(0, 7, 20)), episode(PUSH, 4, mark=2)
    )
    plain, filled = (
        Windows([store], ALL, Sampling(context=10, sequences=200, fill=fill), seed=0)
        for fill in (False, True)
    )
    for item in range(5):
        before, after = plain.places(item), filled.places(item)
        assert (before.starts == after.starts).all()
        assert (before.numbers == after.numbers).all()
        for number, start, stop in zip(after.numbers, after.starts, after.stops, strict=True):
            summary = store.episodes[number]
            ends = [context for context in (*summary.context_starts, summary.length) if context > start]
            assert stop == min(start + 10, ends[0])


def test_tasks_come_in_proportion_to_their_transitions_or_equally_often(make_store: MakeStore) -> None:
    store = make_store(episode(REACH, 90), episode(PUSH, 5, mark=1), episode(PUSH, 5, mark=2))

    def shares(balance: bool) -> tuple[Any, Any]:
        sampling = Sampling(context=10, sequences=500, balance_tasks=balance)
        windows = Windows([store], ALL, sampling, seed=0)
        places = [windows.places(item) for item in range(8)]
        of_push = np.concatenate([place.tasks for place in places]) == 0  # push comes before reach
        first = np.concatenate([place.numbers for place in places])[of_push]
        return of_push.mean(), (first == first.min()).mean()

    assert shares(False)[0] == pytest.approx(0.1, abs=0.03)
    assert shares(True) == (pytest.approx(0.5, abs=0.05), pytest.approx(0.5, abs=0.06))


def test_domains_take_turns_in_a_fixed_cycle() -> None:
    assert domain_cycle(["toy", "atari", "mimicgen", "metaworld", "alpha"]) == (
        *("metaworld", "atari", "mimicgen", "alpha", "toy"),
    )
    assert domain_cycle(["metaworld", "atari"], {"metaworld": 4, "atari": 4}) == ("metaworld", "atari")
    weighted = domain_cycle(["metaworld", "atari", "procgen"], {"atari": 5, "procgen": 2})
    assert Counter(weighted) == {"metaworld": 1, "atari": 5, "procgen": 2}
    assert "".join(name[0] for name in weighted * 2).count("aaa") == 0
    assert domain_cycle(["metaworld", "atari"], {"metaworld": 0}) == ("atari",)


def test_weights_and_sequences_are_those_of_the_domain(mixed: TrajectoryStore) -> None:
    sampling = Sampling(
        context=10,
        sequences=3,
        sequences_by_domain={"atari": 2},
        weights={"metaworld": 2, "dmcontrol": 0},
    )
    windows = Windows([mixed], ALL, sampling, seed=0)
    batches = [windows[item] for item in range(6)]
    assert [batch.domain for batch in batches] == [windows.domain(item) for item in range(6)]
    assert Counter(batch.domain for batch in batches) == {"metaworld": 4, "atari": 2}
    assert {len(batch.lengths) for batch in batches if batch.domain == "atari"} == {2}
    assert {len(batch.lengths) for batch in batches if batch.domain == "metaworld"} == {3}
    assert windows.domains == ("metaworld", "atari")


def test_a_domain_of_weight_0_is_neither_noted_nor_validated_on_nor_given_a_target(
    mixed: TrajectoryStore,
) -> None:
    settings = (f"data.stores={mixed.path}", "data.validation_share=0.4", "data.target_returns=data")
    weights = "sampling.domain_weights={dmcontrol=0, atari=1}"
    data = open_data(read_recipe(None, [*settings, weights]), 9)
    alone = open_data(read_recipe(None, [*settings, "data.tasks=metaworld/*,atari/*"]), 9)
    assert data.facts["domains"] == ["metaworld", "atari"]
    assert set(data.facts["tasks"]) == {"metaworld/push", "metaworld/reach", "atari/game"}
    assert (data.facts, data.target_returns) == (alone.facts, alone.target_returns)
    for one, other in ((data.windows, alone.windows), (data.validation, alone.validation)):
        assert same(one[1], other[1])
    assert len(data.validation) == len(alone.validation)
    assert data.notes == ()
    with pytest.raises(AgentError, match="every domain has the weight 0"):
        open_data(read_recipe(None, [*settings, "data.tasks=dmcontrol/*", weights.replace("1", "0")]), 9)


def test_domains_that_no_store_has_are_told(mixed: TrajectoryStore) -> None:
    weights, sequences = "{atri=0, dmcontrol=0}", "{metawrld=2, atari=1}"
    named = [f"sampling.domain_weights={weights}", f"sampling.domain_sequences={sequences}"]
    data = open_data(read_recipe(None, [f"data.stores={mixed.path}", *named]), 9)
    told = "of which the stores have no task, so it changes nothing; they have atari, dmcontrol, metaworld"
    assert data.notes == (
        f"sampling.domain_weights names atri, {told}",
        f"sampling.domain_sequences names metawrld, {told}",
    )


def test_several_stores_are_one(make_store: MakeStore) -> None:
    one = make_store(episode(REACH, 20, mark=1), episode(RUN, 20, mark=2), name="one")
    two = make_store(episode(REACH, 20, mark=3), episode(PUSH, 20, mark=4), name="two")
    windows = Windows([one, two], ALL, Sampling(context=5, sequences=30), seed=0)
    assert [task.id for task in windows.tasks] == ["dmcontrol/run", "metaworld/push", "metaworld/reach"]
    assert marks(windows, 2) == {1, 2, 3, 4}
    assert set(windows.summary()) == {
        ("dmcontrol/run", 1, 20),
        ("metaworld/push", 1, 20),
        ("metaworld/reach", 2, 40),
    }


def of(windows: Windows) -> list[tuple[str, int]]:
    """Return task and episodes of a split."""
    return [(count.task, count.episodes) for count in windows.summary()]


def test_tasks_and_policies_are_patterns(make_store: MakeStore) -> None:
    store = make_store(
        episode(REACH, 20, mark=1, policy="scripted"),
        episode(REACH, 20, mark=2, policy="scripted~0.3"),
        episode(PUSH, 20, mark=3, policy="random"),
        episode(RUN, 20, mark=4, policy="random"),
    )

    def chosen(**options: Any) -> set[int]:
        selection = replace(ALL, **options)
        return marks(Windows([store], selection, Sampling(context=5, sequences=40), seed=0), 2)

    assert chosen(tasks=("metaworld/*",)) == {1, 2, 3}
    assert chosen(tasks=("*/push", "dmcontrol/*")) == {3, 4}
    assert chosen(tasks=("metaworld/*",), policies=("scripted*",)) == {1, 2}
    assert chosen(policies=("random", "scripted")) == {1, 3, 4}


def test_the_top_fraction_is_of_each_tasks_returns_and_the_first_of_equals(make_store: MakeStore) -> None:
    store = make_store(
        *(episode(REACH, 20, mark=mark) for mark in (3, 1, 5, 2, 4)),
        *(
            replace(episode(PUSH, 20, mark=mark), rewards=np.ones(20, np.float32))
            for mark in (10, 11, 12, 13)
        ),
    )
    windows = Windows([store], replace(ALL, top_fraction=0.5), Sampling(context=5, sequences=60), seed=0)
    assert marks(windows, 2) == {3, 4, 5, 10, 11}


def test_the_episode_fraction_is_drawn_by_the_selections_seed(make_store: MakeStore) -> None:
    store = make_store(*(episode(REACH, 20, mark=mark) for mark in range(20)))

    def chosen(fraction: float, **seeds: int) -> set[int]:
        selection = Selection(episode_fraction=fraction, validation_share=0, seed=seeds.get("data", 1))
        windows = Windows([store], selection, Sampling(context=5, sequences=100), seed=seeds.get("run", 0))
        return marks(windows, 3)

    fifth = chosen(0.2)
    assert len(fifth) == 4
    assert chosen(0.2, run=9) == fifth
    assert chosen(0.2, data=2) != fifth
    assert fifth < chosen(0.4)


def test_validation_episodes_are_never_trained_on(make_store: MakeStore) -> None:
    store = make_store(
        *(episode(REACH, 20, mark=mark) for mark in range(8)),
        *(episode(PUSH, 20, mark=mark) for mark in (10, 11)),
        episode(RUN, 20, mark=20),
    )
    many = Sampling(context=5, sequences=100)
    trained = Windows([store], Selection(), many, seed=0)
    held_out = Windows([store], Selection(), many, seed=0, split="valid")
    assert of(held_out) == [("metaworld/push", 1), ("metaworld/reach", 1)]
    assert of(trained) == [("metaworld/push", 1), ("metaworld/reach", 7), ("dmcontrol/run", 1)]
    assert held_out.tasks == trained.tasks
    assert not marks(trained, 6) & marks(held_out, 6)
    share = Selection(validation_share=0.5)
    assert of(Windows([store], share, many, seed=0, split="valid"))[1] == ("metaworld/reach", 4)


def test_validation_episodes_do_not_change_with_what_else_is_selected(make_store: MakeStore) -> None:
    episodes = [episode(REACH, 20 + mark, mark=mark, policy=f"p{mark % 2}") for mark in range(12)]
    alone = make_store(*episodes, name="alone")
    beside = make_store(episode(PUSH, 20, mark=90), *episodes, episode(PUSH, 20, mark=91), name="beside")
    many = Sampling(context=5, sequences=60)

    def held_out(store: TrajectoryStore, **options: Any) -> set[int]:
        selection = Selection(**{"tasks": ("*/reach",), "validation_share": 0.25, **options})
        return marks(Windows([store], selection, many, seed=0, split="valid"), 3)

    expected = held_out(alone)
    assert len(expected) == 3
    assert held_out(beside) == expected
    assert held_out(alone, top_fraction=0.5, episode_fraction=0.5) == expected
    assert held_out(beside, tasks=("*",)) - {90, 91} == expected
    assert held_out(alone, seed=2) != expected


def test_long_episodes_are_held_out_in_proportion_to_their_length(make_store: MakeStore) -> None:
    store = make_store(episode(REACH, 60, mark=1), episode(REACH, 20, mark=2), episode(REACH, 20, mark=3))
    drawn: Counter[int] = Counter()
    for seed in range(300):
        windows = Windows([store], Selection(seed=seed), SMALL, seed=0, split="valid")
        drawn[int(windows.places(0).numbers[0])] += 1
    assert drawn[0] / 300 == pytest.approx(0.6, abs=0.1)
    assert drawn[1] / 300 == pytest.approx(0.2, abs=0.08)


def test_evaluation_windows_are_fixed_and_of_the_validation_episodes(mixed: TrajectoryStore) -> None:
    selection = Selection(validation_share=0.4)
    how: dict[str, Any] = {"context": 10, "windows": 3, "sequences": 2}
    batches = evaluation_windows([mixed], selection, **how)
    assert [(batch.domain, len(batch.lengths)) for batch in batches] == [
        (domain, size) for domain in ("metaworld", "dmcontrol", "atari") for size in (2, 1)
    ]
    again = evaluation_windows([TrajectoryStore(mixed.path)], selection, **how)
    assert all(same(one, other) for one, other in zip(batches, again, strict=True))
    assert same(batches[-1], list(again)[-1])
    trained = Windows([mixed], selection, replace(SMALL, sequences=60), seed=0)
    assert not marks(batches, len(batches)) & marks(trained, 6)
    assert batches.tasks == trained.tasks
    assert batches.domains == ("metaworld", "dmcontrol", "atari")


def test_evaluation_windows_cut_contexts_into_contiguous_pieces(make_store: MakeStore) -> None:
    store = make_store(
        episode(REACH, 50, mark=1, contexts=(0, 33)), episode(REACH, 12, mark=2), episode(PUSH, 25, mark=3)
    )
    batches = evaluation_windows([store], ALL, context=10, windows=100, sequences=4, split="train")
    pieces = set()
    for batch in batches:
        assert batch.mask.shape[1] == 10
        for row, steps in enumerate(batch.lengths.tolist()):
            seen = batch.observations[row, :steps]
            assert torch.equal(seen[:, 1], batch.starts[row] + torch.arange(steps))  # position + start
            pieces.add((int(seen[0, 0]), int(batch.starts[row]), steps))
    assert pieces == {
        *((1, start, 10) for start in (0, 10, 20, 33)),
        *((1, 30, 3), (1, 43, 7), (2, 0, 10), (2, 10, 2), (3, 0, 10), (3, 10, 10), (3, 20, 5)),
    }


def test_evaluation_windows_are_the_longest_and_of_all_tasks_alike(make_store: MakeStore) -> None:
    store = make_store(
        *(episode(REACH, 105, mark=mark) for mark in range(4)), *(episode(PUSH, 35, mark=9) for _ in range(2))
    )
    batches = evaluation_windows([store], ALL, context=30, windows=6, sequences=4, split="train")
    assert [len(batch.lengths) for batch in batches] == [4, 2]
    lengths = torch.cat([batch.lengths for batch in batches])
    tasks = Counter(torch.cat([batch.tasks for batch in batches]).tolist())
    assert tasks == {0: 3, 1: 3}  # push has two full windows and then the rests of 5
    assert sorted(lengths.tolist()) == [5, 30, 30, 30, 30, 30]
    again = evaluation_windows([store], ALL, context=30, windows=6, sequences=4, split="train")
    assert all(same(one, other) for one, other in zip(batches, again, strict=True))


def test_padding_is_not_seen(mixed: TrajectoryStore) -> None:
    batch = Windows([mixed], replace(ALL, tasks=("dmcontrol/*",)), SMALL, seed=1)[4]
    assert batch.lengths.min() < 10
    model = build_model(ModelConfig(16, 2, backbone=MambaConfig()), seed=0)
    padded = torch.arange(10) >= batch.lengths[:, None]
    other = replace(
        batch,
        observations=batch.observations.masked_fill(padded[..., None], 7.0),
        rewards=batch.rewards.masked_fill(padded, -7.0),
        classes=batch.classes.masked_fill(padded[..., None], 100),
    )
    with torch.no_grad():
        losses = [
            action_loss(model(b.observations, b.returns_to_go, b.rewards).logits, b.classes, b.mask)
            for b in (batch, other)
        ]
    assert torch.equal(*losses)


def test_a_batch_moves_whole(mixed: TrajectoryStore) -> None:
    batch = Windows([mixed], ALL, SMALL, seed=0)[0]
    moved = batch.to("meta")
    assert moved.domain == batch.domain
    assert {getattr(moved, field.name).device.type for field in fields(Batch)[1:]} == {"meta"}


@pytest.mark.parametrize(
    ("selection", "sampling", "message"),
    [
        (
            Selection(tasks=("metaworld/*", "composuite/*")),
            SMALL,
            "no task .* matches 'composuite/\\*'; there are",
        ),
        (Selection(tasks=()), SMALL, "no pattern of a task"),
        (Selection(policies=("ppo*",)), SMALL, "no policy .* matches 'ppo\\*'; there are 'expert', 'random'"),
        (Selection(policies=("random",)), SMALL, "no episode of metaworld is left by the policies 'random'"),
        (Selection(), replace(SMALL, weights={"procgen": 2}), "procgen has the weight 2 but no episodes"),
        (Selection(), replace(SMALL, weights={"atari": -1}), "weight of atari must be 0 or more, not -1"),
        (
            Selection(),
            replace(SMALL, weights={"atari": 0, "metaworld": 0, "dmcontrol": 0}),
            "every domain has the weight 0",
        ),
    ],
)
def test_a_selection_of_nothing_is_refused(
    make_store: MakeStore, selection: Selection, sampling: Sampling, message: str
) -> None:
    store = make_store(
        episode(REACH, 20), episode(GAME, 10, mark=1), episode(RUN, 20, mark=2, policy="random")
    )
    with pytest.raises(AgentError, match=message):
        Windows([store], selection, sampling, seed=0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            replace(GAME, id="metaworld/seen", domain="metaworld"),
            "has vector observations in metaworld/reach and",
        ),
        (
            replace(REACH, id="metaworld/steps", action="discrete", action_size=4),
            "has continuous actions in metaworld/reach and discrete ones in metaworld/steps",
        ),
        (replace(REACH, id="metaworld/wide", observation_shape=(205,)), "width 205, and the model reads 204"),
        (replace(REACH, id="metaworld/arms", action_size=9), "has 9 continuous actions, and models know 8"),
    ],
)
def test_tasks_that_do_not_fit_together_are_refused(
    make_store: MakeStore, task: TaskSpec, message: str
) -> None:
    store = make_store(episode(REACH, 20), episode(task, 5))
    with pytest.raises(AgentError, match=message):
        Windows([store], ALL, SMALL, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context must be 1 or more, not 0"),
        ({"sequences": 0}, "sequences must be 1 or more"),
        ({"sequences_by_domain": {"atari": 0}}, "sequences of atari must be 1 or more"),
    ],
)
def test_numbers_that_make_no_window_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        Sampling(**options)


@pytest.mark.parametrize(
    "options",
    [{"top_fraction": 0.0}, {"episode_fraction": 1.5}, {"validation_share": 1.0}, {"seed": -1}],
)
def test_numbers_that_select_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="must be"):
        Selection(**options)


def test_missing_validation_episodes_are_told(make_store: MakeStore) -> None:
    store = make_store(episode(REACH, 20), episode(PUSH, 20))
    for selection in (Selection(), ALL):
        with pytest.raises(AgentError, match="there are no validation episodes"):
            evaluation_windows([store], selection, context=10, windows=4)
    with pytest.raises(AgentError, match="windows must be 1 or more"):
        evaluation_windows([store], ALL, context=10, windows=0)
    with pytest.raises(AgentError, match="hold no episode"):
        Windows([], ALL, SMALL, seed=0)


def test_a_task_of_another_form_in_another_store_is_refused(make_store: MakeStore) -> None:
    one = make_store(episode(REACH, 20), name="one")
    two = make_store(episode(replace(REACH, observation_shape=(6,)), 20), name="two")
    with pytest.raises(AgentError, match="in another form"):
        Windows([one, two], ALL, SMALL, seed=0)


class _Broken:
    """Batches of which number 2 cannot be had."""

    def __init__(self, source: Windows, kill: bool = False) -> None:
        self._source, self._kill = source, kill

    def __getitem__(self, item: int) -> Batch:
        if item == 2:
            if self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise AgentError("part 3 is damaged; put it back")
        return self._source[item]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_told_in_one_sentence_from_any_process(
    mixed: TrajectoryStore, workers: int
) -> None:
    broken = _Broken(Windows([mixed], ALL, SMALL, seed=0))
    given = []
    with Loader(broken, 0, 5, workers=workers) as loader, pytest.raises(AgentError) as raised:
        given.extend(loader)
    assert str(raised.value) == "part 3 is damaged; put it back"
    assert loader.batches == 2


def test_a_worker_that_dies_is_told_in_one_sentence(mixed: TrajectoryStore) -> None:
    broken = _Broken(Windows([mixed], ALL, SMALL, seed=0), kill=True)
    with (
        pytest.raises(AgentError, match="use fewer workers"),
        Loader(broken, 0, 5, workers=1) as loader,
    ):
        list(loader)


def test_loading_leaves_the_global_generator_alone(mixed: TrajectoryStore) -> None:
    before = torch.get_rng_state()
    with Loader(Windows([mixed], ALL, SMALL, seed=0), 0, 3, workers=1) as loader:
        assert len(list(loader)) == 3
        assert len(list(loader)) == 3  # it can be read again
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_left_early_ends_its_workers(mixed: TrajectoryStore) -> None:
    with Loader(Windows([mixed], ALL, SMALL, seed=0), 0, 100, workers=2) as loader:
        next(iter(loader))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_does_not_reach_the_workers(mixed: TrajectoryStore, number: signal.Signals) -> None:
    """A scheduler sends it to all processes of a job, and the trainer saves a state first."""
    with Loader(Windows([mixed], ALL, SMALL, seed=0), 0, 20, workers=1) as loader:
        for place, batch in enumerate(loader):
            assert batch.timesteps
            if place == 1:
                for worker in multiprocessing.active_children():
                    assert worker.pid is not None
                    os.kill(worker.pid, number)
    assert loader.batches == 20
    assert not multiprocessing.active_children()


def test_an_interrupt_does_not_reach_the_workers(mixed: TrajectoryStore) -> None:
    with Loader(Windows([mixed], ALL, SMALL, seed=0), 0, 20, workers=2) as loader:
        for number, batch in enumerate(loader):
            assert batch.timesteps
            if number == 0:
                continue  # of the first worker: the second may not have come to ignoring interrupts yet
            for worker in multiprocessing.active_children():
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGINT)
    assert loader.batches == 20
