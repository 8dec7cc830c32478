"""A websocket server for an agent: sockets, token and limits. One thread runs the agent, whoever asks.

What a client may cost: a message is at most 64 MiB, a state
:data:`~lram.agents.adapters.served.messages.MOST_LANES` lanes, and there are at most 64 clients. A request
with an ``Origin`` is a browser's, and refused: no page that somebody opens on this machine can ask the
agent.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from threading import BoundedSemaphore, Thread
from types import TracebackType
from typing import Any

from lram.agents.adapters.served.messages import KEY, MessageError
from lram.agents.adapters.served.wire import WireError, codec, pack, unpack
from lram.agents.api import Agent, TaskSpec
from lram.agents.shown import shown
from lram.harness.errors import LramError
from lram.harness.serving.secret import shows
from lram.harness.serving.session import ServedSession, greeting

MOST_CLIENTS = 64
MAX_BYTES = 64 << 20
_SEND_S = 60  # longest wait for a client that reads nothing
_CLOSE_S = 1.0

_SILENT = logging.getLogger("lram.harness.serving")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class AgentServer:
    """A server that listens from the start; ``with`` it, clients are answered until the block ends.

    Args:
        agent: To offer.
        host: Address to listen at.
        port: 0 takes a free one.
        token: That clients must show; empty: anybody may ask.
        task: Of clients that only speak openpi's protocol.
        seed: Of such a client's first episode.
        threads: Of the agent's tensor library.
        say: Told of clients that come, go and fail.

    Attributes:
        port: That it listens at.

    Raises:
        LramError: It cannot listen there, or a package is missing; one sentence.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str = "",
        task: TaskSpec | None = None,
        seed: int = 0,
        threads: int = 1,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        try:
            from websockets.sync.server import serve
        except ImportError as error:
            raise LramError(
                "lram serve needs the packages msgpack and websockets (15 or newer), and websockets is not "
                "installed; run: pip install 'lram-bench[serve]'"
            ) from error
        codec()
        self._agent, self._token, self._task, self._seed, self._say = agent, token, task, seed, say
        self._room = BoundedSemaphore(MOST_CLIENTS)
        # One thread: states are apart, but what an agent computes in may be shared among them.
        self._computing = ThreadPoolExecutor(1, "agent", initializer=_use_threads, initargs=(threads,))
        try:
            self._server: Any = serve(
                self._handle,
                host,
                port,
                origins=[None],
                compression=None,
                process_request=self._admit,
                ping_interval=None,
                close_timeout=_CLOSE_S,
                max_size=MAX_BYTES,
                logger=_SILENT,
            )
        except (OSError, OverflowError, UnicodeError) as error:
            self._computing.shutdown()
            raise LramError(
                f"cannot listen at {host}:{port} ({shown(str(error), 200)}); choose another with --host and "
                "--port"
            ) from error
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = Thread(target=self._server.serve_forever, name="serving", daemon=True)

    def __enter__(self) -> AgentServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._computing.shutdown()
        self._thread.join()

    def wait(self) -> None:
        """Wait until the server ends; a KeyboardInterrupt ends the wait."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    def _admit(self, connection: Any, request: Any) -> Any:
        if request.path == "/healthz":  # as openpi's server; it tells nothing
            return connection.respond(HTTPStatus.OK, "OK\n")
        if self._token and not shows(request.headers.get("Authorization"), self._token):
            self._say(f"{_peer(connection)} was refused: no token, or another one")
            return connection.respond(HTTPStatus.UNAUTHORIZED, "give the token that 'lram serve' printed\n")
        return None

    def _handle(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        if not self._room.acquire(blocking=False):
            connection.send(f"there are {MOST_CLIENTS} clients already; close one")
            return
        name = "a client"
        try:
            name = _peer(connection)
            _guard(connection.socket)
            self._say(f"{name} came")
            self._serve(connection, name)
        except ConnectionClosed:  # without a goodbye
            pass
        except Exception as error:  # it costs this client alone
            self._say(f"{name} failed: {shown(f'{type(error).__name__}: {error}', 300)}")
        finally:
            self._room.release()
            self._say(f"{name} went")

    def _serve(self, connection: Any, name: str) -> None:
        session = ServedSession(self._agent, self._task, self._seed)
        connection.send(pack(greeting(self._agent, self._task)))
        for message in connection:
            ours = True
            try:
                if isinstance(message, str):
                    raise MessageError("a message is text, and not msgpack")
                question = unpack(message)
                ours = isinstance(question, dict) and KEY in question
                reply = pack(self._computing.submit(session.answer, question).result())
            except (MessageError, WireError) as error:
                said = f"the message {error}" if isinstance(error, WireError) else str(error)
            except Exception as error:  # the agent's own; its client gets the error, others are served on
                said = shown(f"the agent raised {type(error).__name__}: {error}", 1000)
            else:
                connection.send(reply)
                continue
            self._say(f"{name} was sent an error: {said}")
            if not ours:  # as openpi's server: text is an error, and the connection ends
                connection.send(said)
                return
            connection.send(pack({"error": said}))


def _use_threads(count: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _guard(sock: socket.socket) -> None:
    """Notice clients that vanished, and wait only so long for those that read nothing."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))


def _peer(connection: Any) -> str:
    host, port, *_ = connection.remote_address
    return f"{host}:{port}"
