"""Measured random play: the table that ships, and the scores that rest on it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lram.envs import random_play as module
from lram.envs import scores
from lram.envs.random_play import RandomPlay, measurements, random_play
from lram.envs.registry import all_tasks, load_domain
from lram.envs.scores import HALF, audit, normalise, normalised_by
from lram.envs.task import Task

PROTOCOL = "procgen:lram@1"
PLUNDER = all_tasks()["procgen/plunder"]


def played(task: str, mean: float, low: float | None, high: float | None) -> RandomPlay:
    return RandomPlay(task, PROTOCOL, 100, 1000, mean, 1.0, low, high, "made up")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], RandomPlay]:
    """Measurements of a test's own."""
    found: dict[tuple[str, str], RandomPlay] = {}
    monkeypatch.setattr(module, "measurements", lambda: found)
    return found


def test_every_measurement_is_of_a_known_task_under_its_default_protocol_with_its_noise() -> None:
    assert measurements()
    for (task_id, protocol), one in measurements().items():
        task = all_tasks()[task_id]
        assert protocol == load_domain(task.domain).protocol().id(task.domain)
        assert one.episodes >= 100, task_id
        assert one.source.startswith("lram eval random -t ")
        assert "lram-bench " in one.source
        if one.low is None:
            # Of 100 episodes no more than two differ from the others: then there is no interval.
            assert one.high is None
            assert one.deviation == 0 or one.deviation > 6 * abs(one.mean), task_id
        else:
            assert one.low is not None
            assert one.high is not None
            assert one.low < one.mean < one.high
            # A 95% interval of a mean of n episodes is about four standard errors wide.
            width = (one.high - one.low) / (one.deviation / math.sqrt(one.episodes))
            assert 3 < width < 6, task_id


def test_procgens_random_reference_of_0_is_not_what_random_play_earns() -> None:
    tasks = [task for task in all_tasks().values() if task.domain == "procgen"]
    found = [random_play(task.id, PROTOCOL) for task in tasks]
    reached = [
        normalise(task, one.mean) or 0.0 for task, one in zip(tasks, found, strict=True) if one is not None
    ]
    assert len(reached) == 16
    assert 0.25 < sum(reached) / 16 < 0.4
    weak = {task.id for task, score in zip(tasks, reached, strict=True) if score >= HALF}
    assert "procgen/plunder" in weak


def test_by_measured_random_0_is_random_play_and_1_stays_the_reference() -> None:
    for task_id in ("procgen/coinrun", "toy/steps"):
        task = all_tasks()[task_id]
        protocol = load_domain(task.domain).protocol().id(task.domain)
        found = random_play(task_id, protocol)
        assert found is not None
        assert task.score_reference is not None
        row = normalised_by("measured-random", task, protocol)
        assert audit(row) is None
        assert normalise(row, found.mean) == 0
        assert normalise(row, task.score_reference) == pytest.approx(1)
        assert dict(row.sources)["score_random"] == f"measured: {found.source}"
        assert normalised_by("paper", task, protocol) is task


def test_a_measurement_under_another_protocol_does_not_count() -> None:
    row = normalised_by("measured-random", PLUNDER, "procgen:unseen@1")
    assert audit(row) == "random play was not measured under procgen:unseen@1"
    assert normalise(row, 9.0) is None


@pytest.mark.parametrize(
    ("mean", "low", "high", "usable"),
    [
        (4.0, 3.5, 4.5, True),
        (4.0, 3.0, 5.0, False),  # the reference, 4.9095, could be what random play earns
        (6.0, 5.5, 6.5, False),
        (0.0, None, None, True),
        (4.9095, None, None, False),
    ],
)
def test_a_reference_within_or_below_random_play_gives_no_score(
    known: dict[tuple[str, str], RandomPlay],
    mean: float,
    low: float | None,
    high: float | None,
    usable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known[PLUNDER.id, PROTOCOL] = played(PLUNDER.id, mean, low, high)
    row = normalised_by("measured-random", PLUNDER, PROTOCOL)
    assert (audit(row) is None) == usable
    if not usable:
        assert str(audit(row)).startswith("reference 4.9095 is not above random play as measured: ")


def test_a_task_without_a_reference_has_none_by_any_normaliser() -> None:
    task = all_tasks()["atari/pooyan"]
    for normaliser in scores.NORMALISERS:
        assert audit(normalised_by(normaliser, task, "atari:lram@1")) == "no score reference"


def test_a_random_return_that_is_exact_stays() -> None:
    task: Task = all_tasks()["darkroom/dense-98"]
    assert normalised_by("measured-random", task, "darkroom:trial@1") is task
    guessed = replace(task, sources=(("score_random", "a guess"),))
    assert normalised_by("measured-random", guessed, "darkroom:trial@1").score_random is None
