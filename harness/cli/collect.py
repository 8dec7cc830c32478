"""``lram collect``: play agents and keep what they did as trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Annotated

from cyclopts import Parameter

from lram.agents.trajectories import EpisodeSummary, TrajectoryStore
from lram.harness.cli.options import (
    AGENTS,
    DEFAULT_CLUSTER,
    DEFAULT_MACHINE,
    TASKS,
    ClusterOptions,
    ExcludeOption,
    GivenEpisodesOption,
    GivenPlaySeedOption,
    LicenceOption,
    MachineOptions,
    ProtocolOption,
    TrustOption,
    given_options,
    pairs,
    terms,
)
from lram.harness.cli.printing.closing import conclude_run
from lram.harness.cli.printing.output import print_table
from lram.harness.collection import collect as collection
from lram.harness.errors import LramError
from lram.harness.progress import quiet, shown
from lram.harness.storage.run_folder import Run
from lram.harness.trust import trusted
from lram.harness.words import command


def collect(
    agents: Annotated[list[str] | None, AGENTS] = None,
    /,
    *,
    tasks: Annotated[list[str] | None, TASKS] = None,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"], help="Folder of the store; episodes are added to an existing store."
        ),
    ] = None,
    exclude: ExcludeOption = None,
    episodes: GivenEpisodesOption = None,
    seed: GivenPlaySeedOption = None,
    protocol: ProtocolOption = None,
    resume: Annotated[
        Path | None,
        Parameter(help="Continue the collections of this store that were interrupted; give no agents."),
    ] = None,
    trust: TrustOption = False,
    note: Annotated[str, Parameter(help="A note on the data, for the store's card.")] = "",
    licence: LicenceOption = "",
    machine: MachineOptions = DEFAULT_MACHINE,
    cluster: ClusterOptions = DEFAULT_CLUSTER,
) -> int:
    """Play agents and keep every scored episode as a trajectory, for training.

    The initial states are not those of 'lram eval' with the same seed, and every agent has its own.

    Noise makes data of several qualities of one agent: scripted~0.3 replaces each action, with probability
    0.3, by a random one; scripted~0.3x5 repeats each random action for 5 decisions, with 0.3 of all decisions
    random as before. Every agent can have noise, also in 'lram eval'.

    Interrupt it whenever you like: the same command, or --resume STORE, continues with what is missing. To
    add episodes to a store, give another --seed.

    Example: lram collect scripted scripted~0.2 scripted~0.5x10 -t 'metaworld/reach-v3' -n 20 -o data/reach
    """
    progress = quiet if machine.quiet else shown
    if resume is not None:
        given = given_options(
            {
                "agents": agents or None,
                "--tasks": tasks,
                "-o": output,
                "--exclude": exclude,
                "--episodes": episodes,
                "--seed": seed,
                "--protocol": protocol,
                "--note": note or None,
                "--licence": licence or None,
            }
        )
        if given:
            raise LramError(f"--resume continues with a store as it was begun; leave out {', '.join(given)}")
        with _telling_how_to_go_on(resume):
            runs = collection.resume_collection(
                resume,
                machine=machine.machine,
                executor=cluster.chosen(machine),
                progress=progress,
                trust=trusted(trust),
            )
        return _conclude(resume, runs)
    if not agents or not tasks or output is None:
        raise LramError("give agents, --tasks and the store's folder with -o, or --resume STORE")
    with _telling_how_to_go_on(output):
        run = collection.collect(
            agents,
            terms(tasks, exclude),
            output,
            episodes=10 if episodes is None else episodes,
            seed=seed or 0,
            protocols=pairs(protocol, "--protocol"),
            machine=machine.machine(),
            notes=collection.Notes(note, licence),
            executor=cluster.chosen(machine),
            progress=progress,
        )
    return _conclude(output, [run])


@contextmanager
def _telling_how_to_go_on(store: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        runs = collection.collected_runs(store)
        if runs:
            planned = sum(len(run.plan.pairs()) * run.plan.episodes for run in runs)
            recorded = planned - sum(len(run.missing()) for run in runs)
            print(
                f"\n{recorded} of {planned} episodes are recorded; "
                f"continue with: {command('collect', '--resume', store)}"
            )
        raise


def _conclude(store: Path, runs: Sequence[Run]) -> int:
    """Print what the runs have added; return 1 when an agent scored nothing on some task."""
    codes = []
    for run in runs:
        codes.append(conclude_run(run, hint=False, allow_errors=True))
        print()
    _show_tasks(TrajectoryStore(store), runs)
    for run in runs:
        print(f"next: {command('report', run.path, '-o', f'{store}-report')}")
    print(f"or:   {command('train', '--set', f'data.stores={store}', '-o', f'{store}-model')}")
    return max(codes)


def _show_tasks(store: TrajectoryStore, runs: Sequence[Run]) -> None:
    """Print what the store has of ``runs``, task by task, and what it has in all."""
    from lram.reports import text

    names = {collection.run_name(run) for run in runs}
    by_task: dict[str, list[EpisodeSummary]] = {}
    for episode in store.episodes:
        if episode.origin.partition("|")[0] in names:
            by_task.setdefault(episode.task, []).append(episode)
    sizes = {line.part: line.bytes for line in store.parts}
    rows = []
    for task, episodes in sorted(by_task.items()):
        solved = [episode.success_any for episode in episodes if episode.success_any is not None]
        megabytes = sum(sizes[part] for part in {episode.part for episode in episodes}) / 1e6
        rows.append(
            (
                task,
                len(episodes),
                sum(episode.length for episode in episodes),
                round(fmean(episode.episode_return for episode in episodes), 3),
                f"{text.percent(fmean(solved))}%" if solved else "",
                round(megabytes, 2),
            )
        )
    print_table(("task", "episodes", "steps", "mean return", "success", "MB"), rows)
    print(
        f"\n{store.path}: {len(store):,} episodes, {store.steps:,} steps, {store.bytes / 1e6:,.1f} MB, "
        f"digest {store.digest[:12]}"
    )
