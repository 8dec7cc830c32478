"""Make an extrapolation and go on with it: validity, then losses, then scores; nothing is done twice."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.agents.contexts import MODES, Mode
from lram.harness import evaluation
from lram.harness.computing import facts
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine
from lram.harness.extrapolation.folder import SCORES, Extrapolation, Writer, check_vacant
from lram.harness.extrapolation.records import SCHEMA, Candidate, ExtrapolationPlan, Source, Stretch
from lram.harness.gate import as_model
from lram.harness.plan import Request, build_agent, labelled_specs, make_plan
from lram.harness.progress import Progress, quiet
from lram.harness.provenance import collect
from lram.harness.store import RunWriter
from lram.harness.training import task_patterns

if TYPE_CHECKING:
    from lram.agents.model_agent import ModelAgent
    from lram.agents.trajectories import TrajectoryStore


LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class ExtrapolationRequest:
    """What a user asks for.

    Attributes:
        agents: Action models, each plain or as ``label=specification``.
        tasks: A selection to play, and to take of the trajectories; empty: nothing is played.
        contexts: Timesteps of the limited contexts.
        modes: ``window``, ``reset``, ``carry``.
        stores: Folders of trajectory stores; empty: no losses.
        policies: Patterns of the names of those that acted in them.
        trajectories: Stretches of each task that losses are measured on.
        episodes: Of every agent with every context on every task.
        seed: Names the initial states and everything random.
        trained: Trained length of all agents (None: as their cards tell).
        protocols: Protocol by domain, where it is not the domain's default.
    """

    agents: Sequence[str]
    tasks: Sequence[str] = ()
    contexts: Sequence[int] = (25, 50, 100, 200, 400)
    modes: Sequence[str] = MODES
    stores: Sequence[str | Path] = ()
    policies: Sequence[str] = ("*",)
    trajectories: int = 10
    episodes: int = 10
    seed: int = 0
    trained: int | None = None
    protocols: Mapping[str, str] = field(default_factory=dict)


def extrapolate(
    request: ExtrapolationRequest,
    output: str | Path,
    *,
    machine: Machine | None = None,
    progress: Progress = quiet,
) -> Extrapolation:
    """Measure what the request asks for into a new folder.

    Raises:
        LramError: Bad input, or a model without parity, and nothing was written.
        AgentError: A store or a checkpoint cannot be read, likewise.
    """
    machine = machine or Machine()
    machine.check()
    evaluation.calm_threads()
    folder = Path(output)
    check_vacant(folder)
    plan = _plan(request, machine)
    scores = _scores_plan(plan, request, machine)
    with Writer.create(folder, plan) as writer:
        if scores is not None:
            RunWriter.create(folder / SCORES, scores).close()
        _go_on(writer, machine, progress)
    return Extrapolation(folder)


def resume(path: str | Path, *, machine: Machine | None = None, progress: Progress = quiet) -> Extrapolation:
    """Measure what an extrapolation still misses.

    Raises:
        LramError: It is none or in use, its stores have changed, or an agent is not the one that it was
            started with.
    """
    found = Extrapolation(path)
    plan = found.plan
    machine = machine or replace(Machine(), **asdict(plan.compute), threads=plan.threads)
    machine.check()
    evaluation.calm_threads()
    with Writer(found) as writer:
        if plan.tasks and found.scores is None:  # it was ended between the two
            raise LramError(f"{found.path} was ended before it was whole; remove it and start again")
        _go_on(writer, machine, progress)
    return Extrapolation(path)


def _go_on(writer: Writer, machine: Machine, progress: Progress) -> None:
    found, plan = writer.of, writer.of.plan
    losses, checked = found.missing_losses(), {record.agent for record in found.validity()}
    unchecked = [agent for agent in plan.agents if agent.label not in checked]
    if losses or unchecked:
        # Before hours of play: a model that breaks down shows here in minutes.
        stores = _opened(plan)
        with evaluation.threads(machine.threads):
            models = {agent.label: _built(agent, plan, machine) for agent in plan.agents}
            computed = {
                label: facts(model.info, machine.compute(), machine.threads)
                for label, model in models.items()
            }
            writer.write_provenance(collect(asdict(machine), {}, compute=computed))
            _check(writer, unchecked, models, stores)
            _losses(writer, models, stores)
    run = found.scores
    if run is not None and run.missing():
        evaluation.resume(run, machine=machine, progress=progress)


def _check(
    writer: Writer,
    agents: Sequence[Candidate],
    models: Mapping[str, ModelAgent],
    stores: Sequence[TrajectoryStore],
) -> None:
    from lram.harness.extrapolation.validity import check

    for agent in agents:
        record = check(models[agent.label], agent.label, writer.of.plan, stores)
        writer.append(record)
        last = record.points[-1]
        verdict = "holds" if record.holds else "does NOT hold"
        _say(f"{agent.label}: step equals forward {verdict} up to {last.timesteps} timesteps")


def _losses(writer: Writer, models: Mapping[str, ModelAgent], stores: Sequence[TrajectoryStore]) -> None:
    plan, missing = writer.of.plan, writer.of.missing_losses()
    if not missing:
        return
    from lram.harness.extrapolation.losses import measure

    trained = {agent.label: agent.trained for agent in plan.agents}
    _say(f"{len(missing)} readings of {len(plan.stretches)} trajectories by {len(plan.agents)} models")
    told = time.monotonic()
    for done, item in enumerate(missing, start=1):
        stretch = plan.stretches[item.stretch]
        writer.append(measure(models[item.agent].model, stores, stretch, item, trained[item.agent]))
        if time.monotonic() - told >= LINE_EVERY_S:
            told = time.monotonic()
            _say(f"{done}/{len(missing)} readings")


def _plan(request: ExtrapolationRequest, machine: Machine) -> ExtrapolationPlan:
    modes = _modes(request.modes)
    contexts = tuple(sorted(set(request.contexts)))
    for name, numbers in (
        ("context", contexts),
        ("--trajectories", (request.trajectories,)),
        ("--episodes", (request.episodes,)),
        ("--trained", () if request.trained is None else (request.trained,)),
    ):
        for number in numbers:
            if number < 1:
                raise LramError(f"{name} is {number}; it must be 1 or more")
    if not contexts:
        raise LramError("no context is given; name some, such as --contexts 25,50,100,200")
    if not request.tasks and not request.stores:
        raise LramError(
            "there is nothing to measure; give tasks to play with --tasks, trajectories with --data"
        )
    built = {
        label: (spec, build_agent(spec, request.seed, machine.compute()))
        for label, spec in labelled_specs(list(request.agents)).items()
    }
    models: dict[str, tuple[str, ModelAgent]] = {}
    for label, (spec, agent) in built.items():
        model = as_model(agent)
        if model is None or model is not agent:
            raise LramError(
                f"{label} is no action model whose state is carried, so there is no context to change; "
                "give checkpoints, shipped models or presets, without noise"
            )
        assert isinstance(spec, str)
        models[label.removesuffix("@carry")] = (spec.removesuffix("@carry"), model)
    cards = {label: _card(spec) for label, (spec, _) in models.items()}
    agents = tuple(
        Candidate(label, spec, model.info, *_trained(cards[label], request.trained))
        for label, (spec, model) in models.items()
    )
    stores, stretches, unseen = _stretches(request, agents, [m for _, m in models.values()], cards)
    return ExtrapolationPlan(
        schema=SCHEMA,
        seed=request.seed,
        agents=agents,
        contexts=contexts,
        modes=modes if request.tasks else (),
        tasks=tuple(request.tasks),
        episodes=request.episodes if request.tasks else 0,
        stores=stores,
        stretches=stretches,
        unseen=unseen,
        compute=machine.compute(),
        threads=machine.threads,
    )


def _modes(names: Sequence[str]) -> tuple[Mode, ...]:
    for name in names:
        if name not in MODES:
            raise LramError(f"there is no mode {name!r}; choose of {', '.join(MODES)}")
    if not names:
        raise LramError(f"no mode is given; choose of {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in names)


def _card(spec: str) -> Mapping[str, Any]:
    """Return the card of the checkpoint that ``spec`` names; empty for untrained models and own code."""
    from lram.agents.checkpoint import load_checkpoint
    from lram.agents.shipped import shipped_checkpoints

    folder = shipped_checkpoints().get(spec, Path(spec))
    if not folder.is_dir():
        return {}
    return load_checkpoint(folder)[1].card


def _trained(card: Mapping[str, Any], told: int | None) -> tuple[int | None, str]:
    from lram.harness.extrapolation.trajectories import trained_length

    if told is not None:
        return told, "--trained"
    length = trained_length(card)
    return length, "" if length is None else "the recipe in its card"


def _stretches(
    request: ExtrapolationRequest,
    agents: Sequence[Candidate],
    models: Sequence[ModelAgent],
    cards: Mapping[str, Mapping[str, Any]],
) -> tuple[tuple[Source, ...], tuple[Stretch, ...], str]:
    if not request.stores:
        return (), (), ""
    from lram.agents.trajectories import TrajectoryStore
    from lram.harness.extrapolation.trajectories import Wanted, choose

    stores = [TrajectoryStore(Path(path).resolve()) for path in request.stores]
    wanted = Wanted(
        tasks=task_patterns(request.tasks) if request.tasks else (),
        policies=tuple(request.policies),
        per_task=request.trajectories,
        longer_than=max((agent.trained or 0 for agent in agents), default=0),
        seed=request.seed,
        state_width=min(model.model.config.state_width for model in models),
    )
    stretches, unseen = choose(stores, cards, wanted)
    return tuple(Source(str(store.path), store.digest) for store in stores), stretches, unseen


def _scores_plan(plan: ExtrapolationPlan, request: ExtrapolationRequest, machine: Machine) -> Any:
    """Return the plan of the run that plays every agent with every context; None where nothing is played."""
    if not plan.tasks:
        return None
    variants = {
        agent.variant(context): f"{agent.spec}{context.suffix}"
        for agent in plan.agents
        for context in plan.variants()
    }
    made, built = make_plan(
        Request(
            agents=variants,
            tasks=list(plan.tasks),
            episodes=plan.episodes,
            seed=plan.seed,
            protocols=request.protocols,
            interpreters=machine.interpreters,
            compute=machine.compute(),
            threads=machine.threads,
        )
    )
    evaluation.checked(built, made.items(), machine)
    return made


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


def _built(agent: Candidate, plan: ExtrapolationPlan, machine: Machine) -> ModelAgent:
    model = as_model(build_agent(agent.spec, plan.seed, machine.compute()))
    if model is None or model.info.digest != agent.info.digest:
        raise LramError(
            f"{agent.label} is not the model that the extrapolation was started with; put its files and "
            "--precision back, or start a new one"
        )
    return model


def _say(line: str) -> None:
    with suppress(OSError):  # a reader that is gone must not end it
        print(f"lram: {line}", file=sys.stderr, flush=True)
