"""The clocks of ``lram latency``: known times are measured as what they are, on any device."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from lram.harness.latency.plan import LatencyRequest
from lram.harness.latency.records import Effort
from lram.harness.latency.session import warm_up_rule
from lram.harness.latency.sweep import sweep
from lram.harness.timing.clock import Stopwatch
from lram.harness.timing.sampling import time_decisions, time_in_turns
from lram.harness.timing.warm_up import warm_up

SLEEP_S = 0.02


class FakeDevice:
    """Takes work and returns at once; ``synchronise`` waits until all of it is done."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def launch(self) -> None:
        self._last = self._thread.submit(time.sleep, SLEEP_S)

    def synchronise(self) -> None:
        if self._last is not None:
            self._last.result()


def test_a_device_that_answers_later_is_waited_for() -> None:
    device = FakeDevice()
    watch = Stopwatch(device.synchronise)
    taken = time_decisions(watch, lambda: device.launch, seconds=10, least=5, most=5)
    assert min(taken) >= 1e9 * SLEEP_S
    # What the test is about: without waiting, the same work seems to cost nothing.
    assert statistics.median(Stopwatch().time(lambda: device.launch) for _ in range(5)) < 0.5e9 * SLEEP_S


def test_work_that_was_queued_before_is_not_part_of_a_decision() -> None:
    device = FakeDevice()

    def prepare() -> Callable[[], object]:
        device.launch()
        return lambda: None

    watch = Stopwatch(device.synchronise)
    assert statistics.median(watch.time(prepare) for _ in range(5)) < 0.5e9 * SLEEP_S


SLEEPER = """
import os, time
from pathlib import Path

from lram.agents.api import AgentInfo
from lram.agents.experts.baselines import RandomAgent


class Sleeper(RandomAgent):
    def act(self, state, observations, rewards, lanes):
        begun = time.perf_counter_ns()
        time.sleep(0.04)
        taken = time.perf_counter_ns() - begun
        with Path(os.environ["SLEPT"]).open("a") as file:
            file.write(f"{taken}\\n")
        return super().act(state, observations, rewards, lanes)
"""


@pytest.mark.slow
def test_an_agent_that_sleeps_a_known_time_is_measured_within_two_per_cent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleeping_agent.py").write_text(SLEEPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLEPT", str(tmp_path / "slept"))
    effort = Effort(seconds=0.6, most=15, least=10, warm_up_s=0.2)
    request = LatencyRequest(
        ["sleeping_agent:Sleeper"], contexts=(3,), batches=(2,), repeats=1, task="toy/reach", effort=effort
    )
    (point,) = sweep(request, tmp_path / "sweep").points()

    assert point.outcome == "ok"
    slept = [int(line) for line in (tmp_path / "slept").read_text().split()]
    first = point.context + point.warm_up
    truth = slept[first : first + len(point.agent_ns)]
    assert min(truth) >= 40e6
    ratios = [measured / real for measured, real in zip(point.agent_ns, truth, strict=True)]
    assert 1.0 <= statistics.median(ratios) <= 1.02
    assert min(point.loop_ns) >= 40e6, "the loop has the agent's step in it"


def test_warm_up_goes_on_until_times_are_stable() -> None:
    times = iter([100, 50, 20, 10, 10, 10, 10])
    now = itertools.accumulate(x for t in times for x in (0, t * 10**6))
    warm = warm_up(Stopwatch(clock=lambda: next(now)), lambda: lambda: None, warm_up_rule(1.0))
    assert (warm.decisions, warm.stable, warm.typical_ns) == (6, True, 10**7)


def test_warm_up_that_never_settles_is_said_not_to() -> None:
    now = itertools.accumulate(x for t in itertools.cycle([1, 2]) for x in (0, t * 10**6))
    warm = warm_up(Stopwatch(clock=lambda: next(now)), lambda: lambda: None, warm_up_rule(1.0))
    assert not warm.stable
    assert warm.decisions == 30


def test_a_cache_of_inputs_shows_in_the_turns() -> None:
    clock = [0]
    seen: set[int] = set()
    fresh = itertools.count(1)

    def decision(observation: int) -> Callable[[], object]:
        def decide() -> None:
            clock[0] += 10 if observation in seen else 100
            seen.add(observation)

        return decide

    repeated, distinct = time_in_turns(
        Stopwatch(clock=lambda: clock[0]),
        lambda: decision(0),
        lambda: decision(next(fresh)),
        seconds=1.0,
        least=9,
        most=9,
    )
    assert statistics.median(repeated) == 10
    assert statistics.median(distinct) == 100
