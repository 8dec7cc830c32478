"""Install an interpreter of a domain's own: environment, packages, checkouts, a trial, and the manifest."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from lram.envs.session import Domain, InterpreterRecipe
from lram.harness.errors import LramError
from lram.harness.interpreters.causes import cause
from lram.harness.interpreters.folder import Interpreter, InterpreterFolder, commit, place, sweep, vacant_venv
from lram.harness.interpreters.locks import InterpreterInUseError, locked
from lram.harness.interpreters.pythons import base_python, is_made_from, minor_version
from lram.harness.interpreters.sources import FoundTree, find_sources, left_out
from lram.harness.interpreters.state import broken
from lram.harness.interpreters.surroundings import clean_environment, environment_for_uv
from lram.harness.words import count

Say = Callable[[str], None]

_ANSWER_TIMEOUT_S = 60
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

    One that works, with the same requirements, sources and Python, is left as it is. Nothing counts as
    installed before a task was played in it: until then an earlier one stays, and a failed or killed install
    leaves at most what the next one deletes.

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
        LramError: The domain tells no versions, another process installs the same, what is installed has
            other sources or another Python, or the install failed.
    """
    from lram.harness.interpreters.readiness import adapter

    its = adapter(domain)
    if its.interpreter is None:
        raise LramError(f"the domain {domain} does not tell what an interpreter of its own holds")
    before = place(domain).interpreter
    given = [Path(source) for source in sources]
    earlier = before.sources if before is not None else ()
    found = find_sources(its, given, earlier, clone=clone, say=progress)
    with locked(place(domain).folder) as lock:
        where = place(domain)
        if where.interpreter is not None and not force:
            if problem := broken(where):
                progress(f"note: the interpreter of {domain} is broken ({problem}); it is installed anew")
            else:
                _check_same(where, its.interpreter, found, python)
                progress(f"{domain} is installed already, in {where.venv}; --force installs it anew")
                with suppress(InterpreterInUseError):
                    sweep(where, "venv*")
                return where.interpreter
        work = _Install(its, its.interpreter, where, lock, progress)
        manifest = work.run(found, python)
    for warning in found.warnings:
        progress(f"note: {warning}")
    from lram.harness.interpreters.trial import task_names

    if text := left_out(its, found.absent, task_names(its)):
        progress(f"note: {text}")
    return manifest


def _check_same(
    where: InterpreterFolder, recipe: InterpreterRecipe, found: FoundTree, python: str | None
) -> None:
    there = where.interpreter
    assert there is not None
    again = f"'lram env install {there.domain} --force', with the --source that is new, installs it anew"
    if there.requirements != recipe.requirements:
        raise LramError(f"{there.domain} is installed with the versions of another lram-bench; {again}")
    if [(s.module, s.path) for s in there.sources] != [(s.module, s.path) for s in found.used]:
        has = ", ".join(source.path for source in there.sources) or "no checkout"
        raise LramError(f"{there.domain} is installed with {has}; {again}")
    if python is not None and not is_made_from(str(where.python), python):
        raise LramError(
            f"{there.domain} is installed with Python {there.python}, and not made from {python}; "
            f"'lram env install {there.domain} --python {python} --force' installs it anew"
        )


@dataclass(slots=True)
class _Install:
    domain: Domain
    recipe: InterpreterRecipe
    where: InterpreterFolder
    lock: IO[str]
    say: Say
    venv: Path = field(init=False)

    def run(self, found: FoundTree, python: str | None) -> Interpreter:
        uv = _uv()
        base = base_python(self.domain.name, self.recipe, python, uv=bool(uv))
        if (minor := minor_version(base)) is not None and minor not in self.recipe.pythons:
            proven = ", ".join(self.recipe.pythons)
            self.say(f"note: the versions were proven with Python {proven}, and {base} is {minor}")
        try:
            self.where.folder.mkdir(parents=True, exist_ok=True)
            with suppress(InterpreterInUseError):
                sweep(self.where)
            self.venv = vacant_venv(self.where)
            try:
                self.where.log.unlink(missing_ok=True)
                manifest = self._build(found, base, uv)
            except BaseException:
                # The disk is given back, unless the interrupt came after the end; the log stays to be read.
                there = place(self.domain.name)
                if there.interpreter is None or there.venv != self.venv:
                    shutil.rmtree(self.venv, ignore_errors=True)
                raise
        except OSError as error:
            raise LramError(f"{self.where.folder} cannot be written: {error.strerror or error}") from error
        try:
            sweep(place(self.domain.name), "venv*")
        except LramError as error:
            self.say(f"note: {error}; until then the earlier environment stays beside the new one")
        return manifest

    @property
    def python(self) -> str:
        return str(self.venv / "bin" / "python")

    def _build(self, found: FoundTree, base: str, uv: list[str]) -> Interpreter:
        self.say(f"making a virtual environment from {base} in {self.venv}")
        variables = environment_for_uv() if uv else clean_environment()
        if uv:
            self._command([*uv, "venv", "--no-project", "--python", base, str(self.venv)], variables)
        else:
            self._command([base, "-m", "venv", str(self.venv), "--without-pip"], variables)
        tool = uv or [sys.executable, "-m", "pip", "--python", self.python]
        installer = _version_of(tool)
        if not installer and not uv:
            # There is no pip here, or one that is too old for --python or too new for that Python.
            self._command([self.python, "-I", "-m", "ensurepip", "--default-pip"], variables)
            tool = [self.python, "-m", "pip"]
            installer = _version_of(tool)
        if not installer:
            raise self._failed(f"'{shlex.join([*tool, '--version'])}' gives no answer")
        if requirements := list(self.recipe.requirements):
            self.say(f"installing {count(len(requirements), 'requirement')} with {installer}")
            more = [] if self.recipe.resolve else ["--no-deps"]
            if uv:
                pip = [*uv, "pip", "install", "--python", self.python]
            else:
                pip = [*tool, "install", "--no-input", "--no-user"]
                # As with uv, Python compiles what is imported, much of it in the trial, unless that is off.
                pip += [] if sys.dont_write_bytecode else ["--no-compile"]
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
            path=self.python,
            requirements=self.recipe.requirements,
            packages=dict(sorted(contents["packages"].items())),
            sources=found.used,
            installer=installer,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            lram_bench=version("lram-bench"),
        )
        commit(self.where, manifest)
        return manifest

    def _try(self, found: FoundTree) -> None:
        """Play a few steps in a worker; that also compiles what the simulator compiles when it first runs."""
        from lram.envs.workers.pool import Pool
        from lram.harness.interpreters.readiness import LackingError, readiness
        from lram.harness.interpreters.trial import trial_task, try_task

        task = trial_task(self.domain, [tree.module for tree in found.absent])
        if not task:
            return
        self.say(f"trying {self.domain.name}/{task} in it")
        interpreters = {self.domain.name: self.python}
        try:
            protocol = readiness(self.domain, [task], self.python).protocol
        except LackingError as error:
            raise self._failed(f"it {error.what}") from error
        except LramError as error:
            raise self._failed(str(error)) from error
        with Pool(log_folder=self.where.folder, interpreters=interpreters) as pool:
            problem = try_task(pool, self.domain.name, task, protocol.name)
        if problem:
            raise self._failed(f"{self.domain.name}/{task} cannot be played in it: {problem}")

    def _contents(self) -> dict[str, Any]:
        command = [self.python, "-I", "-c", _CONTENTS]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=_ANSWER_TIMEOUT_S, check=True
            )
            contents: dict[str, Any] = json.loads(answer.stdout)
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
            raise self._failed(f"its Python cannot be run: {said[-1]}") from error
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"its Python gave no answer within {_ANSWER_TIMEOUT_S} s") from error
        except ValueError as error:
            raise self._failed("its Python does not tell what it holds") from error
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
        stays = "; the one that was installed before stays" if self.where.interpreter is not None else ""
        return LramError(
            f"the interpreter of {self.domain.name} cannot be installed: {why} (see {self.where.log}){stays}"
        )


def _uv() -> list[str]:
    """Return the command of uv; empty where there is none."""
    found = shutil.which("uv")
    if found and _version_of([found]):
        return [found]
    return [sys.executable, "-m", "uv"] if find_spec("uv") is not None else []


def _version_of(command: list[str]) -> str:
    """Return such as ``pip 25.0``; empty where it does not run."""
    try:
        answer = subprocess.run(
            [*command, "--version"],
            env=clean_environment(),
            cwd="/",  # "python -m" would import from the working directory
            capture_output=True,
            text=True,
            timeout=_ANSWER_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(answer.stdout.split()[:2])
