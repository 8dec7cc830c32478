"""Agents offered to other processes, by websocket and msgpack: what ``lram serve`` does.

    session    what one client is answered, message by message; no network
    server     sockets, the token, limits; one thread for the agent
    secret     the server's token

The client is :mod:`lram.agents.adapters.served`; docs/how-to/serving.md tells the protocol.
"""

from lram.harness.serving.secret import make_token
from lram.harness.serving.server import AgentServer

__all__ = ["AgentServer", "make_token"]
