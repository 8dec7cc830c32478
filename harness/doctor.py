"""What works on this machine: every finding comes from trying the thing, not from a version list."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lram.agents.devices import gpus
from lram.envs import registry
from lram.envs.availability import missing_requirements
from lram.envs.errors import InterpreterError, SelectionError
from lram.envs.session import Domain
from lram.envs.workers.pool import Pool
from lram.harness import opengl
from lram.harness.errors import LramError
from lram.harness.interpreters import resolve
from lram.harness.interpreters.readiness import LackingError, absent_sources, readiness
from lram.harness.interpreters.sources import left_out
from lram.harness.interpreters.trial import task_names, trial_task, try_task


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
    findings += [Finding("domain in a file", False, problem) for problem in registry.file_problems()]
    findings += [_renderer(), _films(), *_devices(), *_kernels(), _browser()]
    return findings


def _python() -> Finding:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("python", True, f"{sys.version.split()[0]}, {cores} cores, {memory:.0f} GiB")


def _domain(domain_name: str, folder: Path) -> Finding:
    name = f"domain {domain_name}"
    try:
        domain = registry.load_domain(domain_name)
    except SelectionError as error:
        return Finding(name, False, str(error))
    try:
        python = resolve([domain_name]).get(domain_name)
        absent = absent_sources(domain, python)
        task = trial_task(domain, [tree.module for tree in absent if tree.tasks])
        ready = readiness(domain, [task], python)
    except LackingError as error:
        return Finding(name, False, error.what, error.how)
    except LramError as error:
        return Finding(name, False, str(error))
    if not task:
        return Finding(name, None, "it brings no task to try")
    with Pool(log_folder=folder, interpreters={domain_name: python} if python else None) as pool:
        problem = try_task(pool, domain_name, task, ready.protocol.name)
        versions = pool.facts.get(domain_name, {}).get("packages", {})
    text = ", ".join(f"{package} {version}" for package, version in versions.items())
    text = text or "standard library and numpy"
    if python is not None:
        text += f"; in {python}"
    if problem:
        advice = f"try its simulator alone, or {_anew(domain, python)}"
        return Finding(name, False, f"{problem} ({text})", advice)
    return Finding(name, True, text, left_out(domain, absent, task_names(domain)))


def _anew(domain: Domain, python: str | None) -> str:
    if (file := registry.file_of(domain.name)) is not None:
        return f"correct {file.path}"
    if python:
        return f"install it anew: lram env install {domain.name} --force"
    if not domain.install:
        return "install its package anew"
    return f"install it anew: pip install --force-reinstall '{domain.install}'"


def _renderer() -> Finding:
    name = "rendering (MuJoCo)"
    python = resolve(["dmcontrol"]).get("dmcontrol")
    try:
        absent = missing_requirements(registry.load_domain("dmcontrol"), python)
    except InterpreterError as error:
        return Finding(name, None, f"{python} {error}")
    if absent:
        return Finding(name, None, "dm_control is not installed")
    for backend in opengl.candidates():
        if opengl.renders("dmcontrol", python, backend):
            return Finding(name, True, f"{opengl.VARIABLE}={backend}")
    return Finding(
        name,
        False,
        f"neither {' nor '.join(opengl.candidates())} renders",
        f"{opengl.INSTALL}; only films need it",
    )


def _films() -> Finding:
    try:
        return Finding("films (PyAV)", True, version("av"))
    except PackageNotFoundError:
        return Finding("films (PyAV)", None, "not installed (optional: pip install 'lram-bench[film]')")


def _devices() -> list[Finding]:
    import torch

    found = [Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if there := gpus():
        return [*found, Finding("GPU", True, ", ".join(f"{name} {model}" for name, model in there.items()))]
    return [*found, Finding("GPU", None, "none that torch can use; models run on the CPU")]


def _kernels() -> list[Finding]:
    from importlib.util import find_spec

    from lram.agents.backbones.registry import BUILT_IN
    from lram.agents.backbones.sequences import numba_problem

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
                (package.distribution, package.module, package.purpose)
                for spec in BUILT_IN
                for package in spec.packages
            )
        ),
    ]


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "firefox"))), None)
    return Finding("browser", True if found else None, found or "none found; copy the report to look at it")
