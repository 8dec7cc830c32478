"""Whether an interpreter can play a domain, under which protocol, and what fixes it where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lram.envs.availability import Probe, probe, required_modules
from lram.envs.errors import InterpreterError
from lram.envs.registry import load_domain
from lram.envs.session import Domain, EvaluationProtocol, SourceTree
from lram.envs.task import Task
from lram.harness.errors import LramError, as_lram_error
from lram.harness.interpreters.folder import place
from lram.harness.interpreters.sources import clone_commands, repository_name


class LackingError(LramError):
    """Something is not installed.

    Attributes:
        what: What, as ``lacks ale_py``.
        how: The command that brings it.
        clause: Both, with the domain's name.
    """

    def __init__(self, domain: str, what: str, how: str) -> None:
        self.what, self.how = what, how
        self.clause = f"{domain} ({what}: {how})"
        super().__init__(f"not installed: {self.clause}")


@dataclass(frozen=True, slots=True)
class Ready:
    """A domain that can be played.

    Attributes:
        protocol: Under which protocol.
        python: Version of the interpreter that plays it.
        versions: Of the distributions that the protocols stand on.
    """

    protocol: EvaluationProtocol
    python: str
    versions: Mapping[str, str]


@as_lram_error()
def adapter(name: str) -> Domain:
    """Return the adapter of a domain; LramError where there is none."""
    return load_domain(name)


def readiness(
    domain: Domain, tasks: Sequence[str], python: str | None = None, protocol: str | None = None
) -> Ready:
    """Return how ``domain`` can be played.

    Args:
        domain: The adapter.
        tasks: Names, within the domain, of the tasks to play.
        python: Interpreter that plays it (None: this one).
        protocol: Name of the protocol (None: the first whose versions fit the interpreter).

    Raises:
        LackingError: A package, or a checkout that one of the tasks needs, is not there.
        LramError: No such protocol; an interpreter that cannot be used; versions that do not fit.
    """
    with as_lram_error():
        candidates = domain.protocols if protocol is None else (domain.protocol(protocol),)
    distributions = sorted({name for one in domain.protocols for name in one.versions})
    try:
        found = probe(python, required_modules(domain, tasks), distributions)
    except InterpreterError as error:
        raise _useless(domain, python or "", str(error)) from error
    if found.absent:
        raise _lacking(domain, tasks, python, found.absent)
    for candidate in candidates:
        if not _unfit(candidate, found):
            return Ready(candidate, found.python, found.versions)
    raise LramError(_misfit(domain, python, protocol, found))


def protocols_here(
    tasks: Sequence[Task], chosen: Mapping[str, str], interpreters: Mapping[str, str]
) -> dict[str, str]:
    """Return the protocol id of each domain, as this machine has it; LramError for one that it lacks."""
    protocols, lacking = {}, []
    for name in dict.fromkeys(task.domain for task in tasks):
        domain = adapter(name)
        mine = [task.name for task in tasks if task.domain == name]
        try:
            ready = readiness(domain, mine, interpreters.get(name), chosen.get(name))
        except LackingError as error:
            lacking.append(error.clause)
        else:
            protocols[name] = ready.protocol.id(name)
    if lacking:
        raise LramError(f"not installed: {'; '.join(lacking)}; install or select other tasks")
    return protocols


def absent_sources(domain: Domain, python: str | None = None) -> list[SourceTree]:
    """Return the source trees that are not there; LramError where the interpreter is of no use."""
    try:
        absent = probe(python, [tree.module for tree in domain.sources]).absent
    except InterpreterError as error:
        raise _useless(domain, python or "", str(error)) from error
    return [tree for tree in domain.sources if tree.module in absent]


def ways_to_install(domain: Domain) -> str:
    """Return the commands that bring a domain's simulator, the recommended one first."""
    pip = f"pip install '{domain.install}'" if domain.install else ""
    own = _install(domain) if domain.interpreter is not None else ""
    if trees := [tree for tree in domain.sources if not tree.tasks]:
        return _with_checkouts(domain, trees)
    isolated = bool(domain.sources) or any(one.versions for one in domain.protocols)
    ways = (own, pip) if isolated else (pip, own)
    return " or ".join(filter(None, ways)) or "install what its package tells"


def _useless(domain: Domain, python: str, what: str) -> LramError:
    about = f"the interpreter {python} for the domain {domain.name} {what}"
    if _own(domain, python):
        return LramError(f"{about}; make it anew: {_install(domain, force=True)}")
    if "numpy" in what:
        return LramError(f"{about}: pip --python {python} install numpy")
    return LramError(f"{about}; give another path with --python {domain.name}=PATH")


def _lacking(domain: Domain, tasks: Sequence[str], python: str | None, absent: Sequence[str]) -> LackingError:
    trees = [tree for tree in domain.sources if tree.module in absent]
    packages = [name for name in absent if name not in {tree.module for tree in trees}]
    if packages:
        what = f"lacks {', '.join(absent)}"
    else:
        few = [name for name in tasks if any(tree.tasks and tree.needed(name) for tree in trees)]
        what = f"lacks the checkout of {' and '.join(tree.module for tree in trees)}"
        what += f" that {few[0]} needs" if few else ""
    what += f" in {python}" if python is not None else ""
    return LackingError(domain.name, what, _remedy(domain, python, packages, trees))


def _remedy(domain: Domain, python: str | None, packages: Sequence[str], trees: Sequence[SourceTree]) -> str:
    """Return the command that brings what ``python`` lacks."""
    there = place(domain.name).interpreter
    own = python is not None and _own(domain, python)
    if there is not None and not own and {tree.module for tree in trees} <= {s.module for s in there.sources}:
        return f"{_leave_out(domain, python)}: its own interpreter has that"
    if trees:
        how = _with_checkouts(domain, trees, force=there is not None)
    elif own:
        how = _install(domain, force=True)
    elif python is None:
        return ways_to_install(domain)
    elif domain.interpreter is None:
        return (
            f"install {' and '.join(packages)} there, or give another path with --python {domain.name}=PATH"
        )
    else:
        how = _install(domain)
    excludable = not own and (python is not None or there is not None)
    return (
        f"{how}, and {_leave_out(domain, python)}" if excludable and domain.interpreter is not None else how
    )


def _with_checkouts(domain: Domain, trees: Sequence[SourceTree], *, force: bool = False) -> str:
    """Return the commands that clone ``trees`` and install the domain's own interpreter with them."""
    clone = " && ".join(command for tree in trees for command in clone_commands(tree))
    names = [repository_name(tree) for tree in trees]
    if domain.interpreter is None:
        return f"{clone}, and name {' and '.join(names)} in PYTHONPATH"
    return f"{clone} && {_install(domain, [f'--source {name}' for name in names], force=force)}"


def _leave_out(domain: Domain, python: str | None) -> str:
    return f"leave --python {domain.name}={python or 'main'} out"


def _misfit(domain: Domain, python: str | None, protocol: str | None, found: Probe) -> str:
    """Return what the versions are, what they must be, and the commands for either."""
    where = f"the interpreter {python}" if python is not None else "this interpreter"
    fitting = [one for one in domain.protocols if not _unfit(one, found)]
    if protocol is not None:
        chosen = domain.protocol(protocol)
        needs = " and ".join(f"{name} {wanted}" for name, wanted, _ in _unfit(chosen, found))
        has = " and ".join(f"{name} {have}" for name, _, have in _unfit(chosen, found))
        ways = [_way(domain, python, chosen, found)]
        ways += [f"--protocol {domain.name}={fitting[0].name} fits what is there"] if fitting else []
        about = f"the protocol {chosen.id(domain.name)} needs {needs}, and {where} has {has}"
        return f"{about}: {', or '.join(ways)}"
    names = dict.fromkeys(name for one in domain.protocols for name, _, _ in _unfit(one, found))
    has = " and ".join(f"{name} {found.versions.get(name, 'of no known version')}" for name in names)
    ways = []
    for one in domain.protocols:
        needs = " and ".join(f"{name} {wanted}" for name, wanted, _ in _unfit(one, found))
        ways.append(f"{one.name} needs {needs} ({_way(domain, python, one, found)})")
    return f"no protocol of {domain.name} fits {where}, which has {has}: {', '.join(ways)}"


def _way(domain: Domain, python: str | None, protocol: EvaluationProtocol, found: Probe) -> str:
    """Return the command after which ``protocol`` fits."""
    recipe = domain.interpreter
    if recipe is not None and all(f"{n}=={v}" in recipe.requirements for n, v in protocol.versions.items()):
        if python is not None and _own(domain, python):
            return _install(domain, force=True)
        if place(domain.name).interpreter is not None:
            return f"{_leave_out(domain, python)}: its own interpreter has that"
        return f"{_install(domain)} makes an interpreter with that"
    pins = " ".join(f"{name}=={wanted}" for name, wanted, _ in _unfit(protocol, found))
    return f"pip --python {python} install {pins}" if python is not None else f"pip install {pins}"


def _unfit(protocol: EvaluationProtocol, found: Probe) -> list[tuple[str, str, str]]:
    """Return distribution, wanted version and present one, for each that differs."""
    return [
        (name, wanted, found.versions.get(name, "of no known version"))
        for name, wanted in protocol.versions.items()
        if found.versions.get(name) != wanted
    ]


def _own(domain: Domain, python: str) -> bool:
    return Path(python).parent.parent.parent == place(domain.name).folder


def _install(domain: Domain, more: Sequence[str] = (), *, force: bool = False) -> str:
    return " ".join(["lram env install", domain.name, *more, *(["--force"] if force else [])])
