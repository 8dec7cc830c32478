"""What an interpreter has for a domain, found out without importing a simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from lram.envs.session import Domain

OLDEST_PYTHON = (3, 9)
# Code given with -c starts with this: before Python 3.11 nothing else keeps the working directory, where
# a research repository may have a folder called like a package that a simulator imports, off the path.
SAFE_PATH = "import sys; sys.path[:] = [place for place in sys.path if place]\n"
# Any Python must be able to read this, if only to say its version.
_PROBE = (
    SAFE_PATH
    + """
import json
facts = {"python": list(sys.version_info[:3]), "absent": [], "versions": {}}
if sys.version_info >= (3, 8):
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec
    modules, distributions = json.loads(sys.argv[1])
    for name in modules:
        try:
            present = find_spec(name) is not None
        except (ImportError, ValueError):
            present = False
        if not present:
            facts["absent"].append(name)
    for name in distributions:
        try:
            facts["versions"][name] = version(name)
        except PackageNotFoundError:
            pass
print(json.dumps(facts))
"""
)


class InterpreterError(RuntimeError):
    """An interpreter that cannot be run, or that no worker can run on; the message is a clause about it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What an interpreter has.

    Attributes:
        python: Its version, such as ``3.11.7``.
        absent: The import names among those asked for that it lacks.
        versions: Version of each distribution asked for that it has.
    """

    python: str
    absent: tuple[str, ...]
    versions: dict[str, str]


def probe(python: str | None, modules: Iterable[str], distributions: Iterable[str] = ()) -> Probe:
    """Return what ``python`` has, in the environment that a worker would start in.

    Args:
        python: Interpreter to ask (None: this one).
        modules: Top-level import names to look for.
        distributions: Distributions to tell the versions of.

    Raises:
        InterpreterError: It cannot be run, is too old, or has no numpy.
    """
    if python is None:
        absent = tuple(name for name in modules if not _present(name))
        return Probe(".".join(map(str, sys.version_info[:3])), absent, _versions(distributions))
    facts = _ask(python, sorted({*modules, "numpy"}), list(distributions))
    text = ".".join(map(str, facts["python"]))
    if tuple(facts["python"][:2]) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise InterpreterError(f"is Python {text}, and a worker needs {oldest} or later")
    if "numpy" in facts["absent"]:
        raise InterpreterError("has no numpy, which a worker needs")
    return Probe(text, tuple(name for name in modules if name in facts["absent"]), facts["versions"])


def missing_requirements(domain: Domain, python: str | None = None) -> list[str]:
    """Return the import names that ``domain`` needs for any task and that are not there.

    Args:
        domain: The adapter.
        python: Interpreter to look in (None: this one).

    Raises:
        InterpreterError: The interpreter is of no use.
    """
    return list(probe(python, required_modules(domain)).absent)


def required_modules(domain: Domain, tasks: Sequence[str] | None = None) -> list[str]:
    """Return the import names that ``tasks`` (by their names within ``domain``) need.

    Without tasks: those that every task needs.
    """
    trees = [
        tree.module
        for tree in domain.sources
        if (not tree.tasks if tasks is None else any(tree.needed(task) for task in tasks))
    ]
    return list(dict.fromkeys([*domain.requires, *trees]))


def environment(python: str) -> dict[str, str]:
    """Return the environment variables for a process of ``python`` that serves a domain.

    PYTHONPATH stays: a checkout on it is found wherever a domain runs, and the versions that a protocol
    stands on are looked up with it in place, so that what it hides is noticed.
    """
    variables = dict(os.environ)
    variables["PYTHONSAFEPATH"] = "1"
    if python != sys.executable:
        variables.pop("PYTHONHOME", None)  # this interpreter's standard library
    return variables


def _ask(python: str, modules: list[str], distributions: list[str]) -> dict[str, Any]:
    command = [python, "-c", _PROBE, json.dumps([modules, distributions])]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=environment(python)
        )
        facts: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise InterpreterError("cannot be run") from error
    return facts


def _present(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
