"""The steps of ``run.sh`` in order: what each runs, with how much time, and when it is left out.

Each is made of the commands of lram-bench (``lram check``, ``latency``, ``bench``, ``eval``) and of the
comparisons with public packages in ``tests/benchmarks``. What comes first is what is wanted most, since
time may run out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lram.agents.backbones.registry import BUILT_IN

ROOT = Path(__file__).parents[2]
LRAM = (sys.executable, "-m", "lram.harness.cli")

XLSTM, FULL = "xlstm[7:1]", "transformer[full]"
REAL_ONES = ("captured", "captured_decision", "gpu_kernels", "gpu_sequences", "own_outputs")
"""Tests of agents that run with real graphs and kernels on a device."""

TASKS = "procgen/coinrun,procgen/starpilot,procgen/bigfish,procgen/maze"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a step.

    Attributes:
        words: What is run.
        keeps: File in the output folder that gets its standard output; empty: the log gets it.
    """

    words: tuple[str, ...]
    keeps: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A step.

    Attributes:
        name: Also of its log.
        title: For people.
        budget_s: It is ended when so many seconds have passed.
        commands: Run one after the other; each is, also where one before it has failed.
        why_skipped: Why it is not run; empty: it is.
    """

    name: str
    title: str
    budget_s: float
    commands: tuple[Command, ...]
    why_skipped: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        device: Where.
        precision: Of the models.
        large, small: The two sizes of models.
        others: Further kinds of backbones that pass the gate.
        contexts, few_contexts: Timesteps of sweeps; of what reads its window again at each decision.
        batches, rows: Lanes of sweeps; rows of the throughput.
        forms: Of the step, for every backbone; sweeps and the evaluation take the last.
        kernels: Forms that may not be usable, so that they are measured in commands of their own.
        seconds: Of decisions at each point of a sweep.
        repeats: Visits of a benchmark.
        checked: Tokens of the longest stream of the gate.
        seen: Task whose observations sweeps show.
        player, tasks, episodes, lanes: Of the evaluation.
    """

    device: str
    precision: str
    large: str
    small: str
    others: tuple[str, ...]
    contexts: str
    few_contexts: str
    batches: str
    rows: str
    forms: tuple[str, ...]
    kernels: tuple[str, ...]
    seconds: float
    repeats: int
    checked: int
    seen: str
    player: str
    tasks: str
    episodes: int
    lanes: int


def real(device: str) -> Sizes:
    """Return the sizes of a measurement on ``device``."""
    return Sizes(
        device=device,
        precision="bfloat16",
        large="206M",
        small="16M",
        others=tuple(f"{spec.kind}-1M" for spec in BUILT_IN if "1M" in {size.name for size in spec.sizes}),
        contexts="50,1600,25600",
        few_contexts="50,1600",
        batches="1,16",
        rows="1,8,32,128,512",
        # Those of the compiler take a minute for each model and shape.
        forms=("torch", "captured"),
        kernels=("triton",),
        seconds=1.0,
        repeats=7,
        checked=450,
        seen="atari/freeway" if find_spec("ale_py") else "toy/image",
        player=f"{XLSTM}-16M",
        tasks=TASKS,
        episodes=8,
        lanes=32,
    )


def tiny() -> Sizes:
    """Return the sizes of a walk on the processor: every command, and numbers that mean nothing."""
    return Sizes(
        device="cpu",
        precision="float32",
        large="1M",
        small="1M",
        others=(),
        contexts="2,4",
        few_contexts="2,4",
        batches="1",
        rows="1",
        forms=("torch",),
        kernels=(),
        seconds=0.02,
        repeats=1,
        checked=30,
        seen="toy/image",
        player="small-mamba",
        tasks="toy/reach",
        episodes=1,
        lanes=2,
    )


def make_steps(sizes: Sizes, output: Path, *, dry: bool = False) -> list[Step]:
    """Return the steps that write into ``output``."""
    return [
        _gate(sizes, dry),
        _device_tests(output, dry),
        _sweep(sizes, output, "latency-main", 80, [f"{XLSTM}-{sizes.large}", f"{FULL}-{sizes.large}"]),
        *(
            _sweep(sizes, output, f"latency-{form}", 35, [f"{XLSTM}-{sizes.large}"], form=form)
            for form in sizes.kernels
        ),
        _floor(sizes, output, dry),
        *_packages(sizes, output, dry),
        _training(sizes, output, dry),
        _sweep(sizes, output, "latency-small", 40, _all(sizes.small)[: 1 if dry else None]),
        _sweep(sizes, output, "latency-others", 35, _all(sizes.large)[1:-1][: 1 if dry else None]),
        _sweep(
            sizes,
            output,
            "latency-recompute",
            20,
            [f"transformer[recompute]-{size}" for size in dict.fromkeys((sizes.large, sizes.small))],
            contexts=sizes.few_contexts,
        ),
        _throughput(sizes, output),
        _evaluation(sizes, output, dry),
    ]


def _all(size: str) -> list[str]:
    """Return the agents that are swept; the first and the last are those of ``latency-main``."""
    kinds = (XLSTM, "xlstm[1:0]", "mamba", "transformer[ring]", FULL)
    return [f"{kind}-{size}" for kind in kinds]


def _gate(sizes: Sizes, dry: bool) -> Step:
    cached = _all(sizes.small)[-1 if dry else 0 :]
    agents = cached if dry else [f"transformer[recompute]-{sizes.small}", *cached]
    shared = ("--device", sizes.device, "--tokens", str(sizes.checked), "--json")
    commands = [
        Command(
            # A window that is read anew has no Triton kernel.
            (
                *LRAM,
                "check",
                *(cached if form == "triton" else agents),
                "--step",
                form,
                "--precision",
                precision,
                *shared,
            ),
            f"check-{form}-{precision}.json",
        )
        for precision in dict.fromkeys((sizes.precision, "float32"))
        for form in (*sizes.forms, *sizes.kernels)
    ]
    if sizes.others:
        commands.append(
            Command((*LRAM, "check", *sizes.others, "--step", "auto", *shared), "check-auto-float32.json")
        )
    return Step("gate", "gate: each backbone and form", 55, tuple(commands))


def _device_tests(output: Path, dry: bool) -> Step:
    # Beside those that need a device, those that take a real one where there is one.
    names = ("gpu",) if dry else ("gpu", *(f"agents/test_{name}.py" for name in REAL_ONES))
    words = (
        *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
        *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
        *(f"--junitxml={output / 'tests.xml'}", *(str(ROOT / "tests" / name) for name in names)),
    )
    lacks = "" if find_spec("pytest") else "pytest is not installed"
    return Step("tests", "device tests", 35, (Command(words),), lacks)


def _sweep(
    sizes: Sizes,
    output: Path,
    name: str,
    budget_s: float,
    agents: Sequence[str],
    contexts: str | None = None,
    form: str = "",
) -> Step:
    words = (
        *(*LRAM, "latency", *agents, "-o", str(output / name), "--no-loop", "--repeats", "1"),
        *("--contexts", contexts or sizes.contexts, "--batch", sizes.batches),
        *("--device", sizes.device, "--precision", sizes.precision, "--seconds", f"{sizes.seconds:g}"),
        *("--task", sizes.seen, "--step", form or sizes.forms[-1]),
    )
    title = f"latency, memory and energy against context: {', '.join(agents)}{f', step {form}' * bool(form)}"
    return Step(name, title, budget_s, (Command(words),))


def _floor(sizes: Sizes, output: Path, dry: bool) -> Step:
    commands = []
    for size in dict.fromkeys((sizes.small, sizes.large)):
        agents = [f"{kind}-{size}" for kind in (XLSTM, "xlstm[1:0]", "mamba", FULL)][: 1 if dry else None]
        # In a command with others, a form that cannot be used would take them along.
        for names, forms, name in (
            (agents, sizes.forms, f"bench-{size}"),
            *((agents[:1], (form,), f"bench-{size}-{form}") for form in sizes.kernels),
        ):
            words = (
                *(*LRAM, "bench", "model", *names, "--rows", sizes.batches),
                *("--contexts", sizes.few_contexts, "--forms", ",".join(forms)),
                *("--device", sizes.device, "--precision", sizes.precision),
                *("--repeats", str(sizes.repeats), "-o", str(output / f"{name}.json")),
            )
            commands.append(Command(words))
    return Step("floor", "the step beside the memory's speed", 50, tuple(commands))


def _packages(sizes: Sizes, output: Path, dry: bool) -> list[Step]:
    """Return the comparisons with packages: their own step, and their training."""
    steps = []
    benchmarks = ROOT / "tests" / "benchmarks"
    for package, module, presets in (
        ("xlstm", "xlstm", f"{XLSTM}-{sizes.small},xlstm[1:0]-{sizes.small}"),
        ("mamba", "mamba_ssm", f"mamba-{sizes.small}"),
    ):
        shared = ("--device", sizes.device, "--presets", presets)
        compare = (
            *(sys.executable, str(benchmarks / "compare_public.py"), package, *shared),
            *("--rows", sizes.batches, "--repeats", str(sizes.repeats)),
            *("-o", str(output / f"package-{package}.json")),
        )
        train = (
            *(sys.executable, str(benchmarks / "train_public.py"), package, *shared),
            *("--precision", sizes.precision, "--repeats", str(sizes.repeats)),
            *("-o", str(output / f"train-{package}.json")),
        )
        why = "" if find_spec(module) else f"the package {module} is not installed"
        if package == "mamba" and dry and not why:
            why = "on a processor it needs two packages more (tests/benchmarks/README.md)"
        name = f"package-{package}"
        steps.append(Step(name, f"beside the package {module}", 25, (Command(compare), Command(train)), why))
    return steps


def _training(sizes: Sizes, output: Path, dry: bool) -> Step:
    agents = [f"{kind}-{sizes.small}" for kind in (XLSTM, "xlstm[1:0]", "mamba", "transformer")]
    words = (
        # A form that a model, or this machine, does not have is left out and told in the record.
        *(*LRAM, "bench", "train", *agents[: 1 if dry else None], "--forms", "torch,packages,triton"),
        *("--device", sizes.device, "--precision", sizes.precision, "--repeats", str(sizes.repeats)),
        *("--contexts", sizes.few_contexts.partition(",")[0], "--sequences", "2" if dry else "32"),
        *("-o", str(output / "train.json")),
    )
    return Step("training", "training, tokens a second", 20, (Command(words),))


def _throughput(sizes: Sizes, output: Path) -> Step:
    words = (
        *(*LRAM, "bench", "model", f"{XLSTM}-{sizes.small}", f"mamba-{sizes.small}"),
        *("--rows", sizes.rows, "--contexts", "50", "--forms", sizes.forms[-1], "--device", sizes.device),
        *("--precision", sizes.precision, "--repeats", str(sizes.repeats)),
        *("-o", str(output / "throughput.json")),
    )
    return Step("throughput", "throughput against rows", 20, (Command(words),))


def _evaluation(sizes: Sizes, output: Path, dry: bool) -> Step:
    words = (
        *(*LRAM, "eval", sizes.player, "--tasks", sizes.tasks, "--episodes", str(sizes.episodes)),
        *("--device", sizes.device, "--precision", sizes.precision, "--lanes", str(sizes.lanes)),
        *("--workers", str(min(sizes.lanes, max(1, len(os.sched_getaffinity(0)) - 1)))),
        *("--step", sizes.forms[-1], "-o", str(output / "evaluation"), "--quiet"),
    )
    lacks = "" if dry or find_spec("procgen") else "procgen is not installed"
    return Step("evaluation", "one evaluation, the network on the device", 40, (Command(words),), lacks)
