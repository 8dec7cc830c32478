"""What ``ws://host:port/path(name=value)`` says: where a policy is served, and how it is asked."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lram.agents.calls import parse_arguments, split_call
from lram.agents.errors import AgentError
from lram.agents.shown import shown

PROTOCOLS = ("auto", "openpi", "vla-eval")
QUESTION = ("play", "state_key", "image_key", "prompt")
"""Options of what a policy is asked and how its answer is played; ``lram serve`` leaves no choice of that."""

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ServedAddress:
    """A server and how it is asked. The options are the fields from ``token_file`` on.

    Attributes:
        url: ``ws://host:port/path`` or ``wss://...``.
        host: Name or number.
        port: 1 to 65535.
        token_file: File with the token (empty: the environment's, if there is one).
        connect_s: Longest wait for a connection, and for the first message.
        answer_s: Longest wait for an answer.
        retries: Tries to connect again after a connection was lost where no episode is lost with it.
        max_mb: Greatest message that is taken, in MiB.
        protocol: ``auto``: of lram where the server offers it, otherwise openpi's.
        play: Actions of a chunk that are played before the next question; 0: the whole chunk.
        state_key: Key of a vector observation; empty: the protocol's usual one.
        image_key: Key of an image, likewise.
        prompt: Text that a language-conditioned policy gets; empty: the task's name in words.
    """

    url: str
    host: str
    port: int
    token_file: str = ""
    connect_s: float = 10.0
    answer_s: float = 60.0
    retries: int = 3
    max_mb: int = 64
    protocol: str = "auto"
    play: int = 1
    state_key: str = ""
    image_key: str = ""
    prompt: str = ""

    @property
    def max_bytes(self) -> int:
        """Bytes of the greatest message that is taken."""
        return self.max_mb * _MIB


_OPTIONS = tuple(
    field for field in dataclasses.fields(ServedAddress) if field.name not in ("url", "host", "port")
)


def parse_address(scheme: str, where: str) -> ServedAddress:
    """Return the address in ``SCHEME:WHERE``; AgentError where it is none, one sentence.

    User names, passwords, queries and fragments are refused: an agent's name is written into records.
    """
    name, _ = split_call(where)
    url = f"{scheme}:{name}"
    quoted = shown(url, 200)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise AgentError(
            f"an agent's name is written into records, so a {scheme}: address has no user, password, query "
            f"or fragment; write {scheme}://host:port and give a token by (token_file='...')"
        )
    if not host or not port or not name.startswith("//") or not url.isprintable() or " " in url:
        raise AgentError(f"{quoted} is no address of a server; write {scheme}://host:port")
    return ServedAddress(url, host, port, **_options(where, scheme))


def _options(where: str, scheme: str) -> dict[str, Any]:
    arguments = parse_arguments(where)
    names = ", ".join(field.name for field in _OPTIONS)
    example = f"{scheme}://host:port(answer_s=120)"
    if "token" in arguments.named:
        raise AgentError(
            "an agent's name is written into records, so it holds no token; write it into a file and give "
            "token_file='...', or set LRAM_SERVE_TOKEN"
        )
    unknown = [name for name in arguments.named if name not in {field.name for field in _OPTIONS}]
    if arguments.positional or unknown:
        what = f"no option {shown(unknown[0], 40)!r}" if unknown else "no values without a name"
        raise AgentError(f"a {scheme}: address takes {what}; it takes {names}, as in {example}")
    found = {}
    for field in _OPTIONS:
        if field.name in arguments.named:
            value = arguments.named[field.name]
            if field.name == "play" and value == "all":
                value = 0
            found[field.name] = _value(field.name, value, field.default)
    return found


def _value(name: str, value: object, default: object) -> object:
    if isinstance(default, str):
        good, wanted = isinstance(value, str) and value.isprintable(), "a text"
        if name == "protocol":
            good, wanted = value in PROTOCOLS, f"one of {', '.join(PROTOCOLS)}"
    elif isinstance(default, float):
        good = type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]
        wanted = "seconds, above 0"
    else:
        least, most = {"retries": (0, 100), "max_mb": (1, 4096), "play": (0, 10_000)}[name]
        good, wanted = type(value) is int and least <= value <= most, f"a whole number, {least} to {most}"
    if not good:
        raise AgentError(f"{name} is {shown(repr(value), 60)}; give {wanted}")
    return float(value) if isinstance(default, float) else value  # type: ignore[arg-type]
