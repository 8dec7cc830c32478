"""What names a user, a machine or a path of it, taken out of the texts of records.

Paths are known by their form, so this works on records from other machines, too: whatever stands between
``home/`` (or ``Users/``) and the next slash is a user. What remains is a text in which a reader still sees
what kind of thing stood there: ``~/checkpoints/a``, ``PATH/a``, ``USER``, ``HOST``.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

HOMES, PATHS, USERS, HOSTS = "home folders", "other absolute paths", "user names", "machine names"
"""What is counted, in the words of the manifest."""

_STARTS = r"(?<![\w.~-])(?<!:/)"  # no part of a relative path, and not behind the :/ of an address
_PART = r"[^\s/'\"`:;,()\[\]{}<>|=]+"
_HOME = re.compile(rf"{_STARTS}(?:(?:/{_PART})*?/(?:home|homes|Users)/(?P<user>{_PART})|/root(?=/|\b))")
_PATH = re.compile(rf"{_STARTS}/(?P<top>{_PART})(?:/{_PART})*/(?P<last>{_PART})/?")
_OF_THE_SYSTEM = frozenset({"bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr"})
_MAY_HOLD = re.compile(rf"{_STARTS}/".encode())
_UNTELLING = frozenset({"root", "user", "localhost", "nobody", "ubuntu", "admin", "lram"})
_SHORTEST = 3  # letters of a name that is looked for as a word

_WORDED = frozenset({"command", "settings", "raised", "message", "incidents", "reason", "platform"})
"""Fields with sentences and command lines, in which a name is also found where it is no part of a path."""


class Cleaner:
    """Cleans texts, and counts what it took out.

    Attributes:
        counts: Places by what was taken out of them, since this was last emptied.
    """

    def __init__(
        self,
        *,
        home: str | None = None,
        user: str | None = None,
        host: str | None = None,
        keep: Iterable[str] = (),
    ) -> None:
        """Know the names of this process's user and machine, unless others are given.

        Args:
            home: Home folder, which may lie anywhere.
            user: Name of its owner.
            host: Name of the machine.
            keep: Words that stay though a user or a machine has them for a name: labels of agents, tasks.
        """
        self._home = str(Path.home()) if home is None else home
        self._keep = {word.casefold() for word in keep}
        self._users = self._telling([_login() if user is None else user, Path(self._home).name])
        self._hosts = self._telling([socket.gethostname() if host is None else host])
        self._nodes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def learn(self, value: object) -> None:
        """Note the names in ``value``, a JSON value: of owners of home folders, and of cluster machines."""
        for key, text in _texts(value):
            if key == "node" and text:
                self._nodes.setdefault(text, f"node-{len(self._nodes) + 1}")
            self._users |= self._telling(match["user"] for match in _HOME.finditer(text) if match["user"])

    def concerns(self, line: bytes) -> bool:
        """Return whether JSON text may hold anything to be cleaned; it takes no time to ask."""
        if b"\\u" in line or _MAY_HOLD.search(line) or (b'"node":"' in line and b'"node":""' not in line):
            return True
        return any(name.encode() in line for name in (*self._users, *self._hosts, *self._nodes))

    def value(self, value: Any, key: str = "") -> Any:
        """Return a JSON value with clean texts; ``key`` is what it is called where it stands."""
        if isinstance(value, str):
            if key == "node" and value:
                self.counts[HOSTS] += 1
                return self._nodes.setdefault(value, f"node-{len(self._nodes) + 1}")
            return self.text(value, worded=key in _WORDED)
        if isinstance(value, list):
            return [self.value(one, key) for one in value]
        if isinstance(value, dict):
            inside = key if key in _WORDED else ""
            clean: dict[str, Any] = {}
            for name, one in value.items():
                # Two names that differ in what is taken out stay two: neither value is lost.
                clean[_unused(self.text(name), clean)] = self.value(one, inside or name)
            return clean
        return value

    def text(self, text: str, *, worded: bool = False) -> str:
        """Return ``text`` clean; ``worded`` looks for names anywhere in it, not in paths alone."""
        text = self._without_home(text)
        text = self._sub(_HOME, HOMES, lambda match: "~", text)
        for name in sorted(self._users, key=len, reverse=True):
            pattern = re.escape(name)
            inside = re.compile(
                rf"(?:^|(?<=[/=:\s'\"])){pattern}(?=/)|(?<=/){pattern}(?=[/\s'\":;,)]|$)|\b{pattern}(?=@)"
            )
            if worded:
                inside = re.compile(rf"(?<![\w-]){pattern}(?![\w-])")
            text = self._sub(inside, USERS, lambda match: "USER", text)
        text = self._sub(_PATH, PATHS, _short, text)
        if worded:
            for name, instead in (*((host, "HOST") for host in self._hosts), *self._nodes.items()):
                word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
                text = self._sub(word, HOSTS, lambda match, instead=instead: instead, text)
        return text

    def _without_home(self, text: str) -> str:
        if len(Path(self._home).parts) < 2:
            return text
        own = re.compile(rf"{_STARTS}{re.escape(self._home.rstrip('/'))}(?=/|[\s'\":;,)]|$)")
        return self._sub(own, HOMES, lambda match: "~", text)

    def _sub(self, pattern: re.Pattern[str], what: str, instead: Any, text: str) -> str:
        made = 0

        def put(match: re.Match[str]) -> str:
            nonlocal made
            new: str = instead(match)
            made += new != match[0]
            return new

        text = pattern.sub(put, text)
        if made:
            self.counts[what] += made
        return text

    def _telling(self, names: Iterable[str]) -> set[str]:
        return {
            name
            for name in names
            if len(name) >= _SHORTEST
            and name.casefold() not in _UNTELLING | self._keep
            and name.isprintable()
        }


def _unused(name: str, used: Container[str]) -> str:
    number, wanted = 1, name
    while wanted in used:
        number += 1
        wanted = f"{name} ({number})"
    return wanted


def without_paths(text: str) -> str:
    """Return ``text`` without the home folders and other absolute paths that are known by their form."""
    return _PATH.sub(_short, _HOME.sub("~", text))


def _short(match: re.Match[str]) -> str:
    return match[0] if match["top"] in _OF_THE_SYSTEM else f"PATH/{match['last']}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as containers have them
        return ""


def _texts(value: object, key: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, key)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield "", name
            yield from _texts(one, name)
