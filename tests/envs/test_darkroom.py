"""Dark-Room: trials, goals that are not shown, and score references that are exact."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.darkroom import (
    CELLS,
    DOMAIN,
    MOVES,
    SIDE,
    DarkRoomSession,
    InnerEpisodes,
    distance,
    goal_cell,
    inner_episodes_of,
    make,
    moved,
    random_returns,
    shortest_returns,
    under,
)
from lram.envs.registry import all_tasks, select
from lram.envs.scores import normalise
from lram.envs.session import EvaluationProtocol, SessionError, Step

SHORT = DOMAIN.protocol("short")
STAY = 4


def cell_of(observation: np.ndarray) -> int:
    row, column = observation[:SIDE], observation[SIDE : 2 * SIDE]
    assert row.sum() == column.sum() == 1
    return SIDE * int(row.argmax()) + int(column.argmax())


def towards(cell: int, goal: int) -> int:
    return min(range(len(MOVES)), key=lambda action: distance(moved(cell, action), goal))


def play(session: DarkRoomSession, seed: int, goal: int | None = None) -> tuple[list[np.ndarray], list[Step]]:
    """Play a trial by shortest paths to ``goal``, or by staying."""
    seen, steps = [session.reset(seed)], []
    while not steps or not steps[-1].truncated:
        action = STAY if goal is None else towards(cell_of(seen[-1]), goal)
        steps.append(session.step(action))
        seen.append(steps[-1].observation)
    return seen, steps


@pytest.mark.parametrize("name", ["sparse-00", "dense-00", "sparse-97", "dense-97"])
@pytest.mark.parametrize("protocol", DOMAIN.protocols, ids=lambda protocol: protocol.name)
def test_rooms_keep_the_contract(name: str, protocol) -> None:
    task = next(task for task in DOMAIN.tasks if task.name == name)
    check_session(lambda: make(name, protocol), limit=under(task, protocol).horizon)


def test_an_unknown_room_is_refused() -> None:
    with pytest.raises(SessionError, match="sparse-00"):
        make("sparse-100", SHORT)


def test_the_goals_are_all_cells_in_the_order_of_the_reference() -> None:
    goals = [goal_cell(number) for number in range(CELLS)]
    assert sorted(goals) == list(range(CELLS))
    assert goals == np.random.RandomState(43).permutation(CELLS).tolist()


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_eighty_goals_are_for_training_and_twenty_are_held_out(kind: str) -> None:
    assert [task.name for task in select(f"darkroom/{kind}-*@train")] == [
        f"{kind}-{n:02d}" for n in range(80)
    ]
    assert len(select(f"darkroom/{kind}-*@heldout")) == 20


def test_rooms_are_outside_the_papers_tasks() -> None:
    assert not [task for task in select("@heldout") if task.domain == "darkroom"]
    assert len(select("darkroom")) == 200


def test_walls_hold_back() -> None:
    assert [moved(0, action) for action in range(5)] == [0, 10, 1, 0, 0]
    assert [moved(99, action) for action in range(5)] == [89, 99, 99, 98, 99]


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_trial_holds_its_inner_episodes_and_ends_with_the_last(kind: str) -> None:
    _, steps = play(make(f"{kind}-11", SHORT), seed=4)
    assert [place for place, step in enumerate(steps, start=1) if step.inner_episode_ends] == list(
        range(20, 201, 20)
    )
    assert steps[-1].inner_episode_ends
    assert steps[-1].truncated
    assert not any(step.terminated or step.context_reset for step in steps)


def test_an_inner_episode_begins_elsewhere_marked_and_never_on_the_goal() -> None:
    begun = []
    for seed in range(60):
        session = make("dense-11", protocol_of(3, 4))
        seen, steps = play(session, seed)
        firsts = [0, *(place for place, step in enumerate(steps[:-1], start=1) if step.inner_episode_ends)]
        assert [place for place, observation in enumerate(seen) if observation[-1]] == firsts
        begun += [cell_of(seen[place]) for place in firsts]
    counts = Counter(begun)
    assert goal_cell(11) not in counts
    assert len(counts) > 70
    assert counts.most_common(1)[0][1] < 10


def protocol_of(episodes: int, steps: int) -> EvaluationProtocol:
    return EvaluationProtocol("tiny", 1, "", {"episodes": episodes, "steps": steps})


def test_sparse_pays_once_and_goes_on_with_the_next_inner_episode() -> None:
    goal = goal_cell(5)
    seen, steps = play(make("sparse-05", SHORT), 9, goal)
    assert sum(step.reward for step in steps) == sum(step.inner_episode_ends for step in steps) == 10
    for place, step in enumerate(steps):
        assert step.success == step.inner_episode_ends == (step.reward == 1.0)
        if step.inner_episode_ends and place < len(steps) - 1:
            assert step.observation[-1] == 1.0
    assert len(steps) == 10 + sum(distance(cell_of(s), goal) - 1 for s in seen[:-1] if s[-1])


def test_dense_pays_every_step_on_the_goal() -> None:
    goal = goal_cell(5)
    seen, steps = play(make("dense-05", SHORT), 9, goal)
    assert len(steps) == 200
    expected = sum(20 - distance(cell_of(s), goal) + 1 for s in seen[:-1] if s[-1])
    assert sum(step.reward for step in steps) == expected


def test_the_observation_does_not_depend_on_the_goal_beyond_where_one_stands() -> None:
    session = make("dense-05", SHORT)
    seen, _ = play(session, 3, goal_cell(5))
    assert {
        tuple(np.flatnonzero(observation)) for observation in seen if cell_of(observation) == goal_cell(5)
    } == {(goal_cell(5) // SIDE, SIDE + goal_cell(5) % SIDE)}


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("number", [0, 42, 99])
def test_the_random_reference_is_the_expectation(kind: str, number: int) -> None:
    """By another way than the one it is computed in: where the agent may be, step by step."""
    goal, trial = goal_cell(number), InnerEpisodes(3, 12)
    chances = {cell: 1 / 99 for cell in range(CELLS) if cell != goal}
    earned = 0.0
    for _ in range(trial.steps):
        after: dict[int, float] = {}
        for cell, chance in chances.items():
            for action in range(5):
                reached = moved(cell, action)
                after[reached] = after.get(reached, 0.0) + chance / 5
        earned += after.get(goal, 0.0)
        if kind == "sparse":
            after.pop(goal, None)
        chances = after
    assert random_returns(kind, trial)[number] == pytest.approx(3 * earned, rel=1e-12)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_random_play_earns_the_random_reference(kind: str) -> None:
    rng, returns = np.random.default_rng(0), []
    session = make(f"{kind}-30", SHORT)
    for seed in range(300):
        session.reset(seed)
        total, over = 0.0, False
        while not over:
            step = session.step(int(rng.integers(5)))
            total, over = total + step.reward, step.truncated
        returns.append(total)
    expected = random_returns(kind, inner_episodes_of(SHORT))[30]
    assert abs(np.mean(returns) - expected) < 4 * np.std(returns) / np.sqrt(len(returns))


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_shortest_paths_score_one_on_average_over_all_starts(kind: str) -> None:
    goal = goal_cell(8)
    lengths = [distance(cell, goal) for cell in range(CELLS) if cell != goal]
    paid = [20 - length + 1 if kind == "dense" else 1 for length in lengths]
    assert shortest_returns(kind, InnerEpisodes(10, 20))[8] == pytest.approx(10 * np.mean(paid))


def test_a_path_that_is_longer_than_an_inner_episode_earns_nothing() -> None:
    assert shortest_returns("sparse", InnerEpisodes(1, 1))[0] == pytest.approx(
        np.mean([distance(cell, goal_cell(0)) == 1 for cell in range(CELLS) if cell != goal_cell(0)])
    )


def test_the_row_of_a_task_is_that_of_the_protocol() -> None:
    task = all_tasks()["darkroom/sparse-80"]
    short = under(task, SHORT)
    assert (task.horizon, short.horizon) == (1000, 200)
    assert task.score_reference == short.score_reference == 10.0
    assert task.score_random is not None
    assert short.score_random is not None
    assert task.score_random > 2 * short.score_random
    assert normalise(short, 10.0) == 1.0
    assert under(short, DOMAIN.protocol("lram")) == task


def test_another_session_plays_the_same_trial() -> None:
    digests = {trajectory_digest(make("dense-64", SHORT), 5, steps=200) for _ in range(2)}
    assert len(digests) == 1


def test_a_room_can_be_drawn() -> None:
    session = make("sparse-00", SHORT)
    session.reset(0)
    image = session.render()
    assert image.shape == (80, 80, 3)
    assert {tuple(colour) for colour in image.reshape(-1, 3)} == {(24, 24, 24), (0, 160, 0), (255, 255, 255)}
