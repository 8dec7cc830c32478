"""No decision of a process is shown what the process has shown before; agents that remember inputs are "
"marked."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from support.ready import ready_children

from lram.agents.api import Observation
from lram.harness.errors import LramError
from lram.harness.latency.feed import Feed
from lram.harness.latency.folder import LatencyRun, LatencyWriter
from lram.harness.latency.plan import LatencyRequest, make_plan
from lram.harness.latency.records import Effort, LatencyPoint
from lram.harness.latency.sweep import resume, sweep
from lram.harness.timing.inputs import Inputs
from lram.reports.sections.latency.analysis import summarise

CONTEXTS, DECISIONS = (5, 20, 40), 60


def images(timesteps: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (timesteps, 3, 64, 64)).astype(np.uint8)


def still_images(timesteps: int) -> npt.NDArray[np.uint8]:
    return np.full((timesteps, 3, 64, 64), 255, np.uint8)


def vectors(timesteps: int, width: int) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(0).standard_normal((timesteps, width)).astype(np.float32)
    made[:, 1:2] = 3.0  # a coordinate that does not vary
    return made


def steps(timesteps: int) -> npt.NDArray[np.float32]:
    return (np.arange(timesteps) % 3).astype(np.float32)[:, None]


def recorded(observations: npt.NDArray) -> Inputs:
    return Inputs(observations, np.zeros(len(observations)), np.zeros(len(observations), np.int64))


def everything_shown(feed: Feed) -> list[Observation]:
    shown: list[Observation] = []
    for context in CONTEXTS:
        feed.at(context)
        for timestep in range(context):
            shown += feed.past(timestep)[0]
        for number in range(4):
            shown += feed.settling(number)[0]
        for timestep in range(context, context + DECISIONS):
            shown += feed.decision(timestep)[0]
        shown += feed.repeated()[0]
    return shown


@pytest.mark.parametrize(
    "observations",
    [
        images(70),
        still_images(70),
        vectors(70, 39),
        vectors(70, 4),
        steps(70),
        steps(2),
        vectors(70, 1) * 1e-4,
    ],
    ids=["images", "still images", "39 numbers", "4 numbers", "counter", "two states", "small numbers"],
)
@pytest.mark.parametrize("batch", [1, 16])
def test_no_lane_and_no_context_is_shown_what_was_shown_before(observations: npt.NDArray, batch: int) -> None:
    feed = Feed(recorded(observations), CONTEXTS, batch, DECISIONS, distinct=True)
    shown = everything_shown(feed)
    assert len({one.tobytes() for one in shown}) == len(shown) == batch * (65 + 3 * (4 + DECISIONS + 1))
    # What a model computes on is of the same kind.
    assert {one.dtype for one in shown} == {observations.dtype}
    assert {one.shape for one in shown} == {observations.shape[1:]}
    assert all(np.isfinite(one).all() for one in shown)
    varies = observations.min(axis=0) < observations.max(axis=0)
    if observations.dtype != np.uint8:
        low, high = observations.min(axis=0), observations.max(axis=0)
        assert all(((one >= low) & (one <= high))[varies].all() for one in shown)
    assert recorded(observations).digest == feed._inputs.digest, "the recording itself is left as it was"


def test_processes_of_a_setting_are_shown_the_same_however_many_decisions_they_had() -> None:
    one, other = (Feed(recorded(vectors(70, 4)), CONTEXTS, 3, DECISIONS, distinct=True) for _ in range(2))
    everything_shown(one)
    for feed in (one, other):
        feed.at(20)
    for seen, again in zip(one.decision(22)[0], other.decision(22)[0], strict=True):
        assert np.array_equal(seen, again)


def test_inputs_differ_by_more_than_rounding_where_there_are_enough_numbers() -> None:
    observations = vectors(70, 39)
    shown = np.stack(everything_shown(Feed(recorded(observations), CONTEXTS, 2, DECISIONS, distinct=True)))
    rounded = {one.tobytes() for one in np.round(shown, 1)}
    assert len(rounded) == len(shown)


def test_earlier_sweeps_are_shown_what_they_were() -> None:
    inputs = recorded(vectors(70, 4))
    feed = Feed(inputs, CONTEXTS, 3, DECISIONS, distinct=False)
    feed.at(20)
    for seen, before in zip(feed.decision(25)[0], inputs.seen(inputs.places(25, 3))[0], strict=True):
        assert np.array_equal(seen, before)


def test_a_task_that_cannot_show_so_many_inputs_is_refused_in_a_sentence() -> None:
    with pytest.raises(LramError, match=r"toy/flat have too few values for the .* distinct inputs"):
        Feed(recorded(np.full((9, 1), np.inf, np.float32)), (5,), 1, 5, distinct=True, task="toy/flat")


REMEMBERING = """
import time

from lram.agents.experts.baselines import RandomAgent


class Remembering(RandomAgent):
    known = set()

    def act(self, state, observations, rewards, lanes):
        new = [one.tobytes() for one in observations if one.tobytes() not in self.known]
        if new:
            time.sleep(0.02)
        self.known.update(new)
        return super().act(state, observations, rewards, lanes)
"""
EFFORT = Effort(seconds=0.2, most=6, least=5, warm_up_s=0.05)


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LatencyRequest]:
    """An agent that takes 20 ms for an observation it has not seen, and nothing for others."""
    (tmp_path / "remembering_agent.py").write_text(REMEMBERING)
    monkeypatch.chdir(tmp_path)
    with ready_children():
        yield LatencyRequest(
            ["remembering_agent:Remembering", "random"],
            contexts=(3, 6),
            batches=(1, 4),
            repeats=1,
            task="toy/reach",
            loop=False,
            effort=EFFORT,
        )


def of(run: LatencyRun, label: str) -> list[LatencyPoint]:
    return [point for point in run.points() if point.job.agent.endswith(label)]


@pytest.mark.slow
def test_an_agent_that_remembers_inputs_is_as_slow_as_it_is_on_new_ones_and_marked(
    remembering: LatencyRequest, tmp_path: Path
) -> None:
    run = sweep(remembering, tmp_path / "sweep")
    for point in of(run, "Remembering"):
        assert min(point.agent_ns) >= 20e6, "every timed decision is on new inputs"
        assert statistics.median(point.repeated_ns) < 10e6 < statistics.median(point.distinct_ns)
    result = summarise([run])
    marks = {(s.subject, s.batch, s.context): s.audit for s in result.spots}
    assert {mark for (subject, *_), mark in marks.items() if subject == 0} == {"failed"}
    assert all(spot.repeated is not None for spot in result.spots)
    assert not result.crossings, "a marked row enters no crossover"
    assert {fit.subject for fit in result.fits} == {1}, "and no control rate"


@pytest.mark.slow
def test_a_sweep_that_was_begun_by_an_earlier_version_is_resumed_by_its_own_rule(
    remembering: LatencyRequest, tmp_path: Path
) -> None:
    plan, inputs = make_plan(remembering, lambda text: None)
    LatencyWriter.create(tmp_path / "old", dataclasses.replace(plan, distinct=False), inputs).close()
    run = resume(tmp_path / "old")
    assert {p.context for p in run.points() if p.repeated_ns} == {3}
    result = summarise([run])
    marked = {(s.batch, s.context) for s in result.spots if s.subject == 0 and s.audit == "failed"}
    assert marked >= {(1, 3), (1, 6), (4, 3), (4, 6)}, "the audit at one context is held against all"
