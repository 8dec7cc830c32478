"""``lram eval``: play agents on tasks and record every episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import (
    DEFAULT_CLUSTER,
    DEFAULT_MACHINE,
    RUN_FOLDER,
    TASKS,
    AllowErrorsOption,
    ClusterOptions,
    CountsOption,
    ExcludeOption,
    GivenEpisodesOption,
    GivenPlaySeedOption,
    MachineOptions,
    ProtocolOption,
    pairs,
    terms,
)
from lram.harness.cli.printing.closing import conclude_run, interrupted
from lram.harness.cli.printing.output import print_answer
from lram.harness.errors import LramError
from lram.harness.evaluation import evaluate
from lram.harness.evaluation_files.content import EvaluationFile
from lram.harness.executors.contract import Executor
from lram.harness.executors.local import LOCAL
from lram.harness.machine import Machine
from lram.harness.plan import RunRequest
from lram.harness.progress import quiet, shown
from lram.harness.storage.run_folder import RunWriter


def eval_(
    agents: Annotated[
        list[str],
        Parameter(
            help="Names, presets, checkpoint folders or module:factory; or one evaluation file, FILE.toml, "
            "which names agents, tasks and options."
        ),
    ],
    /,
    *,
    tasks: Annotated[list[str] | None, TASKS] = None,
    output: Annotated[Path | None, RUN_FOLDER] = None,
    exclude: ExcludeOption = None,
    episodes: GivenEpisodesOption = None,
    seed: GivenPlaySeedOption = None,
    protocol: ProtocolOption = None,
    realtime: Annotated[
        float | None,
        Parameter(
            help="Steps a second of a world that does not wait for the agent: while it decides, its last "
            "action "
            "is repeated. One episode at a time; scores then depend on the machine.",
            negative=(),
        ),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        Parameter(
            help="Send progress and scores there, too: wandb, mlflow, trackio, tensorboard, or a tracker of "
            "your own; repeat it for several.",
            negative=(),
        ),
    ] = None,
    print_: Annotated[
        bool,
        Parameter(
            name="--print",
            help="Print the evaluation as a file for this command, with all options that were given, and "
            "play nothing.",
            negative=(),
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        Parameter(
            help="Say what would be played, whether it can be, how long and on how much disk, from the runs "
            "that lie beside -o (without it: in this folder) or else from a short trial. Nothing is written.",
            negative=(),
        ),
    ] = False,
    json: Annotated[bool, Parameter(name="--json", negative=(), help="With --dry-run: print JSON.")] = False,
    counts: CountsOption = False,
    allow_errors: AllowErrorsOption = False,
    machine: MachineOptions = DEFAULT_MACHINE,
    cluster: ClusterOptions = DEFAULT_CLUSTER,
) -> int:
    """Play every agent on every task and record each episode.

    Interrupt with Ctrl-C whenever you like: 'lram resume' continues with what is missing.

    An evaluation file, FILE.toml, names agents, tasks and options. Options on the command line override it,
    and paths in it are relative to its folder.

    Example: lram eval random scripted --tasks 'metaworld/reach-v3,atari/freeway' -n 3 -o runs/first

    Example: lram eval first.toml -n 3 -o runs/first
    """
    if realtime is not None and not realtime > 0:
        raise LramError(f"--realtime takes the world's steps a second, such as 20, not {realtime:g}")
    given = {
        "tasks": tasks,
        "exclude": exclude,
        "episodes": episodes,
        "seed": seed,
        "realtime": realtime,
        "trackers": tracker,
    }
    asked = _asked(agents, given, pairs(protocol, "--protocol"), machine)
    if json and not dry_run:
        raise LramError("--json belongs to --dry-run; 'lram report RUN --json' has the results of a run")
    if print_:
        if dry_run:
            raise LramError("--print shows the file and --dry-run what it would play; give one of them")
        from lram.harness.evaluation_files.writing import render_evaluation

        print_answer(render_evaluation(asked))
        return 0
    options = MachineOptions.of(asked.machine)
    how = options.machine()
    if asked.realtime and options.rows is None:
        how = replace(how, rows=1)  # a pass for one lane
    if dry_run:
        return _forecast(asked, how, output, cluster.chosen(options), silent=machine.quiet, json=json)
    from lram.harness.evaluation_files.writing import evaluation_to_dict
    from lram.harness.tracking import RunTrackers

    if output is None:
        raise LramError("the folder of the run is missing; give it with -o; see 'lram eval --help'")
    try:
        with RunTrackers(asked.trackers, evaluation_to_dict(asked), output) as trackers:
            run = evaluate(
                asked.agents,
                terms(asked.tasks, asked.exclude),
                output,
                episodes=asked.episodes,
                seed=asked.seed,
                protocols=asked.protocols,
                realtime_hz=asked.realtime,
                machine=how,
                executor=cluster.chosen(options),
                progress=trackers.over(quiet if machine.quiet else shown),
            )
            if asked.trackers:
                from lram.reports.tracked import scores_line

                trackers.write(scores_line(run))
    except KeyboardInterrupt:
        return interrupted(output)
    return conclude_run(run, counts=counts, allow_errors=allow_errors)


def _forecast(
    asked: EvaluationFile,
    machine: Machine,
    output: Path | None,
    executor: Executor,
    *,
    silent: bool,
    json: bool,
) -> int:
    """Print what would be played; LramError where it would be refused."""
    from lram.harness.cli.printing.forecast import show_forecast
    from lram.harness.forecast.forecast import forecast

    if executor is not LOCAL:
        raise LramError("--dry-run measures this machine, not a cluster; leave --backend out")
    if output is not None:
        RunWriter.check_vacant(output)
    request = RunRequest(
        agents=asked.agents,
        tasks=terms(asked.tasks, asked.exclude),
        episodes=asked.episodes,
        seed=asked.seed,
        protocols=asked.protocols,
        realtime_hz=asked.realtime,
    ).on(machine)
    found = forecast(request, machine, output.parent if output else Path.cwd(), silent=silent)
    show_forecast(found, json=json)
    if found.problems:
        raise LramError("; ".join(found.problems))
    return 0


def _asked(
    agents: list[str], given: Mapping[str, object], protocols: dict[str, str], machine: MachineOptions
) -> EvaluationFile:
    """Return what to play: the agents and options of the command line, or a file with options over it."""
    from lram.harness.evaluation_files.reading import evaluation_file, located, read_evaluation

    file = evaluation_file(agents)
    if file is None:
        if not given["tasks"]:
            raise LramError("no tasks are given; say which with --tasks, such as --tasks toy/reach")
        base = located(EvaluationFile(agents=tuple(agents)), Path.cwd())
    else:
        base = read_evaluation(file)
    over = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    asked = replace(
        base,
        **over,  # type: ignore[arg-type]
        protocols={**base.protocols, **protocols},
        machine=machine.over(base.machine),
    )
    asked.check(str(file or "the command"))
    return asked
