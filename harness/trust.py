"""Whose code a folder may have run: what the user names now, or began on this machine, or trusts.

A folder's plan may name a module to import (``module:factory``), a file that holds a domain, a Python to
start, or a policy that a program runs (``lerobot:FOLDER(python=...)``). All run code. Or it names a server
(``ws://host:port``), to which observations and a token go. The folder may come from somebody else. So they
are used only where

* the user names them on this command line,
* the interpreter is lram's own or one that ``lram env install`` made,
* this machine's user began the folder: its plan, byte for byte, is noted in the data folder, or
* the user says so (``--trust``).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lram.agents.adapters import adapter_of
from lram.agents.durable import read_regular
from lram.agents.own_code import named_module
from lram.agents.spec import parse_agent
from lram.harness.data_folder import INTERPRETERS, data_folder
from lram.harness.errors import LramError

_BEGUN = "begun"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the user vouches for.

    Attributes:
        everything: ``--trust``.
        specs: Agents that the command line names.
        domains: Domains whose interpreters the command line names.
    """

    everything: bool = False
    specs: Collection[str] = ()
    domains: Collection[str] = ()


NONE = Trust()
ALL = Trust(everything=True)
NO_FILES: Mapping[str, str] = MappingProxyType({})


def foreign(
    specs: Iterable[str],
    interpreters: Mapping[str, str],
    trust: Trust = NONE,
    files: Mapping[str, str] = NO_FILES,
) -> list[str]:
    """Return what would run code that is not known to be this user's, each in words.

    Args:
        specs: Specifications of agents.
        interpreters: Python by domain.
        trust: What the user vouches for.
        files: By domain that is from a plain file: the file.
    """
    if trust.everything:
        return []
    code = [
        f"the module {named_module(spec)} (agent {spec})"
        for spec in specs
        if named_module(spec) and spec not in trust.specs
    ]
    servers = [
        f"what the server {base} answers, which would be shown this user's token"
        for spec in specs
        if (adapter := adapter_of(base := parse_agent(spec).base))
        and adapter.connects
        and spec not in trust.specs
    ]
    policies = [
        f"a policy of another project by the program that its name or the environment tells (agent {spec})"
        for spec in specs
        if (adapter := adapter_of(parse_agent(spec).base)) and adapter.starts and spec not in trust.specs
    ]
    pythons = [
        f"the program {python} (for the domain {domain})"
        for domain, python in interpreters.items()
        if domain not in trust.domains and not _is_own(python)
    ]
    domains = [f"the file {path} (of the domain {domain})" for domain, path in files.items()]
    named = [code, servers, policies, domains]
    return [*(one for several in named for one in dict.fromkeys(several)), *pythons]


def remember(
    plan_file: Path,
    specs: Iterable[str],
    interpreters: Mapping[str, str],
    files: Mapping[str, str] = NO_FILES,
) -> None:
    """Note that this machine's user began the folder of ``plan_file``, where that will be asked."""
    if foreign(specs, interpreters, files=files):
        with suppress(OSError):  # a home that cannot be written: --trust is asked for then
            noted = data_folder() / _BEGUN
            noted.mkdir(parents=True, exist_ok=True)
            (noted / _digest(plan_file)).touch()


def check_trusted(
    plan_file: Path,
    specs: Iterable[str],
    interpreters: Mapping[str, str],
    trust: Trust,
    command: str,
    files: Mapping[str, str] = NO_FILES,
) -> None:
    """Raise LramError where continuing a folder would run what nobody here has vouched for.

    Args:
        plan_file: Of the folder.
        specs: Specifications of its agents.
        interpreters: Python by domain, as its plan has them.
        trust: What the user vouches for.
        command: What continues it.
        files: By domain that is from a plain file: the file that its plan names.
    """
    if (named := foreign(specs, interpreters, trust, files)) and not vouched(plan_file):
        raise LramError(
            f"{plan_file} would run {', '.join(named)}, and was not begun on this machine by this user; look "
            f"at it, then repeat with --trust: {command} --trust"
        )


def trusted(everything: bool) -> Trust:
    """Return what ``--trust`` vouches for, given or not."""
    return ALL if everything else NONE


def vouched(plan_file: Path) -> bool:
    """Return whether this machine's user began the folder of ``plan_file``."""
    try:
        return (data_folder() / _BEGUN / _digest(plan_file)).is_file()
    except OSError:
        return False


def _digest(plan_file: Path) -> str:
    return hashlib.sha256(read_regular(plan_file)).hexdigest()


def _is_own(python: str) -> bool:
    """Return whether ``python`` is this interpreter, or lies where ``lram env install`` puts them."""
    parts = Path(python).parts
    home = (data_folder() / INTERPRETERS).parts
    return python == sys.executable or (parts[: len(home)] == home and ".." not in parts)
