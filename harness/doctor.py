"""What works on this machine: every finding comes from trying the thing, not from a version list."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lram.envs import registry
from lram.envs.availability import missing_requirements
from lram.envs.pool import Pool
from lram.envs.process import Begun, Deadlines, Died, Event, Failed, Stepped
from lram.envs.session import Domain, SessionSpec

_PROBE_TASKS = {
    "metaworld": "reach-v3",
    "dmcontrol": "cartpole-balance",
    "procgen": "coinrun",
    "atari": "freeway",
    "toy": "reach",
}
_DEADLINES = Deadlines(begin_s=120.0, step_s=60.0)
_RENDER_PROBE = (
    "from dm_control import suite; "
    "print(suite.load('cartpole', 'balance').physics.render(64, 64, camera_id=0).shape)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Attributes:
        name: What.
        works: Whether it does; None where it is not there and not needed.
        details: Versions, or what went wrong.
        advice: What to do; empty when nothing.
    """

    name: str
    works: bool | None
    details: str
    advice: str = ""


def examine() -> list[Finding]:
    """Try every domain, the renderer, the models' library and its devices."""
    findings = [_python()]
    with tempfile.TemporaryDirectory(prefix="lram-doctor-") as folder:
        findings += [_domain(name, Path(folder)) for name in registry.domain_names()]
    lacking = sorted({task.domain for task in registry.benchmark_tasks()} - set(registry.domain_names()))
    findings += [Finding(f"domain {name}", None, "no adapter in this version") for name in lacking]
    findings += [_renderer(), *_devices(), *_kernels(), _browser()]
    return findings


def _python() -> Finding:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("python", True, f"{sys.version.split()[0]}, {cores} cores, {memory:.0f} GiB")


def _domain(domain_name: str, folder: Path) -> Finding:
    name = f"domain {domain_name}"
    try:
        domain = registry.load_domain(domain_name)
    except registry.SelectionError as error:
        return Finding(name, False, str(error))
    absent = missing_requirements(domain)
    if absent:
        return Finding(name, False, f"lacks {', '.join(absent)}", f"pip install '{domain.install}'")
    task = _PROBE_TASKS.get(domain.name) or (domain.tasks[0].name if domain.tasks else "")
    if not task:
        return Finding(name, None, "it brings no task to try")
    with Pool(log_folder=folder) as pool:
        problem = _play(pool, domain, task)
        versions = pool.facts.get(domain.name, {}).get("packages", {})
    text = ", ".join(f"{package} {version}" for package, version in versions.items())
    if problem:
        advice = (
            f"try its simulator alone, or install it anew: pip install --force-reinstall '{domain.install}'"
        )
        return Finding(name, False, f"{problem} ({text})", advice)
    return Finding(name, True, text or "standard library and numpy")


def _play(pool: Pool, domain: Domain, task: str) -> str:
    """Return what goes wrong in three steps of ``task`` in a worker; empty when nothing does."""
    worker = pool.acquire(domain.name)
    worker.begin(0, task, domain.protocols[0].name, 1, _DEADLINES)
    event = _next_event(pool)
    for _ in range(3):
        if isinstance(event, Died | Failed):
            return event.message
        if isinstance(event, Begun):
            spec = event.spec
        worker.step(0, _idle_action(spec), _DEADLINES)
        event = _next_event(pool)
    return event.message if isinstance(event, Died | Failed) else ""


def _next_event(pool: Pool) -> Event:
    while not (events := pool.wait(1.0)):
        pass
    event = events[0]
    assert isinstance(event, Begun | Stepped | Failed | Died)
    return event


def _idle_action(spec: SessionSpec):  # type: ignore[no-untyped-def]  # int or array
    import numpy as np

    return 0 if spec.action == "discrete" else np.zeros(spec.action_size, np.float32)


def _renderer() -> Finding:
    name = "rendering (MuJoCo)"
    if missing_requirements(registry.load_domain("dmcontrol")):
        return Finding(name, None, "dm_control is not installed")
    for backend in dict.fromkeys(filter(None, (os.environ.get("MUJOCO_GL"), "egl", "osmesa"))):
        try:
            subprocess.run(
                [sys.executable, "-c", _RENDER_PROBE],
                env={**os.environ, "MUJOCO_GL": backend},
                capture_output=True,
                timeout=60,
                check=True,
            )
        except subprocess.SubprocessError:
            continue
        return Finding(name, True, f"MUJOCO_GL={backend}")
    return Finding(
        name,
        False,
        "neither egl nor osmesa renders",
        "on Debian or Ubuntu: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri; only videos need it",
    )


def _devices() -> list[Finding]:
    import torch

    found = [Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return [*found, Finding("GPU", True, ", ".join(names))]
    return [*found, Finding("GPU", None, "none that torch can use; models run on the CPU")]


def _kernels() -> list[Finding]:
    from importlib.util import find_spec

    from lram.agents.stepping import numba_problem

    problem = numba_problem()
    return [
        Finding("numba", None if problem else True, problem or "fused steps of models on processors"),
        *(
            Finding(
                name,
                True if find_spec(module) else None,
                f"installed: {purpose}" if find_spec(module) else f"not installed (optional: {purpose})",
            )
            for name, module, purpose in (
                ("mamba-ssm", "mamba_ssm", "Mamba's kernels on a GPU"),
                ("xlstm", "xlstm", "to compare with"),
            )
        ),
    ]


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "firefox"))), None)
    return Finding("browser", True if found else None, found or "none found; copy the report to look at it")
