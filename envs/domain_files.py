"""Domains from plain files: a module that nobody installed, with ``DOMAIN`` or ``DOMAINS``.

A file is run when somebody names it, on a command line, by :func:`lram.envs.registry.add_file` or in
``LRAM_DOMAINS`` (several with colons between), and never because another file says so. It may import what
lies beside it: its folder is searched last, so that nothing there hides a package.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lram.envs import announced
from lram.envs.errors import AnnouncedError
from lram.envs.session import Domain
from lram.envs.text import message_of, printable

VARIABLE = "LRAM_DOMAINS"
_LARGEST = 1 << 24


@dataclass(frozen=True)
class DomainFile:
    """A file that was run, and the domains in it.

    Attributes:
        path: Absolute, links followed.
        digest: SHA-256 of its bytes, as they were run.
        domains: In its order.
    """

    path: Path
    digest: str
    domains: tuple[Domain, ...]


def load(path: Path, digest: str, taken: Callable[[str], str]) -> DomainFile:
    """Run a file and return its domains.

    Args:
        path: The file.
        digest: What its SHA-256 must be; empty: whatever it is.
        taken: Given a domain's name, returns who has it already; empty where nobody has.

    Raises:
        AnnouncedError: It is not there, is no Python, raises, holds no domain, or one whose name is taken;
            one sentence.
    """
    source = _read(path)
    found = hashlib.sha256(source).hexdigest()
    if digest and found != digest:
        raise AnnouncedError(f"{path} has changed since the run began; put it back, or start a new run")
    domains = tuple(_domains(path, _run(path, source)))
    names = [domain.name for domain in domains]
    for name in names:
        if names.count(name) > 1:
            raise AnnouncedError(f"{path} holds two domains called {name}; give one of them another name")
        if owner := taken(name):
            raise AnnouncedError(
                f"{path} holds a domain called {name}, and so does {owner}; give it another name"
            )
    return DomainFile(path, found, domains)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file that may be run; AnnouncedError where it cannot be read."""
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        there, regular = path.exists(), path.is_file()
        source = path.read_bytes() if regular and path.stat().st_size <= _LARGEST else b""
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise AnnouncedError(
            f"{path}, named as the file of a domain, cannot be read: {why or error}"
        ) from error
    if not regular:
        what = "is no file" if there else "is not there"
        raise AnnouncedError(
            f"{path}, named as the file of a domain, {what}; name a Python file that holds one"
        )
    if not source:
        raise AnnouncedError(
            f"{path} is empty, or larger than {_LARGEST} bytes; name a file that holds a domain"
        )
    return source


def _run(path: Path, source: bytes) -> ModuleType:
    # A name of its own: a file called numpy.py, or two of one name, must not meet in sys.modules.
    name = f"lram_domain_file_{path.stem}_{zlib.crc32(str(path).encode('utf-8', 'surrogateescape')):08x}"
    module = ModuleType(name)
    module.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses look themselves up there
    with announced.noting_interrupts() as interrupts:
        try:
            exec(compile(source, str(path), "exec"), module.__dict__)
        except BaseException as error:  # also SystemExit: other domains are to be played all the same
            sys.modules.pop(name, None)
            if interrupts:
                raise
            raise AnnouncedError(_failure(path, error)) from error
    return module


def _failure(path: Path, error: BaseException) -> str:
    """Return why a file could not be run, with its line that is to blame where it has one."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return printable(f"{path}, line {error.lineno}, is no Python: {error.msg}; correct it", 1000)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    where = f", line {lines[-1]}," if lines else ""
    return printable(f"{path}{where} cannot be run: {announced.described(error)}; correct it", 1000)


def _domains(path: Path, module: ModuleType) -> list[Domain]:
    one, several = (module.__dict__.get(name) for name in ("DOMAIN", "DOMAINS"))
    if (one is None) == (several is None):
        which = "neither DOMAIN nor DOMAINS" if one is None else "both DOMAIN and DOMAINS"
        raise AnnouncedError(
            f"{path} has {which}; give it one of them: DOMAIN = lram.envs.session.Domain(...), or DOMAINS, a "
            "sequence of these"
        )
    if several is not None and not (isinstance(several, (tuple, list)) and several):
        raise AnnouncedError(
            f"{path} has DOMAINS that are no sequence of domains; write DOMAINS = (one, two)"
        )
    found: list[Any] = [one] if several is None else list(several)
    for domain in found:
        with announced.noting_interrupts() as interrupts:
            try:
                wrong = _name_flaw(domain) or announced.flaw(domain.name, domain)
            except BaseException as error:
                if interrupts:
                    raise
                wrong = f"holds a domain that cannot be read: {message_of(error)}"
        if wrong:
            raise AnnouncedError(f"{path} {printable(wrong)}; correct it")
    return found


def _name_flaw(domain: object) -> str:
    if not isinstance(domain, Domain):
        return f"holds something of type {type(domain).__name__} where a lram.envs.session.Domain should be"
    if not isinstance(domain.name, str) or not announced.NAME.fullmatch(domain.name):
        return (
            f"holds a domain whose name is {domain.name!r:.120}: letters, digits, dots, dashes and "
            "underscores make one, at most 100"
        )
    return ""
