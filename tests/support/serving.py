"""Tiny servers on loopback, of policies good and bad, for the client of served policies."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from lram.agents.adapters.served.wire import pack, unpack


@contextmanager
def websocket_server(handle: Callable[[Any], None], **options: Any) -> Iterator[int]:
    """Serve websockets by ``handle`` on a free port; yield it."""
    from websockets.sync.server import serve

    with serve(handle, "127.0.0.1", 0, compression=None, close_timeout=0.1, **options) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@contextmanager
def openpi_server(infer: Callable[[dict[str, Any]], Any], greeting: object = None) -> Iterator[int]:
    """Serve as openpi's server does: facts first, then an answer a question; an exception is a text."""

    def handle(connection: Any) -> None:
        connection.send(pack(greeting if greeting is not None else {"robot": "none"}))
        for message in connection:
            try:
                reply = infer(unpack(message))
            except Exception as error:
                connection.send(
                    f"Traceback (most recent call last):\n  ...\n{type(error).__name__}: {error}\n"
                )
                connection.close(1011)
                return
            connection.send(reply if isinstance(reply, bytes) else pack(reply))

    with websocket_server(handle) as port:
        yield port


@contextmanager
def raw_server(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve bare sockets, one at a time, by ``handle`` on a free port; yield it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return
                with sock, suppress(OSError):
                    handle(sock)

        Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def shake_hands(sock: socket.socket) -> None:
    """Answer a websocket client's request on a bare socket (RFC 6455, section 4.2.2)."""
    import base64
    import hashlib

    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(4096)
    (line,) = (one for one in request.split(b"\r\n") if one.lower().startswith(b"sec-websocket-key:"))
    key = line.partition(b":")[2].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key).digest())
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
