"""Commands that play episodes: eval, resume and demo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lram.agents.compute import ROWS, Precision, StepForm
from lram.envs.registry import domain_names
from lram.harness.cli.closing import show_standing
from lram.harness.cli.hints import show_unseen
from lram.harness.cli.listings import terms
from lram.harness.cli.output import print_table
from lram.harness.errors import LramError
from lram.harness.evaluation import evaluate, started_machine
from lram.harness.evaluation import resume as resume_run
from lram.harness.executors.contract import Executor
from lram.harness.executors.local import LOCAL
from lram.harness.machine import Machine
from lram.harness.progress import quiet, shown
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.trust import trusted

EXIT_NOTHING_SCORED = 1
_REASONS_SHOWN = 5

TrustOption = Annotated[
    bool,
    Parameter(
        help="Also run the modules and interpreters that the folder names, although it was not started on "
        "this machine. Look at the folder first.",
        negative=(),
    ),
]

_ELSEWHERE = {
    "latency.json": "lram latency --resume {}",
    "extrapolation.json": "lram extrapolate --resume {}",
    "study.json": "lram ablate STUDY -o {}",
}

DEMO_AGENTS = (
    "random",
    "scripted",
    "small-xlstm[1:0]",
    "small-xlstm[7:1]",
    "small-mamba",
    "small-transformer",
)


@Parameter(name="*")
@dataclass(frozen=True)
class MachineOptions:
    """How the work is spread over the machine; None: as the run was started, or as usual for a new one."""

    lanes: Annotated[
        int,
        Parameter(
            name=["--lanes", "-l"], help="Episodes played at the same time; best twice --rows or more."
        ),
    ] = 16
    workers: Annotated[
        int | None, Parameter(name=["--workers", "-w"], help="Simulator processes (default: one a core).")
    ] = None
    threads: Annotated[
        int | None,
        Parameter(
            help="Threads for the models; more than 1 may change the last digits (default: as the run was "
            "started; for a new run 1)."
        ),
    ] = None
    device: Annotated[
        str | None,
        Parameter(
            help="Where models act, such as cpu or cuda (default: as the run was started; for a new run cpu)."
        ),
    ] = None
    precision: Annotated[
        Precision | None,
        Parameter(
            help="Type of the models' weights; states are float32 (default: as started; new: float32)."
        ),
    ] = None
    step: Annotated[
        StepForm | None,
        Parameter(
            help="How a model's step is computed (default: as started; new: auto, fused kernels where "
            "possible)."
        ),
    ] = None
    rows: Annotated[
        int | None,
        Parameter(
            help="Lanes that share a pass of a model: 1, or a multiple of 8 (default: as started; new: "
            f"{ROWS})."
        ),
    ] = None
    python: Annotated[
        list[str] | None,
        Parameter(
            help="domain=PATH: play a domain in another Python; domain=main: in lram's own. Default: the one "
            "that 'lram env install' made, if any; to resume, those the run was started with.",
            negative=(),
        ),
    ] = None
    attempts: Annotated[int, Parameter(help="How often an episode is tried when its simulator fails.")] = 2
    quarantine_after: Annotated[
        int, Parameter(help="Give up a task when its first N episodes all failed.")
    ] = 3
    begin_deadline: Annotated[
        float, Parameter(help="Seconds to create a simulator and reset it; then it counts as hung.")
    ] = 180.0
    step_deadline: Annotated[
        float, Parameter(help="Seconds for one step of a simulator; then it counts as hung.")
    ] = 60.0
    shuffle: Annotated[bool, Parameter(help="Play the episodes in random order.", negative=())] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Show no progress.", negative=())] = False

    def machine(self, run: Run | None = None) -> Machine:
        """Return the settings as the library takes them, for a new run or to go on with ``run``."""
        from lram.envs.workers.process import Deadlines

        usual = started_machine(run) if run is not None else Machine()
        given = {name: getattr(self, name) for name in ("threads", "device", "precision", "step", "rows")}
        return replace(
            usual,
            **{name: value for name, value in given.items() if value is not None},
            lanes=self.lanes,
            workers=self.workers,
            interpreters=pairs(self.python, "--python"),
            attempts=self.attempts,
            quarantine_after=self.quarantine_after,
            deadlines=Deadlines(self.begin_deadline, self.step_deadline),
            shuffle=self.shuffle,
        )


_DEFAULT_MACHINE = MachineOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class ClusterOptions:
    """Where to play: on this machine, or on a Ray cluster."""

    backend: Annotated[
        Literal["local", "ray"],
        Parameter(help="Play on this machine, or on a Ray cluster (docs/how-to/cluster.md)."),
    ] = "local"
    address: Annotated[
        str | None,
        Parameter(
            help="Address of the Ray cluster, such as 10.0.0.1:6379 (default: RAY_ADDRESS, or a cluster "
            "on this machine)."
        ),
    ] = None
    job_cpus: Annotated[
        list[str] | None,
        Parameter(
            help="Ray: cores of a job, each with a simulator process, as 2 or domain=2 (default: 1).",
            negative=(),
        ),
    ] = None
    job_gpus: Annotated[
        list[str] | None,
        Parameter(
            help="Ray: GPUs of a job whose model is on cuda, as 0.25 or domain=0.25 (default: 1).",
            negative=(),
        ),
    ] = None
    job_memory: Annotated[
        list[str] | None,
        Parameter(
            help="Ray: GiB of memory of a job, as 4 or domain=4 (default: from domain, model and lanes).",
            negative=(),
        ),
    ] = None
    job_episodes: Annotated[
        int | None,
        Parameter(
            help="Ray: episodes of a job (default: few enough for an even end, many enough for start-up)."
        ),
    ] = None

    def chosen(self, machine: MachineOptions | None = None) -> Executor:
        """Return where to work; LramError for options that do not go together, with ``machine`` or not."""
        if self.backend == "local":
            for option in ("address", "job_cpus", "job_gpus", "job_memory", "job_episodes"):
                if getattr(self, option) is not None:
                    raise LramError(f"--{option.replace('_', '-')} belongs to a cluster: add --backend ray")
            return LOCAL
        if machine is not None and machine.workers is not None:
            raise LramError("--workers is for one machine; with --backend ray, give --job-cpus")
        from lram.harness.executors.ray import RayExecutor, ResourceRequest

        request = ResourceRequest(
            numbers(self.job_cpus, "--job-cpus"),
            numbers(self.job_gpus, "--job-gpus"),
            numbers(self.job_memory, "--job-memory"),
            self.job_episodes,
        )
        return RayExecutor(self.address, request)


_HERE = ClusterOptions()


def eval_(
    agents: Annotated[list[str], Parameter(help="Names, presets, checkpoint folders or module:factory.")],
    /,
    *,
    tasks: Annotated[
        list[str],
        Parameter(name=["--tasks", "-t"], help="A selection; see 'lram tasks --help'.", negative=()),
    ],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the run; must be new.")],
    exclude: Annotated[
        list[str] | None, Parameter(help="Tasks to leave out of the selection.", negative=())
    ] = None,
    episodes: Annotated[int, Parameter(name=["--episodes", "-n"], help="Episodes per agent and task.")] = 10,
    seed: Annotated[
        int, Parameter(name=["--seed", "-s"], help="Seed of initial states and of everything random.")
    ] = 0,
    protocol: Annotated[
        list[str] | None, Parameter(help="domain=NAME: another protocol; see 'lram domains'.", negative=())
    ] = None,
    realtime: Annotated[
        float | None,
        Parameter(
            help="Steps a second of a world that does not wait for the agent: while it decides, its last "
            "action "
            "is repeated. One episode at a time; scores then depend on the machine.",
            negative=(),
        ),
    ] = None,
    machine: MachineOptions = _DEFAULT_MACHINE,
    cluster: ClusterOptions = _HERE,
) -> int:
    """Play every agent on every task and record each episode.

    Interrupt with Ctrl-C whenever you like: 'lram resume' continues with what is missing.

    Example: lram eval random scripted --tasks 'metaworld/reach-v3,atari/freeway' -n 3 -o runs/first
    """
    if realtime is not None and not realtime > 0:
        raise LramError(f"--realtime takes the world's steps a second, such as 20, not {realtime:g}")
    how = machine.machine()
    if realtime is not None and machine.rows is None:
        how = replace(how, rows=1)  # a pass for one lane
    try:
        run = evaluate(
            agents,
            terms(tasks, exclude),
            output,
            episodes=episodes,
            seed=seed,
            protocols=pairs(protocol, "--protocol"),
            realtime_hz=realtime or 0.0,
            machine=how,
            executor=cluster.chosen(machine),
            progress=quiet if machine.quiet else shown,
        )
    except KeyboardInterrupt:
        return interrupted(output)
    return conclude(run)


def resume(
    run: Annotated[Path, Parameter(help="Folder of a run.")],
    /,
    *,
    retry_errors: Annotated[bool, Parameter(help="Play errored episodes again, too.", negative=())] = False,
    trust: TrustOption = False,
    machine: MachineOptions = _DEFAULT_MACHINE,
    cluster: ClusterOptions = _HERE,
) -> int:
    """Continue a run that was interrupted.

    Models compute as when the run was started, unless options say otherwise.
    """
    for marker, command in _ELSEWHERE.items():
        if (run / marker).is_file():
            raise LramError(f"{run} is not an evaluation; go on with: {command.format(run)}")
    try:
        opened = Run(run)
        finished = resume_run(
            opened,
            retry_errors=retry_errors,
            machine=machine.machine(opened),
            executor=cluster.chosen(machine),
            progress=quiet if machine.quiet else shown,
            trust=trusted(trust),
        )
    except KeyboardInterrupt:
        return interrupted(run)
    return conclude(finished)


def demo(
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder for run and report.")] = Path(
        "lram-demo"
    ),
    *,
    episodes: Annotated[int, Parameter(name=["--episodes", "-n"], help="Episodes per agent and task.")] = 3,
    machine: MachineOptions = _DEFAULT_MACHINE,
) -> int:
    """Evaluate baselines and a small trained model of each backbone on four domains, and report.

    The models were trained on five of the eight tasks; docs/reference/models.md says how. A demo that was
    interrupted is continued by the same command.
    """
    from lram.envs.registry import DEMO_SUITE
    from lram.harness.cli.reporting import report

    folder = output / "run"
    if not (folder / "run.json").is_file():
        RunWriter.check_vacant(folder)
        if output.exists() and any(entry != folder for entry in output.iterdir()):
            raise LramError(f"{output} holds something else than a demo; give another folder with -o")
    if (folder / "run.json").is_file() and (planned := Run(folder).plan.episodes) != episodes:
        raise LramError(f"{output} holds a demo with {planned} episodes a task; give another folder with -o")
    try:
        if (folder / "run.json").is_file():
            earlier = Run(folder)
            run = resume_run(earlier, machine=machine.machine(earlier), progress=shown)
        else:
            run = evaluate(
                DEMO_AGENTS,
                DEMO_SUITE,
                folder,
                episodes=episodes,
                machine=machine.machine(),
                progress=shown,
            )
    except KeyboardInterrupt:
        return interrupted(folder, "lram demo")
    code = conclude(run, hint=False)
    report([folder], output=output / "report", show=True)
    return code


def conclude(run: Run, *, hint: bool = True) -> int:
    """Print what a run shows, what it holds and what to do next.

    Returns 1 when an agent scored nothing on some task.
    """
    from lram.reports.evidence.collect import collect

    evidence = collect([run])
    if any(cell.counted for cell in evidence.cells.values()):
        show_standing(evidence)
        print()
    rows = []
    for agent in run.plan.agents:
        mine = [cell for (label, _), cell in evidence.cells.items() if label == agent.label]
        recorded, scored = sum(len(cell.records) for cell in mine), sum(len(cell.scored) for cell in mine)
        missing = sum(cell.planned for cell in mine) - recorded
        rows.append((agent.label, scored, recorded - scored, missing, agent.info.description))
    print_table(("agent", "scored", "errored", "missing", "what it is"), rows)
    records = [record for cell in evidence.cells.values() for record in cell.records.values()]
    reasons = Counter(r.failure.message for r in records if r.failure and r.failure.kind != "quarantine")
    given_up = sorted({r.task for r in records if r.failure and r.failure.kind == "quarantine"})
    for reason, times in reasons.most_common(_REASONS_SHOWN):
        print(f"\n{times} errored: {reason}")
    if own := sum(record.failed_by_agent for record in records):
        print(
            f"\n{own} of the errored failed by the agent's own fault: they count as the worst outcome, and "
            "where no least return is known the agent has no score on the task"
        )
    if len(reasons) > _REASONS_SHOWN:
        print(f"\nand {len(reasons) - _REASONS_SHOWN} other reasons; the records have them")
    if given_up:
        print(f"\ngiven up after repeated failures: {', '.join(given_up)}; see {run.path / 'logs'}")
    for agent in run.plan.agents:
        skipped = [skip for skip in run.plan.skipped if skip.agent == agent.label]
        if skipped:
            print(
                f"\n{agent.label} cannot play {len(skipped)} of {len(run.plan.tasks)} tasks, such as "
                f"{skipped[0].task}: {skipped[0].reason}"
            )
    show_unseen(run)
    sessions = run.provenance()
    if sessions and (spread := sessions[-1].settings.get("spread")):
        print(f"\n{spread}")
    empty = sorted(set(run.plan.pairs()) - {(r.agent, r.task) for r in records if r.status == "scored"})
    if empty:
        label, task = empty[0]
        more = f", and {len(empty) - 1} more of {len(run.plan.pairs())}" if len(empty) > 1 else ""
        print(f"\nno episode was scored of {label} on {task}{more}; the exit code is {EXIT_NOTHING_SCORED}")
    if hint and any(record.status == "errored" for record in records):
        print(f"\nto play the errored episodes again: lram resume {run.path} --retry-errors")
    if hint:
        print(f"\nnext: lram report {run.path} -o {run.path}-report")
    return EXIT_NOTHING_SCORED if empty else 0


def interrupted(folder: Path, command: str = "") -> int:
    """Say how to go on after Ctrl-C; return the exit code."""
    if not (folder / "run.json").is_file():
        raise KeyboardInterrupt
    run = Run(folder)
    planned = len(run.plan.pairs()) * run.plan.episodes
    print(
        f"\ninterrupted: {planned - len(run.missing())} of {planned} episodes are recorded; "
        f"go on with: {command or f'lram resume {folder}'}"
    )
    return 130


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``domain=value`` texts as a dictionary; LramError for one without both sides."""
    result = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise LramError(f"{option} takes domain=value, not {text!r}")
        result[name] = value
    return result


def numbers(texts: Sequence[str] | None, option: str) -> dict[str, float]:
    """Return ``2`` and ``domain=2`` texts by domain, the first under ""; LramError for what is no number."""
    result = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        try:
            result[name] = float(value)
        except ValueError:
            raise LramError(f"{option} takes a number or domain=number, not {text!r}") from None
        if equals and not name:
            raise LramError(f"{option} takes a number or domain=number, not {text!r}")
        if name and name not in domain_names():
            raise LramError(f"{option} {text}: there is no domain {name}; 'lram domains' lists them")
    return result


COMMANDS: tuple[tuple[Callable[..., Any], str], ...] = (
    (demo, "demo"),
    (eval_, "eval"),
    (resume, "resume"),
)
