"""``lram latency``: decisions and memory against context."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lram.agents.compute import FORMS
from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from lram.harness.cli.options import (
    AGENTS,
    DEFAULT_CLUSTER,
    FLAT,
    ClusterOptions,
    GivenPrecisionOption,
    JsonOption,
    TrustOption,
    parse_int_list,
    parse_step_forms,
)
from lram.harness.cli.printing.hints import next_report
from lram.harness.cli.printing.latencies import print_result
from lram.harness.cli.printing.output import print_json
from lram.harness.errors import LramError
from lram.harness.latency.shipped import SWEEPS, ShippedSweep, shipped_sweep
from lram.harness.trust import Trust, trusted
from lram.harness.waiting import say, still
from lram.harness.words import command

if TYPE_CHECKING:
    from lram.harness.executors.contract import Executor
    from lram.harness.latency.folder import LatencyRun
    from lram.harness.latency.plan import LatencyRequest
    from lram.harness.latency.records import Effort

_TASK = "atari/freeway"
_QUICK = ("10,50", "1", 2)
_USUAL = ("50,200,800,1600", "1,16", 5)


@FLAT
@dataclass(frozen=True)
class SweepOptions:
    """What a new sweep measures. None: as the sweep that comes along has it, or else as usual."""

    sweep: Annotated[
        str | None,
        Parameter(
            help="Agents, contexts and batches of a sweep that comes along: "
            + "; ".join(f"{name}: {one.about}" for name, one in SWEEPS.items())
            + ". What is given beside it takes their place."
        ),
    ] = None
    contexts: Annotated[
        str | None, Parameter(help="Timesteps read before the decisions (default: 50,200,800,1600).")
    ] = None
    batch: Annotated[
        str | None,
        Parameter(
            help="Lanes that decide together, as a list (default: 1,16; each is measured separately). Models "
            "read them in passes of 1 row or a multiple of 8."
        ),
    ] = None
    step: Annotated[
        str | None, Parameter(help=f"Forms of a model's step: {', '.join(FORMS)} (default: auto).")
    ] = None
    task: Annotated[
        str | None,
        Parameter(name=["--task", "-t"], help=f"Task whose observations are read (default: {_TASK})."),
    ] = None
    device: Annotated[
        str | None, Parameter(help="Where models decide: cpu, cuda, cuda:1 (default: cpu).")
    ] = None
    precision: GivenPrecisionOption = None
    repeats: Annotated[int | None, Parameter(help="Fresh processes of each setting (default: 5).")] = None
    threads: Annotated[int | None, Parameter(help="Threads for the models (default: 1).")] = None
    seed: Annotated[
        int | None,
        Parameter(
            name=["--seed", "-s"],
            help="Seed of untrained weights, recorded inputs and the order (default: 0).",
        ),
    ] = None
    loop: Annotated[
        bool | None,
        Parameter(help="Also time decisions together with the simulator (default: yes; with --sweep: no)."),
    ] = None
    windows: Annotated[
        Literal["whole", "own"] | None,
        Parameter(
            help="whole: a Transformer's cache, or the window that it reads again, is as long as each "
            "context; own: as the model has it (default: whole)."
        ),
    ] = None
    memory_limit: Annotated[
        float | None,
        Parameter(
            help="GiB that a process may take (default: most of what is free when it starts, as with 0)."
        ),
    ] = None
    seconds: Annotated[
        float | None,
        Parameter(
            help="Seconds of decisions at each point (default: 0.6); energy of a GPU is read well from 1 on."
        ),
    ] = None
    quick: Annotated[
        bool, Parameter(help="A try: by default contexts 10,50, batch 1, 2 processes.", negative=())
    ] = False

    def given(self) -> list[str]:
        """Return the options that were given, as they are written."""
        return [
            f"--{field.name.replace('_', '-')}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]

    def request(self, agents: list[str] | None) -> LatencyRequest:
        """Return what is asked for; LramError for a value that makes no sense, or no sweep of that name."""
        from lram.harness.latency.plan import QUICK, LatencyRequest
        from lram.harness.latency.records import Effort

        shipped = shipped_sweep(self.sweep) if self.sweep is not None else None
        contexts, batches, repeats = _usual(shipped, self.quick)
        return LatencyRequest(
            agents=agents or (shipped.agents if shipped is not None else []),
            contexts=parse_int_list(self.contexts or contexts, "--contexts"),
            batches=parse_int_list(self.batch or batches, "--batch"),
            steps=parse_step_forms(self.step or "auto", "--step"),  # type: ignore[arg-type]
            task=self.task or _TASK,
            device=self.device or "cpu",
            precision=self.precision or "float32",
            repeats=repeats if self.repeats is None else self.repeats,
            threads=1 if self.threads is None else self.threads,
            seed=self.seed or 0,
            loop=self.loop if self.loop is not None else shipped is None or shipped.loop,
            windows=self.windows or "whole",
            effort=_effort(QUICK if self.quick else Effort(), self.seconds),
            memory_gib=self.memory_limit or 0.0,
        )


_AS_USUAL = SweepOptions()


def latency(
    agents: Annotated[list[str] | None, AGENTS] = None,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Folder of the sweep; must be new.")
    ] = None,
    resume: Annotated[
        Path | None, Parameter(help="Continue the sweep in this folder, with its own settings.")
    ] = None,
    trust: TrustOption = False,
    options: SweepOptions = _AS_USUAL,
    node: Annotated[
        str | None,
        Parameter(
            help="Ray: the node to measure, by host, address or start of its id. Default: one that can play "
            "the task (on cuda: that has a GPU), with most cores."
        ),
    ] = None,
    cluster: ClusterOptions = DEFAULT_CLUSTER,
    json: JsonOption = False,
) -> int:
    """Measure the time of a decision, and memory, at growing contexts that were really read.

    Three clocks: the agent's (observation in, action out), the model's alone, and the loop with the
    simulator. Every setting is measured in several fresh processes, in mixed order; running out of memory
    is a result like others. Interrupt with Ctrl-C whenever you like, and continue with --resume. With
    --backend ray it is one node of a cluster that is measured; it runs nothing else of the cluster meanwhile,
    so --job-cpus, --job-gpus, --job-memory and --job-episodes have no meaning here and are refused.
    Of three batches or more, the report shows decisions a second and memory against lanes.

    Example: lram latency 'xlstm[7:1]-16M' 'transformer[full]-16M' 'transformer[recompute]-16M' -o latency
    """
    executor = _executor(cluster, node)
    folder = _folder(output, resume, [*(["the agents"] if agents else []), *options.given()])
    try:
        if resume is not None:
            run = _continued(folder, executor, node, trusted(trust))
        else:
            run = _measured(options.request(agents), folder, executor, node)
    except KeyboardInterrupt:
        return _interrupted(folder)
    return _conclude(run, json)


def _folder(output: Path | None, resume: Path | None, given: list[str]) -> Path:
    """Return the folder of the sweep; LramError for options that do not go together.

    Args:
        output: Of a new sweep.
        resume: Of one that is continued.
        given: What was given of what a sweep that is continued has itself.
    """
    if resume is None and output is not None:
        return output
    if resume is None or output is not None:
        raise LramError("give the folder of a new sweep with -o, or that of an old one with --resume")
    if given:
        raise LramError(
            f"a sweep that is resumed has its own agents and settings; leave out {', '.join(given)} beside "
            "--resume"
        )
    return resume


def _measured(request: LatencyRequest, folder: Path, executor: Executor, node: str | None) -> LatencyRun:
    """Measure a new sweep."""
    from lram.harness.latency.sweep import sweep

    with still("recording inputs, and the process that is measured now"):
        return sweep(request, folder, say=say, executor=executor, node=node or "")


def _continued(folder: Path, executor: Executor, node: str | None, trust: Trust) -> LatencyRun:
    """Measure what a sweep lacks."""
    from lram.harness.latency.sweep import resume

    with still("the process that is measured now"):
        return resume(folder, say=say, executor=executor, node=node or "", trust=trust)


def _usual(shipped: ShippedSweep | None, quick: bool) -> tuple[str, str, int]:
    """Return contexts, batches and repeats where nothing is said of them."""
    if quick or shipped is None:
        return _QUICK if quick else _USUAL
    return ",".join(map(str, shipped.contexts)), ",".join(map(str, shipped.batches)), shipped.repeats


def _effort(usual: Effort, seconds: float | None) -> Effort:
    """Return how long a point is measured; LramError for a time that is none."""
    if seconds is None:
        return usual
    if not 0 < seconds < math.inf:
        raise LramError(f"--seconds must be above 0, not {seconds:g}")
    return replace(usual, seconds=seconds, most=max(usual.most, round(usual.most * seconds / usual.seconds)))


def _executor(cluster: ClusterOptions, node: str | None) -> Executor:
    """Return where to measure; LramError for options that do not go together."""
    executor = cluster.chosen()
    if executor.name == "local":
        if node is not None:
            raise LramError("--node belongs to a cluster: add --backend ray")
        return executor
    for option in ("job_cpus", "job_gpus", "job_memory", "job_episodes"):
        if getattr(cluster, option) is not None:
            raise LramError(
                f"--{option.replace('_', '-')} has no meaning here: a sweep has one node to itself, with all "
                "its cores"
            )
    return executor


def _interrupted(folder: Path) -> int:
    """Say how to continue after Ctrl-C; return the exit code."""
    from lram.harness.latency.folder import PLAN_FILE

    if not (folder / PLAN_FILE).is_file():
        raise KeyboardInterrupt
    again = command("latency", "--resume", folder)
    print(f"\ninterrupted; what was measured is kept; continue with: {again}")
    return EXIT_INTERRUPTED


def _conclude(run: LatencyRun, json: bool) -> int:
    """Print what a sweep holds; return 1 when nothing was measured."""
    from lram.reports.sections.latency.analysis import summarise

    result = summarise([run])
    if json:
        import msgspec

        print_json(msgspec.to_builtins(result))
    else:
        print_result(result)
        print(f"\n{next_report(run.path)}")
    return 0 if any(spot.agent is not None for spot in result.spots) else EXIT_FAILED
