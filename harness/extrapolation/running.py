"""Make an extrapolation and continue with it: validity, then losses, then scores; nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lram.agents.compute import Compute
from lram.agents.devices import placed_in_turn
from lram.agents.places import placed
from lram.harness.computing import of_models
from lram.harness.errors import LramError
from lram.harness.extrapolation.folder import MARKER, SCORES, Extrapolation, Writer
from lram.harness.extrapolation.planning import ExtrapolationRequest, plan_of, say, scores_plan_of
from lram.harness.extrapolation.playing import play
from lram.harness.extrapolation.records import Candidate, ExtrapolationPlan
from lram.harness.gate.equivalence import as_model
from lram.harness.machine import Machine, calm_threads, threads
from lram.harness.plan import build_agent, check_code
from lram.harness.progress import Progress, quiet
from lram.harness.storage.provenance import collect
from lram.harness.storage.records import AgentEntry
from lram.harness.storage.run_folder import RunWriter
from lram.harness.trust import NONE, Trust, check_trusted
from lram.harness.waiting import LINE_EVERY_S, Pace, left, still
from lram.harness.words import command, count

if TYPE_CHECKING:
    from lram.agents.acting.model_agent import ModelAgent
    from lram.agents.trajectories import TrajectoryStore


def extrapolate(
    request: ExtrapolationRequest,
    output: str | Path,
    *,
    machine: Machine | None = None,
    progress: Progress = quiet,
) -> Extrapolation:
    """Measure what the request asks for into a new folder.

    What an agent that raised in play has not played is missing from the scores; that is said, and
    :func:`resume` tries it again.

    Raises:
        LramError: Bad input, or a model without step/forward equivalence, and nothing was written.
        AgentError: A store or a checkpoint cannot be read, likewise.
    """
    machine = machine or Machine()
    machine.check()
    calm_threads()
    folder = placed(output)
    Writer.check_vacant(folder)
    plan = plan_of(request, machine)
    scores = scores_plan_of(plan, machine)
    with Writer.create(folder, plan) as writer:
        if scores is not None:
            RunWriter.create(folder / SCORES, scores).close()
        _go_on(writer, machine, progress)
    return Extrapolation(folder)


def resume(
    path: str | Path, *, machine: Machine | None = None, progress: Progress = quiet, trust: Trust = NONE
) -> Extrapolation:
    """Measure what an extrapolation still misses.

    Args:
        path: Its folder.
        machine: How to spread the work (None: as it was started).
        progress: Told what happens.
        trust: What the caller vouches for, of the modules that its plan names.

    Raises:
        LramError: It is none or in use, its stores have changed, or an agent is not the one that it was
            started with.
    """
    found = Extrapolation(path)
    plan = found.plan
    machine = machine or replace(Machine(), **asdict(plan.compute), threads=plan.threads)
    machine.check()
    again = command("extrapolate", "--resume", found.path)
    check_trusted(found.path / MARKER, [agent.spec for agent in plan.agents], {}, trust, again)
    calm_threads()
    with Writer(found) as writer:
        if plan.tasks and found.scores is None:  # it was ended between the two
            if plan.protocols is None:
                raise LramError(
                    f"{found.path} was ended before it had its scores, by a version that did not note how "
                    "they are played; start a new one"
                )
            RunWriter.create(found.path / SCORES, scores_plan_of(plan, machine)).close()
        _go_on(writer, machine, progress, trust)
    return Extrapolation(found.path)


def _go_on(writer: Writer, machine: Machine, progress: Progress, trust: Trust = NONE) -> None:
    found, plan = writer.of, writer.of.plan
    losses, checked = found.missing_losses(), {record.agent for record in found.validity()}
    unchecked = [agent for agent in plan.agents if agent.label not in checked]
    if losses or unchecked:
        # Before hours of play: a model that breaks down shows here in minutes.
        stores = _opened(plan)
        with threads(machine.threads):
            compute = machine.compute()
            devices = placed_in_turn([agent.label for agent in plan.agents], compute.device)
            models = {
                agent.label: _built(agent, plan, compute.on(devices[agent.label])) for agent in plan.agents
            }
            computed = of_models(models, compute, machine.threads)
            writer.write_provenance(collect(asdict(machine), {}, compute=computed))
            _check(writer, unchecked, models, stores)
            _losses(writer, models, stores)
    if found.scores is not None:
        play(found.scores, machine, progress, say, trust)


def _check(
    writer: Writer,
    agents: Sequence[Candidate],
    models: Mapping[str, ModelAgent],
    stores: Sequence[TrajectoryStore],
) -> None:
    from lram.harness.extrapolation.validity import check

    for agent in agents:
        with still(f"{agent.label}: holding the step against forward"):
            record = check(models[agent.label], agent.label, writer.of.plan, stores)
        writer.append(record)
        last = record.points[-1]
        verdict = "holds" if record.holds else "does NOT hold"
        say(f"{agent.label}: step equals forward {verdict} up to {last.timesteps} timesteps")


def _losses(writer: Writer, models: Mapping[str, ModelAgent], stores: Sequence[TrajectoryStore]) -> None:
    plan, missing = writer.of.plan, writer.of.missing_losses()
    if not missing:
        return
    from lram.harness.extrapolation.losses import measure

    trained = {agent.label: agent.trained for agent in plan.agents}
    of = count(len(plan.stretches), "trajectory", "trajectories")
    say(f"{count(len(missing), 'reading')} of {of} by {count(len(plan.agents), 'model')}")
    logged = before = time.monotonic()
    pace = Pace()
    for done, item in enumerate(missing, start=1):
        stretch = plan.stretches[item.stretch]
        writer.append(measure(models[item.agent].model, stores, stretch, item, trained[item.agent]))
        now = time.monotonic()
        pace.add(now - before)
        before = now
        if now - logged >= LINE_EVERY_S:
            logged = now
            each = pace.seconds
            ahead = None if each is None else each * (len(missing) - done)
            say(f"{done}/{len(missing)} readings, {left(ahead)}")


def _opened(plan: ExtrapolationPlan) -> list[TrajectoryStore]:
    from lram.agents.trajectories import TrajectoryStore

    stores = [TrajectoryStore(source.path) for source in plan.stores]
    for store, source in zip(stores, plan.stores, strict=True):
        if store.digest != source.digest:
            raise LramError(
                f"{source.path} is not as it was when the extrapolation was started; put it back, or start "
                "a new one"
            )
    return stores


def _built(agent: Candidate, plan: ExtrapolationPlan, compute: Compute) -> ModelAgent:
    check_code(AgentEntry(agent.label, agent.spec, agent.info, agent.code))
    model = as_model(build_agent(agent.spec, plan.seed, compute))
    if model is None or model.info.digest != agent.info.digest:
        raise LramError(
            f"{agent.label} is not the model that the extrapolation was started with; put its files and "
            "--precision back, or start a new one"
        )
    return model
