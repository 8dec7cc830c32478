"""Neighbours and silhouettes: numbers that a test knows, over other trajectories; intervals that hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentInfo
from lram.harness.embedding.folder import Embeddings, write
from lram.harness.embedding.records import SCHEMA, EmbeddedModel, EmbeddingRecord
from lram.harness.embedding.states import principal_components
from lram.harness.storage.provenance import collect
from lram.reports.sections.embedding.measures import FEW_TRAJECTORIES, FEWEST, Distances, chance, measure
from lram.reports.sections.embedding.section import section
from lram.reports.sections.embedding.tables import _share


def write_embeddings(folder: Path, task: Any = (0, 0, 1, 1), shift: Any = 0.0) -> Path:
    """Write made-up states of two tasks, one a trajectory: four each further along than the one before."""
    model = EmbeddedModel("m", "m", AgentInfo("model", "made up", False, 1, "d"), 4)
    record = EmbeddingRecord(
        SCHEMA, 0, (model,), (), ("a/x", "b/y"), 5, 2, 1, "", "not asked for", "", collect({}, {})
    )
    count = len(task)
    states = (np.arange(4.0 * count).reshape(count, 4) + np.reshape(shift, (-1, 1))).astype(np.float32)
    columns = (np.array(task), np.arange(count), np.zeros(count, np.int64))
    pca, shares = principal_components(states)
    write(folder, Embeddings(record, *columns, (states,), (pca,), (shares,)))
    return folder


def test_neighbours_and_silhouettes_are_of_other_trajectories() -> None:
    """Six trajectories on a line, two states each: kinds 0 at 0, 1, 2 and kinds 1 at 10, 11, 100."""
    places = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 100.0])
    trajectory = np.repeat(np.arange(6), 2)
    states = (places[trajectory] + np.tile([0.0, 0.25], 6))[:, None].astype(np.float32)
    kinds = np.array([0, 0, 0, 1, 1, 1])
    found = Distances(states, trajectory)
    everything = np.ones(6, bool)
    assert found.neighbours(kinds, everything).tolist() == [1] * 12
    # Without the trajectory at 11, the one at 10 is nearest to 2.
    there = np.array([True, True, True, True, False, True])
    assert found.neighbours(kinds, there)[6] == 0
    distance = np.abs(states - states.T)
    mine, others = distance[0, [2, 3, 4, 5]].mean(), distance[0, 6:].mean()
    assert found.silhouettes(kinds, everything)[0] == pytest.approx((others - mine) / others)
    # Of the state at 100: its kin lie at 10 and 11, the others at 0, 1 and 2.
    kin, strange = distance[10, 6:10].mean(), distance[10, :6].mean()
    assert found.silhouettes(kinds, everything)[10] == pytest.approx((strange - kin) / strange)
    assert chance(found, kinds) == pytest.approx(2 / 5)


def test_states_that_are_alike_within_trajectories_tell_no_kinds_apart() -> None:
    """Each trajectory is a tight cloud at a random place: with its own states, every neighbour were right."""
    rng = np.random.default_rng(0)
    trajectory = np.repeat(np.arange(40), 6)
    states = (rng.normal(size=(40, 8))[trajectory] + 0.01 * rng.normal(size=(240, 8))).astype(np.float32)
    kinds = np.repeat([0, 1], 20)
    found = measure(Distances(states, trajectory), "neighbours", kinds, kinds)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high
    assert found.value < 0.75
    assert found.high - found.low > 0.2  # of 40 trajectories; 240 independent states would give 0.13


def test_intervals_over_trajectories_hold_what_they_say() -> None:
    """A small simulation; tests/benchmarks/statistics/embeddings.py is a larger one."""
    covered = {"neighbours": 0, "silhouettes": 0}
    values: dict[str, list[tuple[float, float, float]]] = {name: [] for name in covered}
    rng = np.random.default_rng(1)
    kinds = np.repeat([0, 1], 8)
    trajectory = np.repeat(np.arange(16), 3)
    for _ in range(60):
        places = kinds[:, None] + rng.normal(size=(16, 3))
        states = (places[trajectory] + 0.3 * rng.normal(size=(48, 3))).astype(np.float32)
        for name in covered:
            one = measure(Distances(states, trajectory), name, kinds, kinds)
            assert one.value is not None
            assert one.low is not None
            assert one.high is not None
            values[name].append((one.value, one.low, one.high))
    for name, rows in values.items():
        truth = np.mean([row[0] for row in rows])
        share = np.mean([low <= truth <= high for _, low, high in rows])
        assert share >= 0.88, name  # 95% to be held; 60 draws of it fall below 88% once in 60 times


def test_too_few_trajectories_have_no_interval() -> None:
    states = np.arange(6.0, dtype=np.float32)[:, None]
    found = measure(
        Distances(states, np.arange(6)),
        "neighbours",
        np.array([0, 0, 0, 1, 1, 2]),
        np.array([0, 0, 0, 1, 1, 2]),
    )
    assert found.value is not None
    assert (found.low, found.note) == (None, FEW_TRAJECTORIES)
    rng = np.random.default_rng(0)
    for each in (3, 4):
        kinds = np.repeat([0, 1], each)
        found = measure(
            Distances(rng.normal(size=(2 * each, 3)).astype(np.float32), np.arange(2 * each)),
            "silhouettes",
            kinds,
            kinds,
        )
        assert (found.low is None) == (each < FEWEST)
        assert (found.note == FEW_TRAJECTORIES) == (each < FEWEST)
    alone = measure(Distances(states[:2], np.arange(2)), "silhouettes", np.array([0, 1]), np.array([0, 1]))
    assert alone.value is None


def test_where_no_trajectory_makes_a_difference_no_noise_was_seen() -> None:
    """Two kinds far apart: every neighbour is of its kind, whichever trajectory is taken away."""
    kinds = np.repeat([0, 1], 5)
    places = 100.0 * kinds[:, None] + np.random.default_rng(0).normal(size=(10, 2))
    distances = Distances(places.astype(np.float32), np.arange(10))
    found = measure(distances, "neighbours", kinds, kinds)
    assert (found.value, found.low, found.high, found.note) == (1.0, None, None, "all equal")
    assert _share(found).small == "all equal"
    assert measure(distances, "silhouettes", kinds, kinds).low is not None


def test_a_task_with_few_trajectories_is_a_caveat(tmp_path: Path) -> None:
    """Three of one task and four of the other; four of both, of which all count alike, are none."""
    for name, numbers in (("few", (3, 4)), ("alike", (4, 4))):
        task = np.repeat([0, 1], numbers)
        made = section([write_embeddings(tmp_path / name, task, 100.0 * task)])
        kinds = {caveat.kind for caveat in made.caveats}
        assert ("embedding-few" in kinds) == (name == "few")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    made = section([write_embeddings(tmp_path / "made", np.repeat([0, 1], 4))])
    assert {caveat.kind for caveat in made.caveats} == {"embedding-untrained", "embedding-no-umap"}
