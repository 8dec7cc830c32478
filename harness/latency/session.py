"""What one process of a sweep does at each context: read it, warm up, and time three clocks."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from lram.agents.api import Action, Episode
from lram.agents.factory import create_agent
from lram.harness.latency import inputs as recorded
from lram.harness.latency.feed import TURNS, feed_of
from lram.harness.latency.records import OK, SCHEMA, Job, LatencyPlan, LatencyPoint
from lram.harness.latency.simulators import Simulators
from lram.harness.rollout.translation import task_spec
from lram.harness.storage import seeds
from lram.harness.timing.agents import digest_of, make_timed_agent
from lram.harness.timing.clock import stopwatch
from lram.harness.timing.energy import Energy, EnergyMeter
from lram.harness.timing.fresh_process import THREAD_VARIABLES
from lram.harness.timing.inputs import Shown
from lram.harness.timing.load import LoadWatch
from lram.harness.timing.memory import MemoryMeter
from lram.harness.timing.sampling import time_decisions, time_in_turns
from lram.harness.timing.warm_up import WarmUpRule, warm_up

FIRST = 3
"""Decisions whose actions are kept: the least that a warm-up of a fast agent has."""

_RECORDED = ("captured", "triton")
_COMPILED = ("compile", "graphs", *_RECORDED)


def warm_up_rule(seconds: float) -> WarmUpRule:
    """Return a sweep's rule: stable or not, no decision is begun that is not worth its time.

    Of an agent whose first decision takes longer than ``seconds``, that one is the whole warm-up.
    """
    return WarmUpRule(seconds=seconds, first_s=seconds)


def episodes_of(plan: LatencyPlan, batch: int) -> list[Episode]:
    """Return what each of ``batch`` lanes plays."""
    task = task_spec(plan.task)
    return [Episode(task, seeds.agent_seed(plan.seed, task.id, lane, 0)) for lane in range(batch)]


class LatencySession:
    """An agent with its inputs and clocks; see :meth:`point`."""

    def __init__(self, plan: LatencyPlan, job: Job, contexts: Sequence[int], folder: Path) -> None:
        """Build the agent.

        Args:
            plan: Of the sweep.
            job: What this process measures.
            contexts: Those that are still to be measured.
            folder: Of the sweep.
        """
        torch.set_num_threads(plan.threads)
        self._plan, self._job, self._folder = plan, job, folder
        self._inputs = recorded.read(folder, plan.inputs)
        self._feed = feed_of(plan, job.batch, self._inputs)
        compute = plan.compute(job.step, job.batch)
        self._subject = make_timed_agent(
            create_agent(plan.entry(job.agent).spec, seed=plan.seed, compute=compute),
            episodes_of(plan, job.batch),
            self._inputs,
            self._feed.past,
            fitted=plan.windows == "whole",
            longest=max(plan.contexts),
        )
        self._last = contexts[-1]
        self._meter = MemoryMeter(torch.device(plan.device))
        self._energy = EnergyMeter(torch.device(plan.device))
        self._watch = stopwatch(plan.device)
        self._timestep = 0
        self._settled = False
        self._simulators: Simulators | None = None
        self._stack = ExitStack()
        # What the libraries have made stays: without it, each collection before a clock takes 0.1 s.
        gc.collect()
        gc.freeze()

    @contextmanager
    def simulators_closed(self) -> Iterator[None]:
        """End the simulators afterwards."""
        with self._stack:
            yield

    def point(self, context: int) -> LatencyPoint:
        """Reach ``context`` and measure there."""
        plan, effort, subject = self._plan, self._plan.effort, self._subject
        started, begun = time.time(), time.perf_counter()
        self._feed.at(context)
        read = subject.reach(context)
        reach_s = time.perf_counter() - begun
        self._timestep = read
        self._settle()
        load, resident = LoadWatch(), self._meter.reset()
        first: list[list[Action]] = []

        def noted() -> Callable[[], object]:
            decide = self._agent_step()

            def step() -> None:
                actions = decide()
                if len(first) < FIRST:
                    first.append(actions)

            return step

        warm = warm_up(self._watch, noted, warm_up_rule(effort.warm_up_s))
        slow = warm.typical_ns > 1e9 * effort.slow_s
        agent_ns: tuple[int, ...] = (warm.typical_ns,)  # slow ones: what was to warm up is what is measured
        energy = Energy()
        if not slow:
            self._energy.reset()
            agent_ns = time_decisions(
                self._watch, noted, seconds=effort.seconds, least=effort.least, most=effort.most
            )
            energy = self._energy.energy()
        state_bytes = subject.state_bytes()
        peak, seen = self._meter.peak(), load.load()
        model_ns: tuple[int, ...] = ()
        loop_ns: tuple[int, ...] = ()
        turns: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        if not slow:
            model_ns = self._model_clock()
            # Sweeps of earlier versions are resumed as they were begun: once.
            if plan.distinct or context == plan.contexts[0]:
                turns = time_in_turns(
                    self._watch,
                    lambda: self._agent_step(self._feed.repeated()),
                    self._agent_step,
                    seconds=effort.seconds / 2,
                    least=effort.least,
                    most=TURNS,
                )
            if plan.loop:
                loop_ns = self._loop_clock()
        if context != self._last:
            subject.leave()
        return LatencyPoint(
            schema=SCHEMA,
            job=self._job,
            context=context,
            outcome=OK,
            read=read,
            held=subject.held,
            agent_ns=agent_ns,
            model_ns=model_ns,
            loop_ns=loop_ns,
            repeated_ns=turns[0],
            distinct_ns=turns[1],
            reach_s=reach_s,
            warm=warm.stable,
            warm_up=warm.decisions,
            state_bytes=state_bytes,
            weight_bytes=subject.weight_bytes,
            resident_bytes=resident,
            peak_bytes=peak,
            energy_j=energy.joules,
            energy_s=energy.seconds,
            actions=digest_of(first) if len(first) == FIRST else "",
            load=seen,
            started=started,
            facts={**subject.facts, **({"energy": energy.why_not} if energy.why_not else {})},
        )

    def _settle(self) -> None:
        """Decide in vain, for what is loaded or compiled by the first decision, and go back to the context.

        A compiler works for the shapes and the layout that it first meets: again at another context, and
        for a state that was read from disk; what is recorded is for the addresses of a context, and the
        model's own step is another recording. Other agents than models have read by decisions.
        """
        form = self._subject.facts.get("form")
        if form is None or (self._settled and form not in _COMPILED):
            return
        for rounds in range(2 if form in _COMPILED else 1):
            for number in range(2):
                shown = self._feed.settling(2 * rounds + number)
                self._watch.time(lambda shown=shown: self._agent_step(shown))  # type: ignore[misc]
                if form in _RECORDED:
                    self._subject.ready()
                    self._watch.time(lambda shown=shown: self._subject.model_step(*shown))  # type: ignore[misc, arg-type]
            self._subject.leave()
        self._settled = True

    def _agent_step(self, shown: Shown | None = None) -> Callable[[], list[Action]]:
        """Make a decision on what is ``shown`` ready; None: on the next input."""
        observations, rewards = self._next() if shown is None else shown
        self._subject.ready()
        return lambda: self._subject.act(observations, rewards)

    def _next(self) -> Shown:
        self._timestep += 1
        return self._feed.decision(self._timestep - 1)

    def _model_clock(self) -> tuple[int, ...]:
        effort = self._plan.effort

        def prepare() -> Callable[[], object]:
            shown = self._next()
            self._subject.ready()
            step = self._subject.model_step(*shown)
            assert step is not None
            return step

        if self._subject.model_step(*self._next()) is None:
            return ()
        warm_up(self._watch, prepare, warm_up_rule(effort.warm_up_s / 2))
        return time_decisions(
            self._watch, prepare, seconds=effort.seconds / 2, least=effort.least, most=effort.most
        )

    def _loop_clock(self) -> tuple[int, ...]:
        plan = self._plan
        if self._simulators is None:
            # They inherit the variables of this process, whose own libraries have long read theirs: one core
            # for each simulator, as in runs.
            os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
            logs = self._folder / "logs" / _plain(str(self._job))
            logs.mkdir(parents=True, exist_ok=True)
            seed = seeds.derive("latency loop", plan.seed)
            self._simulators = self._stack.enter_context(
                Simulators(plan.task, self._job.batch, seed, logs, plan.interpreters)
            )
        simulators = self._simulators

        def prepare() -> Callable[[], object]:
            simulators.renew()
            self._subject.ready()
            observations, rewards = list(simulators.observations), list(simulators.rewards)
            return lambda: simulators.step(self._subject.act(observations, rewards))

        self._watch.time(prepare)
        return time_decisions(
            self._watch, prepare, seconds=plan.effort.seconds / 3, least=3, most=plan.effort.most
        )


def _plain(text: str) -> str:
    """Return ``text`` as a folder's name."""
    return "".join(sign if sign.isalnum() else "-" for sign in text)
