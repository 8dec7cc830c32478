"""Which protocols show agents something else than another protocol does, and are the same otherwise."""

from __future__ import annotations

from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import load_domain


def unperturbed(protocol: str) -> str:
    """Return the id of the protocol that ``protocol`` (``domain:name@version``) perturbs; empty where it is
    none that perturbs another, or nobody knows, as of a domain that is not installed.
    """
    try:
        asked = ProtocolId.parse(protocol)
        domain = load_domain(asked.domain)
        base = domain.protocol(asked.name).perturbs
        return domain.protocol(base).id(domain.name) if base else ""
    except SelectionError:
        return ""
