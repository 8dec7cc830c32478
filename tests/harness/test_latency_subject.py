"""What is timed is an agent at a context that it has really read, and timing changes nothing of it."""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lram.agents.acting.captured_decision import CapturedDecision
from lram.agents.acting.lanes import LaneStates
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.captured import CapturedStep, Run
from lram.agents.backbones.states import State, take, tensors
from lram.agents.backbones.stepping import Stepper
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.compute import Compute
from lram.agents.factory import create_agent
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset
from lram.harness.latency.feed import feed_of
from lram.harness.latency.folder import LatencyWriter
from lram.harness.latency.plan import LatencyRequest, make_plan
from lram.harness.latency.records import Effort, LatencyPlan
from lram.harness.latency.session import LatencySession, episodes_of
from lram.harness.timing.agents import TimedModel, digest_of, make_timed_agent
from lram.harness.timing.clock import Stopwatch
from lram.harness.timing.inputs import Inputs
from lram.harness.timing.sampling import time_in_turns

AGENTS = (
    "xlstm[1:1,layers=2]-1M",
    "mamba[layers=2]-1M",
    "gru[layers=2]-1M",
    "transformer[full,layers=2]-1M",
    "transformer[recompute,layers=2]-1M",
    "transformer[ring,layers=2]-1M",
)
TRAINED = "small-transformer"
"""Acts otherwise on other inputs, where what nobody trained acts alike on all."""

EFFORT = Effort(seconds=0.01, most=6, least=3, warm_up_s=0.01)
CONTEXTS = (4, 11)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


Planned = tuple[LatencyPlan, Inputs, Path]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    return made_plan("toy/reach", tmp_path_factory.mktemp("latency") / "sweep")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    return made_plan("toy/image", tmp_path_factory.mktemp("latency") / "sweep")


def made_plan(task: str, folder: Path) -> Planned:
    request = LatencyRequest(
        [*AGENTS, TRAINED, "random"],
        contexts=CONTEXTS,
        batches=(1, 3),
        task=task,
        repeats=1,
        loop=False,
        effort=EFFORT,
    )
    with pytest.MonkeyPatch.context() as patch:  # the gate has tests of its own
        patch.setattr("lram.harness.latency.plan.pass_gate", lambda agents: {})
        plan, inputs = make_plan(request, lambda text: None)
    LatencyWriter.create(folder, plan, inputs).close()
    return plan, inputs, folder


def subject_of(name: str, plan: LatencyPlan, inputs: Inputs, batch: int = 1) -> TimedModel:
    agent = create_agent(name, seed=plan.seed, compute=plan.compute("auto", batch))
    subject = make_timed_agent(
        agent,
        episodes_of(plan, batch),
        inputs,
        feed_of(plan, batch, inputs).past,
        fitted=plan.windows == "whole",
        longest=plan.contexts[-1],
    )
    assert isinstance(subject, TimedModel)
    return subject


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch", "what"),
    [
        *((name, batch, "planned") for name in (*AGENTS, "random") for batch in (1, 3)),
        (TRAINED, 3, "planned"),
        # To encode pictures is what takes the time; every kind of context meets them.
        ("xlstm[1:1,layers=2]-1M", 1, "pictured"),
        ("transformer[full,layers=2]-1M", 3, "pictured"),
        ("transformer[recompute,layers=2]-1M", 1, "pictured"),
    ],
)
def test_timed_actions_are_those_of_an_agent_that_nobody_times(
    name: str, batch: int, what: str, request: pytest.FixtureRequest
) -> None:
    plan, inputs, folder = request.getfixturevalue(what)
    job = next(job for job in plan.jobs() if (job.agent, job.batch) == (name, batch))
    session = LatencySession(plan, job, plan.contexts, folder)
    timed = {context: session.point(context).actions for context in plan.contexts}

    # The same life by hand: every timestep of the past by ``act``, then the decisions.
    agent = create_agent(name, seed=plan.seed, compute=plan.compute("auto", batch))
    feed = feed_of(plan, batch, inputs)
    subject = make_timed_agent(
        agent, episodes_of(plan, batch), inputs, feed.past, fitted=True, longest=plan.contexts[-1]
    )

    def acted(context: int, shown: int) -> str:
        feed.at(context)
        assert subject.reach(context) == context
        actions = []
        for decision in range(3):
            subject.ready()
            actions.append(subject.act(*feed.decision(shown + decision)))
        subject.leave()
        return digest_of(actions)

    for context in plan.contexts:
        assert timed[context] == acted(context, context)
        if name == TRAINED:
            assert timed[context] != acted(context, context + 1), "inputs of another timestep would pass"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba[layers=2]-1M", "transformer[full,layers=2]-1M"])
def test_what_a_compiler_does_is_no_decision(name: str, planned: Planned) -> None:
    plan, _, folder = planned
    plan = dataclasses.replace(plan, effort=dataclasses.replace(EFFORT, slow_s=0.5))
    job = next(job for job in plan.jobs() if (job.agent, job.batch) == (name, 1))
    plain = LatencySession(plan, job, plan.contexts, folder)
    actions = [plain.point(context).actions for context in plan.contexts]
    session = LatencySession(plan, job, plan.contexts, folder)
    subject = session._subject
    assert isinstance(subject, TimedModel)
    stepper, met = subject._agent.stepper, set()

    def compiling(x, past, valid):
        shapes = tuple(one.shape for one in tensors(past))
        if shapes not in met:
            met.add(shapes)
            time.sleep(0.6)
        return stepper.call(x, past, valid)

    start = subject._start

    def started(context):
        state = start(context)
        subject._agent = subject._agent.with_stepper(
            dataclasses.replace(stepper, form="compile", call=compiling)
        )
        return state

    subject._start = started  # type: ignore[method-assign]
    for context, expected in zip(plan.contexts, actions, strict=True):
        point = session.point(context)
        assert point.facts["form"] == "compile"
        assert len(point.agent_ns) >= 3, "the compiler's time was taken for a slow decision's"
        assert max(point.agent_ns) < 0.5e9
        assert point.read == context
        assert point.actions == expected


@pytest.mark.parametrize(
    "name", ["mamba[layers=2]-1M", pytest.param("transformer[full,layers=2]-1M", marks=pytest.mark.slow)]
)
def test_what_is_recorded_is_recorded_before_decisions_are_timed(
    name: str, planned: tuple[LatencyPlan, Inputs, Path]
) -> None:
    """At every context, for the agent's step and for the model's own; later decisions play it."""
    plan, _, folder = planned
    job = next(job for job in plan.jobs() if (job.agent, job.batch) == (name, 1))
    session, made = LatencySession(plan, job, plan.contexts, folder), list[int]()
    subject = session._subject
    assert isinstance(subject, TimedModel)
    start, settle, settled = subject._start, session._settle, list[int]()

    def recording(run: Run, state: State) -> Run:
        made.append(1)
        return run

    def started(context: int) -> LaneStates:
        state, agent = start(context), subject._agent
        step = CapturedStep(agent.model.backbone, recording)
        subject._agent = agent.with_stepper(Stepper("captured", "recorded", step))
        decision = CapturedDecision(agent.model, step, 1)
        subject._agent.reader = dataclasses.replace(subject._agent.reader, decision=decision)
        return state

    def noted() -> None:
        settle()
        settled.append(len(made))

    subject._start, session._settle = started, noted  # type: ignore[method-assign]
    for number, context in enumerate(plan.contexts, 1):
        assert session.point(context).read == context
        assert len(settled) == number
        assert settled[-1] == len(made) == 2 * number, "something was recorded while decisions were timed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["xlstm[1:1,layers=2]-1M", "mamba[layers=2]-1M", "transformer[full,layers=2]-1M"]
)
def test_a_context_that_was_reached_is_that_of_real_decisions(name: str, planned: Planned) -> None:
    plan, inputs, _ = planned
    subject = subject_of(name, plan, inputs)
    for context in plan.contexts:
        subject.reach(context)
        reached = take(subject.reached.blocks[0], [0])
        subject.ready()
        subject.act(*inputs.seen([0]))
        subject.leave()

    agent = create_agent(name, seed=plan.seed, compute=plan.compute("auto", 1))
    assert isinstance(agent, ModelAgent)
    state = agent.start(1)
    agent.reset(state, [0], subject.episodes)
    for timestep in range(plan.contexts[-1]):
        _, state = agent.act(state, *inputs.seen([timestep]), [0])
        agent.took(state, [0], [inputs.action(timestep)])
    for ours, lived in zip(tensors(reached), tensors(state.blocks[0]), strict=True):
        slots = ours.shape[-2] if ours.dim() > 2 and ours.shape != lived.shape else None
        theirs = lived if slots is None else lived[..., :slots, :]
        read = plan.contexts[-1] * 3 - 1
        same = slice(None) if slots is None else slice(read)
        torch.testing.assert_close(
            ours if slots is None else ours[..., same, :],
            theirs if slots is None else theirs[..., same, :],
            rtol=2e-3,
            atol=2e-4,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["transformer[full,layers=2]-1M", "transformer[recompute,layers=2]-1M", "transformer[ring,layers=2]-1M"],
)
def test_a_transformer_is_taken_back_to_its_context(name: str, planned: Planned) -> None:
    plan, inputs, _ = planned
    subject = subject_of(name, plan, inputs)
    subject.reach(11)
    assert subject.held
    results = []
    for place in (3, 7, 3, 5, 3):
        subject.ready()
        logits = subject.model_step(*inputs.seen([place]))()
        results.append(logits)
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[0], results[4])
    assert not torch.equal(results[0], results[1])
    subject.ready()
    assert int(subject.reached.blocks[0]["count"]) == 3 * 11 - 1


@pytest.mark.slow
def test_a_recurrent_state_goes_on_and_comes_back_bit_for_bit(
    planned: Planned,
) -> None:
    plan, inputs, _ = planned
    subject = subject_of("xlstm[1:1,layers=2]-1M", plan, inputs)
    subject.reach(4)
    before = [one.clone() for one in tensors(subject.reached.blocks[0])]
    subject.ready()
    subject.act(*inputs.seen([1]))
    assert not subject.held
    assert not all(map(torch.equal, before, tensors(subject.reached.blocks[0])))
    subject.leave()
    assert all(map(torch.equal, before, tensors(subject.reached.blocks[0])))


def test_caches_and_windows_are_as_long_as_the_context_needs(
    planned: Planned,
) -> None:
    plan, inputs, _ = planned
    full, anew = (
        subject_of(f"transformer[{kind},layers=2]-1M", plan, inputs) for kind in ("full", "recompute")
    )
    sizes = []
    for context in plan.contexts:
        for subject in (full, anew):
            subject.reach(context)
        assert full.reached.blocks[0]["keys"].shape[3] == 3 * (context + 1) - 1
        assert anew.reached.blocks[0]["tokens"].shape[1] == 3 * (context + 1)
        sizes.append((full.state_bytes(), anew.state_bytes()))
        for subject in (full, anew):
            subject.leave()
    assert sizes[1][0] > 2 * sizes[0][0]
    assert sizes[1][1] > 2 * sizes[0][1]


def test_a_table_of_positions_that_is_too_short_is_lengthened(
    planned: Planned,
) -> None:
    plan, inputs, _ = planned
    config = dataclasses.replace(
        parse_preset("transformer[full,layers=2]-1M"),
        backbone=TransformerConfig(heads=4, window=20, max_positions=20, cache="full"),
    )
    agent = ModelAgent(
        build_model(config, 0), trained=False, description="tiny", digest="", compute=Compute(rows=1)
    )
    feed = feed_of(plan, 1, inputs)
    subject = make_timed_agent(agent, episodes_of(plan, 1), inputs, feed.past, fitted=True, longest=11)
    assert isinstance(subject, TimedModel)
    subject.reach(11)
    assert subject.held
    assert len(subject.act(*inputs.seen([0]))) == 1
    own = make_timed_agent(agent, episodes_of(plan, 1), inputs, feed.past, fitted=False, longest=11)
    assert isinstance(own, TimedModel)
    own.reach(11)
    assert own.reached.blocks[0]["keys"].shape[3] <= 20, "left as it is, it starts again when it is full"
    assert own.facts["past"].startswith("keys and values of up to 20 tokens, then restarts")


def test_lanes_see_distinct_frames_and_the_recording_is_the_tasks(pictured: Planned) -> None:
    plan, inputs, _ = pictured
    assert len(inputs) == plan.recorded
    for timestep in (0, 5, len(inputs) - 1, 3 * len(inputs)):
        places = inputs.places(timestep, 16)
        assert len(set(places.tolist())) == 16
    assert len({one.tobytes() for one in inputs.observations}) > 10
    assert np.abs(inputs.rewards).sum() > 0


def test_repeated_and_distinct_inputs_take_about_the_same_time(
    planned: Planned,
) -> None:
    plan, inputs, _ = planned
    subject = subject_of("mamba[layers=2]-1M", plan, inputs)
    subject.reach(4)
    place = iter(range(1000))
    repeated, distinct = time_in_turns(
        Stopwatch(),
        lambda: lambda: subject.act(*inputs.seen([0])),
        lambda: lambda: subject.act(*inputs.seen([next(place) % len(inputs)])),
        seconds=5.0,
        least=40,
        most=40,
    )
    # Loose, for machines with other work: what it finds is a cache of inputs or of results.
    assert 1 / 3 < statistics.median(repeated) / statistics.median(distinct) < 3
