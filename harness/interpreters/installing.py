"""Install an interpreter of a domain's own: environment, packages, checkouts, a trial, and the manifest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from lram.envs.session import Domain, InterpreterRecipe
from lram.harness.errors import LramError
from lram.harness.interpreters.causes import cause
from lram.harness.interpreters.folder import Interpreter, Place, clear, commit, locked, place
from lram.harness.interpreters.pythons import base_python, minor_version
from lram.harness.interpreters.sources import Found, find_sources, left_out
from lram.harness.interpreters.surroundings import clean_environment, environment_for_uv

Say = Callable[[str], None]

_PTH = "lram-sources.pth"
_CONTENTS = """
import json, platform, sysconfig
from importlib.metadata import distributions
print(json.dumps({
    "python": platform.python_version(),
    "site": sysconfig.get_path("purelib"),
    "packages": {one.metadata["Name"]: one.version for one in distributions()},
}))
"""


def _nothing(text: str) -> None:
    pass


def install(
    domain: str,
    sources: Sequence[str | Path] = (),
    *,
    python: str | None = None,
    clone: bool = False,
    force: bool = False,
    progress: Say = _nothing,
) -> Interpreter:
    """Install an interpreter with the pinned versions of ``domain`` and return what it holds.

    One that is there with the same requirements and sources is left as it is. Nothing counts as installed
    before a task was played in it; a failed or killed install leaves at most a folder that the next one
    empties.

    Args:
        domain: Domain name.
        sources: Checkouts of the packages that no registry has; used by path, never copied or changed.
        python: Python to make it from: an executable, or a version such as ``3.11`` (None: this one where
            the domain's pins were proven with it, else one of the proven versions).
        clone: Clone the checkouts that are missing.
        force: Install anew what is installed already.
        progress: Told what is done, and what is odd, a line each.

    Raises:
        SourcesNeededError: A checkout is needed and not given; nothing was done.
        LramError: The domain tells no versions, another process installs the same, or the install failed.
    """
    from lram.harness.readiness import adapter

    its = adapter(domain)
    if its.interpreter is None:
        raise LramError(f"the domain {domain} does not tell what an interpreter of its own holds")
    before = place(domain).interpreter
    given = [Path(source) for source in sources]
    earlier = before.sources if before is not None else ()
    found = find_sources(its, given, earlier, clone=clone, say=progress)
    with locked(domain) as lock:
        where = place(domain)
        if where.interpreter is not None and not force:
            _check_same(where.interpreter, its.interpreter, found)
            progress(f"{domain} is installed already, in {where.venv}; --force installs it anew")
            return where.interpreter
        work = _Install(its, its.interpreter, where, lock, progress)
        manifest = work.run(found, python)
    for warning in found.warnings:
        progress(f"note: {warning}")
    from lram.harness.interpreter_check import task_names

    if text := left_out(its, found.absent, task_names(its)):
        progress(f"note: {text}")
    return manifest


def _check_same(there: Interpreter, recipe: InterpreterRecipe, found: Found) -> None:
    again = f"'lram env install {there.domain} --force', with the --source that is new, installs it anew"
    if there.requirements != recipe.requirements:
        raise LramError(f"{there.domain} is installed with the versions of another lram-bench; {again}")
    if [(s.module, s.path) for s in there.sources] != [(s.module, s.path) for s in found.used]:
        has = ", ".join(source.path for source in there.sources) or "no checkout"
        raise LramError(f"{there.domain} is installed with {has}; {again}")


@dataclass(slots=True)
class _Install:
    domain: Domain
    recipe: InterpreterRecipe
    where: Place
    lock: IO[str]
    say: Say

    def run(self, found: Found, python: str | None) -> Interpreter:
        uv = _uv()
        base = base_python(self.domain.name, self.recipe, python, uv=bool(uv))
        if (minor := minor_version(base)) is not None and minor not in self.recipe.pythons:
            proven = ", ".join(self.recipe.pythons)
            self.say(f"note: the versions were proven with Python {proven}, and {base} is {minor}")
        try:
            self.where.folder.mkdir(parents=True, exist_ok=True)
            clear(self.where)
            return self._build(found, base, uv)
        except OSError as error:
            self._tidy()
            raise LramError(f"{self.where.folder} cannot be written: {error.strerror or error}") from error
        except BaseException:
            self._tidy()
            raise

    def _build(self, found: Found, base: str, uv: list[str]) -> Interpreter:
        self.say(f"making a virtual environment from {base} in {self.where.venv}")
        target = str(self.where.python)
        variables = environment_for_uv() if uv else clean_environment()
        if uv:
            self._command([*uv, "venv", "--no-project", "--python", base, str(self.where.venv)], variables)
        else:
            self._command([base, "-m", "venv", str(self.where.venv)], variables)
        installer = _version_of(uv or [target, "-m", "pip"])
        if requirements := list(self.recipe.requirements):
            self.say(f"installing {len(requirements)} requirements with {installer}")
            more = [] if self.recipe.resolve else ["--no-deps"]
            if uv:
                pip = [*uv, "pip", "install", "--python", target]
            else:
                pip = [target, "-m", "pip", "install", "--no-input", "--no-user"]
            self._command([*pip, *more, *requirements], variables)
        contents = self._contents()
        if found.used:
            lines = dict.fromkeys(source.path for source in found.used)
            text = "".join(f"{line}\n" for line in lines)
            (Path(contents["site"]) / _PTH).write_text(text, encoding="utf-8")
        self._try(found)
        manifest = Interpreter(
            domain=self.domain.name,
            python=contents["python"],
            path=target,
            requirements=self.recipe.requirements,
            packages=dict(sorted(contents["packages"].items())),
            sources=found.used,
            installer=installer,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            lram_bench=version("lram-bench"),
        )
        commit(self.where, manifest)
        return manifest

    def _try(self, found: Found) -> None:
        """Play a few steps in a worker; that also compiles what the simulator compiles when it first runs."""
        from lram.envs.pool import Pool
        from lram.harness.interpreter_check import quick_task, try_task
        from lram.harness.readiness import readiness

        task = quick_task(self.domain, [tree.module for tree in found.absent])
        if not task:
            return
        self.say(f"trying {self.domain.name}/{task} in it")
        interpreters = {self.domain.name: str(self.where.python)}
        try:
            protocol = readiness(self.domain, [task], str(self.where.python)).protocol
        except LramError as error:
            raise self._failed(str(error)) from error
        with Pool(log_folder=self.where.folder, interpreters=interpreters) as pool:
            problem = try_task(pool, self.domain.name, task, protocol.name)
        if problem:
            raise self._failed(f"{self.domain.name}/{task} cannot be played in it: {problem}")

    def _contents(self) -> dict[str, Any]:
        command = [str(self.where.python), "-I", "-c", _CONTENTS]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if answer.returncode:
            raise self._failed(f"its Python cannot be run: {answer.stderr.strip().splitlines()[-1:]}")
        contents: dict[str, Any] = json.loads(answer.stdout)
        return contents

    def _command(self, command: list[str], variables: dict[str, str]) -> None:
        """Run one step; what it says goes to the log. LramError with the cause when it fails."""
        with self.where.log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command,
                cwd=self.where.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self.lock.fileno()],
                start_new_session=True,
            )
            try:
                code = process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if code:
            said = self.where.log.read_bytes()[start:].decode("utf-8", "replace")
            raise self._failed(cause(said))

    def _failed(self, why: str) -> LramError:
        return LramError(
            f"the interpreter of {self.domain.name} cannot be installed: {why} (see {self.where.log})"
        )

    def _tidy(self) -> None:
        """Give the disk back; the log stays to be read."""
        shutil.rmtree(self.where.venv, ignore_errors=True)


def _uv() -> list[str]:
    """Return the command of uv; empty where there is none."""
    found = shutil.which("uv")
    if found and _version_of([found]):
        return [found]
    return [sys.executable, "-m", "uv"] if find_spec("uv") is not None else []


def _version_of(command: list[str]) -> str:
    answer = subprocess.run(
        [*command, "--version"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return " ".join(answer.stdout.split()[:2]) if answer.returncode == 0 else ""
