"""What an extrapolation is to measure: the models, their contexts, the trajectories that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.agents.acting.contexts import MODES, Mode
from lram.agents.devices import placed_in_turn
from lram.agents.seed import check_seed
from lram.harness import evaluation, waiting
from lram.harness.errors import LramError
from lram.harness.executors.local import LOCAL
from lram.harness.extrapolation.records import SCHEMA, Candidate, ExtrapolationPlan, Source, Stretch
from lram.harness.gate.equivalence import as_model, pass_gate
from lram.harness.machine import Machine, threads
from lram.harness.plan import RunRequest, agent_entry, build_agent, labelled_specs, plan_for
from lram.harness.training import task_patterns

if TYPE_CHECKING:
    from lram.agents.acting.model_agent import ModelAgent


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


def plan_of(request: ExtrapolationRequest, machine: Machine) -> ExtrapolationPlan:
    """Return what ``request`` asks for; LramError for bad input or a model that fails the gate."""
    check_seed(request.seed)
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
    specs, compute = labelled_specs(request.agents), machine.compute()
    devices = placed_in_turn(specs, compute.device)
    built = {
        label: (spec, build_agent(spec, request.seed, compute.on(devices[label])))
        for label, spec in specs.items()
    }
    models: dict[str, tuple[str, ModelAgent]] = {}
    for label, (spec, agent) in built.items():
        model = as_model(agent)
        if model is None or model is not agent:
            raise LramError(
                f"{label} is no action model whose state is carried, so there is no context to change; "
                "give checkpoints, shipped models or presets, without noise"
            )
        if not isinstance(spec, str):
            raise LramError(
                f"{label} is a Python object; name its checkpoint's folder, to continue from anywhere"
            )
        name = label.removesuffix("@carry")
        if name in models:
            raise LramError(f"{name} and {label} are the same; give it once, or under two labels")
        models[name] = (spec.removesuffix("@carry"), model)
    if not request.tasks:  # else the run of the scores lets them pass it
        with threads(machine.threads):
            pass_gate({label: agent for label, (_, agent) in models.items()})
    cards = {label: _card(spec) for label, (spec, _) in models.items()}
    agents = tuple(
        Candidate(
            label,
            spec,
            model.info,
            *_trained(cards[label], request.trained),
            reach=_reach(model),
            code=agent_entry(label, spec, model.info).code,
        )
        for label, (spec, model) in models.items()
    )
    widths = {label: model.model.config.state_width for label, (_, model) in models.items()}
    stores, stretches, unseen = _stretches(request, agents, widths, cards)
    return ExtrapolationPlan(
        schema=SCHEMA,
        seed=request.seed,
        agents=agents,
        contexts=_with_trained(contexts, modes, agents) if request.tasks else contexts,
        modes=modes if request.tasks else (),
        tasks=tuple(request.tasks),
        episodes=request.episodes if request.tasks else 0,
        stores=stores,
        stretches=stretches,
        unseen=unseen,
        compute=machine.compute(),
        threads=machine.threads,
        protocols=dict(request.protocols or {}),
    )


def _modes(names: Sequence[str]) -> tuple[Mode, ...]:
    for name in names:
        if name not in MODES:
            raise LramError(f"there is no mode {name!r}; choose of {', '.join(MODES)}")
    if not names:
        raise LramError(f"no mode is given; choose of {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in names)


def _with_trained(
    contexts: Sequence[int], modes: Sequence[Mode], agents: Sequence[Candidate]
) -> tuple[int, ...]:
    """Return ``contexts`` and the trained lengths: scores beyond them are compared with those at them."""
    if not set(modes) - {"carry"}:
        return tuple(contexts)
    missing = sorted({agent.trained for agent in agents if agent.trained} - set(contexts))
    if missing:
        lengths = ", ".join(map(str, missing))
        say(f"models were trained on {lengths} timesteps, so contexts of that length are played, too")
    return tuple(sorted([*contexts, *missing]))


def _reach(agent: ModelAgent) -> int | None:
    """Return how many timesteps the model's ``forward`` can read; None where nothing ends it."""
    config = agent.model.config
    longest = config.past.longest_forward
    return None if longest is None else longest // config.pass_tokens


def _card(spec: str) -> Mapping[str, Any]:
    """Return the card of the checkpoint that ``spec`` names; empty for untrained models and own code."""
    from lram.agents.checkpoints.description import read_card
    from lram.agents.checkpoints.shipped import shipped_checkpoints

    folder = shipped_checkpoints().get(spec, Path(spec))
    if not folder.is_dir():
        return {}
    return read_card(folder)


def _trained(card: Mapping[str, Any], requested: int | None) -> tuple[int | None, str]:
    from lram.harness.extrapolation.trajectories import trained_length

    if requested is not None:
        return requested, "--trained"
    length = trained_length(card)
    return length, "" if length is None else "the recipe in its card"


def _stretches(
    request: ExtrapolationRequest,
    agents: Sequence[Candidate],
    widths: Mapping[str, int],
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
        state_width=min(widths.values()),
        state_widths=widths,
    )
    stretches, unseen = choose(stores, cards, wanted)
    for agent in agents:
        longer = sum(not agent.reads(stretch) for stretch in stretches)
        if longer:
            say(
                f"{agent.label} reads {agent.reach} timesteps at once and no more (its learned positions end "
                f"there), so its losses leave out {longer} of {len(stretches)} trajectories"
            )
    if not any(agent.reads(stretch) for agent in agents for stretch in stretches):
        raise LramError(
            "every trajectory is longer than what these models can read at once, so there is no loss to "
            "measure; leave --data out"
        )
    return tuple(Source(str(store.path), store.digest) for store in stores), stretches, unseen


def scores_plan_of(plan: ExtrapolationPlan, machine: Machine) -> Any:
    """Return the plan of the run that plays every agent with every context; None where nothing is played."""
    if not plan.tasks:
        return None
    variants = {
        agent.variant(context): f"{agent.spec}{context.suffix}"
        for agent in plan.agents
        for context in plan.variants()
    }
    request_of_run = RunRequest(
        agents=variants,
        tasks=list(plan.tasks),
        episodes=plan.episodes,
        seed=plan.seed,
        protocols=plan.protocols,
    ).on(machine)
    with LOCAL.open(machine) as session:
        made, players = plan_for(request_of_run, session)
        evaluation.checked(session, players, made.items())
    return made


def say(line: str) -> None:
    """Print ``line`` on standard error."""
    waiting.say(f"lram: {line}")
