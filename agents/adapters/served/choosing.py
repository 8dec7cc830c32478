"""Which protocol a server speaks: its first message tells, or the user."""

from __future__ import annotations

from dataclasses import fields

from lram.agents.adapters.served.address import QUESTION, ServedAddress
from lram.agents.adapters.served.connection import ServedConnection, client_library
from lram.agents.adapters.served.lanes import ServedLanesAgent
from lram.agents.adapters.served.messages import KEY
from lram.agents.adapters.served.single import OpenpiAgent
from lram.agents.adapters.served.vla_eval import VlaEvalAgent
from lram.agents.adapters.served.wire import codec
from lram.agents.api import Agent, AgentError
from lram.agents.compute import Compute


def served_agent(address: ServedAddress, compute: Compute) -> Agent:
    """Return the agent that is served at ``address``; AgentError where there is none, one sentence.

    How it computes is its server's choice, so a precision is refused rather than recorded of what had none.
    """
    if compute.precision != "float32":
        raise AgentError(
            f"{address.url} computes as its server does; leave --precision {compute.precision} out, and give "
            "it to 'lram serve'"
        )
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
        options = (one for one in fields(address) if one.name in QUESTION)
        if unused := [one.name for one in options if getattr(address, one.name) != one.default]:
            connection.close()
            raise AgentError(
                f"{address.url} is an agent of 'lram serve', which is asked in its own way; leave "
                f"{', '.join(unused)} out of the address"
            )
        return ServedLanesAgent(address, connection, greeting)
    return OpenpiAgent(address, connection)
