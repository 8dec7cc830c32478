"""Which protocol a server speaks: its first message tells, or the user."""

from __future__ import annotations

from lram.agents.adapters.served.address import ServedAddress
from lram.agents.adapters.served.connection import ServedConnection, client_library
from lram.agents.adapters.served.lanes import ServedLanesAgent
from lram.agents.adapters.served.messages import KEY
from lram.agents.adapters.served.single import OpenpiAgent
from lram.agents.adapters.served.vla_eval import VlaEvalAgent
from lram.agents.adapters.served.wire import codec
from lram.agents.api import Agent, AgentError


def served_agent(address: ServedAddress) -> Agent:
    """Return the agent that is served at ``address``; AgentError where there is none, one sentence."""
    client_library()
    codec()
    if address.protocol == "vla-eval":
        return VlaEvalAgent(address)
    connection = ServedConnection(address)
    greeting = connection.receive_first()
    if not isinstance(greeting, dict):
        connection.close()
        raise AgentError(
            f"{address.url} began with a {type(greeting).__name__} instead of a dictionary of facts; check "
            "what serves there"
        )
    if KEY in greeting and address.protocol == "auto":
        return ServedLanesAgent(address, connection, greeting)
    return OpenpiAgent(address, connection)
