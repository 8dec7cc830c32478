import math

import numpy as np
import pytest

from lram.envs.registry import all_tasks
from lram.envs.returns import UNBOUNDED, least_return, return_range
from lram.reports.ranges import mean_range, score_range, within


@pytest.mark.parametrize(
    ("task", "protocol", "greatest"),
    [
        ("dmcontrol/walker-run", "dmcontrol:lram@1", 1000),
        ("metaworld/reach-v3", "metaworld:lram@1", 2000),
        ("metaworld/reach-v3", "metaworld:full@1", 5000),
        ("mimicgen/CoffeePreparation_D0", "mimicgen:lram@1", 1),
        ("composuite/IIWA_Box_None_Push", "composuite:lram@1", 500),
        ("procgen/maze", "procgen:unseen@1", 10),
        ("darkroom/sparse-01", "darkroom:short@1", 10),
        ("darkroom/dense-01", "darkroom:short@1", 200),
        ("darkroom/dense-01", "darkroom:lram@1", 1000),
    ],
)
def test_the_range_of_returns_follows_from_task_and_protocol(task, protocol, greatest):
    assert return_range(all_tasks()[task], protocol) == (0.0, greatest)


@pytest.mark.parametrize(
    ("task", "protocol"),
    [
        ("atari/breakout", "atari:lram@1"),
        ("procgen/fruitbot", "procgen:lram@1"),
        ("dmcontrol/walker-run", "dmcontrol:mine@1"),
        ("metaworld/reach-v3", "metaworld:mine@1"),
    ],
)
def test_where_the_rules_tell_nothing_there_is_no_range(task, protocol):
    assert return_range(all_tasks()[task], protocol) == UNBOUNDED


def test_the_least_return_is_where_the_range_begins():
    for task in all_tasks().values():
        low, _ = return_range(task, f"{task.domain}:lram@1")
        assert math.isinf(low) or least_return(task) == low, task.id
    assert least_return(all_tasks()["atari/pong"]) is None
    assert least_return(all_tasks()["procgen/fruitbot"]) is None


def test_every_reference_of_a_bounded_task_lies_within_its_range():
    for task in all_tasks().values():
        low, high = return_range(task, f"{task.domain}:lram@1")
        for reference in (task.score_random, task.score_reference):
            assert reference is None or low - 1e-9 <= reference <= high, task.id


def test_a_return_outside_shows_another_rule():
    assert within(np.array([0.0, 1000.0]), (0.0, 1000.0)) == (0.0, 1000.0)
    assert within(np.array([-1.0, 10.0]), (0.0, 1000.0)) == UNBOUNDED
    assert within(np.array([5.0]), UNBOUNDED) == UNBOUNDED


def test_the_range_of_a_mean_is_that_of_its_tasks(synthetic):
    task = synthetic.task("dmcontrol/t", random=100.0, reference=600.0)
    assert score_range(task, (0.0, 1000.0)) == (-0.2, 1.8)
    assert score_range(synthetic.task("dmcontrol/u", reference=None), (0.0, 1000.0)) == UNBOUNDED
    weights = np.array([0.25, 0.75])
    assert mean_range([(-0.2, 1.8), (0.0, 1.0)], weights) == pytest.approx((-0.05, 1.2))
    assert mean_range([(0.0, math.inf), (0.0, 1.0)], weights) == (0.0, math.inf)
