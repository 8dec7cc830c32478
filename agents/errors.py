"""The root of the errors of ``lram.agents``; :mod:`lram.harness.errors` draws the tree of all rooms'."""

from __future__ import annotations


class AgentError(RuntimeError):
    """An agent cannot be built or cannot act; the message is one sentence for the user."""
