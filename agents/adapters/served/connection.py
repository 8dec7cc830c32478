"""One websocket to a server of policies: time-outs, a greatest size, and every trouble as one sentence."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any

from lram.agents.adapters.served.address import ServedAddress
from lram.agents.adapters.served.token import VARIABLE, header, token_for
from lram.agents.adapters.served.wire import WireError, pack, unpack
from lram.agents.errors import AgentError
from lram.agents.shown import shown

_CLOSE_S = 0.5  # longest wait for a server that is left; nothing depends on its goodbye
_QUOTED = 300  # characters of what a server says

_SILENT = logging.getLogger("lram.agents.adapters.served")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class LostServerError(AgentError):
    """The connection is gone or cannot be made; another one may be tried."""


def client_library() -> Any:
    """Return ``websockets.sync.client``; AgentError where it is not installed."""
    try:
        import websockets.sync.client
    except ImportError as error:
        raise AgentError(
            "served policies need the packages msgpack and websockets, and websockets (15 or newer) is not "
            "installed; run: pip install 'lram-bench[serve]'"
        ) from error
    return websockets.sync.client


class ServedConnection:
    """A websocket, open from the start, over which questions and answers take turns.

    Args:
        address: Of the server.
        text_keys: See :func:`~lram.agents.adapters.served.wire.pack`.

    Raises:
        LostServerError: Nobody answers there.
        AgentError: Somebody answers, and not as a server should.
    """

    def __init__(self, address: ServedAddress, *, text_keys: bool = False) -> None:
        self._address, self._text_keys = address, text_keys
        client = client_library()
        import websockets.exceptions as errors

        self._errors: Any = errors
        name = self._name = address.url
        headers = header(token_for(address.token_file))
        secure = name.startswith("wss:")
        sock = self._socket()
        try:
            # Entered as a context, since version 17 warns of any other use. A given socket is never led
            # elsewhere: no proxy, no redirection, so the token goes to this host alone.
            self._websocket: Any = client.connect(
                name,
                sock=sock,
                ssl=ssl.create_default_context() if secure else None,
                server_hostname=address.host if secure else None,
                compression=None,
                additional_headers=headers,
                proxy=None,
                open_timeout=address.connect_s,
                ping_interval=None,  # a server that computes answers no ping; answers have their time-out
                close_timeout=_CLOSE_S,
                max_size=address.max_bytes,
                logger=_SILENT,
            ).__enter__()
        except errors.InvalidStatus as error:
            sock.close()
            raise AgentError(self._refused(error.response.status_code)) from error
        except TimeoutError as error:
            sock.close()
            raise AgentError(
                f"{name} did not answer as a websocket server within {address.connect_s:g} s; check that it "
                "is one, or give it longer with (connect_s=...)"
            ) from error
        except Exception as error:  # websockets has several of its own, and asserts where peers surprise it
            sock.close()
            cause = shown(" ".join(str(error).split()), _QUOTED)
            raise AgentError(
                f"{name} did not answer as a websocket server ({cause}); check host and port"
            ) from error

    def send(self, message: object) -> None:
        """Send ``message``; LostServerError where the connection is gone, or takes nothing in time."""
        try:
            packed = pack(message, text_keys=self._text_keys)
        except WireError as error:
            raise AgentError(f"the message to {self._name} {error}") from error
        try:
            self._websocket.send(packed)
        except self._errors.ConnectionClosed as error:
            raise self._lost(error) from error
        except OSError as error:
            self.close()
            raise LostServerError(
                f"{self._name} took no message within {self._address.answer_s:g} s; see what became of it"
            ) from error

    def receive(self, wait_s: float | None = None) -> Any:
        """Return the next message.

        Args:
            wait_s: Longest wait; None: ``answer_s`` of the address.

        Raises:
            LostServerError: The connection is gone.
            AgentError: Nothing came in time, it reports an error, or what came cannot be read.
        """
        wait_s = self._address.answer_s if wait_s is None else wait_s
        try:
            given = self._websocket.recv(timeout=wait_s)
        except TimeoutError as error:
            self.close()
            raise AgentError(
                f"{self._name} gave no whole answer within {wait_s:g} s; see what it does, or give it longer "
                "with (answer_s=...) or, for its first message, (connect_s=...)"
            ) from error
        except (self._errors.ConnectionClosed, OSError) as error:
            raise self._lost(error) from error
        if isinstance(given, str):
            lines = [line for line in given.splitlines() if line.strip()] or [given]
            self.close()
            raise AgentError(
                f"{self._name} reports an error: {shown(lines[-1].strip(), _QUOTED)}; its own log tells more"
            )
        try:
            return unpack(given)
        except WireError as error:
            self.close()
            raise AgentError(
                f"the message of {self._name} {error}; check that it speaks this protocol"
            ) from error

    def ask(self, message: object) -> Any:
        """Return the answer to ``message``; raises as :meth:`send` and :meth:`receive`."""
        self.send(message)
        return self.receive()

    def receive_first(self) -> Any:
        """Return the message that a server sends unasked; raises as :meth:`receive`."""
        return self.receive(self._address.connect_s)

    def close(self) -> None:
        """Leave the server; nothing is raised."""
        with suppress(Exception):
            self._websocket.close()

    def __del__(self) -> None:
        # The collector may come in the thread that reads, which holds the lock that a close takes. The end
        # of the socket needs no lock, and ends that thread.
        with suppress(Exception):
            self._websocket.socket.shutdown(socket.SHUT_RDWR)

    def _socket(self) -> socket.socket:
        address = self._address
        try:
            sock = socket.create_connection((address.host, address.port), timeout=address.connect_s)
        except (OSError, ValueError) as error:
            reason = f"no answer within {address.connect_s:g} s" if isinstance(error, TimeoutError) else error
            reason = getattr(reason, "strerror", None) or reason
            raise LostServerError(
                f"no server can be reached at {address.url} ({shown(str(reason), _QUOTED)}); start it, or "
                "check host and port"
            ) from error
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A send blocks as long as the server reads nothing; recv has its own time-out.
        seconds, rest = divmod(address.answer_s, 1)
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), math.ceil(rest * 1e6))
        )
        return sock

    def _refused(self, status: int) -> str:
        if status in (401, 403):
            return (
                f"{self._name} refuses the token, or wants one; set {VARIABLE} to what 'lram serve' printed, "
                "or give (token_file='...')"
            )
        return (
            f"{self._name} answers with HTTP status {status} instead of a websocket; check host, port "
            "and path"
        )

    def _lost(self, error: Exception) -> AgentError:
        sent = getattr(error, "sent", None)
        self.close()
        if sent is not None and sent.code == 1009:  # said by our side, so the server's message was too big
            return AgentError(
                f"{self._name} sent a message of more than {self._address.max_mb} MiB; check that it speaks "
                "this protocol, or allow more with (max_mb=...)"
            )
        if sent is not None and sent.code in (1002, 1007):
            return AgentError(f"{self._name} breaks the websocket protocol; check what serves there")
        return LostServerError(f"{self._name} closed the connection; see what became of it")
