"""``lram extrapolate``: what becomes of models beyond the context that they were trained on."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lram.agents.acting.contexts import MODES
from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import (
    DEFAULT_MACHINE,
    ExcludeOption,
    GivenPlaySeedOption,
    MachineOptions,
    ModelsArgument,
    PoliciesOption,
    ProtocolOption,
    TrustOption,
    given_options,
    pairs,
    parse_int_list,
    terms,
)
from lram.harness.cli.printing.hints import next_report
from lram.harness.cli.printing.output import print_table
from lram.harness.errors import LramError
from lram.harness.progress import quiet, shown
from lram.harness.trust import Trust, trusted
from lram.harness.words import command

if TYPE_CHECKING:
    from lram.harness.extrapolation.folder import Extrapolation


def extrapolate(
    agents: ModelsArgument = None,
    /,
    *,
    tasks: Annotated[
        list[str] | None,
        Parameter(
            name=["--tasks", "-t"],
            help="A selection to play, and to take of the trajectories. Without one nothing is played.",
            negative=(),
        ),
    ] = None,
    exclude: ExcludeOption = None,
    contexts: Annotated[
        str | None,
        Parameter(
            name=["--contexts", "-c"],
            help="Timesteps of the limited contexts (default: 25,50,100,200,400); the lengths that the "
            "models were trained on are played, too.",
        ),
    ] = None,
    modes: Annotated[
        str | None,
        Parameter(
            help="window: the last C timesteps are read again at each decision. reset: the state is reset "
            "every C decisions. carry: it is carried through the episode (default: all three)."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        Parameter(
            name=["--data", "-d"],
            help="Folders of trajectory stores, to measure losses on; what cards say was trained on is left "
            "out.",
            negative=(),
        ),
    ] = None,
    policies: PoliciesOption = None,
    trajectories: Annotated[int | None, Parameter(help="Trajectories of each task (default: 10).")] = None,
    episodes: Annotated[
        int | None,
        Parameter(name=["--episodes", "-n"], help="Episodes of every model, context and task (default: 10)."),
    ] = None,
    trained: Annotated[
        int | None,
        Parameter(help="Timesteps that all models were trained on (default: as their cards tell)."),
    ] = None,
    seed: GivenPlaySeedOption = None,
    protocol: ProtocolOption = None,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Folder of the extrapolation; must be new.")
    ] = None,
    resume: Annotated[Path | None, Parameter(help="Continue the extrapolation in this folder.")] = None,
    trust: TrustOption = False,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> int:
    """Measure models at contexts below and beyond the length that they were trained on.

    Three things, in this order: whether the step still equals forward and the state is finite (a minute);
    losses and action errors by timestep on long trajectories (--data); scores by context (--tasks). Reading
    a window anew costs as many tokens as it has at each decision: at C=200 some 100 times a carried state.

    Interrupt with Ctrl-C whenever you like: '--resume' continues with what is missing.

    Example: lram extrapolate small-mamba -t dmcontrol/reacher-easy -d data/unseen -c 50,200,400 -o runs/long
    """
    from lram.harness.extrapolation import running
    from lram.harness.extrapolation.planning import ExtrapolationRequest

    progress = quiet if machine.quiet else shown
    playing = {"--modes": modes, "--episodes": episodes, "--exclude": exclude, "--protocol": protocol}
    reading = {"--policies": policies, "--trajectories": trajectories}
    if resume is not None:
        rest = {"--contexts": contexts, "--trained": trained, "--seed": seed}
        given = given_options({"--tasks": tasks, "--data": data, **rest, **playing, **reading})
        if agents or given or (output is not None and output != resume):
            raise LramError(
                f"--resume {resume} takes everything that is measured from its plan; leave out "
                f"{', '.join([*(['the models'] if agents else []), *given]) or '--output'}"
            )
        return _go_on(resume, machine, progress, trusted(trust))
    if not agents or output is None:
        raise LramError("give models and a folder with -o, or --resume FOLDER to continue one")
    for options, there, missing in (
        (playing, tasks, "plays nothing"),
        (reading, data, "reads no trajectory"),
    ):
        if not there and (given := given_options(options)):
            needed = "--tasks" if options is playing else "--data"
            raise LramError(f"without {needed} it {missing}; leave out {', '.join(given)}, or give {needed}")
    request = ExtrapolationRequest(
        agents=agents,
        tasks=terms(tasks, exclude) if tasks else (),
        contexts=parse_int_list("25,50,100,200,400" if contexts is None else contexts, "--contexts"),
        modes=MODES if modes is None else tuple(dict.fromkeys(name.strip() for name in modes.split(","))),
        stores=data or (),
        policies=policies or ("*",),
        trajectories=10 if trajectories is None else trajectories,
        episodes=10 if episodes is None else episodes,
        seed=seed or 0,
        trained=trained,
        protocols=pairs(protocol, "--protocol"),
    )
    try:
        found = running.extrapolate(request, output, machine=machine.machine(), progress=progress)
    except KeyboardInterrupt:
        return _interrupted(output)
    return _conclude(found)


def _go_on(folder: Path, machine: MachineOptions, progress: Any, trust: Trust) -> int:
    from lram.harness.extrapolation import running
    from lram.harness.extrapolation.folder import Extrapolation

    found = Extrapolation(folder)
    how = machine.machine(found.scores)
    if found.scores is None:
        started = {**asdict(found.plan.compute), "threads": found.plan.threads}
        kept = {name: value for name, value in started.items() if getattr(machine, name) is None}
        how = replace(how, **kept)
    try:
        found = running.resume(folder, machine=how, progress=progress, trust=trust)
    except KeyboardInterrupt:
        return _interrupted(folder)
    return _conclude(found)


def _conclude(found: Extrapolation) -> int:
    """Print what there is and what to do next; return 1 where a model's step is not its forward."""
    plan, validity = found.plan, {record.agent: record for record in found.validity()}
    records = found.scores.records() if found.scores is not None else []
    rows = []
    for agent in plan.agents:
        mine = {agent.variant(context) for context in plan.variants()}
        scored = sum(record.status == "scored" for record in records if record.agent in mine)
        check = validity[agent.label]
        rows.append(
            (
                agent.label,
                agent.trained,
                check.points[-1].timesteps,
                "yes" if check.holds else "NO",
                sum(record.agent == agent.label for record in found.losses()),
                scored,
                sum(record.status == "errored" for record in records if record.agent in mine),
            )
        )
    headings = ("model", "trained on", "checked to", "step equals forward", "readings", "scored", "errored")
    print_table(headings, rows)
    missing = len(found.scores.missing()) if found.scores is not None else 0
    if missing:
        again = command("extrapolate", "--resume", found.path)
        print(f"\n{missing} episodes could not be played, as agents raised; to try them again: {again}")
    print(f"\n{next_report(found.path)}")
    return EXIT_FAILED if missing or not all(one.holds for one in validity.values()) else 0


def _interrupted(folder: Path) -> int:
    from lram.harness.extrapolation.folder import MARKER, Extrapolation

    if not (folder / MARKER).is_file():
        raise KeyboardInterrupt
    found = Extrapolation(folder)
    run = found.scores
    played = f", {len(run.missing())} of {len(run.plan.items())} episodes" if run is not None else ""
    print(
        f"\ninterrupted: {len(found.missing_losses())} of {len(found.plan.readings())} readings{played} are "
        f"missing; continue with: {command('extrapolate', '--resume', folder)}"
    )
    return EXIT_INTERRUPTED
